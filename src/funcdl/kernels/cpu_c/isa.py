"""Compiler flags for this machine's vector instructions, and the headers that units include."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from funcdl.core.records import record

Accepts = Callable[[Sequence[str]], bool]

# What every generated unit is compiled with.
#   -std=gnu11          the headers are C11; gnu for lgamma_r and the vector extensions
#   -ffp-contract=off   a * b + c is rounded twice, as in NumPy, so that jit and eager agree and
#                       x * x - x * x is 0; the headers fuse explicitly (fd_fma_*, FD_VECTOR_FMA)
#   -fwrapv             signed integers wrap, as arrays do
#   -fno-math-errno, -fno-trapping-math
#                       nobody reads errno or exception flags; without them sqrt and comparisons
#                       are not vectorised. Nothing else of -ffast-math, which breaks NaN and Inf
#   -fvisibility=hidden only entry points are exported
COMMON_FLAGS: tuple[str, ...] = (
    "-std=gnu11",
    "-O2",
    "-ffp-contract=off",
    "-fwrapv",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-pipe",
)
# gcc only. Removing partial redundancies turns two selects on one condition into branches, with all
# that lies between them on both sides; such loops are not vectorised (gelu: 17 times slower).
_GCC_FLAGS = ("-fno-tree-pre",)


@record
class Isa:
    """A family of vector instructions.

    `cpu_flags` are the names in /proc/cpuinfo that a processor must list; `flags` go to the C
    compiler.
    """

    name: str
    flags: tuple[str, ...]
    cpu_flags: frozenset[str]


_AVX2_CPU = frozenset({"sse2", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "popcnt"})
_AVX2_FLAGS = ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt")
_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

# From the widest to the one that every machine has. Features are listed one by one, not as
# -march=native: the result is the same on every machine of the family, and so is the cache key.
ISAS: dict[str, Isa] = {
    isa.name: isa
    for isa in (
        Isa(
            "avx512",
            (*_AVX2_FLAGS, *(f"-m{name}" for name in _AVX512), "-mprefer-vector-width=512"),
            _AVX2_CPU.union(_AVX512),
        ),
        Isa("avx2", _AVX2_FLAGS, _AVX2_CPU),
        Isa("x86-64", (), frozenset({"sse2"})),
        # Another architecture: whatever its compiler assumes by itself (NEON on 64-bit Arm).
        Isa("native-generic", (), frozenset()),
    )
}


def choose_isa(cpu_flags: Iterable[str]) -> Isa:
    """Return the widest ISA all of whose features are in `cpu_flags`."""
    present = frozenset(cpu_flags)
    return next(isa for isa in ISAS.values() if isa.cpu_flags <= present)


@cache
def host_isa() -> Isa:
    """Return the widest ISA that this machine and its operating system serve."""
    if not _is_x86(platform.machine()):
        return ISAS["native-generic"]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ISAS["x86-64"]
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return choose_isa([*flags, "sse2"])


def compile_flags(
    isa: str | None = None, *, openmp: bool = True, accepts: Accepts | None = None
) -> tuple[str, ...]:
    """Return all flags for one unit.

    Args:
        isa: a name in `ISAS`; None takes the widest that this machine serves.
        openmp: let ``#pragma omp parallel`` start threads; ``#pragma omp simd`` always works.
        accepts: whether the compiler takes some flags; without it, it is gcc with OpenMP.

    Raises:
        ValueError: `isa` is no known name, or this machine lacks some of its instructions.
    """
    host = host_isa()
    chosen = host if isa is None else ISAS.get(isa)
    if chosen is None or not chosen.cpu_flags <= host.cpu_flags:
        usable = [name for name, known in ISAS.items() if known.cpu_flags <= host.cpu_flags]
        raise ValueError(f"isa={isa!r} cannot run on this machine; use one of {usable}")
    return flags_for(chosen, openmp=openmp, accepts=accepts)


def isas_of(machine: str) -> list[Isa]:
    """The ISAs that an architecture's machines may have, by what `platform.machine` calls it."""
    return [isa for isa in ISAS.values() if (isa.name == "native-generic") != _is_x86(machine)]


def flags_for(isa: Isa, *, openmp: bool = True, accepts: Accepts | None = None) -> tuple[str, ...]:
    """`compile_flags` for an ISA that this machine may lack."""
    # As needed: fd_runtime.h takes the place of gcc's OpenMP library, which is then not loaded.
    threads: tuple[str, ...] = ("-fopenmp", "-Wl,--as-needed")
    own: tuple[str, ...] = _GCC_FLAGS
    if accepts is not None and not accepts([*own, *threads]):
        own = own if accepts(own) else ()
        openmp = openmp and accepts(threads)
    if not openmp:
        threads = ("-fopenmp-simd",)
    return (*COMMON_FLAGS, *own, *isa.flags, *threads, "-lm")


def _is_x86(machine: str) -> bool:
    return machine.lower() in ("x86_64", "amd64")


def include_dir() -> Path:
    """Return the folder of the C headers (``fd_math.h`` and others), for ``-I``."""
    return Path(__file__).parent / "include"
