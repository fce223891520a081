"""Sums of exponentials relative to a maximum, in the pass that finds the maximum.

A softmax over a row that lies in several blocks reads it three times: for the largest element, for
the sum of exp(x - largest), and to divide. The sum need not wait: relative to the largest element
so far it is scaled down when a larger one comes (M. Milakov and N. Gimelshein, "Online normalizer
calculation for softmax", 2018). Each lane keeps its own largest element and sum, so that nothing
crosses lanes before the end of the row.
"""

from __future__ import annotations

from dataclasses import dataclass

from funcdl.kir.ir import Const, Elementwise, Kernel, Reduce, Select


@dataclass(frozen=True, slots=True)
class OnlineSum:
    """Ids of a sum, of the maximum it is relative to, and of what is subtracted for that."""

    sum: int
    maximum: int
    subtracted: int


def online_sums(kernel: Kernel) -> dict[int, OnlineSum]:
    """The sums of exponentials relative to a maximum of the same elements, by their ids.

    What is subtracted is the maximum, or that where it is finite and else 0.
    """
    found = {}
    for id, reduce in enumerate(kernel.body):
        if not isinstance(reduce, Reduce) or reduce.op != "sum":
            continue
        match kernel.body[reduce.arg]:
            case Elementwise(name="exp", args=(difference,)):
                pass
            case _:
                continue
        match kernel.body[difference]:
            case Elementwise(name="sub", args=(elements, subtracted)):
                maximum = _maximum(kernel, subtracted)
            case _:
                continue
        if maximum is None:
            continue
        largest = kernel.body[maximum]
        assert isinstance(largest, Reduce)
        if largest.arg == elements and largest.axes == reduce.axes:
            found[id] = OnlineSum(id, maximum, subtracted)
    return found


def _maximum(kernel: Kernel, id: int) -> int | None:
    """The maximum that a value is, wherever that is finite."""
    match kernel.body[id]:
        case Reduce(op="max"):
            return id
        case Select(which=which, on_true=on_true, on_false=on_false):
            test, other = kernel.body[which], kernel.body[on_false]
            finite = isinstance(test, Elementwise) and test.name == "is_finite"
            if not finite or not isinstance(test, Elementwise) or test.args != (on_true,):
                return None
            zero = isinstance(other, Const) and other.value == 0
            return _maximum(kernel, on_true) if zero else None
    return None
