"""Scans whose rows threads share: which ones, and with the same bits as without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler.run import pipeline_of

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn
from funcdl.compiler.cpu.schedule import schedule_cpu
from funcdl.compiler.pipeline import native_segments
from funcdl.kernels.cpu_c.loop_parts import LoopParts, loop_parts
from funcdl.kir.program import all_scans
from funcdl.runtime.toolchain import find_compiler

ROWS, UNITS, STEPS = 64, 64, 5


def normal(*shape: int) -> Any:
    rng = np.random.default_rng(len(shape))
    return rng.normal(size=shape).astype(np.float32) / 8


def lstm(w: Any, h: Any, xs: Any) -> Any:
    def cell(carry: Any, x: Any) -> Any:
        h, c = carry
        i, f, g, o = fnp.split(h @ w + x, 4, axis=1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * fnp.tanh(g)
        h = nn.sigmoid(o) * fnp.tanh(c)
        return (h, c), h

    return lax.scan(cell, (h, h), xs)[1]


def lstm_gradient(w: Any, h: Any, xs: Any) -> Any:
    return fd.grad(lambda *args: fnp.sum(lstm(*args) ** 2), argnums=(0, 1, 2))(w, h, xs)


def deep(weights: Any, factors: Any, h: Any, xs: Any) -> Any:
    """Several temporaries of several widths, softmax of rows, a number for each step."""

    def step(h: Any, x: Any) -> Any:
        row, factor = x
        wide = fnp.tanh(h @ weights[0] + row)
        p = nn.softmax(wide @ weights[1], axis=1)
        narrow = fnp.tanh(p @ weights[2]) * factor
        return narrow @ weights[3] + h, fnp.sum(narrow, axis=1)

    return lax.scan(step, h, (xs, factors), reverse=True)


def mixing(w: Any, h: Any, xs: Any) -> Any:
    """Rows meet in a mean over them."""

    def step(h: Any, x: Any) -> Any:
        h = fnp.tanh(h @ w + x)
        return h - fnp.mean(h, axis=0), None

    return lax.scan(step, h, xs)[0]


def learning(w: Any, h: Any, xs: Any) -> Any:
    """What every row reads is carried."""

    def step(w: Any, x: Any) -> Any:
        return fnp.tanh(w @ w) * 0.5, x[:, :UNITS] @ w

    return lax.scan(step, w, xs)


def shifting(h: Any, xs: Any) -> Any:
    """Each row reads its neighbour."""

    def step(h: Any, x: Any) -> Any:
        return fnp.tanh(fnp.roll(h, 1, axis=0)) * nn.sigmoid(h) + x, None

    return lax.scan(step, h, xs)[0]


WEIGHTS = [normal(UNITS, 4 * UNITS), normal(4 * UNITS, 48), normal(48, 16), normal(16, UNITS)]
LSTM = (normal(UNITS, 4 * UNITS), normal(ROWS, UNITS), normal(STEPS, ROWS, 4 * UNITS))
Program = tuple[Callable[..., Any], tuple[Any, ...]]
SHARED: dict[str, Program] = {
    "lstm": (lstm, LSTM),
    "gradient": (lstm_gradient, LSTM),
    "deep": (deep, (WEIGHTS, normal(STEPS), *LSTM[1:])),
}
SQUARE = (normal(UNITS, UNITS), normal(ROWS, UNITS), normal(STEPS, ROWS, UNITS))
MIXED: dict[str, Program] = {
    "a mean over rows": (mixing, SQUARE),
    "weights that change": (learning, SQUARE),
    "rows that read neighbours": (shifting, (normal(256, 256), normal(STEPS, 256, 256))),
}


def shares(f: Callable[..., Any], args: tuple[Any, ...]) -> list[list[LoopParts]]:
    pipeline = pipeline_of(fd.make_jaxpr(f)(*args), scheduler=schedule_cpu)
    segments = native_segments(pipeline.program)
    return [loop_parts(call) for segment in segments for call in all_scans(segment)]


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("name", SHARED)
def test_shared_rows_have_the_same_bits(name: str) -> None:
    f, args = SHARED[name]
    found = shares(f, args)
    assert found and all(found)
    run = fd.jit(f)
    results = []
    for threads in (1, 2, 3, 4):
        with fd.config.override(num_threads=threads):
            results.append([np.asarray(x) for x in fd.tree.leaves(run(*args))])
    for other in results[1:]:
        for ours, theirs in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_meet_are_not_shared(name: str) -> None:
    found = shares(*MIXED[name])
    assert found and not any(found)


def test_small_steps_are_not_shared() -> None:
    args = normal(4, 16), normal(8, 4), normal(STEPS, 8, 16)
    assert not any(shares(lstm, args))


@pytest.mark.parametrize("rows", [32, 48, 64, 96])
def test_parts_have_rows_enough(rows: int) -> None:
    """So many that a product is worth the reading of its weights."""
    args = LSTM[0], normal(rows, UNITS), normal(STEPS, rows, 4 * UNITS)
    ((*found,),) = shares(lstm, args)
    for parts in found:
        (numbers,) = (numbers for name, _, numbers in parts.calls if "dot" in name)
        sizes = {number.name: number.value for number in numbers}
        assert sizes["n_m"] * parts.count == rows
        assert sizes["n_m"] % 16 == 0
