"""The back end "gpu" on the stub driver: kernels run by the kernel IR's interpreter."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from tests.runtime.cuda.stub_driver import Image, StubDriver

import funcdl as fd
from funcdl.compiler.cuda.target import CudaBackend
from funcdl.core import backend, device_buffer, devices
from funcdl.core.trace import eval_trace
from funcdl.kernels.triton.compile import Cubin
from funcdl.kernels.triton.render import render_kernel
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.ir import Kernel
from funcdl.kir.schedule import Schedule
from funcdl.runtime.cuda.driver import DriverApi
from funcdl.runtime.cuda.platform import CudaPlatform

Runner = Callable[[TritonKernel, dict[str, np.ndarray]], None]

BINDINGS = "FUNCDL_TEST_BINDINGS"
"""The environment variable that puts NVIDIA's bindings between the runtime and the stub."""


def api_of(stub: StubDriver) -> DriverApi:
    """The stub as the runtime sees it."""
    if os.environ.get(BINDINGS, "0") == "0":
        return stub
    from tests.runtime.cuda.bound_driver import BoundApi

    bound: Any = BoundApi(stub)
    return bound


class StubGpu:
    """A stub driver, the platform on it, and a back end whose cubins are names for kernels.

    Args:
      stub: the driver.
      run: runs a kernel's Triton source; by default the kernel IR is interpreted instead.
      shared: bytes of shared memory that each kernel claims to need.
    """

    def __init__(
        self, stub: StubDriver | None = None, run: Runner | None = None, shared: int = 0
    ) -> None:
        self.stub = StubDriver() if stub is None else stub
        self.platform = CudaPlatform(api_of(self.stub))
        self.backend = CudaBackend(lambda: self.platform, self._render, self._compile)
        self.compiled: list[tuple[str, bool]] = []
        self._run = run
        self._shared = shared
        self._kernels: dict[tuple[str, tuple[int, ...]], Kernel] = {}

    def _render(self, kernel: Kernel, schedule: Schedule) -> TritonKernel:
        rendered = render_kernel(kernel, schedule)
        self._kernels[rendered.source, rendered.grid] = kernel
        return rendered

    def _compile(
        self, kernels: Sequence[TritonKernel], arch: int, *, aligned: bool = True
    ) -> list[Cubin]:
        cubins = []
        for kernel in kernels:
            self.compiled.append((kernel.name, aligned))
            metadata = {
                "name": kernel.name,
                "arch": arch,
                "num_warps": kernel.num_warps,
                "shared": self._shared,
                "alignment": 16 if aligned else 1,
                "num_ctas": 1,
                "global_scratch_size": 0,
                "profile_scratch_size": 0,
                "cuda": "12.8",
                "source": kernel.source,
            }
            # A GPU would run the same code with another grid; here it stands for one kernel.
            names = kernel.source, kernel.grid
            aliases = tuple(buffer.may_alias for buffer in self._kernels[names].buffers)
            options = *names, aliases, kernel.num_warps, kernel.num_stages, arch, aligned
            code = hashlib.sha256(repr(options).encode()).digest()
            run = None if self._run is None else partial(self._run, kernel)
            (programs,) = kernel.grid
            self.stub.images[code] = Image(self._kernels[names], programs, metadata, run)
            cubins.append(Cubin(code, metadata))
        return cubins


@contextmanager
def installed(gpu: StubGpu) -> Iterator[StubGpu]:
    """Make the stub the machine's GPU for a while."""
    factories = backend._factories["gpu"], devices._factories["gpu"]
    # The first array on a device makes eager functions look for more, for good.
    eager, used = type(eval_trace), device_buffer._used
    fd.clear_caches()
    backend.register("gpu", lambda: gpu.backend)
    devices.register_platform("gpu", lambda: gpu.platform)
    try:
        yield gpu
    finally:
        backend.register("gpu", factories[0])
        devices.register_platform("gpu", factories[1])
        eval_trace.__class__, device_buffer._used = eager, used
        fd.clear_caches()
