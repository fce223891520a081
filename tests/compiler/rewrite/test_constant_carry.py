"""Carried values that no step changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

TABLE = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)


def _while(table: Any, start: Any) -> Any:
    def step(state: Any) -> Any:
        i, table, total, unused = state
        return i + 1, table, total + table[i], unused

    return lax.while_loop(
        lambda s: (s[0] < 9) & (s[1][0, 0] < 5), step, (start, table, fnp.zeros(5), table * 2)
    )


def _scan(table: Any, start: Any) -> Any:
    def step(carry: Any, i: Any) -> Any:
        total, table = carry
        return (total + table[i], table), (table[0], total)

    return lax.scan(step, (fnp.zeros(5), table), fnp.arange(start, 9))


def _nested(table: Any, start: Any) -> Any:
    def outer(carry: Any, i: Any) -> Any:
        def inner(j: Any, state: Any) -> Any:
            return state[0], state[1] + state[0][j] * i

        return lax.fori_loop(0, 3, inner, carry), i

    return lax.scan(outer, (table, fnp.zeros(5)), fnp.arange(4))


def _nothing_changes(table: Any, start: Any) -> Any:
    return lax.scan(lambda c, x: (c, x * 2), (table, start), table)


def _never(table: Any, start: Any) -> Any:
    return lax.while_loop(lambda s: s[0] < 0, lambda s: (s[0] + 1, s[1]), (start, table))


def _swapped(table: Any, start: Any) -> Any:
    return lax.fori_loop(0, 3, lambda i, s: (s[1], s[0], s[2]), (table, table + 1, table * 2))


PROGRAMS = {
    "while": _while,
    "scan": _scan,
    "nested": _nested,
    "nothing changes": _nothing_changes,
    "never": _never,
    "swapped": _swapped,
}


@pytest.mark.parametrize("transform", ["plain", "vmap", "derivative"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_python(name: str, transform: str) -> None:
    f = partial(PROGRAMS[name], start=0 if name == "scan" else np.int32(0))

    def total(table: Any) -> Any:
        leaves = fd.tree.leaves(f(table))
        return sum(fnp.sin(x).sum() for x in leaves if np.issubdtype(x.dtype, np.floating))

    call: Callable[[Any], Any] = f
    arg: Any = TABLE
    if transform == "vmap":
        call, arg = fd.vmap(f), np.stack([TABLE, TABLE + 1])
    elif transform == "derivative" and name in ("while", "never"):
        call = fd.jacfwd(total)
    elif transform == "derivative":
        call = fd.grad(total)
    with fd.disable_jit():
        wanted = call(arg)
    found = fd.jit(call)(arg)
    for x, y in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["while", "nested", "never"])
def test_they_are_not_carried(name: str) -> None:
    lowered = fd.jit(lambda table: PROGRAMS[name](table, np.int32(0))).lower(TABLE)
    assert f"u8[{TABLE.nbytes}]" not in lowered.as_text("memory")


def test_products_with_them_leave_the_loop() -> None:
    def f(w: Any, x: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            w, h = carry
            return (w, fnp.tanh(x @ w + h)), h

        return lax.scan(step, (w, fnp.zeros((4, 8))), x)[1]

    w, x = np.ones((5, 8), np.float32), np.ones((16, 4, 5), np.float32)
    text = fd.jit(f).lower(w, x).as_text("simplified")
    assert text.count("dot_general") == 1
    assert text.index("dot_general") < text.index("scan")
