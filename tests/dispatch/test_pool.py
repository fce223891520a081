"""The extension's pool does what its twin does, step by step."""

from __future__ import annotations

import gc
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from funcdl.runtime.cpu_memory import ALIGNMENT, HUGE_PAGE_BYTES, Pool, PoolStats

SIZES = [0, 1, 4095, 4096, 4097, 4608, 5000, 8192, 8193, 100_000, (1 << 20) + 1]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.sampled_from(SIZES)),
        st.tuples(st.just("drop"), st.integers(0, 5)),
        st.tuples(st.just("clear"), st.none()),
    ),
    max_size=30,
)


@pytest.fixture
def pool(native: ModuleType) -> Any:
    return native.Pool(1 << 30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, limit=st.sampled_from([0, 10_000, 1 << 30]))
def test_pools_agree(native: ModuleType, steps: list[tuple[str, Any]], limit: int) -> None:
    pools = [native.Pool(limit), Pool(limit)]
    held: list[list[Any]] = [[], []]
    for step, argument in steps:
        for pool, arrays in zip(pools, held, strict=True):
            if step == "take":
                arrays.append(pool.empty(argument))
                arrays[-1][:] = len(arrays)
            elif step == "clear":
                pool.clear()
            elif arrays:
                del arrays[argument % len(arrays)]
        first, second = (PoolStats(*pool.counters()) for pool in pools)
        assert first == second
        assert first.cached_bytes <= limit
    for a, b in zip(*held, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 5000), (7, 11), (64, 64), (3, 1 << 20)])
@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.complex128])
def test_arrays(pool: Any, shape: tuple[int, ...], dtype: Any) -> None:
    array = pool.empty_array(shape, dtype)
    assert (type(array), array.shape, array.dtype) == (np.ndarray, shape, dtype)
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    if array.nbytes >= 4096:
        assert array.ctypes.data % ALIGNMENT == 0
    if array.nbytes >= HUGE_PAGE_BYTES:
        assert array.ctypes.data % HUGE_PAGE_BYTES == 0
    array[...] = 1
    assert np.all(array == np.ones((), dtype))


def test_memory_is_used_again_after_its_last_view(pool: Any) -> None:
    array = pool.empty(10_000)
    start, view = array.ctypes.data, array[5:][::2]
    del array
    other = pool.empty(10_000)
    assert other.ctypes.data != start
    del view
    assert pool.empty(10_000).ctypes.data == start


@pytest.mark.usefixtures("short_search")
def test_pools_outlive_their_name(native: ModuleType) -> None:
    array = native.Pool(1 << 20).empty(50_000)
    gc.collect()
    array[:] = 3
    assert array.sum() == 150_000


def test_wrong_arguments(pool: Any, native: ModuleType) -> None:
    for wrong in (-1, 2**70):
        with pytest.raises((ValueError, OverflowError)):
            pool.empty(wrong)
    for shape in ((-1,), (1 << 40, 1 << 40)):
        with pytest.raises((ValueError, MemoryError)):
            pool.empty_array(shape, np.float32)
    with pytest.raises(MemoryError):
        pool.empty(1 << 50)
    with pytest.raises(MemoryError):
        pool.empty((1 << 46) - 1)  # more than the address space of a process
    with pytest.raises(TypeError):
        pool.empty_array((3,), "no dtype")
    with pytest.raises(ValueError, match="max_cached_bytes"):
        native.Pool(-1)
    used = PoolStats(*pool.counters()).used_bytes
    assert used == 0
