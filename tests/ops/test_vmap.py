"""vmap of every primitive, over every axis and set of operands, against a loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from tests.ops.table import OPS, assert_close, cases, outputs, reason_missing, samples

from funcdl.core.array import Array
from funcdl.ops.registry import Sample
from funcdl.transforms import vmap

NDArray = np.ndarray[Any, Any]
BATCH = 3

Axes = tuple[int | None, ...]


# Operations of many operands have more combinations than anyone can wait for.
MOST_COMBINATIONS = 40


def all_in_axes(sample: Sample) -> Iterator[Axes]:
    """Every set of operands, each over every axis; of many combinations some, evenly spread."""
    choices = [(None, *range(x.ndim + 1)) for x in sample.args]
    # A step that shares no factor with the numbers of choices meets all choices of each operand.
    step = max(1, math.prod(map(len, choices)) // MOST_COMBINATIONS)
    while step > 1 and any(math.gcd(step, len(choice)) > 1 for choice in choices):
        step += 1
    counts = tuple(map(len, choices))
    for number in range(0, math.prod(counts), step):  # of millions, none is made in vain
        places = np.unravel_index(number, counts)
        axes = tuple(choice[place] for choice, place in zip(choices, places, strict=True))
        if any(axis is not None for axis in axes):
            yield axes


def few_in_axes(sample: Sample) -> Iterator[Axes]:
    """Every operand alone and all together, over every axis, though not in every combination."""
    count = len(sample.args)
    chosen = [(i,) for i in range(count)] + [tuple(range(count))]
    if 2 < count <= 3:
        chosen += list(combinations(range(count), 2))
    for operands in dict.fromkeys(chosen):
        for shift in range(max(sample.args[i].ndim for i in operands) + 1):
            yield tuple(
                (shift + i) % (x.ndim + 1) if i in operands else None
                for i, x in enumerate(sample.args)
            )


def batch_of(x: NDArray, axis: int | None) -> tuple[NDArray, list[NDArray]]:
    """An operand with a batch along `axis`, and its elements; permuted, so all in the domain."""
    if axis is None:
        return x, [x] * BATCH
    flat = x.reshape(-1)
    elements = [x, flat[::-1].reshape(x.shape), np.roll(flat, 1).reshape(x.shape)]
    return np.stack(elements, axis), elements


def check_vmap(name: str, sample: Sample, axes: Axes) -> None:
    primitive = OPS[name].primitive
    batched, elements = zip(*map(batch_of, sample.args, axes), strict=True)
    loop = [
        outputs(primitive(*map(Array, args), **sample.params))
        for args in zip(*elements, strict=True)
    ]
    mapped = vmap(lambda *xs: primitive(*xs, **sample.params), in_axes=axes)
    found = outputs(mapped(*map(Array, batched)))
    for number, out in enumerate(found):
        wanted = np.stack([outs[number].value for outs in loop])
        assert out.dtype == wanted.dtype
        assert_close(out, wanted, 8, out.dtype)


def check_case(name: str, dtype: str, in_axes: Any) -> None:
    reason = reason_missing(name, dtype, "vmap")
    for sample in samples(name, dtype):
        if reason is not None:
            assert reason == "has no operands"
            assert not sample.args
            continue
        for axes in in_axes(sample):
            check_vmap(name, sample, axes)


@pytest.mark.parametrize("name", sorted(OPS))
def test_vmap_agrees_with_a_loop(name: str) -> None:
    dtypes = OPS[name].dtypes
    check_case(name, "f32" if "f32" in dtypes else dtypes[0], few_in_axes)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), cases() + cases(slow=True))
def test_vmap_over_all_combinations_of_axes(name: str, dtype: str) -> None:
    check_case(name, dtype, all_in_axes)


@pytest.mark.parametrize("name", ["add", "select_n", "clamp"])
def test_vmap_of_vmap(name: str) -> None:
    primitive = OPS[name].primitive
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, (2, 3)).astype(bool if name == "select_n" else np.float32)
    rest = [rng.standard_normal((2, 3)).astype(np.float32) for _ in range(1 + (name != "add"))]
    nested = vmap(vmap(lambda *xs: primitive(*xs)), in_axes=1, out_axes=1)
    args = [Array(x) for x in (first, *rest)]
    np.testing.assert_array_equal(nested(*args).value, primitive(*args).value)
