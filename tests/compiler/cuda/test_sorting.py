"""Rows too long for a block are sorted by passes of kernels, whatever their dimension."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.cuda.sorting import divide_orders
from funcdl.compiler.rewrite.simplify import simplify
from funcdl.config import config
from funcdl.core.checker import check_jaxpr
from funcdl.kir.schedule import SORTED_BYTES, sorted_in_a_block

Array = np.ndarray[Any, Any]
LENGTH = 20_001  # ten blocks of 2048
RNG = np.random.default_rng(0)


@pytest.fixture
def gpu() -> Iterator[StubGpu]:
    with installed(StubGpu()) as stub:
        yield stub


def row(dtype: Any, count: int = 2) -> Array:
    x = RNG.integers(0, 50, (count, LENGTH)).astype(dtype)
    if x.dtype.kind not in "biu":
        x[:, ::7], x[:, ::11], x[:, ::13] = np.nan, -0.0, -np.inf
    return x


@pytest.mark.parametrize("dtype", [np.int8, np.uint32, np.float64, ml_dtypes.bfloat16, np.bool_])
def test_long_rows_are_sorted_on_the_gpu(dtype: Any, gpu: StubGpu) -> None:
    x = row(dtype)
    f = fd.jit(lambda x: (fnp.sort(x), fnp.argsort(x, axis=1), lax.top_k(x, 3)[1]))
    found, places, largest = map(np.asarray, f(fd.device_put(x, "gpu")))
    wide = x.astype(np.float64)
    want = np.argsort(wide, 1, kind="stable")
    np.testing.assert_array_equal(places, want)
    np.testing.assert_array_equal(found.astype(np.float64), np.take_along_axis(wide, want, 1))
    falling = LENGTH - 1 - np.flip(np.argsort(np.flip(wide, 1), 1, kind="stable"), 1)
    np.testing.assert_array_equal(largest, falling[:, :3])
    assert sum(name == "sort_blocks" for name, _ in gpu.compiled) == 2


def test_columns_several_keys_and_loops(gpu: StubGpu) -> None:
    x, y = row(np.int32).T, row(np.float32).T

    def program(x: Any, y: Any) -> Any:
        pair = lax.sort((x, y, fnp.exp(y)), dimension=0, num_keys=2)
        total, _ = lax.scan(lambda c, v: (c + fnp.sort(v), None), fnp.zeros(LENGTH), x.T * 1.0)
        return *pair, total

    given = [fd.device_put(a, "gpu") for a in (x, y)]
    *found, total = map(np.asarray, fd.jit(program)(*given))
    order = np.lexsort((y, x), axis=0)
    for got, want in zip(found, (x, y, np.exp(y)), strict=True):
        np.testing.assert_allclose(got, np.take_along_axis(want, order, 0), 1e-6)
    np.testing.assert_allclose(total, np.sort(x, 0).sum(1))


def test_a_million_elements_need_nine_passes_of_one_kernel(gpu: StubGpu) -> None:
    x = fd.device_put(np.zeros(1_000_000, np.float32), "gpu")
    with config.override(backend="gpu"):
        lowered = fd.jit(fnp.sort).lower(x)
    text = lowered.as_text("kernels")
    assert not [line for line in text.splitlines() if line.startswith("host")]
    assert (text.count("library sort_blocks"), text.count("library merge_runs")) == (1, 9)
    # Keys and places twice; each pass writes where the one before the last one did.
    memory = lowered.compile().memory_analysis()
    assert memory.temp_size_in_bytes <= 16 * x.size + 4096
    assert [name for name, _ in gpu.compiled].count("merge_runs") == 1


def test_the_pass_leaves_rows_of_one_block() -> None:
    for length, long in ((SORTED_BYTES // 4, False), (SORTED_BYTES // 4 + 1, True)):
        assert sorted_in_a_block(length, [np.dtype(np.int8)]) is not long
        with config.override(backend="cpu"):
            sort = partial(fnp.sort, axis=0)
            closed = simplify(fd.make_jaxpr(sort)(np.zeros((length, 2), np.float32)))
        divided = divide_orders(closed)
        check_jaxpr(divided.jaxpr)
        assert ("order_rows" in str(divided)) is long
