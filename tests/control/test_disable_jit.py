"""Control flow as Python loops and branches, under `disable_jit`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.control.table import PAIRS, Pair
from tests.transforms.compare import assert_same, batches, loop, loss_of, tangents_like

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

each = pytest.mark.parametrize("pair", PAIRS, ids=[p.name for p in PAIRS])


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


@each
def test_results_and_derivatives_are_the_same(pair: Pair) -> None:
    tangents = tangents_like(pair.args)
    wanted = fd.jvp(pair.meaning, pair.args, tangents)
    with fd.disable_jit():
        assert_same(pair.program(*pair.args), wanted[0], 10)
        assert_same(fd.jvp(pair.program, pair.args, tangents), wanted, 10)
        # No step count is unknown, so that reverse mode passes through while loops as well.
        found = fd.grad(loss_of(pair.program), pair.argnums)(*pair.args)
    assert_same(found, fd.grad(loss_of(pair.meaning), pair.argnums)(*pair.args), 10)


@each
def test_vmap(pair: Pair) -> None:
    """Where a condition depends on the batch, the loop is traced as ever."""
    args = batches(pair.program, 0)
    wanted = loop(pair.meaning, 0)(*args)
    with fd.disable_jit():
        assert_same(fd.vmap(pair.program)(*args), wanted, 10)


def test_bodies_see_values() -> None:
    seen: list[Any] = []

    def look(x: Any) -> Any:
        seen.append(float(x) if type(x) is fd.Array else type(x).__name__)
        return x

    def run(x: Any) -> None:
        lax.scan(lambda c, e: (look(c + e), None), x, fnp.arange(3.0))
        lax.scan(lambda c, e: (look(c + e), None), x, fnp.arange(3.0), reverse=True)
        lax.fori_loop(0, 2, lambda i, c: look(c + i), x)
        lax.while_loop(lambda c: look(c) < 3, lambda c: c + 1, x)
        lax.cond(x > 0, lambda y: look(y), lambda y: look(-y), x)
        lax.switch(7, [lambda y: y, lambda y: look(y)], x)
        lax.map(lambda e: look(e * x), fnp.arange(2.0))

    with fd.disable_jit():
        run(fnp.asarray(1.0))
    assert seen == [1, 2, 4, 3, 4, 4, 1, 2, 1, 2, 3, 1, 1, 0, 1]
    seen.clear()
    run(fnp.asarray(1.0))
    assert set(seen) == {"JaxprTracer"}


def test_loops_without_steps_and_unknown_conditions_are_traced() -> None:
    with fd.disable_jit():
        carry, ys = lax.scan(lambda c, x: (c + x, x * 2), 1.0, fnp.zeros((0,)))
        assert carry == 1.0 and ys.shape == (0,)
        program = fd.make_jaxpr(lambda n: lax.while_loop(lambda i: i < n, lambda i: i + 1, 0))(3)
        assert "while" in [eqn.primitive.name for eqn in program.eqns]
        found = fd.vmap(lambda p: lax.cond(p, lambda: 1.0, lambda: 2.0))(fnp.asarray([True, False]))
        assert found.tolist() == [1.0, 2.0]


def test_errors_of_the_arguments_are_those_of_traced_loops() -> None:
    for options in (True, False):
        with fd.disable_jit(options), pytest.raises(ValueError, match="pass length"):
            lax.scan(lambda c, x: (c, x), 1.0)
