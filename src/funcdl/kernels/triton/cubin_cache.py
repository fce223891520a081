"""Cubins kept on disk: a warm start imports neither Triton nor a compiler.

An entry is a line of JSON, the metadata, and the machine code behind it. Its key is a hash of all
that the code depends on: the source, the launch options, the architecture and Triton's version.
"""

from __future__ import annotations

import functools
import hashlib
import json
from importlib import metadata

from funcdl.kernels.triton.compile import Cubin
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.runtime.disk_cache import CacheDir, default_cache

_SUFFIX = ".cubin"
_FORMAT = 3  # of an entry, and of what `compile_cubin` makes of a source


def cache_key(kernel: TritonKernel, arch: int, aligned: bool) -> str:
    """The name of a kernel's cubin; it does not depend on the grid."""
    parts = {
        "format": _FORMAT,
        "triton": triton_version(),
        "source": kernel.source,
        "name": kernel.name,
        "signature": kernel.signature,
        "num_warps": kernel.num_warps,
        "num_stages": kernel.num_stages,
        "subnormal": kernel.subnormal,
        "arch": arch,
        "aligned": aligned,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def find_cubin(
    kernel: TritonKernel, arch: int, aligned: bool, cache: CacheDir | None = None
) -> Cubin | None:
    """The kept cubin of a kernel, if there is one."""
    data = (cache or default_cache()).get_bytes(cache_key(kernel, arch, aligned), _SUFFIX)
    if data is None:
        return None
    header, code = data.split(b"\n", 1)
    return Cubin(code, json.loads(header))


def keep_cubin(
    kernel: TritonKernel, arch: int, aligned: bool, cubin: Cubin, cache: CacheDir | None = None
) -> None:
    """Keep a kernel's cubin for later processes."""
    header = json.dumps(cubin.metadata).encode()
    key = cache_key(kernel, arch, aligned)
    (cache or default_cache()).put(key, _SUFFIX, header + b"\n" + cubin.data)


@functools.cache
def triton_version() -> str:
    """The version of the installed Triton, without importing it."""
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return ""
