"""The extension and its twin return, raise and delete the same, over a table of calls."""

from __future__ import annotations

import functools
import operator
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dispatch.compare import Call, compare, describe

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import optim, random
from funcdl.core.dispatch import dispatch

Point = namedtuple("Point", "x y")


@fd.tree.register_dataclass
@dataclass
class Box:
    content: Any
    label: str = fd.tree.static(default="box")


@fd.tree.register_static
class Tag:
    """A container without leaves that compares by its name alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tag) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def vector(*values: float, dtype: Any = np.float32) -> Any:
    return fnp.asarray(np.array(values, dtype))


def double(tree: Any) -> Any:
    return fd.tree.map(lambda x: x + x, tree)


def args(*values: Any, **named: Any) -> Callable[[], Call]:
    """Calls with these values; those that are functions are made for each call."""

    def make() -> Call:
        made = [x() if callable(x) else x for x in values]
        return tuple(made), {k: x() if callable(x) else x for k, x in named.items()}

    return make


def fresh(*values: float) -> Callable[[], Any]:
    return lambda: vector(*values)


X = vector(1, 2, 3)
Y = vector(4, 5, 6)
EMPTY: dict[str, Any] = {}

# name: (function, options of jit, calls, whether the extension serves them)
CASES: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[[], Call], bool]] = {
    "arrays": (lambda a, b, c: a * b + c, EMPTY, args(X, Y, X), True),
    "no arguments": (lambda: fnp.arange(3), EMPTY, args(), True),
    "no results": (lambda x: None, EMPTY, args(X), True),
    "constants": (lambda x: (x + np.arange(3), np.ones(2)), EMPTY, args(X), True),
    "keywords": (lambda x, *, scale, shift: x * scale + shift, EMPTY, args(X, shift=Y, scale=2.0),
                 True),
    "list": (double, EMPTY, args([X, [Y, []]]), True),
    "tuple": (double, EMPTY, args((X, (Y, ()))), True),
    "dict": (double, EMPTY, args({"b": X, "a": {"d": Y, "c": X}}), True),
    "dict of integers": (double, EMPTY, args({10: X, 9: Y}), True),
    "dict of mixed keys": (double, EMPTY, args({1: X, "a": Y}), False),
    "None": (double, EMPTY, args({"a": None, "b": X}), True),
    "named tuple": (double, EMPTY, args(Point(X, Point(Y, None))), True),
    "ordered dict": (double, EMPTY, args(OrderedDict(b=X, a=Y)), False),
    "dataclass": (double, EMPTY, args(lambda: Box([X, Y], "crate")), True),
    "static container": (lambda tag, x: (tag, x + len(tag.name)), EMPTY,
                         args(lambda: Tag("ab"), X), True),
    "keys": (lambda key, x: (key, random.uniform(key, (3,)) + x), EMPTY,
             args(random.key(3), X), True),
    "optimiser": (
        lambda state, x: optim.adam(0.1).update({"x": x}, state),
        EMPTY,
        args(optim.adam(0.1).init({"x": X}), X),
        True,
    ),
    "deep list": (double, EMPTY, args(functools.reduce(lambda x, _: [x], range(100), X)), False),
    "float": (lambda x, s: (x * s, s), EMPTY, args(X, 2.5), False),  # an argument is a result
    "float read": (lambda x, s: x * s, EMPTY, args(X, 2.5), True),
    "large float": (lambda x, s: x * s, EMPTY, args(X, 1e300), False),
    "infinite float": (lambda x, s: x * s, EMPTY, args(X, float("inf")), True),
    "NaN": (lambda x, s: x * s, EMPTY, args(X, float("nan")), True),
    "int": (lambda x, n: (x + n, n * 2), EMPTY, args(X, -7), True),
    "large int": (lambda x, n: x + n, EMPTY, args(X, 2**31), False),
    "huge int": (lambda x, n: x + n, EMPTY, args(X, 2**70), False),
    "bool": (lambda x, b: fnp.where(b, x, 0), EMPTY, args(X, True), True),
    "complex": (lambda x, s: x * s, EMPTY, args(X, 1j), False),
    "weak array": (lambda x: x * 2, EMPTY, args(lambda: fnp.asarray(1.5)), True),
    "eager scalar": (lambda x: x + 1, EMPTY, args(lambda: X.sum()), True),
    "zero-dimensional": (lambda x: (x + 1, x.reshape(1)), EMPTY, args(fnp.zeros(())), True),
    "empty": (lambda x: (x + 1, x.sum()), EMPTY, args(fnp.zeros((0, 3))), True),
    "NumPy array": (lambda x, y: x + y, EMPTY, args(X, np.arange(3, dtype=np.float32)), True),
    "NumPy result": (lambda x, y: (x, y), EMPTY, args(X, np.arange(3.0)), False),
    "NumPy scalar": (lambda x, y: x + y, EMPTY, args(X, np.float32(2)), True),
    "NumPy transposed": (double, EMPTY, args(np.ones((2, 3), np.float32).T), False),
    "NumPy big-endian": (double, EMPTY, args(np.arange(3, dtype=">f4")), False),
    "dtypes": (double, EMPTY, args([vector(1, 0, dtype=d) for d in (
        np.bool_, np.int8, np.uint16, np.int32, np.int64, np.float16, ml_dtypes.bfloat16,
        np.float64)]), True),
    "complex array": (double, EMPTY, args(vector(1j, dtype=np.complex64)), True),
    "large": (lambda x: (x + 1, x[:2] * 2), EMPTY, args(fnp.ones((300, 100))), True),
    "huge": (lambda x: x + 1, EMPTY, args(fnp.ones(600_000)), True),
    "through": (lambda x, y: (x, y + 1, x), EMPTY, args(fresh(1, 2), Y), True),
    "donated": (lambda x, y: (x + y, y * 2), {"donate_argnums": 0}, args(fresh(1, 2, 3), Y), True),
    "donated tree": (lambda s, x: double(s), {"donate_argnames": "s"},
                     args(lambda: {"a": vector(1), "b": vector(2, 3)}, X), True),
    "donated by name": (lambda x, *, s: s + x, {"donate_argnames": "s"}, args(X, s=fresh(1, 2, 3)),
                        True),
    "donated through": (lambda x: (x, x + 1), {"donate_argnums": 0}, args(fresh(1, 2)), True),
    "donated scalar": (lambda x, y: x + y, {"donate_argnums": 0}, args(2.0, X), True),
    "donated NumPy": (lambda x: x + 1, {"donate_argnums": 0},
                      args(lambda: np.ones(3, np.float32)), True),
    "donated large": (lambda x: x + 1, {"donate_argnums": 0}, args(lambda: fnp.ones(5000)), True),
    "static int": (lambda x, n: x.reshape(n, -1), {"static_argnums": 1}, args(X, 3), True),
    "static by name": (lambda x, n, mode: x * n if mode == "up" else x,
                       {"static_argnames": ("mode", "n")}, args(X, mode="up", n=3), True),
    "static tuple": (lambda x, shape: fnp.broadcast_to(x, shape), {"static_argnums": 1},
                     args(X, (2, 3)), True),
    "static function": (lambda x, f: fd.tree.map(lambda y: f(y, y), x), {"static_argnums": 1},
                        lambda: ((X, operator.mul), {}), True),
    "static dtype": (lambda x, d: x.astype(d), {"static_argnums": 1},
                     lambda: ((X, np.dtype("int32")), {}), True),
    "static object": (lambda x, tag: x + len(tag.name), {"static_argnums": 1},
                      args(X, lambda: Tag("abc")), True),
    "static list": (lambda x, n: x, {"static_argnums": 1}, args(X, [1]), False),
    "wrong leaf": (double, EMPTY, args({"a": X, "b": "text"}), False),
    "object array": (double, EMPTY, args(np.array([None])), False),
    "missing argument": (lambda x, y: x, EMPTY, args(X), False),
    "unexpected keyword": (lambda x: x, EMPTY, args(X, z=X), False),
    "error in the function": (lambda x: x.reshape(7), EMPTY, args(X), False),
    "on the host": (lambda x: fd.pure_callback(np.negative, x, x), EMPTY, args(X), False),
    "loop": (lambda x: fd.lax.fori_loop(0, 5, lambda i, y: y * 2, x), EMPTY, args(X), True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_call(name: str) -> None:
    function, options, make, served = CASES[name]
    jitted = fd.jit(function, **options)
    assert compare(jitted, make) == (2 if served else 0)


def test_deleted_arrays() -> None:
    jitted = fd.jit(lambda x, y: x + y)
    assert compare(jitted, args(X, Y)) == 2

    def make() -> Call:
        x = vector(1, 2, 3)
        x.delete()
        return (X, x), {}

    assert compare(jitted, make) == 0


def test_donating_an_array_twice() -> None:
    jitted = fd.jit(lambda x, y: (x + 1, y * x), donate_argnums=(0, 1))
    assert compare(jitted, args(fresh(1, 2), fresh(3, 4))) == 2

    def make() -> Call:
        x = vector(1, 2)
        return (x, x), {}

    assert compare(jitted, make) == 3


def test_donated_memory_is_used_again() -> None:
    jitted = fd.jit(lambda x: x + 1, donate_argnums=0)
    x = vector(1, 2)
    memory = x.value
    for n in range(4):
        x = jitted(x)
        assert x.value is memory, n
    kept = np.asarray(x)  # which makes the memory read-only
    x = jitted(x)
    assert x.value is not memory
    assert kept.tolist() == [5, 6]
    assert x.tolist() == [6, 7]
    assert jitted._table.hits == 4


def test_views_are_copied_once() -> None:
    views = [fnp.arange(6.0).reshape(2, 3).T, fnp.arange(6.0)[::-2], fnp.ones((4, 4))[:, 1:]]
    run = fd.jit(lambda xs: [x + 1 for x in xs])
    for x, found in zip(views, run(views), strict=True):
        np.testing.assert_array_equal(found, x + 1)
    kept = [x.value for x in views]
    assert all(value.flags.c_contiguous for value in kept)
    run(views)
    assert all(x.value is value for x, value in zip(views, kept, strict=True))


def test_results_that_are_arguments_are_never_donated() -> None:
    jitted = fd.jit(lambda x: (x, x + 1))
    x = vector(1, 2)
    for _ in range(2):
        same, _ = jitted(x)
        assert same is not x and same.value is x.value
        assert not x.value.flags.writeable


def test_dicts_in_another_order_share_a_program() -> None:
    traced = []
    jitted = fd.jit(lambda d: (traced.append(1), d["a"] - d["b"])[1])
    for d in ({"a": X, "b": Y}, {"b": Y, "a": X}) * 2:
        assert jitted(d).tolist() == [-3, -3, -3]
    assert (len(traced), len(jitted._table), jitted._table.hits) == (1, 1, 3)


def test_types_are_told_apart() -> None:
    """Calls that differ in one thing, in turns: each gets its own program."""
    calls: list[Any] = [
        X, vector(1, 2), X[None], X.astype("int32"), X.astype("float64"), fnp.asarray(1.0),
        fnp.float32(1), 1, 1.0, True, (X,), [X], {"a": X}, {"b": X}, {1: X}, (X, None), (None, X),
        Point(X, X), (X, X), ((X,), X), (X, (X,)), np.ones(3), np.ones(3, np.float32),
        Box(X), Box(X, "other"), [[X], X], [[X, X]], (Tag("a"), X), (Tag("b"), X), [], (), {},
    ]  # fmt: skip
    jitted = fd.jit(lambda tree: (tree, fd.tree.map(lambda x: x * 2, tree)))
    with fd.config.override(dispatch="python"):
        wanted = [describe(jitted(x)[1]) for x in calls]
    for _ in range(3):
        assert [describe(jitted(x)[1]) for x in calls] == wanted
    # Only the arguments that are results, and no arrays, are left to the twin.
    assert jitted._table.hits == 2 * (len(calls) - 6)


def test_static_values_are_told_apart() -> None:
    jitted = fd.jit(lambda x, n: (x * n, type(n)(3) * x), static_argnums=1)
    values = [1, 1.0, True, 2, 0.0, -0.0]
    with fd.config.override(dispatch="python"):
        wanted = [describe(jitted(X, n)) for n in values]
    for _ in range(3):
        assert [describe(jitted(X, n)) for n in values] == wanted
    assert jitted._table.hits == 2 * len(values) + 1  # 0.0 and -0.0 are equal


def test_flags_choose_programs() -> None:
    jitted = fd.jit(lambda x: fnp.arange(x.size) + 0)
    for _ in range(3):
        assert jitted(X).dtype == np.int32
        with fd.config.override(x64="on"):
            assert jitted(X).dtype == np.int64
    assert jitted._table.hits == 4
    with fd.config.override(backend="reference"):
        assert jitted(X).tolist() == [0, 1, 2]
    with fd.config.override(debug_nans=True), pytest.raises(fd.errors.NonFiniteError):
        fd.jit(lambda x: x / 0 - x / 0)(X)
    with fd.config.override(disable_jit=True):
        ran = []
        fd.jit(lambda x: ran.append(type(x)))(X)
        assert ran == [fd.Array]
    assert jitted._table.hits == 4


def test_transforms_trace() -> None:
    jitted = fd.jit(lambda x: (x * x).sum())
    jitted(X), jitted(X)
    assert jitted._table.hits == 1
    assert fd.grad(jitted)(X).tolist() == [2, 4, 6]
    assert fd.vmap(jitted)(X[None]).tolist() == [14]
    assert fd.jit(lambda x: jitted(x) + jitted(Y))(X) == 91
    assert jitted._table.hits == 1


def test_leaked_tracers() -> None:
    jitted = fd.jit(lambda x: x + 1)
    jitted(X)
    leaked: list[Any] = []
    fd.jit(lambda x: leaked.append(x))(X)
    assert compare(jitted, lambda: ((leaked[0],), {})) == 0


def test_registering_a_named_tuple_changes_how_it_is_flattened() -> None:
    Pair = namedtuple("Pair", "first second")
    jitted = fd.jit(lambda pair: pair.first + pair.second)
    assert jitted(Pair(X, Y)).tolist() == [5, 7, 9]
    assert jitted(Pair(X, Y)).tolist() == [5, 7, 9]
    with pytest.warns(UserWarning):
        fd.tree.register_pytree_node(
            Pair, lambda p: ((p.second,), None), lambda _, kids: Pair(kids[0], kids[0])
        )
    for _ in range(3):
        assert jitted(Pair(X, Y)).tolist() == [8, 10, 12]


def test_errors_of_containers_are_raised() -> None:
    class Odd:
        pass

    def refuse(node: Any) -> Any:
        raise RuntimeError("not today")

    fd.tree.register_pytree_node(Odd, refuse, lambda _, children: Odd())
    jitted = fd.jit(double)
    jitted(X)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="not today"):
            jitted([X, Odd()])


def test_comparisons_that_clear_the_cache() -> None:
    """A static value's ``__eq__`` may do anything, also to the table that asks."""

    class Value:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            jitted.clear_cache()
            return True

    jitted = fd.jit(lambda x, v: x + 1, static_argnums=1)
    for _ in range(5):
        assert jitted(X, Value()).tolist() == [2, 3, 4]


leaves = st.sampled_from([X, fnp.zeros(()), fnp.asarray(2.0), 3, 0.5, np.ones(2, np.float32)])
trees = st.recursive(
    leaves | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.tuples(inner, inner).map(lambda pair: Point(*pair))
        | inner.map(Box)
    ),
    max_leaves=8,
)
JITTED: list[Any] = []


@given(positional=st.lists(trees, max_size=3), named=st.dictionaries(st.sampled_from("pq"), trees))
def test_trees(positional: list[Any], named: dict[str, Any]) -> None:
    if not JITTED or JITTED[0] is not dispatch.native:
        JITTED[:] = dispatch.native, fd.jit(lambda *args, **kwargs: double([args, kwargs]))
    assert compare(JITTED[1], lambda: (tuple(positional), named)) >= 2
