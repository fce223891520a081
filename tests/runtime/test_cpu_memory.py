"""The pool of output memory: alignment, reuse after the last view, the cap, threads."""

from __future__ import annotations

import gc
import math
import threading
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl.runtime import cpu_memory
from funcdl.runtime.cpu_memory import ALIGNMENT, HUGE_PAGE_BYTES, SMALL_BYTES, Pool, address

DTYPES = [np.bool_, np.int8, np.float16, ml_dtypes.bfloat16, np.float32, np.complex128]


@pytest.fixture
def pool() -> Pool:
    return Pool(max_cached_bytes=1 << 30)


@given(shape=st.lists(st.integers(0, 200), max_size=3).map(tuple), dtype=st.sampled_from(DTYPES))
def test_arrays_are_plain_writable_and_aligned(shape: tuple[int, ...], dtype: Any) -> None:
    array = cpu_memory.empty_array(shape, dtype)
    assert type(array) is np.ndarray
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    if array.nbytes >= SMALL_BYTES:
        assert array.ctypes.data % ALIGNMENT == 0
    array[...] = 1
    assert np.all(array == np.ones((), dtype))


@pytest.mark.parametrize(
    "nbytes", [SMALL_BYTES, 5000, HUGE_PAGE_BYTES - 1, HUGE_PAGE_BYTES, 1 << 23]
)
def test_memory_does_not_overlap_and_is_used_again(pool: Pool, nbytes: int) -> None:
    arrays = [pool.empty(nbytes) for _ in range(3)]
    for i, array in enumerate(arrays):
        array[:] = i
    for i, array in enumerate(arrays):
        assert np.all(array == i)
    starts = {address(array) for array in arrays}
    assert len(starts) == 3
    del arrays, array
    again = [pool.empty(nbytes) for _ in range(3)]
    assert {address(array) for array in again} == starts
    assert pool.stats().hits == 3


def test_huge_blocks_begin_at_a_huge_page(pool: Pool) -> None:
    assert address(pool.empty(HUGE_PAGE_BYTES)) % HUGE_PAGE_BYTES == 0


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[10:],
        lambda x: x[10:][::2],
        lambda x: x.reshape(100, 100).T[3:, 4:][:, 0],
        lambda x: x.view(np.uint8).view(np.float64)[5:6],
        lambda x: memoryview(x),
        lambda x: np.asarray(memoryview(x)),
        lambda x: np.broadcast_to(x, (3, *x.shape)),
        lambda x: x.base,
        lambda x: x.base[8:].view(np.int64),
    ],
)
def test_a_view_of_any_kind_keeps_the_memory(pool: Pool, view: Any) -> None:
    array = pool.empty_array((10_000,), np.float32)
    array[:] = 7
    place = address(array)
    kept = view(array)
    del array
    assert address(pool.empty_array((10_000,), np.float32)) != place
    assert pool.stats().hits == 0
    del kept
    gc.collect()
    assert place in {address(x) for x in [pool.empty_array((10_000,), np.float32) for _ in "12"]}


def test_sizes_in_the_same_class_share_blocks(pool: Pool) -> None:
    place = address(pool.empty(100_000))
    assert address(pool.empty(100_001)) == place
    assert address(pool.empty(150_000)) != place


@given(st.integers(SMALL_BYTES, 1 << 40))
def test_size_classes_waste_at_most_an_eighth(nbytes: int) -> None:
    size = cpu_memory._size_class(nbytes)
    assert nbytes <= size <= max(nbytes + 512, nbytes * 9 / 8)
    assert size % ALIGNMENT == 0
    assert cpu_memory._size_class(size) == size


def test_the_cap_holds_and_drops_what_was_unused_longest() -> None:
    pool = Pool(max_cached_bytes=100_000)
    stale = [pool.empty(8192) for _ in range(10)]
    del stale
    assert pool.stats().cached_bytes == 81_920
    fresh = [pool.empty(16_384) for _ in range(5)]
    del fresh
    stats = pool.stats()
    assert stats.cached_bytes <= 100_000
    blocks = [pool.empty(16_384) for _ in range(5)]
    assert pool.stats().hits == stats.hits + 5
    del blocks
    too_large = pool.empty(200_000)
    del too_large
    assert pool.stats().cached_bytes <= 100_000


def test_clear_gives_back_what_is_cached_and_leaves_what_is_in_use(pool: Pool) -> None:
    used = pool.empty(10_000)
    used[:] = 1
    free = pool.empty(10_000)
    del free
    pool.clear()
    assert pool.stats().cached_bytes == 0
    assert np.all(used == 1)
    pool.empty(10_000)
    assert pool.stats().hits == 0


def test_small_arrays_do_not_enter_the_pool(pool: Pool) -> None:
    pool.empty(SMALL_BYTES - 1)
    pool.empty_array((0, 10**9), np.float32)
    stats = pool.stats()
    assert (stats.hits, stats.misses, stats.cached_bytes) == (0, 0, 0)


def test_threads_and_collections_get_separate_memory(pool: Pool) -> None:
    wrong = []

    def work(seed: int) -> None:
        for i in range(200):
            array = pool.empty(4096 + 512 * (i % 3))
            array[:] = seed
            cycle: list[Any] = [pool.empty(4096)]
            cycle.append(cycle)  # ends in a collection, perhaps while another thread allocates
            if not np.all(array == seed):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert wrong == []
    stats = pool.stats()
    assert stats.hits + stats.misses == 1600
    assert stats.cached_bytes == sum(len(b) * size for size, b in pool._free.items())
    assert sum(map(len, pool._free.values())) == stats.misses


def test_a_request_beyond_all_memory_is_a_memory_error(pool: Pool) -> None:
    with pytest.raises((MemoryError, OSError)):
        pool.empty(1 << 60)


@pytest.mark.parametrize("dtype", [*DTYPES, "M8[s]", ml_dtypes.float8_e4m3fn])
def test_address_of_any_array(dtype: Any) -> None:
    array = np.zeros((4, 5), dtype)[1:]
    array.flags.writeable = False
    assert address(array) == array.ctypes.data
    scalar = np.zeros((), dtype)
    assert address(scalar) == scalar.ctypes.data
    assert isinstance(address(np.zeros((0, 3), dtype)), int)
    with pytest.raises(ValueError, match="not C-contiguous"):
        address(array.T)


def test_stats_and_shortcuts_are_those_of_the_one_pool() -> None:
    before = cpu_memory.stats()
    array = cpu_memory.empty(12_345)
    assert math.prod(array.shape) == 12_345
    after = cpu_memory.stats()
    assert after.hits + after.misses == before.hits + before.misses + 1
