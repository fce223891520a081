"""map is a loop, whole or in batches; associative_scan gives all prefixes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transforms.compare import assert_same
from tests.transforms.table import draw

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.control import associative_scan, cond
from funcdl.control import map as fd_map
from funcdl.errors import ArgumentError, ShapeError, TreeError


@pytest.fixture(autouse=True, scope="module")
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def rows(x: Any) -> Any:
    return {"s": fnp.sin(x["a"]) * x["b"], "n": (x["b"].sum(), None)}


@pytest.mark.parametrize("count", [1, 5, 6])
@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 7])
def test_map_is_a_loop(count: int, batch_size: int | None) -> None:
    xs = {"a": draw(count), "b": draw(count, 3)}
    each = [rows({"a": xs["a"][i], "b": xs["b"][i]}) for i in range(count)]
    wanted = fd.tree.map(lambda *parts: fnp.stack(parts), *each)

    def mapped(xs: Any) -> Any:
        return fd_map(rows, xs, batch_size=batch_size)

    assert_same(mapped(xs), wanted)
    assert_same(fd.jit(mapped)(xs), wanted)
    stacked = fd.tree.map(lambda x: fnp.stack([x, x * 2]), xs)
    halves = [mapped(fd.tree.map(lambda x, i=i: x[i], stacked)) for i in range(2)]
    assert_same(fd.vmap(mapped)(stacked), fd.tree.map(lambda *p: fnp.stack(p), *halves))

    def loss(xs: Any, f: Callable[[Any], Any]) -> Any:
        return (f(xs)["s"] ** 2).sum()

    assert_same(fd.grad(loss)(xs, mapped), fd.grad(loss)(xs, fd.vmap(rows)))


def test_map_of_nothing_has_types() -> None:
    for batch_size in (None, 4):
        out = fd_map(lambda x: (x * 2, x.sum() > 0), fnp.ones((0, 3)), batch_size=batch_size)
        assert [x.aval.shape for x in out] == [(0, 3), (0,)]


@pytest.mark.parametrize(
    ("kwargs", "xs", "message"),
    [
        ({"batch_size": 0}, np.ones(3), "map requires a batch_size of 1 or more, got 0"),
        ({}, None, "map of rows does not know how many steps to run: xs has no arrays"),
        ({}, {"a": np.ones(3), "b": np.ones((2, 3))}, r"xs\['a'\] of type f64\[3\]: 3\n"),
        ({"batch_size": 2}, {"a": np.ones(3), "b": np.ones(2)}, r"xs\['b'\] of type f64\[2\]: 2"),
    ],
)
def test_map_refuses(kwargs: dict[str, Any], xs: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fd_map(rows, xs, **kwargs)


def affine(left: Any, right: Any) -> Any:
    """The composition of x -> a x + b, which is associative and does not commute."""
    return right[0] * left[0], right[0] * left[1] + right[1]


def prefixes(fn: Callable[[Any, Any], Any], elems: list[Any]) -> list[Any]:
    found = [elems[0]]
    for x in elems[1:]:
        found.append(fn(found[-1], x))
    return found


@settings(max_examples=30)
@given(st.integers(1, 20), st.booleans(), st.integers(0, 1), st.integers(0, 99))
def test_associative_scan_gives_prefixes(n: int, reverse: bool, axis: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (n, 2) if axis == 0 else (2, n)
    elems = tuple(fnp.asarray(rng.uniform(0.5, 1.5, shape)) for _ in range(2))
    columns = [tuple(fnp.take(x, i, axis=axis) for x in elems) for i in range(n)]
    wanted = prefixes(affine, columns[::-1])[::-1] if reverse else prefixes(affine, columns)
    stacked = fd.tree.map(lambda *parts: fnp.stack(parts, axis=axis), *wanted)
    assert_same(associative_scan(affine, elems, reverse, axis - 2 * (seed % 2)), stacked, 100)


def test_associative_scan_on_other_types_and_under_transforms() -> None:
    x = draw(7)
    assert_same(associative_scan(operator.add, x), fnp.cumsum(x))
    flags = fnp.asarray([False, True, False, False])
    assert_same(associative_scan(fnp.logical_or, flags), flags | fnp.asarray([0, 0, 1, 1]) > 0)
    assert associative_scan(fnp.maximum, fnp.zeros((0, 2))).shape == (0, 2)
    one = associative_scan(operator.mul, x)
    assert_same(one, fnp.cumprod(x), 10)
    assert_same(fd.jit(lambda x: associative_scan(operator.mul, x))(x), one)
    weights = draw(7, seed=3)
    found = fd.grad(lambda x: (associative_scan(operator.mul, x) * weights).sum())(x)
    assert_same(found, fd.grad(lambda x: (fnp.cumprod(x) * weights).sum())(x), 10)
    many = fnp.stack([x, x * 2, x * x])
    mapped = fd.vmap(lambda x: associative_scan(operator.add, x, reverse=True))(many)
    assert_same(mapped, fnp.cumsum(many[:, ::-1], axis=1)[:, ::-1], 10)


def test_associative_scan_takes_logarithmically_many_steps() -> None:
    def steps(n: int) -> int:
        program = fd.make_jaxpr(lambda x: associative_scan(operator.add, x))(fnp.ones(n))
        return sum(eqn.primitive.name == "add" for eqn in program.eqns)

    assert [steps(2**k) for k in range(1, 9)] == [2 * k - 1 for k in range(1, 9)]


@pytest.mark.parametrize(
    ("fn", "elems", "error", "message"),
    [
        (operator.add, (), ArgumentError, "requires elems with at least one array"),
        (operator.add, 1.0, ShapeError, "requires arrays with an axis to scan along, got elems of"),
        (
            affine,
            (np.ones(3), np.ones(4)),
            ArgumentError,
            "(?s)of affine requires one size along axis 0, got:.*elems.0. of type .*: 3\n.*: 4",
        ),
        (lambda a, b: (a, b), np.ones(3), TreeError, "(?s)found: +[(][*], [*][)].*wanted: +[*]"),
        (lambda a, b: a > b, np.ones(3), ShapeError, r"element: got f64\[1\], returned bool\[1\]"),
    ],
)
def test_associative_scan_refuses(fn: Any, elems: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        associative_scan(fn, elems)


def test_map_runs_one_branch_where_vmap_selects() -> None:
    def f(x: Any) -> Any:
        return cond(x > 0, fnp.sqrt, fnp.abs, x)

    xs = fnp.asarray([4.0, -9.0])
    looped = str(fd.make_jaxpr(lambda xs: fd_map(f, xs))(xs))
    assert " cond[" in looped
    mapped = str(fd.make_jaxpr(fd.vmap(f))(xs))
    assert " cond[" not in mapped and "select_n" in mapped
    assert_same(fd_map(f, xs), fnp.asarray([2.0, 9.0]))
