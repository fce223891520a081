"""A kernel as Triton takes it: its source, and how it is launched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TritonKernel:
    """Source of one kernel and how it is launched.

    `source` is the text of a Python file that defines the `triton.jit` function `name`. `grid` is
    the number of program instances along each launch dimension; where it holds a zero there is
    nothing to launch. `signature` gives the parameters in order with Triton's pointer types.
    `subnormal` says whether library functions keep numbers below 2**-126, which takes three more
    instructions for each exponential of base 2.
    """

    source: str
    name: str
    grid: tuple[int, ...]
    num_warps: int
    num_stages: int
    signature: dict[str, str]
    subnormal: bool = True
