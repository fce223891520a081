"""Transposes that products absorb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp

RNG = np.random.default_rng(0)
A, B = (RNG.normal(size=(6, 5)).astype(np.float32) for _ in range(2))
C, D = (RNG.normal(size=(5, 7)).astype(np.float32) for _ in range(2))
BATCH = RNG.normal(size=(3, 6, 5)).astype(np.float32)
OTHER_BATCH = RNG.normal(size=(3, 5, 7)).astype(np.float32)

ABSORBED: dict[str, Callable[..., Any]] = {
    "product": lambda a, b, c, d: (a @ c).T,
    "batches": lambda a, b, c, d: fnp.matmul(BATCH, OTHER_BATCH).transpose(0, 2, 1),
    "sum": lambda a, b, c, d: (a @ c + b @ d).T,
    "scaled": lambda a, b, c, d: (2 * (a @ c) - (b @ d)).T * 3,
    "negated": lambda a, b, c, d: (-(a @ c)).T,
}
KEPT: dict[str, Callable[..., Any]] = {
    "used twice": lambda a, b, c, d: ((a @ c).T, a @ c),
    "an operand of another kind": lambda a, b, c, d: (fnp.exp(a @ c) + b @ d).T,
    "batches moved": lambda a, b, c, d: (BATCH @ c).transpose(1, 0, 2),
}


@pytest.mark.parametrize("name", [*ABSORBED, *KEPT])
def test_values_and_equations(name: str) -> None:
    f = (ABSORBED | KEPT)[name]
    program = fd.jit(f)
    text = program.lower(A, B, C, D).as_text("simplified")
    assert (" transpose[" in text) == (name in KEPT), text
    for out, wanted in zip(
        fd.tree.leaves(program(A, B, C, D)), fd.tree.leaves(f(A, B, C, D)), strict=True
    ):
        np.testing.assert_allclose(np.asarray(out), np.asarray(wanted), 1e-5, 1e-5)


def test_hessian_vector_products_move_nothing() -> None:
    def loss(ws: Any, x: Any) -> Any:
        return ((fnp.tanh(fnp.tanh(x @ ws[0]) @ ws[1]) @ ws[2]) ** 2).mean()

    ws = [RNG.normal(size=s).astype(np.float32) for s in ((8, 9), (9, 10), (10, 1))]
    x = RNG.normal(size=(11, 8)).astype(np.float32)
    product = fd.jit(lambda ws, ts, x: fd.jvp(lambda w: fd.grad(loss)(w, x), (ws,), (ts,))[1])
    text = product.lower(ws, ws, x).as_text("schedule")
    assert "transpose" not in text and "copy" not in text
