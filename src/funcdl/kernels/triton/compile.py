"""Triton source to cubins, on any machine: no GPU, driver or framework is needed.

Triton is imported by the functions that compile, never by this module.
"""

from __future__ import annotations

import hashlib
import linecache
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funcdl.errors import DeviceError
from funcdl.kernels.triton.cubin_elf import resources
from funcdl.kernels.triton.triton_kernel import TritonKernel

OLDEST_TRITON = (3, 6)
"""The first release whose compiler is called as here; `pyproject.toml` asks for it, too."""

ALIGNMENT = 16
"""Bytes to which pointers are aligned for a kernel compiled with ``aligned=True``."""

_KEPT_METADATA = (
    "name",
    "shared",
    "num_warps",
    "num_ctas",
    "num_stages",
    "global_scratch_size",
    "global_scratch_align",
    "profile_scratch_size",
    "profile_scratch_align",
    "tmem_size",
    "triton_version",
)

REGISTERS, MAX_REGISTERS = 65536, 255
"""Registers of a processor, and those that a thread can have."""

# Triton reads where its own cache lies from a process-wide setting.
_settings = threading.Lock()


@dataclass(frozen=True, slots=True)
class Cubin:
    """Machine code of one kernel.

    `metadata` is what a launcher needs, in types that JSON has: the entry point's ``name``,
    ``shared`` (bytes of shared memory for each program), ``num_warps``, ``num_ctas``, the sizes and
    alignments of the two scratch buffers whose pointers follow the parameters, ``arch``, and
    ``alignment`` (what every pointer must be divisible by) and ``cuda`` (the assembler's release: a
    driver of an older major release may refuse its code), and a thread's ``registers``,
    ``stack_bytes`` and ``spill_bytes``, what of its registers went into memory.
    """

    data: bytes
    metadata: dict[str, Any]


def compile_cubin(
    kernel: TritonKernel,
    arch: int,
    *,
    aligned: bool = True,
    fp_fusion: bool = True,
) -> Cubin:
    """Compile for compute capability `arch` (80, 90, …).

    Args:
        aligned: promise that every pointer is divisible by 16 (wider loads); the launcher must
            check it, and use another cubin where it does not hold.
        fp_fusion: let a multiplication and an addition become one rounding.

    Raises:
        ImportError: Triton is not installed.
        DeviceError: it is too old.
        RuntimeError: Triton runs as its interpreter (``TRITON_INTERPRET`` is set).
    """
    import triton

    check_version(triton.__version__)
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    if triton.knobs.runtime.interpret:
        raise RuntimeError("Triton cannot compile while TRITON_INTERPRET is set; unset it")
    attrs = {(n,): [["tt.divisibility", ALIGNMENT]] for n in range(len(kernel.signature))}
    source = ASTSource(load_function(kernel), kernel.signature, attrs=attrs if aligned else None)
    options = {
        "num_warps": kernel.num_warps,
        "num_stages": kernel.num_stages,
        "enable_fp_fusion": fp_fusion,
        "enable_reflect_ftz": not kernel.subnormal,
    }
    ptxas = get_ptxas(arch)
    with _settings, tempfile.TemporaryDirectory() as folder, triton.knobs.cache.scope():
        # The caller has a cache of its own; Triton's would only fill the home directory.
        triton.knobs.cache.dir = folder
        target = GPUTarget("cuda", arch, 32)
        compiled = triton.compile(source, target=target, options=options)
        spilled = _spilled(compiled.asm, ptxas.path, fp_fusion)
        if spilled:
            # To let more programs run at a time ptxas may spill a few bytes below a limit that it
            # chose by itself; it does not where it is given one.
            options["maxnreg"] = min(MAX_REGISTERS, REGISTERS // (32 * kernel.num_warps))
            again = triton.compile(source, target=target, options=options)
            left = _spilled(again.asm, ptxas.path, fp_fusion)
            if left < spilled:
                compiled, spilled = again, left
    metadata = {name: getattr(compiled.metadata, name, None) for name in _KEPT_METADATA}
    metadata |= {"arch": arch, "alignment": ALIGNMENT if aligned else 1, "cuda": ptxas.version}
    metadata |= {**resources(compiled.asm["cubin"]), "spill_bytes": spilled}
    return Cubin(compiled.asm["cubin"], metadata)


def check_version(found: str) -> None:
    """Let pass what funcdl can compile with.

    Raises:
        DeviceError: `found` is the version of a Triton that is too old.
    """
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers and tuple(map(int, numbers.groups())) < OLDEST_TRITON:
        wanted = ".".join(map(str, OLDEST_TRITON))
        raise DeviceError(
            f"Triton {found} is too old: funcdl compiles GPU kernels with Triton {wanted} or "
            f"later; pip install 'triton>={wanted}'"
        )


def load_function(kernel: TritonKernel) -> Callable[..., Any]:
    """The kernel's `triton.jit` function, in a namespace of its own.

    Triton reads the text of the functions that it is given, which `linecache` serves to it.
    """
    digest = hashlib.sha256(kernel.source.encode()).hexdigest()[:16]
    filename = f"<funcdl {kernel.name} {digest}>"
    lines = kernel.source.splitlines(keepends=True)
    linecache.cache[filename] = (len(kernel.source), None, lines, filename)
    namespace: dict[str, Any] = {"__name__": f"funcdl_kernel_{digest}", "__file__": filename}
    exec(compile(kernel.source, filename, "exec"), namespace)
    function: Callable[..., Any] = namespace[kernel.name]
    return function


def _spilled(asm: Mapping[str, Any], ptxas: str, fp_fusion: bool) -> int:
    """Bytes that a kernel spills; without a stack there are none, and ptxas need not be asked."""
    made = resources(asm["cubin"])
    if not made.get("stack_bytes"):
        return 0
    # Some releases of Triton ask for this allocation of registers: as the code was made.
    found = {}
    for options in ([], ["--regAllocOptLevel=2"]):
        found = ptxas_report(asm["ptx"], ptxas, fp_fusion, options)
        if all(found.get(name) == value for name, value in made.items()):
            break
    return found.get("spill_bytes", 0)


def ptxas_report(
    ptx: str, ptxas: str, fp_fusion: bool = True, options: Sequence[str] = ()
) -> dict[str, int]:
    """What ptxas says of a kernel: registers and stack of a thread, and bytes that it spills."""
    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
    assert target is not None
    command = [ptxas, "-v", f"--gpu-name={target[1]}", *options]
    command += [] if fp_fusion else ["--fmad=false"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        command += [str(source), "-o", str(Path(folder, "kernel.cubin"))]
        log = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    patterns = {
        "registers": r"Used (\d+) registers",
        "stack_bytes": r"(\d+) bytes stack frame",
        "spill_bytes": r"(\d+) bytes spill stores",
    }
    # Of the kernel, and of functions that it calls (divisions of long numbers).
    found = {name: re.findall(pattern, log) for name, pattern in patterns.items()}
    return {name: max(map(int, values)) for name, values in found.items() if values}
