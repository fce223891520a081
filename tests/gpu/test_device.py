"""The same on a GPU: every primitive, training, graphs, memory, copies.

Thousands of kernels are compiled: with ``-n 12`` the cores do that side by side.
"""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.ops.table import OPS, cases
from tests.runtime.cuda.ops_on_gpu import (
    check_derivative_on_gpu,
    check_map_on_gpu,
    check_on_gpu,
)
from tests.runtime.cuda.test_programs import PROGRAMS, X, train

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.errors import DeviceMemoryError
from funcdl.runtime.cuda.platform import installed_platform
from funcdl.runtime.cuda.stream import Event

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning"),
]


@pytest.mark.parametrize(("name", "dtype"), cases())
def test_primitive_computes_what_its_reference_does(name: str, dtype: str) -> None:
    check_on_gpu(name, dtype)


@pytest.mark.parametrize("name", sorted(OPS))
def test_primitive_maps(name: str) -> None:
    check_map_on_gpu(name, count=3)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", sorted(OPS))
def test_primitive_differentiates(name: str, order: int) -> None:
    check_derivative_on_gpu(name, order, count=3)


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_computes_what_the_cpu_does(name: str) -> None:
    function = fd.jit(PROGRAMS[name])
    for scale in (1.0, 0.5, -1.0, 2.0, 1.5):
        wanted = function(X * np.float32(scale))
        found = function(fd.device_put(X * np.float32(scale), "gpu"))
        for x, y in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(np.asarray(x), np.asarray(y), 1e-4, 1e-4)


@pytest.mark.parametrize("donate", [True, False])
def test_fifty_training_steps_are_as_on_the_cpu(donate: bool) -> None:
    wanted, _ = train(50, "cpu", donate)
    found, _ = train(50, "gpu", donate)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_a_thousand_replays_with_changing_inputs() -> None:
    step = fd.jit(lambda x, c: (nn.softmax(x @ x.T + c), fnp.sum(x) * c))
    x = fd.device_put(X, "gpu")
    found = [step(x, np.float32(i % 17)) for i in range(1000)]
    for i in (0, 1, 2, 3, 500, 998, 999):
        soft, total = step(X, np.float32(i % 17))
        np.testing.assert_allclose(np.asarray(found[i][0]), np.asarray(soft), 1e-4, 1e-5)
        np.testing.assert_allclose(float(found[i][1]), float(total), 1e-4)


def test_memory_is_flat_over_ten_thousand_steps() -> None:
    pool = installed_platform().open(0).pool
    step = fd.jit(lambda w, x: w + 1e-3 * x.T @ fnp.tanh(x @ w), donate_argnums=0)
    w, x = fd.device_put(np.eye(7, dtype=np.float32), "gpu"), fd.device_put(X, "gpu")
    for _ in range(100):
        w = step(w, x)
    before = pool.stats()
    for _ in range(10_000):
        w = step(w, x)
    fd.block_until_ready(w)
    assert pool.stats().in_use == before.in_use and pool.stats().peak == before.peak
    gc.collect()


@pytest.mark.parametrize("count", [0, 1, 1 << 20, (1 << 22) + 3])
def test_copies_there_and_back(count: int) -> None:
    values = np.arange(count, dtype=np.float32)
    np.testing.assert_array_equal(np.asarray(fd.device_put(values, "gpu")), values)


def test_shapes_beyond_what_32_bits_index() -> None:
    if installed_platform().open(0).pool.limit < 3 << 31:
        pytest.skip("the device has less than 6 GiB")
    count = (1 << 31) + 8
    x = fd.jit(lambda c: fnp.broadcast_to(c, (count,)) + 1)(fd.device_put(np.uint8(3), "gpu"))
    total = fd.jit(lambda x: (x[-1], fnp.sum(x == 4, dtype=fnp.int64)))(x)
    assert int(total[0]) == 4 and int(total[1]) == count


def test_out_of_memory_is_an_error_that_can_be_survived() -> None:
    total = installed_platform().open(0).pool.total
    with pytest.raises(DeviceMemoryError, match="out of memory on gpu:0"):
        fd.jit(lambda c: fnp.broadcast_to(c, (total,)) + 1)(fd.device_put(np.float32(1), "gpu"))
    x = fd.device_put(X, "gpu")
    np.testing.assert_array_equal(np.asarray(x + 1), X + 1)


def test_threads_share_a_device() -> None:
    xs = [X * np.float32(i + 1) for i in range(8)]
    step = fd.jit(lambda x: (fnp.tanh(x @ x.T), fnp.cumsum(x, 1)))

    def work(x: np.ndarray) -> list[np.ndarray]:
        out = fd.device_put(x, "gpu")
        for _ in range(20):
            found = step(out)
        return [np.asarray(y) for y in found]

    with ThreadPoolExecutor(4) as pool:
        for x, found in zip(xs, pool.map(work, xs), strict=True):
            np.testing.assert_allclose(found[0], np.tanh(x @ x.T), 1e-4, 1e-5)
            np.testing.assert_allclose(found[1], np.cumsum(x, 1), 1e-4, 1e-4)


@pytest.mark.parametrize("mode", ["1", "exhaustive"])
def test_tuned_kernels_compute_the_same(mode: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(600, 600)).astype(np.float32) for _ in range(2))
    with fd.config.override(autotune=mode, cache_dir=str(tmp_path)):
        functions = [lambda x, y: x @ y, lambda x, y: nn.softmax(x) + y.sum(0)]
        for function in functions[: 1 if mode == "exhaustive" else 2]:
            found = fd.jit(function)(fd.device_put(x, "gpu"), y)
            np.testing.assert_allclose(np.asarray(found), fd.jit(function)(x, y), 1e-4, 1e-3)
    assert list(tmp_path.rglob("*.tuning"))


def test_every_capability_is_one_that_is_compiled_for() -> None:
    device = installed_platform().open(0)
    assert device.capability in (80, 86, 89, 90) or device.capability >= 100
    assert device.processors > 0 and device.modules.shared_limit > 48 << 10


def test_events_take_times_that_grow_with_the_work() -> None:
    device = installed_platform().open(0)
    taken = []
    for nbytes in (1 << 20, 1 << 28):
        source, target = (device.pool.empty(nbytes, "a test") for _ in range(2))
        start, end = (Event(device.driver, timed=True) for _ in range(2))
        with device.lock:
            device.stream.activate()
            for _ in range(3):
                start.record(device.stream)
                places = (target.address, source.address)
                device.driver.call("cuMemcpyDtoDAsync", *places, nbytes, device.stream.handle)
                end.record(device.stream)
            end.synchronize()
        taken.append(end.milliseconds_since(start))
    # 512 MiB are moved: not faster than ten terabytes in a second.
    assert taken[0] < taken[1] and taken[1] > 2 * (1 << 28) / 10e12 * 1e3
