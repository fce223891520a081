"""Tracing, transforming and compiling a deep model takes work in proportion to its depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from benchmarks.transformer import Sizes, adam_step, loss, parameters
from tests.work import count_calls

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn

FEW, MANY = 2, 10


def programs(depth: int) -> dict[str, Callable[[], Any]]:
    sizes = Sizes(depth=depth, width=16, heads=2, vocabulary=32, length=8, batch=2)
    p = fd.tree.map(lambda x: fd.ShapeDtypeStruct(x.shape, x.dtype), parameters(sizes))
    ids = fd.ShapeDtypeStruct((2, 9), np.int32)
    batches = fd.ShapeDtypeStruct((3, 2, 9), np.int32)
    count = fd.ShapeDtypeStruct((), np.float32)

    def value(q: Any, x: Any) -> Any:
        return loss(fd, fnp, nn, sizes, q, x)

    def step() -> Any:
        return fd.jit(adam_step(fd, fnp, nn, sizes)).lower(p, p, p, count, ids)

    return {
        "grad": lambda: fd.make_jaxpr(fd.grad(value))(p, ids),
        "remat": lambda: fd.make_jaxpr(
            fd.grad(lambda q, x: loss(fd, fnp, nn, sizes, q, x, remat=True))
        )(p, ids),
        "vmap": lambda: fd.make_jaxpr(fd.vmap(fd.grad(value), (None, 0)))(p, batches),
        "compile": lambda: step().as_text("c"),
    }


@pytest.mark.parametrize("name", programs(1))
def test_work_grows_linearly_with_depth(name: str) -> None:
    few, many = (count_calls(programs(depth)[name]) for depth in (FEW, MANY))
    # Depth 2 to 10 is five times the layers; sorting and set-up may add or save a little.
    assert many < 5.5 * few
