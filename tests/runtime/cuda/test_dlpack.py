"""Exchange of arrays on the stub driver's device: no copies, and work in the right order."""

from __future__ import annotations

import gc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.runtime.cuda.environment import StubGpu

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.dlpack import from_dlpack
from funcdl.errors import ArgumentError
from funcdl.runtime.cuda import dlpack


class External:
    """Another library's array: it hands on what it has taken from us."""

    def __init__(
        self, array: fd.Array, strides: tuple[int, ...] | None = None, skipped: int = 0
    ) -> None:
        self.array = array
        self.strides = strides
        self.skipped = skipped  # bytes before the first element
        self.streams: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, stream: int) -> Any:
        self.streams.append(stream)
        capsule = self.array.__dlpack__(stream=-1)
        managed = dlpack._Managed.from_address(dlpack._get_pointer(id(capsule), b"dltensor"))
        managed.tensor.byte_offset = self.skipped
        if self.skipped:
            managed.tensor.shape[0] -= -(-self.skipped // self.array.dtype.itemsize)
        if self.strides is not None:
            self.kept = (dlpack.ctypes.c_int64 * len(self.strides))(*self.strides)
            managed.tensor.strides = self.kept
        return capsule


DTYPES = ["f2", "f4", "f8", "i1", "i4", "u2", "bool", "c8", ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (4, 5)])
def test_arrays_come_back_without_a_copy(dtype: Any, shape: tuple[int, ...], gpu: StubGpu) -> None:
    with fd.config.override(x64="on"):
        values = np.arange(20)[: np.prod(shape, dtype=int)].reshape(shape).astype(dtype)
        x = fd.device_put(values, "gpu")
        assert x.__dlpack_device__() == (2, 0)
        back = from_dlpack(External(x))
        assert back.aval == x.aval and back.unsafe_buffer_pointer() == x.unsafe_buffer_pointer()
        del x
        np.testing.assert_array_equal(np.asarray(back), values)


@pytest.mark.usefixtures("short_search")
def test_memory_lives_as_long_as_anybody_uses_it(gpu: StubGpu) -> None:
    pool = gpu.platform.open(0).pool
    x = fd.device_put(np.ones(100, np.float32), "gpu")
    back = from_dlpack(External(x))
    capsule = x.__dlpack__(stream=-1)
    del x
    gc.collect()
    assert pool.stats().in_use == 400
    assert float((back + 1)[0]) == 2
    del back
    gc.collect()
    assert pool.stats().in_use == 400
    del capsule  # that nobody took
    gc.collect()
    assert pool.stats().in_use == 0 and not dlpack._exported


def test_exported_memory_is_never_written_to(gpu: StubGpu) -> None:
    x = fd.device_put(np.ones(4, np.float32), "gpu")
    back = from_dlpack(External(x))
    out = fd.jit(lambda x: x * 2, donate_argnums=0)(x)
    assert np.asarray(back).tolist() == [1, 1, 1, 1] and np.asarray(out).tolist() == [2, 2, 2, 2]


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("number", [None, 1, 2, "own"])
def test_the_consumers_stream_waits(number: Any, gpu: StubGpu) -> None:
    x = fd.jit(lambda x: x * 2)(fd.device_put(np.ones(4, np.float32), "gpu"))
    device = gpu.platform.open(0)
    handle = device.driver.call("cuStreamCreate", 1) if number == "own" else number
    waits = gpu.stub.calls["cuStreamWaitEvent"]
    capsule = x.__dlpack__(stream=int(handle) if number == "own" else number)
    assert gpu.stub.calls["cuStreamWaitEvent"] == waits + 1
    assert not x.is_ready()
    # Waiting for the consumer's stream is waiting for ours, up to there.
    device.driver.call("cuStreamSynchronize", 1 if number is None else handle)
    assert x.is_ready()
    del capsule
    gc.collect()
    assert gpu.stub.calls["cuStreamWaitEvent"] == waits + 2


def test_producers_are_told_our_stream(gpu: StubGpu) -> None:
    external = External(fd.device_put(np.ones(4, np.float32), "gpu"))
    from_dlpack(external)
    assert external.streams == [int(gpu.platform.open(0).stream.handle)]


def test_views_that_are_not_aligned(gpu: StubGpu) -> None:
    """Code for unaligned pointers runs, in launches and in graphs; the stub checks alignment."""
    values = np.arange(24, dtype=np.float32)
    x = fd.device_put(values, "gpu")
    step = fd.jit(lambda x: (fnp.cumsum(x), fnp.exp(-x)))
    for call in range(6):
        skipped = 4 * (call % 5)
        view = from_dlpack(External(x, skipped=skipped))
        assert view.unsafe_buffer_pointer() % 16 == skipped % 16
        assert view.shape == (24 - call % 5,)
        total, small = fd.jit(lambda x: (fnp.sum(x * 2), x + 1))(view)
        assert float(total) == 2 * values[call % 5 :].sum()
        np.testing.assert_array_equal(np.asarray(small), values[call % 5 :] + 1)
    for shift in (0, 4, 8, 0):  # of 20 elements each, so that one program is replayed
        part = from_dlpack(External(from_dlpack(External(x))[:21], skipped=4)) if shift else x[:20]
        running, small = step(part)
        wanted = np.asarray(part)
        np.testing.assert_allclose(np.asarray(running), np.cumsum(wanted), 1e-6)
        np.testing.assert_allclose(np.asarray(small), np.exp(-wanted), 1e-6)
    assert gpu.stub.calls["cuGraphLaunch"] >= 2
    assert {aligned for _, aligned in gpu.compiled} == {True, False}


def test_views_that_begin_within_an_element_are_refused(gpu: StubGpu) -> None:
    x = fd.device_put(np.ones(8, np.float32), "gpu")
    with pytest.raises(ArgumentError, match=r"of float32 at a multiple of 4 bytes, got address 0x"):
        from_dlpack(External(x, skipped=2))
    whole = fd.device_put(np.ones(8, np.int8), "gpu")
    assert from_dlpack(External(whole, skipped=3)).shape == (5,)


def test_what_cannot_be_exchanged(gpu: StubGpu) -> None:
    x = fd.device_put(np.ones((2, 3), np.float32), "gpu")
    with pytest.raises(ArgumentError, match=r"row-major order, got shape \(2, 3\) with strides"):
        from_dlpack(External(x, strides=(1, 2)))
    assert from_dlpack(External(x, strides=(3, 1))).shape == (2, 3)
    with pytest.raises(BufferError, match="without a copy"):
        x.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="cannot be exported to device"):
        x.__dlpack__(dl_device=(1, 0))
    assert from_dlpack(External(x), "cpu").platform == "cpu"
