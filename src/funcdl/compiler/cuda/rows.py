"""How many lanes and warps take a long row: what fits into registers, else into the L2 cache.

A processor has 65536 registers and, of an A100 or H100, 380 KB of the L2 cache. What takes 17 KB on
its way to a processor hides the latency of memory (3.35 TB/s, 132 processors, 650 ns).

* A row that is read for several phases is best held in registers: 16 warps have 128 registers each
  thread, and 32 elements of it leave enough for what is computed from them.
* A longer one is read again in each phase, from the cache, if the rows that are read at a time fit
  there. So the longer a row, the fewer programs, and the more warps each: with 32 warps there is
  one program on each processor, of 64 registers a thread. Their blocks are what is on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod

import numpy as np

from funcdl.core.integers import power_of_two
from funcdl.kir.ir import Effect, Kernel, Load, Reduce, operands

# Lanes of a block that holds a whole row: eight warps have 255 registers for 32 elements, or 16
# warps 128 for as many, if no more than two arrays are held.
SHORT_LANES = 8192
LONG_LANES = 16384
HELD_ARRAYS = 2
# Bytes of the cache for rows of one processor that are read again; the rest is for what is written.
CACHE_BYTES = 256 << 10
MAX_WARPS = 32
# Lanes of a thread that takes a row block by block.
LOOPED_ELEMENTS = 16


def whole_row_lanes(kernel: Kernel, reduced: set[str]) -> int:
    """The longest row that one block takes."""
    rows = _rows(kernel, reduced)
    small = all(dtype.itemsize <= 4 for _, dtype in rows)
    if small and _aligned(rows) and len(rows) <= HELD_ARRAYS and reads_again(kernel, reduced):
        return LONG_LANES
    return SHORT_LANES


def held_warps(kernel: Kernel, reduced: set[str], warps: int) -> int:
    """Warps for rows that one block holds: eight where several arrays would fill 16.

    Two arrays of 8192 elements take 32 registers of a thread of 16 warps, beside those of what is
    computed, and more than 64 leave no room for a second program: memory then waits while one
    computes. Eight warps with 32 elements a thread need less than twice as many registers, so that
    two programs fit.
    """
    rows = _rows(kernel, reduced)
    several = len(rows) == HELD_ARRAYS and reads_again(kernel, reduced)
    lanes = power_of_two(prod(kernel.axis(name).extent for name in reduced))
    return 8 if warps == 16 and several and lanes <= SHORT_LANES else warps


def looped_rows(kernel: Kernel, reduced: set[str]) -> tuple[int, int]:
    """Lanes and warps for rows that are read block by block, more than once.

    A thread reads 16 elements at a time, each of which takes two registers for its address where
    rows do not begin at a multiple of 16 bytes.
    """
    rows = _rows(kernel, reduced)
    nbytes = prod(kernel.axis(name).extent for name in reduced)
    nbytes *= sum(dtype.itemsize for _, dtype in rows)
    warps = power_of_two(-(-MAX_WARPS * nbytes // CACHE_BYTES))
    warps = int(np.clip(warps, 4, MAX_WARPS))
    elements = LOOPED_ELEMENTS
    if warps == MAX_WARPS:  # which have half as many registers
        elements //= max(1, power_of_two(len(rows)) // 2) * (1 if _aligned(rows) else 2)
    return 32 * warps * max(elements, 4), warps


def reads_again(kernel: Kernel, reduced: set[str]) -> bool:
    """Whether what is reduced is needed once more when a reduction is known."""
    known: list[bool] = []
    again = False
    for instruction in kernel.body:
        reads = operands(instruction)
        after = any(known[r] or isinstance(kernel.body[r], Reduce) for r in reads)
        known.append(after)
        if isinstance(instruction, Reduce):
            again |= after
        elif isinstance(instruction, Effect):
            again |= after and bool(instruction.index.axes() & reduced)
    return again


def _aligned(rows: Sequence[tuple[int, np.dtype]]) -> bool:
    """Whether a thread reads 16 bytes of each array at a time."""
    return all(width * dtype.itemsize == 16 for width, dtype in rows)


def _rows(kernel: Kernel, reduced: set[str]) -> list[tuple[int, np.dtype]]:
    """The arrays that a program reads rows of: neighbours that a thread reads at a time, and type.

    An array that all programs share, as weights are, stays in the cache anyway.
    """
    found = {}
    for load in kernel.body:
        if not isinstance(load, Load) or not reduced <= load.index.axes():
            continue
        others = load.index.axes() - reduced
        if others:
            dtype = kernel.buffer(load.buffer).dtype
            strides = [load.index.coefficient(axis) for axis in others]
            found[load.buffer, load.index] = gcd(16 // dtype.itemsize, *strides), dtype
    return list(found.values())
