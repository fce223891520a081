"""Programs that want more memory than there is: an error that says how much, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.runtime import cpu_memory
from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

N = 1 << 22  # squared, and as floats: 64 TiB
TOO_LARGE: dict[str, Callable[[Any], Any]] = {
    "a result": lambda x: fnp.broadcast_to(x[:, None], (N, N)) + 1,
    "a temporary": lambda x: fnp.cumsum(fnp.broadcast_to(x[:, None], (N, N)), 1)[::2].sum(),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_large_programs_are_errors(name: str) -> None:
    jitted, small = fd.jit(TOO_LARGE[name]), fd.jit(lambda x: x + 1)
    x = fnp.ones(N)
    with fd.config.override(backend="cpu"):
        used = cpu_memory.stats().used_bytes
        for _ in range(3):
            with pytest.raises(MemoryError, match=r"the system has no \d{14,} bytes"):
                jitted(x)
        assert cpu_memory.stats().used_bytes == used
        assert small(x)[N - 1] == 2


@pytest.mark.parametrize("make", [cpu_memory.Pool, cpu_memory._make_pool])
@pytest.mark.parametrize("nbytes", [1 << 46, 1 << 62])
def test_pools_say_how_much_was_wanted(make: Callable[[int], Any], nbytes: int) -> None:
    pool = make(1 << 20)
    with pytest.raises(MemoryError, match=r"the system has no \d{14,} bytes"):
        pool.empty(nbytes)
    assert pool.counters()[3] == 0  # bytes in use
    assert pool.empty(10_000).nbytes == 10_000


def test_eager_operations_are_errors_too() -> None:
    with pytest.raises(MemoryError, match="Unable to allocate"):
        fnp.zeros((N, N), np.float32)


@pytest.mark.parametrize("dispatch", ["auto", "python"])
def test_callbacks_that_raise_leave_no_overwritten_arguments(dispatch: str) -> None:
    def fails(x: Any) -> Any:
        raise ValueError("by design")

    def function(w: Any, x: Any) -> Any:
        return w * 2, fd.pure_callback(fails, fd.ShapeDtypeStruct((3,), np.float32), x)

    w = fnp.ones(3)
    with (
        fd.config.override(backend="cpu", dispatch=dispatch),
        pytest.raises(ValueError, match="by design"),
    ):
        fd.jit(function, donate_argnums=0)(w, fnp.ones(3))
    assert w.is_deleted()
