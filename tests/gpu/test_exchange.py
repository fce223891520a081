"""Exchange of arrays on a GPU with PyTorch, JAX and CuPy: no copies, work in the right order."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.dlpack import from_dlpack

# What other libraries warn of is no concern of these tests.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

X = np.random.default_rng(0).normal(size=(37, 41)).astype(np.float32)
LONG = 1 << 24
DTYPES = ["float32", "float16", "bfloat16", "int8", "int32", "uint8", "bool", "complex64"]


@pytest.fixture
def torch() -> Any:
    found = pytest.importorskip("torch")
    if not found.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return found


@pytest.fixture
def jax() -> Any:
    found = pytest.importorskip("jax")
    try:
        found.devices("gpu")
    except RuntimeError:
        pytest.skip("this JAX has no GPU")
    return found


@pytest.fixture
def cupy() -> Any:
    found = pytest.importorskip("cupy")
    if not found.cuda.runtime.getDeviceCount():
        pytest.skip("this CuPy has no GPU")
    return found


def slow(x: Any) -> Any:
    """Work that is not done when the call that issued it returns."""
    for _ in range(20):
        x = fnp.cumsum(x.reshape(4, -1), axis=1).reshape(-1) * 0 + 1 + x
    return x


@pytest.mark.parametrize("name", DTYPES)
def test_torch_there_and_back(name: str, torch: Any) -> None:
    dtype: Any = ml_dtypes.bfloat16 if name == "bfloat16" else name
    values = (X * 3).astype(dtype)
    x = fd.device_put(values, "gpu")
    shared = torch.from_dlpack(x)
    assert shared.data_ptr() == x.unsafe_buffer_pointer() and shared.dtype == getattr(torch, name)
    back = from_dlpack(shared)
    assert back.unsafe_buffer_pointer() == x.unsafe_buffer_pointer() and back.dtype == x.dtype
    np.testing.assert_array_equal(np.asarray(back), values)


@pytest.mark.parametrize("own_stream", [False, True])
def test_torch_waits_for_us_and_we_for_torch(own_stream: bool, torch: Any) -> None:
    stream = torch.cuda.Stream() if own_stream else torch.cuda.default_stream()
    function = fd.jit(slow)
    x = fd.device_put(np.zeros(LONG, np.float32), "gpu")
    function(x)  # compiles
    with torch.cuda.stream(stream):
        for _ in range(5):
            ours = function(x)
            theirs = torch.from_dlpack(ours)
            for _ in range(20):
                theirs = theirs + 1
            back = function(from_dlpack(theirs))
            del ours, theirs
            assert float(back[0]) == float(back[-1]) == 60


def test_memory_of_both_is_used_again_without_harm(torch: Any) -> None:
    function = fd.jit(lambda x: x * 2 + 1)
    for i in range(200):
        ours = function(fd.device_put(np.full(LONG // 16, i, np.float32), "gpu"))
        theirs = torch.from_dlpack(ours) + 1
        del ours
        again = from_dlpack(theirs)
        del theirs
        total = function(again)
        torch.full((LONG // 16,), -1.0, device="cuda")
        assert float(total[7]) == 2 * (2 * i + 2) + 1


def test_views_of_torch_may_be_misaligned_but_not_strided(torch: Any) -> None:
    tensor = torch.arange(1001, dtype=torch.float32, device="cuda")
    for start in (0, 1, 2, 3, 5):
        found = fd.jit(lambda x: x * 2)(from_dlpack(tensor[start:]))
        np.testing.assert_array_equal(np.asarray(found), 2 * np.arange(start, 1001))
    with pytest.raises(fd.errors.ArgumentError, match="row-major order"):
        from_dlpack(tensor[::2])


def test_torch_stays_on_its_device(torch: Any) -> None:
    before = torch.cuda.current_device()
    fd.device_put(X, "gpu").block_until_ready()
    assert torch.cuda.current_device() == before
    assert float(torch.ones(3, device="cuda").sum()) == 3


def test_jax_there_and_back(jax: Any) -> None:
    x = fd.jit(lambda x: x * 2)(fd.device_put(X, "gpu"))
    theirs = jax.dlpack.from_dlpack(x)
    np.testing.assert_array_equal(np.asarray(theirs), X * 2)
    back = from_dlpack(theirs + 1)
    assert back.platform == "gpu"
    np.testing.assert_array_equal(np.asarray(back), X * 2 + 1)


def test_cupy_there_and_back(cupy: Any) -> None:
    x = fd.jit(lambda x: x * 2)(fd.device_put(X, "gpu"))
    theirs = cupy.from_dlpack(x)
    assert theirs.data.ptr == x.unsafe_buffer_pointer()
    back = from_dlpack(theirs + 1)
    np.testing.assert_array_equal(np.asarray(back), X * 2 + 1)
