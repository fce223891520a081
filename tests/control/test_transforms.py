"""Every program of the table under every transform, against the same program in plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.control.table import NAMES, PAIRS, Pair
from tests.transforms.compare import BATCH, assert_same, batches, loop, loss_of, tangents_like
from tests.transforms.table import Case

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.errors import NotDifferentiableError
from funcdl.runtime.toolchain import find_compiler


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def each(pairs: list[Pair]) -> Any:
    return pytest.mark.parametrize("pair", pairs, ids=[p.name for p in pairs])


REVERSE = [p for p in PAIRS if p.rev]
FORWARD_ONLY = [p for p in PAIRS if not p.rev]


def axes_of(pair: Pair) -> list[tuple[int | None, ...]]:
    """Each argument mapped alone, and all of them."""
    count = len(pair.args)
    single = [tuple(0 if i == k else None for i in range(count)) for k in range(count)]
    return single if count == 1 else [*single, (0,) * count]


def grad_of(case: Case) -> Any:
    return fd.grad(loss_of(case), case.argnums)


def test_the_table_is_not_empty() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 30
    assert len(FORWARD_ONLY) >= 6


@each(PAIRS)
def test_values(pair: Pair) -> None:
    wanted = pair.meaning(*pair.args)
    assert_same(pair.program(*pair.args), wanted, 10)
    assert_same(fd.jit(pair.program)(*pair.args), wanted, 10)


@each(PAIRS)
def test_vmap_is_a_loop(pair: Pair) -> None:
    for axes in axes_of(pair):
        args = batches(pair.program, axes)
        wanted = loop(pair.meaning, axes)(*args)
        assert_same(fd.vmap(pair.program, axes)(*args), wanted, 10)
        assert_same(fd.jit(fd.vmap(pair.program, axes))(*args), wanted, 10)
    last = batches(pair.program, -1)
    assert_same(fd.vmap(pair.program, -1, -1)(*last), loop(pair.meaning, -1, -1)(*last), 10)


@each(PAIRS)
def test_jvp(pair: Pair) -> None:
    tangents = tangents_like(pair.args)
    wanted = fd.jvp(pair.meaning, pair.args, tangents)
    assert_same(fd.jvp(pair.program, pair.args, tangents), wanted, 10)
    assert_same(fd.jvp(fd.jit(pair.program), pair.args, tangents), wanted, 10)
    out, push = fd.linearize(pair.program, *pair.args)
    assert_same((out, push(*tangents)), wanted, 10)


@each(PAIRS)
def test_jvp_of_each_argument_alone(pair: Pair) -> None:
    """Tangents of the others are symbolic zeros."""
    for i in pair.argnums:

        def derivative(case: Case, i: int = i) -> Any:
            def fun(x: Any) -> Any:
                return case(*pair.args[:i], x, *pair.args[i + 1 :])

            return fd.jvp(fun, (pair.args[i],), (tangents_like(pair.args)[i],))

        assert_same(derivative(pair.program), derivative(pair.meaning), 10)


def directional(case: Case, tangents: Any) -> Any:
    """The value and the derivative along `tangents`, where there is one."""

    def fun(*xs: Any) -> Any:
        leaves = fd.tree.leaves(fd.jvp(case, xs, tangents))
        return [x for x in leaves if fnp.asarray(x).dtype != dtypes.float0]

    return fun


@each(PAIRS)
def test_jvp_of_jvp_and_of_vmap(pair: Pair) -> None:
    tangents = tangents_like(pair.args)
    program, meaning = directional(pair.program, tangents), directional(pair.meaning, tangents)
    wanted = fd.jvp(meaning, pair.args, tangents)
    assert_same(fd.jvp(program, pair.args, tangents), wanted, 10)
    args = batches(pair.program, 0)
    rows = loop(meaning, 0)(*args)
    assert_same(fd.vmap(program)(*args), rows, 10)
    many = fd.tree.map(lambda t: np.stack([t] * BATCH), tangents)
    assert_same(directional(fd.vmap(pair.program), many)(*args), rows, 10)


@each(REVERSE)
def test_grad(pair: Pair) -> None:
    wanted = grad_of(pair.meaning)(*pair.args)
    assert_same(grad_of(pair.program)(*pair.args), wanted, 10)
    assert_same(fd.jit(grad_of(pair.program))(*pair.args), wanted, 10)
    jitted = fd.jit(loss_of(pair.program))
    assert_same(fd.grad(jitted, pair.argnums)(*pair.args), wanted, 10)
    for i, one in enumerate(pair.argnums):
        assert_same(fd.grad(loss_of(pair.program), one)(*pair.args), wanted[i], 10)


@each(REVERSE)
def test_grad_and_vmap(pair: Pair) -> None:
    args = batches(pair.program, 0)
    wanted = loop(grad_of(pair.meaning), 0)(*args)
    assert_same(fd.vmap(grad_of(pair.program))(*args), wanted, 10)

    def total(*xs: Any) -> Any:
        return fd.vmap(loss_of(pair.program))(*xs).sum()

    assert_same(fd.grad(total, pair.argnums)(*args), wanted, 10)
    assert_same(fd.jit(fd.grad(total, pair.argnums))(*args), wanted, 10)


@each(REVERSE)
def test_vmap_of_grad_over_each_argument(pair: Pair) -> None:
    for axes in axes_of(pair):
        args = batches(pair.program, axes)
        wanted = loop(grad_of(pair.meaning), axes)(*args)
        assert_same(fd.vmap(grad_of(pair.program), axes)(*args), wanted, 10)


@each(REVERSE)
def test_second_derivatives(pair: Pair) -> None:
    """Reverse over reverse, forward over reverse, and reverse over forward."""
    positions = list(pair.argnums)
    tangents = tangents_like([pair.args[i] for i in positions])

    def restricted(case: Case) -> Any:
        def fun(*values: Any) -> Any:
            args = list(pair.args)
            for i, value in zip(positions, values, strict=True):
                args[i] = value
            return loss_of(case)(*args)

        return fun

    def products(case: Case) -> Any:
        fun, at = restricted(case), [pair.args[i] for i in positions]
        every = tuple(range(len(at)))

        def sloped(*xs: Any) -> Any:
            found = fd.tree.leaves(fd.grad(fun, every)(*xs))
            pairs = zip(found, fd.tree.leaves(tangents), strict=True)
            return sum(((a * b).sum().astype("float64") for a, b in pairs), fnp.float64(0))

        return (
            fd.grad(sloped, every)(*at),
            fd.jvp(fd.grad(fun, every), at, tangents)[1],
            fd.grad(lambda *xs: fd.jvp(fun, xs, tuple(tangents))[1], every)(*at),
        )

    assert_same(products(pair.program), products(pair.meaning), 100)


@each(FORWARD_ONLY)
def test_reverse_mode_through_while_is_refused(pair: Pair) -> None:
    with pytest.raises(NotDifferentiableError, match="scan, or fori_loop with Python integers"):
        fd.jit(grad_of(pair.program))(*pair.args)


@pytest.mark.parametrize("jit", [False, True])
def test_branches_that_are_undefined_in_other_lanes(jit: bool) -> None:
    """Under a mapped predicate all branches run; those not chosen add nothing to gradients."""

    def f(x: Any, w: Any) -> Any:
        return fd.lax.cond(x > 0, lambda x: w * fnp.log(x), lambda x: fnp.sqrt(1 - x) / w, x)

    def total(xs: Any, w: Any) -> Any:
        return fd.vmap(f, (0, None))(xs, w).sum()

    xs, w = fnp.asarray(np.array([-3.0, 0.5, 4.0, 0.0])), fnp.float64(2.0)
    gradient = fd.grad(total, (0, 1))
    x_bar, w_bar = (fd.jit(gradient) if jit else gradient)(xs, w)
    np.testing.assert_allclose(x_bar, [-1 / 8, 4.0, 0.5, -1 / 4])
    np.testing.assert_allclose(w_bar, np.log([0.5, 4.0]).sum() - 3 / 4)
    second = fd.jacfwd(fd.grad(total))(xs, w)
    np.testing.assert_allclose(np.diagonal(second), [-1 / 64, -8, -1 / 8, -1 / 8])


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_compiled_programs_select_results_only() -> None:
    def f(x: Any, w: Any) -> Any:
        return fd.lax.cond(x > 0, lambda x: x * w, lambda x: x - w, x)

    with fd.config.override(backend="cpu"):
        lowered = fd.jit(fd.vmap(f, (0, None))).lower(fnp.ones(4), 2.0)
    assert lowered.as_text("simplified").count(" select_n ") == 1
