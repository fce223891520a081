"""Schedules: how the axes of a kernel become loops, blocks and vectors.

A schedule is a list of records, outermost first. Heuristics, the autotuner and tests write the same
records, and the renderers read nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from funcdl.core.integers import power_of_two

SORTED_BYTES = 32 << 10
"""Bytes of keys of the longest row that a block sorts (Triton): beyond, registers are spilled."""

Kind = Literal["grid", "parallel", "tile", "loop", "vector", "unroll"]


@dataclass(frozen=True, slots=True)
class Step:
    """One record: what becomes of `axis` at this depth.

    * ``parallel``: iterations (or tiles of `size` of them) are shared among CPU threads;
    * ``tile``: a sequential loop over tiles of `size` positions;
    * ``loop``: a sequential loop over all that is left of the axis;
    * ``vector``: the innermost loop, over all that is left of the axis, in SIMD lanes (C), or a
      block of `size` lanes, a power of two (Triton);
    * ``grid``: one program instance for each block of `size` positions (Triton);
    * ``unroll``: written out `size` times.
    """

    axis: str
    kind: Kind
    size: int = 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """Records, outermost first, and how a GPU launches them.

    `num_warps` is the width of a program instance, `num_stages` how many tiles of a matrix product
    are on their way from memory at a time. `group` is the number of rows of a product's tiles that
    neighbouring program instances share, so that they find each other's factors in the cache.
    With `programs` no more than that many instances are launched, each of which works on several
    blocks in turn (a persistent kernel); 0 launches one for each block.
    """

    steps: tuple[Step, ...]
    num_warps: int = 4
    num_stages: int = 2
    group: int = 1
    programs: int = 0

    def of(self, axis: str) -> tuple[Step, ...]:
        """The records of one axis, outermost first."""
        return tuple(step for step in self.steps if step.axis == axis)


def sorted_in_a_block(length: int, keys: Iterable[np.dtype]) -> bool:
    """Whether a row of this many elements, with keys of these types, is sorted in one block.

    A block has a power of two of lanes, and a register holds four bytes of one of them.
    """
    return power_of_two(length) * sum(max(key.itemsize, 4) for key in keys) <= SORTED_BYTES
