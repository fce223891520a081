"""Tables of calls against loops in Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from funcdl.runtime import call_table
from funcdl.runtime.call_table import Words
from funcdl.runtime.toolchain import find_compiler

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

FUNCTION = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int64))
KEPT: list[Any] = []  # functions that tables call


def function(work: Callable[..., None], pointers: int, numbers: int = 0) -> int:
    """The address of a function that hands int64 variables and numbers to Python."""

    def call(p: ctypes.Array[ctypes.c_void_p], n: ctypes.Array[ctypes.c_int64]) -> None:
        variables = [ctypes.c_int64.from_address(p[i] or 0) for i in range(pointers)]
        work(*variables, *(n[i] for i in range(numbers)))

    KEPT.append(FUNCTION(call))
    return ctypes.cast(KEPT[-1], ctypes.c_void_p).value or 0


def run(words: Words, *arrays: np.ndarray) -> None:
    assert COMPILER is not None
    table = np.array([a.ctypes.data for a in arrays], np.uintp).tobytes()
    code = np.array(words, np.int64)
    call_table.runner(COMPILER)(table, code.ctypes.data)


def multiply_add(out: ctypes.c_int64, x: ctypes.c_int64, factor: int, plus: int) -> None:
    out.value = x.value * factor + plus


def add_to(out: ctypes.c_int64, x: ctypes.c_int64, y: ctypes.c_int64) -> None:
    out.value = x.value + y.value


def test_calls_happen_in_order_with_their_numbers() -> None:
    f = function(multiply_add, 2, 2)
    x = np.array([5, 0, 0])
    calls = [
        call_table.kernel(f, [(0, 8), (0, 0)], [3, -1]),
        call_table.kernel(f, [(0, 16), (0, 8)], [10, 2]),
    ]
    run(call_table.program(calls), x)
    assert x.tolist() == [5, 14, 142]
    run(call_table.program([]), x)


def running_sum(length: int, *, reverse: bool) -> Words:
    """slots: xs, the first carry, even and odd buffers, the last carry, ys."""
    add = function(add_to, 3)
    carry_in = call_table.binding((2, 0), first=(1, 0), alternate=((2, 8), (2, 0)))
    carry_out = call_table.binding((2, 0), last=(3, 0), alternate=((2, 0), (2, 8)))
    slots = [carry_in, call_table.binding((0, 0), 8), carry_out, call_table.binding((4, 0), 8)]
    calls = [
        call_table.kernel(add, [(2, 0), (0, 0), (1, 0)], []),
        call_table.kernel(function(multiply_add, 2, 2), [(3, 0), (2, 0)], [1, 0]),
    ]
    empty = call_table.copies([((1, 0), (3, 0), 8)])
    scan = call_table.scan(length, reverse, call_table.body(slots, calls), empty)
    after = call_table.kernel(function(multiply_add, 2, 2), [(1, 0), (3, 0)], [2, 0])
    return call_table.program([scan, after])


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan(length: int, reverse: bool) -> None:
    xs = np.arange(1, length + 2) ** 2
    first, buffers, last, ys = np.array([7]), np.zeros(2, int), np.zeros(1, int), np.zeros(9, int)
    run(running_sum(length, reverse=reverse), xs, first, buffers, last, ys)
    order = xs[:length][::-1] if reverse else xs[:length]
    sums = 7 + np.cumsum(order)
    assert last[0] == (sums[-1] if length else 7)
    assert ys[:length].tolist() == (sums[::-1] if reverse else sums).tolist()
    assert first[0] == 2 * last[0]  # the record after the loop


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 8, 100])
def test_while(limit: int) -> None:
    """Doubles a carried value until it reaches the limit."""

    def is_less(flag: ctypes.c_int64, x: ctypes.c_int64, bound: int) -> None:
        flag.value = x.value < bound

    carried = call_table.binding((1, 0), first=(0, 0), alternate=((1, 8), (1, 0)))
    condition = call_table.body(
        [carried, call_table.binding((2, 0))],
        [call_table.kernel(function(is_less, 2, 1), [(1, 0), (0, 0)], [limit])],
    )
    step = call_table.body(
        [carried, call_table.binding((1, 0), alternate=((1, 0), (1, 8)))],
        [call_table.kernel(function(multiply_add, 2, 2), [(1, 0), (0, 0)], [2, 0])],
    )
    results = [call_table.copies([(source, (3, 0), 8)]) for source in ((0, 0), (1, 0), (1, 8))]
    loop = call_table.while_loop((2, 0), condition, step, results)
    start, buffers, flag, out = np.array([1]), np.zeros(2, int), np.zeros(1, int), np.zeros(1, int)
    run(call_table.program([loop]), start, buffers, flag, out)
    want = 1
    while want < limit:
        want *= 2
    assert out[0] == want


@pytest.mark.parametrize(("index", "chosen"), [(0, 0), (1, 1), (2, 2), (3, 2), (-1, 2)])
def test_branch(index: int, chosen: int) -> None:
    f = function(multiply_add, 2, 2)
    branches = [
        call_table.body(
            [call_table.binding((1, 0)), call_table.binding((1, 8))],
            [call_table.kernel(f, [(1, 0), (0, 0)], [1, plus])],
        )
        for plus in range(3)
    ]
    x = np.array([10, 0])
    run(call_table.program([call_table.branch((0, 0), branches)]), np.array([index], np.int32), x)
    assert x[1] == 10 + chosen
