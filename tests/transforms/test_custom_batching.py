"""custom_vmap and sequential_vmap: when the rule is called, with what, and its checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.transforms.compare import assert_same

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.custom_batching import custom_vmap, sequential_vmap
from funcdl.errors import ArgumentError, ShapeError, TreeError

X = fnp.asarray([0.5, 1.0, 2.0])
M = fnp.arange(6.0).reshape(2, 3) / 4


def counted(calls: list[Any]) -> Any:
    """``sin(x) * y`` with a rule that notes how it is called."""

    @custom_vmap
    def f(x: Any, y: Any) -> Any:
        return fnp.sin(x) * y

    @f.def_vmap
    def rule(axis_size: int, in_batched: list[bool], x: Any, y: Any) -> Any:
        calls.append((axis_size, *in_batched))
        assert type(axis_size) is int
        assert [x.ndim > 0, y.ndim > 0][: len(in_batched)] == in_batched or x.ndim + y.ndim > 1
        if in_batched == [False, True]:
            x = x[None]
        return f(x, y) if all(in_batched) else fnp.sin(x) * y, True

    return f


def test_the_rule_is_called_by_vmap_alone() -> None:
    calls: list[Any] = []
    f = counted(calls)
    assert_same(f(X, 2.0), fnp.sin(X) * 2)
    assert_same(fd.jit(f)(X, 2.0), fnp.sin(X) * 2)
    assert_same(fd.grad(f)(0.5, 2.0), 2 * fnp.cos(0.5))
    assert calls == []
    assert_same(fd.vmap(f, (0, None))(X, 2.0), fnp.sin(X) * 2)
    assert_same(fd.vmap(f, (None, 0))(2.0, X), fnp.sin(2.0) * X)
    assert_same(fd.vmap(f)(X, X), fnp.sin(X) * X)
    assert calls == [(3, True, False), (3, False, True), (3, True, True)]
    fd.vmap(lambda x: f(2.0, 3.0) * x)(X)  # nothing that is mapped
    assert len(calls) == 3


NESTS: dict[str, Callable[[Any], Any]] = {
    "jit of vmap": lambda f: fd.jit(fd.vmap(f, (0, None))),
    "vmap of jit": lambda f: fd.vmap(fd.jit(f), (0, None)),
    "checkpoint": lambda f: fd.vmap(fd.checkpoint(f), (0, None)),
    "scan": lambda f: fd.vmap(
        lambda x, y: lax.scan(lambda c, _: (c, f(x, y)), 0, None, length=1)[1][0], (0, None)
    ),
    "keywords": lambda f: lambda x, y: fd.vmap(lambda a: f(a, y=y))(x),
}


@pytest.mark.parametrize("name", NESTS)
def test_the_rule_is_called_in_every_place(name: str) -> None:
    calls: list[Any] = []
    f = counted(calls)
    assert_same(NESTS[name](f)(X, 2.0), fnp.sin(X) * 2)
    assert calls and set(calls) == {(3, True, False)}


def test_nested_vmaps_call_it_for_the_inner_one() -> None:
    calls: list[Any] = []
    f = counted(calls)
    found = fd.vmap(fd.vmap(f, (0, None)), (None, 0))(X, X)
    assert_same(found, fnp.sin(X) * X[:, None])
    assert calls == [(3, True, False)]


def test_derivatives_with_vmap_in_any_order() -> None:
    calls: list[Any] = []
    f = counted(calls)
    assert_same(fd.vmap(fd.grad(f), (0, None))(X, 2.0), 2 * fnp.cos(X))
    assert calls == [(3, True, False)]  # for the value, which only reverse mode needs
    assert_same(fd.grad(lambda x: fd.vmap(f, (0, None))(x, 2.0).sum())(X), 2 * fnp.cos(X))
    assert len(calls) == 2
    dot = fd.vmap(lambda x, t: fd.jvp(f, (x, 2.0), (t, 3.0))[1])(X, X)
    assert_same(dot, 2 * fnp.cos(X) * X + 3 * fnp.sin(X))
    constant = fd.vmap(lambda x: fd.jvp(lambda y: f(x, y), (2.0,), (1.0,))[1])(X)
    assert_same(constant, fnp.sin(X))
    second = fd.vmap(fd.grad(fd.grad(f)), (0, None))(X, 2.0)
    assert_same(second, -2 * fnp.sin(X))
    (ct,) = fd.linear_transpose(lambda y: f(1.0, y), 1.0)(2.0)
    assert_same(ct, 2 * fnp.sin(1.0))


def test_trees_and_partly_batched_outputs() -> None:
    @custom_vmap
    def f(p: Any, n: Any) -> Any:
        return {"sum": p["a"] + p["b"], "same": n * 2}

    @f.def_vmap
    def rule(size: int, in_batched: Any, p: Any, n: Any) -> Any:
        assert in_batched == [{"a": True, "b": False}, False]
        return {"sum": p["a"] + p["b"], "same": n * 2}, {"sum": True, "same": False}

    def call(a: Any) -> Any:
        return f({"a": a, "b": 1.0}, 3.0)

    found = fd.vmap(call, out_axes={"sum": 0, "same": None})(X)
    assert_same(found, {"sum": X + 1, "same": np.float32(6)}, weak=False)
    assert_same(fd.vmap(call, in_axes=0)(X)["same"], np.full(3, 6, np.float32))


def test_another_batch_dimension_comes_first() -> None:
    @custom_vmap
    def f(x: Any) -> Any:
        return x.sum()

    f.def_vmap(lambda size, flags, x: (x.sum(axis=1), True))
    assert_same(fd.vmap(f, in_axes=1)(M), M.sum(0))


def test_methods() -> None:
    class Model:
        scale = 2.0

        @custom_vmap
        def run(self: Any, x: Any) -> Any:  # a pytree of no leaves
            return x * 2.0

    Model.run.def_vmap(lambda size, flags, self, x: (x * 2.0, True))
    fd.tree_util.register_pytree_node(Model, lambda m: ((), None), lambda aux, xs: Model())
    assert_same(fd.vmap(Model().run)(X), X * 2)


def test_sequential_vmap_runs_one_call_after_the_other() -> None:
    @sequential_vmap
    def f(x: Any, y: Any) -> Any:
        return lax.cond(x > 0.75, lambda: fnp.sin(x) * y, lambda: x), x.ndim

    found, ndim = fd.vmap(f, (0, None))(X, 2.0)
    assert_same(found, fnp.where(X > 0.75, fnp.sin(X) * 2, X))
    assert_same(ndim, np.zeros(3, np.int32))
    program = str(fd.make_jaxpr(fd.vmap(f, (0, None)))(X, 2.0))
    assert "scan[" in program and "cond[" in program
    assert_same(fd.jit(fd.vmap(lambda y: f(1.0, y)[0]))(X), fnp.sin(1.0) * X)
    nested = fd.vmap(fd.vmap(lambda x, y: f(x, y)[0], (0, None)), (None, 0))(X, X)
    assert_same(nested, fnp.where(X > 0.75, fnp.sin(X) * X[:, None], X))
    assert_same(fd.vmap(fd.grad(lambda x: f(x, 2.0)[0]))(X), fnp.where(X > 0.75, 2 * fnp.cos(X), 1))


@pytest.mark.peers
def test_as_in_jax() -> None:
    jax = pytest.importorskip("jax")
    x = np.asarray(X.value)

    def run(m: Any, xp: Any) -> Any:
        @m.custom_batching.custom_vmap
        def f(a: Any, b: Any) -> Any:
            return xp.sin(a) * b, b

        @f.def_vmap
        def rule(size: int, in_batched: Any, a: Any, b: Any) -> Any:
            # Not what f computes, so that it shows.
            return (a + 10 * b, b), (True, in_batched[1])

        g = m.custom_batching.sequential_vmap(lambda a: xp.cos(a) * a)
        return [
            f(x, x),
            m.vmap(f, (0, None))(x, 2.0),
            m.vmap(f)(x, x),
            m.jvp(lambda a: m.vmap(f, (0, None))(a, 2.0), (x,), (x,)),
            m.vmap(lambda a, t: m.jvp(f, (a, a), (t, 2 * t)))(x, x),
            m.jit(m.vmap(g))(x),
            m.vmap(m.vmap(g))(x[None]),
        ]

    found, wanted = run(fd, fnp), run(jax, jax.numpy)
    flat = fd.tree.leaves(found), jax.tree_util.tree_leaves(wanted)
    for a, b in zip(*flat, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6)


def with_rule(rule: Callable[..., Any]) -> Any:
    @custom_vmap
    def f(x: Any) -> Any:
        return x, x

    if rule is not None:
        f.def_vmap(rule)
    return fd.vmap(f)


def closing_over_a_mapped_value() -> Any:
    def outer(x: Any) -> Any:
        f = custom_vmap(lambda y: x * y)
        f.def_vmap(lambda size, flags, y: (y, True))
        return f(1.0)

    return fd.vmap(outer)(X)


def pair_rule(size: int, flags: Any, x: Any) -> Any:
    return (x, x), (True, True)


MESSAGES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no rule": (
        lambda: with_rule(None)(X),  # type: ignore[arg-type]
        ArgumentError,
        "no rule is defined for custom_vmap function f; use def_vmap",
    ),
    "no pair": (
        lambda: with_rule(lambda size, flags, x: x)(X),
        ArgumentError,
        "the vmap rule <lambda> of f must return a pair (output, out_batched), got an array of "
        "type f32[3]",
    ),
    "other structure": (
        lambda: with_rule(lambda size, flags, x: ([x, x], (True, True)))(X),
        TreeError,
        "the vmap rule <lambda> of f must return an output with the structure of the function's:\n"
        "  found:  [*, *]\n"
        "  wanted: (*, *)",
    ),
    "flags": (
        lambda: with_rule(lambda size, flags, x: ((x, x), True))(X),
        TreeError,
        "the vmap rule <lambda> of f must return out_batched with the structure of the output, "
        "(*, *), and a bool for each leaf; got True",
    ),
    "flags that are none": (
        lambda: with_rule(lambda size, flags, x: ((x, x), (True, 0)))(X),
        ArgumentError,
        "the vmap rule <lambda> of f must return a bool for each leaf in out_batched, got 0",
    ),
    "types": (
        lambda: with_rule(lambda size, flags, x: ((x, x), (True, False)))(X),
        ShapeError,
        "the vmap rule <lambda> of f must return outputs of the function's types, with a first "
        "dimension of size 3 where out_batched is True:\n"
        "  output[1]: found f32[3], wanted f32[]",
    ),
    "closure": (
        closing_over_a_mapped_value,
        ArgumentError,
        "<lambda> has a custom vmap rule, and closes over a value that vmap maps, which the rule "
        "would not see; pass the value as an argument",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str) -> None:
    call, kind, message = MESSAGES[name]
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message
