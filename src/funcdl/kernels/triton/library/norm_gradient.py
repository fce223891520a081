"""The gradient of layer norm and RMS norm, in one pass over their input.

Programs get the same from `row_sums`, for any formula; this one can be read, and is what that is
measured by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.core.integers import power_of_two
from funcdl.kernels.triton.library.language import Constant, Pointer, tl
from funcdl.kernels.triton.library.template import (
    Estimate,
    Tiles,
    instantiate,
    tiles,
)
from funcdl.kernels.triton.triton_kernel import TritonKernel

MAX_SIZE = 8192
"""Longest row that one program keeps in registers."""


def norm_gradient(
    x_ptr: Pointer,
    scale_ptr: Pointer,
    cotangent_ptr: Pointer,
    x_gradient_ptr: Pointer,
    scale_parts_ptr: Pointer,
    shift_parts_ptr: Pointer,
    ROWS: Constant,
    SIZE: Constant,
    PROGRAMS: Constant,
    EPSILON: Constant,
    CENTRED: Constant,
    BN: Constant,
) -> None:
    """One program: every PROGRAMS-th row, and the sums over these of the weights' gradients.

    A row's result is y = x' scale + shift with x' = (x - mean) / deviation (J. Ba and others,
    "Layer normalization", 2016), or x / root mean square (B. Zhang and R. Sennrich, "Root mean
    square layer normalization", 2019). With g = dy scale and means over the row,
    dx = (g - mean(g) - x' mean(g x')) / deviation, without mean(g) for the root mean square.

    The gradients of scale and shift are sums of dy x' and dy over all rows, which nothing that
    works row by row can finish. Each program adds up those of its rows in registers and stores one
    row of partial sums; adding up those, a column sum, is left to a second kernel.

    Memory traffic: x and dy are read once and dx is written once; the partial sums are
    2 PROGRAMS / ROWS of that. Kernels for rows and for columns would read both x' and dy twice.
    """
    columns = tl.arange(0, BN)
    inside = columns < SIZE
    scale = tl.load(scale_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    scale_sum = tl.zeros([BN], tl.float32)
    shift_sum = tl.zeros([BN], tl.float32)
    for row in range(tl.program_id(0), ROWS, PROGRAMS):
        at = tl.cast(row, tl.int64) * SIZE + columns
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        cotangent = tl.load(cotangent_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if CENTRED:
            x = tl.where(inside, x - tl.sum(x, 0) / SIZE, 0.0)
        inverse = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(x * x, 0) / SIZE + EPSILON))
        normal = x * inverse
        pulled = cotangent * scale
        gradient = pulled - normal * (tl.sum(pulled * normal, 0) / SIZE)
        if CENTRED:
            gradient -= tl.sum(pulled, 0) / SIZE
            shift_sum += cotangent
        scale_sum += cotangent * normal
        gradient = (gradient * inverse).to(x_gradient_ptr.dtype.element_ty)
        tl.store(x_gradient_ptr + at, gradient, mask=inside)
    part = tl.program_id(0) * SIZE + columns
    tl.store(scale_parts_ptr + part, scale_sum, mask=inside)
    if CENTRED:
        tl.store(shift_parts_ptr + part, shift_sum, mask=inside)


@dataclass(frozen=True, slots=True)
class Norm:
    """Rows of `size` elements; `centred` is layer norm, else RMS norm, which has no shift.

    Partial sums are float32[programs, size]. A multiple of a GPU's processors is a good number.
    """

    rows: int
    size: int
    dtype: np.dtype[Any]
    epsilon: float = 1e-5
    centred: bool = True
    programs: int = 264

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE or self.rows < 1 or self.dtype.itemsize > 4:
            raise ValueError(
                f"norm_gradient takes rows of 1 to {MAX_SIZE} elements of float32 or a half type, "
                f"got {self.rows} rows of {self.size} {self.dtype}"
            )


def candidates(problem: Norm) -> list[Tiles]:
    """What an autotuner may try, the default first."""
    size = power_of_two(problem.size)
    widths = [w for w in (4, 8, 16, 2, 1) if 8 <= size // (32 * w) <= 32]
    widths = widths or [1 if size < 1024 else 16]
    return [tiles(warps, 1, BN=size) for warps in widths]


def kernel(problem: Norm, chosen: Tiles | None = None) -> TritonKernel:
    """The kernel for a problem; by default with the first of `candidates`."""
    chosen = candidates(problem)[0] if chosen is None else chosen
    programs = min(problem.programs, problem.rows)
    single = np.dtype(np.float32)
    buffers = dict.fromkeys(("x", "scale", "cotangent", "x_gradient"), problem.dtype)
    buffers |= {"scale_parts": single} | ({"shift_parts": single} if problem.centred else {})
    return instantiate(
        norm_gradient,
        buffers=buffers,
        constants={
            "ROWS": problem.rows,
            "SIZE": problem.size,
            "PROGRAMS": programs,
            "EPSILON": problem.epsilon,
            "CENTRED": problem.centred,
        },
        programs=programs,
        chosen=chosen,
    )


def estimate(problem: Norm, chosen: Tiles) -> Estimate:
    """Two arrays read and one written; partial sums."""
    del chosen
    elements = problem.rows * problem.size
    parts = min(problem.programs, problem.rows) * problem.size * (1 + problem.centred)
    return Estimate(bytes=3 * elements * problem.dtype.itemsize + 4 * parts, flops=14 * elements)
