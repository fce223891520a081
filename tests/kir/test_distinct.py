"""Whether points of updates meet: what is found, and that it holds for all that may be computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.distinct import points_are_distinct
from funcdl.kir.index import AxisAtom, Index, ValueAtom
from funcdl.kir.ir import AtomicUpdate, Kernel

Computed = tuple[str, int, int]
"""The axes that a value varies over, one letter each, and its range."""

FAR = 1 << 20


def update_of(
    index: Callable[..., Index], extents: Mapping[str, int], **values: Computed
) -> tuple[Kernel, AtomicUpdate]:
    """A kernel that updates the elements at an index of axes and computed places."""
    builder = KernelBuilder("update")
    axes = {name: builder.axis(name, extent) for name, extent in extents.items()}
    builder.buffer("places", np.int32, FAR, "in")
    builder.buffer("out", np.float32, 2 * FAR, "inout")
    for number, (name, (along, low, high)) in enumerate(values.items()):
        at = ix.constant(number)
        for axis in along:
            at = at * 16 + axes[axis]
        axes[name] = builder.position(builder.load("places", at), low, high)
    builder.atomic_update("set", "out", index(**axes) + FAR, builder.const(1.0, np.float32))
    kernel = builder.build()
    update = kernel.body[-1]
    assert isinstance(update, AtomicUpdate)
    return kernel, update


ROWS = {"i": 4, "j": 10}
CASES: dict[str, tuple[bool, Callable[..., Index], dict[str, int], dict[str, Computed]]] = {
    "rows": (True, lambda i, j: i * 100 + j * 10, ROWS, {}),
    "rows, end to end": (True, lambda i, j: i * 10 + j, ROWS, {}),
    "rows backwards": (True, lambda i, j: i * -10 + j, ROWS, {}),
    "rows that overlap": (False, lambda i, j: i * 9 + j, ROWS, {}),
    "parts of rows": (False, lambda i, j: (i * 10 + j) // 2, ROWS, {}),
    "one element": (True, lambda: ix.constant(3), {}, {}),
    "one computed element": (True, lambda p: p, {}, {"p": ("", 0, 9)}),
    "nothing": (True, lambda i, j: i * 10 + j, {"i": 0, "j": 10}, {}),
    # A window at a computed place, and one for each row.
    "window": (True, lambda i, j, p: i * 10 + j + p * 10, ROWS, {"p": ("", 0, 7)}),
    "window per row": (True, lambda i, j, p: i * 100 + p * 10 + j, ROWS, {"p": ("i", 0, 9)}),
    "into the next row": (False, lambda i, j, p: i * 100 + p * 10 + j, ROWS, {"p": ("i", 0, 10)}),
    "any place of a row": (True, lambda i, j, p: i * 64 + p + j, ROWS, {"p": ("i", 0, 54)}),
    # Rows at computed places may be the same one.
    "computed rows": (False, lambda i, j, p: p * 10 + j, ROWS, {"p": ("i", 0, 9)}),
    "computed columns": (False, lambda i, j, p: i * 10 + j + p, ROWS, {"p": ("j", 0, 3)}),
    # A window for each column: places differ by whole rows.
    "window per column": (True, lambda i, j, p: (p + i) * 10 + j, ROWS, {"p": ("j", 0, 9)}),
    "into other columns": (False, lambda i, j, p: p * 5 + i * 10 + j, ROWS, {"p": ("j", 0, 9)}),
    "window per column of two axes": (
        True,
        lambda i, j, k, p, q: (p + i) * 80 + j * 8 + q + k,
        {**ROWS, "k": 3},
        {"p": ("j", 0, 5), "q": ("j", 0, 5)},
    ),
    "places that depend on each other": (
        False,
        lambda i, j, p, q: p * 100 + i * 100 + q + j,
        ROWS,
        {"p": ("j", 0, 1), "q": ("i", 0, 1)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_points_that_may_meet_are_found(name: str) -> None:
    wanted, index, extents, values = CASES[name]
    kernel, update = update_of(index, extents, **values)
    assert points_are_distinct(kernel, update) is wanted
    if "nothing" not in name:
        assert may_meet(update.index, extents, values) is not wanted


def may_meet(index: Index, extents: Mapping[str, int], values: Mapping[str, Computed]) -> bool:
    """Whether two points have one index for some choice of the computed places; by trying."""
    if not all(isinstance(atom, AxisAtom | ValueAtom) for atom, _ in index.terms):
        return True
    points = [dict(zip(extents, at, strict=True)) for at in product(*map(range, extents.values()))]
    numbers = sorted(atom.id for atom, _ in index.terms if isinstance(atom, ValueAtom))
    given = dict(zip(numbers, values.values(), strict=True))
    return any(
        0 in set(_distances(index, one, other, given)) for one, other in combinations(points, 2)
    )


def _distances(
    index: Index, one: dict[str, int], other: dict[str, int], values: Mapping[int, Computed]
) -> Iterator[int]:
    """The differences that two points' indices may have."""
    fixed, free = 0, []
    for atom, coefficient in index.terms:
        if isinstance(atom, AxisAtom):
            fixed += coefficient * (one[atom.name] - other[atom.name])
        elif isinstance(atom, ValueAtom):
            along, low, high = values[atom.id]
            if any(one[axis] != other[axis] for axis in along):
                free.append([coefficient * n for n in range(low - high, high - low + 1)])
    for chosen in product(*free):
        yield fixed + sum(chosen)


@st.composite
def indices(draw: st.DrawFn) -> Any:
    """Strides that often nest, as those of arrays do, and values of one or two axes."""
    extents = {name: draw(st.integers(1, 3)) for name in "ijk"}
    strides = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16, 24, -3])
    steps = {name: draw(strides) for name in "ijk"}
    values: dict[str, Computed] = {}
    for name in "pq"[: draw(st.integers(0, 2))]:
        values[name] = (draw(st.sampled_from(["i", "j", "k", "ij"])), 0, draw(st.integers(1, 3)))
        steps[name] = draw(strides)

    def index(**atoms: Index) -> Index:
        parts = [(atoms[name], step) for name, step in steps.items()]
        return ix.combine(parts)

    return index, extents, values


@given(indices())
def test_distinct_points_never_meet(case: Any) -> None:
    index, extents, values = case
    kernel, update = update_of(index, extents, **values)
    if points_are_distinct(kernel, update):
        assert not may_meet(update.index, extents, values)
