"""Index expressions: every operation keeps its meaning at every point, and simplifies."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl.kir import index as ix
from funcdl.kir.index import Index

EXTENTS = {"i": 6, "j": 5, "k": 2, "one": 1}
VALUES = {7: (-3, 4), 12: (2, 2)}

X, Y, Z = (ix.axis(name, EXTENTS[name]) for name in "ijk")
V = ix.value(7, *VALUES[7])

# An expression with its meaning: a function of the positions and the values.
Pair = tuple[Index, Any]


def _points() -> list[tuple[dict[str, int], dict[int, int]]]:
    axes = [range(extent) for extent in EXTENTS.values()]
    values = [range(low, high + 1) for low, high in VALUES.values()]
    return [
        (
            dict(zip(EXTENTS, point[: len(axes)], strict=True)),
            dict(zip(VALUES, point[len(axes) :], strict=True)),
        )
        for point in product(*axes, *values)
    ]


POINTS = _points()

ATOMS: list[Pair] = [
    (ix.axis(name, extent), lambda axes, values, name=name: axes[name])
    for name, extent in EXTENTS.items()
]
ATOMS += [
    (ix.value(id, low, high), lambda axes, values, id=id: values[id])
    for id, (low, high) in VALUES.items()
]


def _extend(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    small = st.integers(-12, 12)
    divisor = st.sampled_from([1, 2, 3, 4, 5, 6, 10, 12, 20, 30])
    return st.one_of(
        st.builds(lambda a, b: (a[0] + b[0], lambda x, v: a[1](x, v) + b[1](x, v)), inner, inner),
        st.builds(lambda a, b: (a[0] - b[0], lambda x, v: a[1](x, v) - b[1](x, v)), inner, inner),
        st.builds(lambda a, n: (a[0] + n, lambda x, v: a[1](x, v) + n), inner, small),
        st.builds(lambda a, n: (a[0] - n, lambda x, v: a[1](x, v) - n), inner, small),
        st.builds(lambda a, n: (a[0] * n, lambda x, v: a[1](x, v) * n), inner, small),
        st.builds(lambda a, n: (a[0] // n, lambda x, v: a[1](x, v) // n), inner, divisor),
        st.builds(lambda a, n: (a[0] % n, lambda x, v: a[1](x, v) % n), inner, divisor),
    )


expressions = st.recursive(st.sampled_from(ATOMS), _extend, max_leaves=6)


@given(expressions)
def test_every_operation_keeps_its_meaning(pair: Pair) -> None:
    index, meaning = pair
    low, high = index.range()
    for axes, values in POINTS:
        found = ix.evaluate(index, axes, values)
        assert found == meaning(axes, values)
        assert low <= found <= high


@given(expressions)
def test_terms_are_in_normal_form(pair: Pair) -> None:
    index, _ = pair
    assert all(coefficient for _, coefficient in index.terms)
    assert len({atom for atom, _ in index.terms}) == len(index.terms)
    assert ix.combine([(index, 1)]) == index
    backwards = [(Index(((a, 1),)), c) for a, c in reversed(index.terms)]
    assert ix.combine(backwards) + index.offset == index
    assert index - index == ix.constant(0)
    assert index.axes() <= set(EXTENTS) - {"one"}
    assert index.values() <= {7}


@given(expressions, expressions)
def test_substituting_an_axis_is_evaluating_it_there(pair: Pair, by: Pair) -> None:
    index, _ = pair
    replacement = ix.mod(by[0], EXTENTS["i"])
    replaced = ix.substitute(index, {"i": replacement})
    for axes, values in POINTS[::7]:
        there = {**axes, "i": ix.evaluate(replacement, axes, values)}
        assert ix.evaluate(replaced, axes, values) == ix.evaluate(index, there, values)


@given(expressions)
def test_renaming_values(pair: Pair) -> None:
    index, _ = pair
    renamed = ix.rename_values(index, {7: 3})
    assert renamed.values() == {3 for _ in index.values()}
    assert ix.rename_values(renamed, {3: 7}) == index
    for axes, values in POINTS[::7]:
        expected = ix.evaluate(index, axes, values)
        assert ix.evaluate(renamed, axes, {3: values[7]}) == expected


FLAT = [X * 5 + Y, X + Y * 6, X * -5 - Y + 29, ix.value(3, 0, 29), (ix.value(3, 0, 400) * 7) % 30]


@pytest.mark.parametrize("index", FLAT, ids=range(len(FLAT)))
@pytest.mark.parametrize("shape", list(permutations([2, 3, 5])), ids=str)
def test_a_reshape_that_is_undone_leaves_nothing(index: Index, shape: tuple[int, int, int]) -> None:
    _, b, c = shape
    parts = index // (b * c), index // c % b, index % c
    assert parts[0] * (b * c) + parts[1] * c + parts[2] == index
    nested = index // c // b, index % (b * c) // c, index % (b * c) % c
    assert nested[0] * (b * c) + nested[1] * c + nested[2] == index


SIMPLER = [
    (X * 5 + Y, (X * 5 + Y) // 5 * 5 + (X * 5 + Y) % 5),
    (X, (X * 5 + Y) // 5),
    (Y, (X * 5 + Y) % 5),
    (X // 2, (X * 5 + Y) // 10),
    (X % 2 * 5 + Y, (X * 5 + Y) % 10),
    (X * 5 + Y, (X * 5 + Y) // 10 * 10 + (X * 5 + Y) % 10),
    (X * 3 + 1, (X * 60 + Y * 4 + Z + 20) // 20 - (Y * 4 + Z) // 20),
    ((X * 6 + Y * 5 + Z) // 30, (X * 3 + (Y * 5 + Z) // 2) // 15),
    ((X * 2 + Y) % 3 * 2, (X * 4 + Y * 2) % 6),
    ((X + Y) // 6, (X + Y) // 2 // 3),
    ((X + Y) // 2 % 2, (X + Y) % 4 // 2),
    ((X + Y) % 2, (X + Y) % 4 % 2),
    (X * -1 + 5, (X * -1 + 5) % 6),
    ((V + 3) % 4, (V + 7) % 4),
    (ix.constant(0), V * 4 % 4),
    (V, V * 4 // 4),
    (ix.constant(3), ix.value(2, 3, 3)),
    (ix.constant(0), ix.axis("b", 1)),
]


@pytest.mark.parametrize(("simple", "complicated"), SIMPLER, ids=range(len(SIMPLER)))
def test_equal_reads_have_equal_indices(simple: Index, complicated: Index) -> None:
    assert complicated == simple


def test_coefficient_is_that_of_the_plain_axis() -> None:
    index = X * 10 + (X + Y) // 2 + 3
    assert [index.coefficient(name) for name in ("i", "j", "z")] == [10, 0, 0]
    assert index.axes() == {"i", "j"}
    assert not index.is_constant
    assert ix.constant(3).is_constant


@pytest.mark.parametrize("divisor", [0, -2])
def test_divisors_are_positive(divisor: int) -> None:
    for operation in (ix.floordiv, ix.mod):
        with pytest.raises(ValueError, match=f"must be positive, got {divisor}"):
            operation(X, divisor)
