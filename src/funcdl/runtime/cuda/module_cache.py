"""Machine code to functions that can be launched, each loaded once for a device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from funcdl.errors import CudaError, DeviceError
from funcdl.runtime.cuda.stream import Stream

SHARED_WITHOUT_OPT_IN = 48 << 10
"""Bytes of shared memory that every kernel may use; more needs a function attribute."""


@dataclass(frozen=True, slots=True)
class Function:
    """A loaded kernel: its handle, and how each of its launches looks.

    `alignment` is what every pointer must be divisible by.
    """

    handle: Any
    name: str
    threads: int
    shared_bytes: int
    alignment: int


class ModuleCache:
    """The kernels loaded on one device.

    Args:
      stream: the device's.
      capability: its compute capability, as 90 for 9.0.
    """

    def __init__(self, stream: Stream, capability: int) -> None:
        self._stream = stream
        self._driver = stream.driver
        self._capability = capability
        self._functions: dict[bytes, Function] = {}
        self.shared_limit = self._driver.attribute(
            stream.device, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"
        )

    def load(self, code: bytes, metadata: Mapping[str, Any]) -> Function:
        """The function of a cubin.

        Args:
          code: the cubin.
          metadata: what a launcher needs: ``name``, ``arch``, ``num_warps``, ``shared``,
            ``alignment``, ``num_ctas``, and the sizes of the two scratch buffers.

        Raises:
          DeviceError: the device cannot run it: another architecture, too much shared memory, or
            scratch memory, which no kernel here uses.
          CudaError: the driver refuses it.
        """
        key = hashlib.sha256(code).digest()
        function = self._functions.get(key)
        if function is None:
            self._check(metadata)
            function = self._functions[key] = self._load(code, metadata)
        return function

    def _check(self, metadata: Mapping[str, Any]) -> None:
        name, arch, shared = metadata["name"], metadata["arch"], metadata["shared"]
        if not _runs_on(arch, self._capability):
            raise DeviceError(
                f"kernel {name} was compiled for sm_{arch}, but gpu:{self._stream.ordinal} is an "
                f"sm_{self._capability}"
            )
        if shared > self.shared_limit:
            raise DeviceError(
                f"kernel {name} needs {shared} bytes of shared memory, but gpu:"
                f"{self._stream.ordinal} has {self.shared_limit} for each block"
            )
        for extra in ("global_scratch_size", "profile_scratch_size"):
            if metadata.get(extra):
                raise DeviceError(f"kernel {name} asks for {metadata[extra]} bytes of {extra}")
        if (metadata.get("num_ctas") or 1) != 1:
            raise DeviceError(f"kernel {name} asks for clusters of {metadata['num_ctas']} blocks")

    def _load(self, code: bytes, metadata: Mapping[str, Any]) -> Function:
        driver, name, shared = self._driver, metadata["name"], int(metadata["shared"])
        self._stream.activate()
        try:
            module = driver.call("cuModuleLoadData", code)
        except CudaError as error:
            made_by = metadata.get("cuda")
            raise CudaError(
                f"kernel {name} could not be loaded: {error} (compiled for sm_{metadata['arch']} "
                f"by the assembler of CUDA {made_by}; the driver serves CUDA "
                f"{driver.version // 1000}.{driver.version % 1000 // 10})"
            ) from None
        handle = driver.call("cuModuleGetFunction", module, name.encode())
        if shared > SHARED_WITHOUT_OPT_IN:
            attribute = (
                driver.api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            )
            driver.call("cuFuncSetAttribute", handle, attribute, shared)
        threads = 32 * int(metadata["num_warps"])
        return Function(handle, name, threads, shared, int(metadata["alignment"]))


def _runs_on(arch: int, capability: int) -> bool:
    # From 9.0 on, Triton uses features of exactly one architecture.
    if arch >= 90:
        return arch == capability
    return arch // 10 == capability // 10 and arch <= capability
