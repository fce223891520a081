"""Every function of the table under every composition of transforms.

All on the reference back end; test_compiled.py repeats some of them in C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.transforms.compare import (
    assert_same,
    batches,
    loop,
    loss_of,
    pair,
    tangents_like,
)
from tests.transforms.table import CASES, NAMES, Case

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.test_util import check_grads

Pair = tuple[Any, Any]


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def each(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[c.name for c in cases])


DIFFERENTIABLE = [c for c in CASES if c.argnums]
FORWARD = [c for c in DIFFERENTIABLE if c.fwd]


def chosen(case: Case, fun: Callable[..., Any]) -> tuple[Callable[..., Any], list[Any]]:
    """A function of the differentiable arguments alone, and those."""
    positions = [i % len(case.args) for i in case.argnums]

    def restricted(*values: Any) -> Any:
        args = list(case.args)
        for i, value in zip(positions, values, strict=True):
            args[i] = value
        return fun(*args)

    return restricted, [case.args[i] for i in positions]


def test_the_table_is_not_empty() -> None:
    assert len(set(NAMES)) == len(NAMES) > 30
    assert len(FORWARD) > 25


@each(CASES)
def test_jit_keeps_results(case: Case) -> None:
    wanted = case(*case.args)
    assert_same(fd.jit(case)(*case.args), wanted, weak=True)
    assert_same(fd.jit(case.fun)(*case.args, **case.kwargs), wanted)
    assert_same(fd.jit(fd.jit(case))(*case.args), wanted, weak=True)


@each(CASES)
def test_eval_shape_and_make_jaxpr_tell_the_types(case: Case) -> None:
    out = case(*case.args)
    shapes = fd.eval_shape(case, *case.args)
    assert fd.tree.structure(shapes) == fd.tree.structure(out)
    program = fd.make_jaxpr(case)(*case.args)
    leaves = [fnp.asarray(x).aval for x in fd.tree.leaves(out)]
    assert [x.aval for x in fd.tree.leaves(shapes)] == leaves
    assert program.out_avals == leaves


AXES: dict[str, Callable[[Case], Any]] = {
    "first": lambda case: 0,
    "last": lambda case: -1,
    "one argument": lambda case: (0,) + (None,) * (len(case.args) - 1),
    "trees": lambda case: alternate(case.args),
}


def alternate(args: tuple[Any, ...]) -> Any:
    """A tree of axes with the arguments' structure: in turn 0, None, and the last."""
    leaves, treedef = fd.tree.flatten(args)
    return treedef.unflatten([(0, None, -1)[i % 3] for i in range(len(leaves))])


def placed(fun: Any, axes: Any, out_axes: Any = 0) -> Pair:
    return fd.vmap(fun, axes, out_axes), loop(fun, axes, out_axes)


@pytest.mark.parametrize("axes", AXES)
@each(CASES)
def test_vmap_is_a_loop(case: Case, axes: str) -> None:
    in_axes = AXES[axes](case)
    args = batches(case, in_axes)
    out_axes = -1 if axes == "last" else 0
    mapped, looped = placed(case, in_axes, out_axes)
    assert_same(mapped(*args), looped(*args), 10)
    assert_same(fd.jit(mapped)(*args), looped(*args), 10)
    assert_same(fd.vmap(fd.jit(case), in_axes, out_axes)(*args), looped(*args), 10)


@each(CASES)
def test_vmap_of_vmap_is_two_loops(case: Case) -> None:
    inner_axes = (0,) + (None,) * (len(case.args) - 1)
    outer = Case(case.name, fd.vmap(case, inner_axes), batches(case, inner_axes))
    args = batches(outer, 0)
    wanted = loop(loop(case, inner_axes), 0)(*args)
    assert_same(fd.vmap(fd.vmap(case, inner_axes))(*args), wanted, 10)


@each(DIFFERENTIABLE)
def test_derivatives_agree_with_differences(case: Case) -> None:
    """jvp, vjp, and each of them over each: jvp of grad, grad of grad, grad of jvp."""
    fun, args = chosen(case, case)
    modes = ("fwd", "rev") if case.fwd else ("rev",)
    if any(fnp.asarray(x).size for x in fd.tree.leaves(args)):
        check_grads(fun, args, case.order if case.fwd else 1, modes)


@each(DIFFERENTIABLE)
def test_grad_agrees_with_vjp(case: Case) -> None:
    loss = loss_of(case)
    fun, args = chosen(case, loss)
    value, gradient = fd.value_and_grad(loss, case.argnums)(*case.args)
    out, pullback = fd.vjp(fun, *args)
    assert_same(value, out)
    assert_same(gradient, pullback(fnp.float64(1.0)))
    for i, single in enumerate(case.argnums):
        assert_same(fd.grad(loss, single)(*case.args), gradient[i])


@each(DIFFERENTIABLE)
def test_jit_and_grad_commute(case: Case) -> None:
    loss = loss_of(case)
    wanted = fd.grad(loss, case.argnums)(*case.args)
    assert_same(fd.jit(fd.grad(loss, case.argnums))(*case.args), wanted, 10)
    assert_same(fd.grad(fd.jit(loss), case.argnums)(*case.args), wanted, 10)
    assert_same(fd.jit(fd.grad(fd.jit(loss), case.argnums))(*case.args), wanted, 10)


