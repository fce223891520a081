"""Long programs: the passes stay near linear, and within Python's stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler.programs import P
from tests.compiler.run import interpret, kernels_of, pipeline_of
from tests.work import count_calls

from funcdl.compiler.pipeline import Pipeline
from funcdl.config import config
from funcdl.core.avals import ShapedArray
from funcdl.core.backend import ReferenceProgram
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.staging import trace_to_jaxpr

F32 = np.dtype(np.float32)
Program = tuple[Callable[..., Any], list[tuple[int, ...]]]


def chain(length: int, shape: tuple[int, ...]) -> Program:
    def f(x: Any, y: Any) -> Any:
        for _ in range(length):
            x = P["add"](P["sin"](x), y)
        return [x]

    return f, [shape, shape]


def tree(leaves: int) -> Program:
    def f(*xs: Any) -> Any:
        level = list(xs)
        while len(level) > 1:
            rest = level[len(level) // 2 * 2 :]
            level = [P["add"](a, b) for a, b in zip(level[::2], level[1::2], strict=False)] + rest
        return level

    return f, [(4, 4)] * leaves


def views(length: int) -> Program:
    def f(x: Any) -> Any:
        for _ in range(length):
            x = P["transpose"](P["rev"](x, dimensions=(0,)), permutation=(1, 0))
        return [x]

    return f, [(5, 5)]


def rolls(length: int) -> Program:
    def f(x: Any) -> Any:
        for _ in range(length):
            start = P["slice"](x, start_indices=(0,), limit_indices=(1,), strides=None)
            rest = P["slice"](x, start_indices=(1,), limit_indices=(50,), strides=None)
            x = P["concatenate"](rest, start, dimension=0)
        return [x]

    return f, [(50,)]


def updates(length: int) -> Program:
    def f(x: Any, row: Any) -> Any:
        for i in range(length):
            x = P["dynamic_update_slice"](x, row, np.int32(i % 40))
        return [x]

    return f, [(50,), (5,)]


def layers(length: int) -> Program:
    numbers = (((1,), (0,)), ((), ()))

    def f(x: Any, *ws: Any) -> Any:
        for w in ws:
            y = P["dot_general"](
                x, w, dimension_numbers=numbers, preferred_element_type=None, precision=None
            )
            y = P["tanh"](y)
            total = P["reduce_sum"](y, axes=(1,))
            mean = P["broadcast_in_dim"](total, shape=(6, 6), broadcast_dimensions=(0,))
            x = P["add"](x, P["sub"](y, mean))
        return [x]

    return f, [(6, 6)] * (length + 1)


def clipped(count: int) -> Program:
    """Many sums that make one scalar, which scales many arrays."""

    def f(*xs: Any) -> Any:
        total = None
        for x in xs:
            norm = P["reduce_sum"](P["mul"](x, x), axes=(0, 1))
            total = norm if total is None else P["add"](total, norm)
        scale = P["broadcast_in_dim"](P["rsqrt"](total), shape=(4, 4), broadcast_dimensions=())
        return [P["mul"](x, scale) for x in xs]

    return f, [(4, 4)] * count


def compiled(program: Program) -> tuple[Pipeline, ClosedJaxpr]:
    f, shapes = program
    jaxpr, consts = trace_to_jaxpr(f, [ShapedArray(shape, F32) for shape in shapes])
    closed = ClosedJaxpr(jaxpr, consts)
    return pipeline_of(closed, [True] * len(shapes)), closed


# A program, the most calls an equation its passes may make (twice what they make), and kernels.
PROGRAMS: dict[str, tuple[Program, int, int]] = {
    "chain": (chain(1000, (8, 8)), 1000, 25),
    "chain of scalars": (chain(1000, ()), 600, 25),
    "tree": (tree(1000), 2600, 40),
    "views": (views(1000), 1000, 100),
    "rolls": (rolls(100), 2800, 30),
    "updates": (updates(300), 2200, 30),
    "layers": (layers(300), 1300, 600),
    "clipped": (clipped(300), 9000, 320),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_long_programs(name: str) -> None:
    program, limit, most = PROGRAMS[name]
    pipeline, closed = compiled(program)
    with config.override(check=False):
        calls = count_calls(lambda: pipeline.program)
    assert calls < limit * len(closed.eqns)
    assert len(kernels_of(pipeline)) <= most
    rng = np.random.default_rng(0)
    args = [np.asarray(rng.uniform(-0.1, 0.1, shape), np.float32) for shape in program[1]]
    for found, wanted in zip(
        interpret(pipeline, args), ReferenceProgram(closed)(args), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
