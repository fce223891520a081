"""Counts of the pool's memory, by the pool in Python and the one in C."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import debug
from funcdl.core.dispatch import dispatch
from funcdl.errors import ArgumentError
from funcdl.runtime.cpu_memory import Pool, PoolStats

KEYS = {
    *("bytes_in_use", "peak_bytes_in_use", "largest_alloc_size", "num_allocs", "num_reused"),
    *("bytes_cached", "bytes_reserved"),
}


def test_results_are_counted_while_they_live() -> None:
    double = fd.jit(lambda x: x * 2)
    x = fnp.ones(1 << 16)
    double(x)
    before = fd.memory_stats(reset_peak=True)
    assert set(before) == KEYS
    y = double(x)
    during = fd.memory_stats()
    if during["num_allocs"] == before["num_allocs"]:
        pytest.skip("no C compiler: NumPy allocates")
    assert during["bytes_in_use"] - before["bytes_in_use"] == 4 << 16
    assert during["peak_bytes_in_use"] >= during["bytes_in_use"]
    assert during["largest_alloc_size"] >= 4 << 16
    assert during["num_allocs"] - before["num_allocs"] == 1
    assert during["num_reused"] - before["num_reused"] == 1
    del y
    after = fd.memory_stats()
    assert after["bytes_in_use"] == before["bytes_in_use"]
    assert after["bytes_reserved"] == after["bytes_in_use"] + after["bytes_cached"]


def test_the_device_tells_the_same() -> None:
    (device,) = fd.devices("cpu")
    assert device.memory_stats() == fd.memory_stats()


def pools() -> list[Any]:
    made: list[Any] = [Pool(1 << 30)]
    if dispatch.native is not None:
        made.append(dispatch.native.Pool(1 << 30))
    return made


@pytest.mark.parametrize("pool", pools(), ids=lambda pool: type(pool).__module__)
def test_both_pools_count_alike(pool: Any) -> None:
    def stats() -> PoolStats:
        return PoolStats(*pool.counters())

    pool.empty(100)  # too small to be counted
    assert stats() == PoolStats(0, 0, 0, 0, 0, 0)
    x, y = pool.empty(1 << 13), pool.empty_array((4, 1 << 10), np.float32)
    used = (1 << 13) + (1 << 14)
    assert stats() == PoolStats(0, 0, 2, used, used, 1 << 14)
    del y
    assert stats() == PoolStats(1 << 14, 0, 2, 1 << 13, used, 1 << 14)
    pool.reset_peak()
    assert stats().peak_used_bytes == 1 << 13
    y = pool.empty(1 << 14)
    assert stats() == PoolStats(0, 1, 2, used, used, 1 << 14)
    del x, y
    pool.clear()
    assert stats() == PoolStats(0, 1, 2, 0, used, 1 << 14)


def test_an_allocation_that_fails_is_not_counted() -> None:
    pool = Pool(1 << 30)
    with pytest.raises((MemoryError, OSError)):
        pool.empty(1 << 60)
    assert pool.stats().used_bytes == 0


def test_live_arrays_are_printed_by_size(capsys: pytest.CaptureFixture[str]) -> None:
    kept = [fnp.ones((1000, 1021)), fnp.ones((1000, 1021)), fnp.zeros((3, 7919), "int32")]
    debug.print_live_arrays(limit=None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[1] == "arrays,"
    assert "  8.168 MB     2  f32[1000,1021]" in lines
    assert "  0.095 MB     1  i32[3,7919]" in lines
    sizes = [float(line.split()[0]) for line in lines[1:]]
    assert sizes == sorted(sizes, reverse=True)
    debug.print_live_arrays(limit=1)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert "more types" in shown[-1]
    del kept
    with pytest.raises(ArgumentError, match="limit"):
        debug.print_live_arrays(limit=-1)