@each(DIFFERENTIABLE)
def test_aux_is_handed_through(case: Case) -> None:
    def with_aux(*args: Any) -> Any:
        return loss_of(case)(*args), {"all": case(*args), "none": None, "n": 3}

    aux = {"all": case(*case.args), "none": None, "n": 3}
    gradient = fd.grad(loss_of(case), case.argnums)(*case.args)
    assert_same(fd.grad(with_aux, case.argnums, has_aux=True)(*case.args), (gradient, aux))
    (value, found_aux), found = fd.value_and_grad(with_aux, case.argnums, True)(*case.args)
    assert_same((value, found_aux, found), (loss_of(case)(*case.args), aux, gradient))
    assert_same(fd.vjp(with_aux, *case.args, has_aux=True)[2], aux)
    if case.fwd:
        tangents = tangents_like(case.args)
        assert_same(fd.jvp(with_aux, case.args, tangents, has_aux=True)[2], aux)
        assert_same(fd.linearize(with_aux, *case.args, has_aux=True)[2], aux)


@each(DIFFERENTIABLE)
def test_grad_of_vmap(case: Case) -> None:
    """The gradient of a sum over a batch: one gradient for each member, or their sum."""
    args = batches(case, 0)

    def total(*xs: Any) -> Any:
        return fd.vmap(loss_of(case))(*xs).sum()

    wanted = loop(fd.grad(loss_of(case), case.argnums), 0)(*args)
    assert_same(fd.grad(total, case.argnums)(*args), wanted, 10)
    assert_same(fd.jit(fd.grad(total, case.argnums))(*args), wanted, 10)
    assert_same(fd.vmap(fd.grad(loss_of(case), case.argnums))(*args), wanted, 10)
    assert_same(fd.vmap(fd.jit(fd.grad(loss_of(case), case.argnums)))(*args), wanted, 10)
    assert_same(fd.vmap(fd.grad(fd.jit(loss_of(case)), case.argnums))(*args), wanted, 10)


@each(DIFFERENTIABLE)
def test_gradients_of_shared_arguments_add_up(case: Case) -> None:
    first = case.argnums[0] % len(case.args)
    if len(case.args) == 1:
        return
    axes = tuple(None if i == first else 0 for i in range(len(case.args)))
    args = batches(case, axes)
    if not fd.tree.leaves([x for i, x in enumerate(args) if i != first]):
        return

    def total(*xs: Any) -> Any:
        return fd.vmap(loss_of(case), axes)(*xs).sum()

    each_one = loop(fd.grad(loss_of(case), first), axes)(*args)
    wanted = fd.tree.map(lambda g: g.sum(axis=0), each_one)
    assert_same(fd.grad(total, first)(*args), wanted, 10)


@each(FORWARD)
def test_linearize_is_jvp(case: Case) -> None:
    tangents = tangents_like(case.args)
    wanted = fd.jvp(case, case.args, tangents)
    out, linear = fd.linearize(case, *case.args)
    assert_same((out, linear(*tangents)), wanted, 10)
    assert_same(fd.jvp(fd.jit(case), case.args, tangents), wanted, 10)
    assert_same(fd.jit(lambda *ts: fd.jvp(case, case.args, ts))(*tangents), wanted, 10)
    assert_same(fd.linearize(fd.jit(case), *case.args)[1](*tangents), wanted[1], 10)


@each(FORWARD)
def test_vjp_is_the_transpose_of_jvp(case: Case) -> None:
    tangents = tangents_like(case.args)
    out, pushed = fd.jvp(case, case.args, tangents)
    cotangent = tangents_like(out, 6)
    for fun in (case, fd.jit(case)):
        pulled = fd.vjp(fun, *case.args)[1](cotangent)
        assert pair(cotangent, pushed) == pytest.approx(pair(pulled, tangents), rel=1e-4, abs=1e-6)
        for ct, arg in zip(fd.tree.leaves(pulled), fd.tree.leaves(case.args), strict=True):
            assert ct.aval.same_type(fnp.asarray(arg).aval.to_tangent())


@each(FORWARD)
def test_jvp_of_grad_under_vmap_and_jit(case: Case) -> None:
    """Hessian-vector products of a batch."""
    fun, args = chosen(case, loss_of(case))
    tangents = tangents_like(args)

    def product(*xs: Any) -> Any:
        return fd.jvp(fd.grad(fun, tuple(range(len(args)))), xs, tuple(tangents))[1]

    batch = Case(case.name, product, tuple(args))
    stacked = batches(batch, 0)
    wanted = loop(product, 0)(*stacked)
    assert_same(fd.jit(fd.vmap(product))(*stacked), wanted, 100)
    reverse = fd.grad(lambda *xs: inner(fd.grad(fun, tuple(range(len(args))))(*xs), tangents))
    assert_same(reverse(*args), product(*args)[0], 100)


def inner(left: Any, right: Any) -> Any:
    pairs = zip(fd.tree.leaves(left), fd.tree.leaves(right), strict=True)
    return sum(((a * b).sum().astype("float64") for a, b in pairs), fnp.float64(0))
