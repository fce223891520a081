"""Cross-entropy of integer labels and its gradient, for any number of classes.

Fusion makes the same of a program (docs/gpu_kernels.md); this one can be read, and is what that is
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


def cross_entropy(
    logits_ptr: Pointer,
    labels_ptr: Pointer,
    cotangent_ptr: Pointer,
    loss_ptr: Pointer,
    gradient_ptr: Pointer,
    CLASSES: Constant,
    BC: Constant,
) -> None:
    """One program: one row of logits, BC at a time, twice.

    The first pass finds the largest logit together with the total of the weights relative to it:
    when a larger logit comes, the total so far is scaled down (M. Milakov and N. Gimelshein,
    "Online normalizer calculation for softmax", 2018). The loss is log(total) + largest - logit of
    the label. The second pass reads the row again, from the cache, and writes the gradient
    (softmax - one at the label) times the row's cotangent. A label that is no class is one of no
    logit: its row's loss is NaN, and its gradient that of the normaliser alone.

    Memory traffic: logits read once and gradients written once; no softmax is stored. The row lies
    in the cache for the second pass as long as all processors' rows fit there: 132 rows of 50257
    float32 are 27 MB.

    Both passes take the fast exponential, where a program's gradient has the accurate one
    (docs/accuracy.md).
    """
    row = tl.program_id(0).to(tl.int64)
    of_row = row * CLASSES
    label = tl.load(labels_ptr + row)
    largest = tl.full([BC], float("-inf"), tl.float32)
    total = tl.zeros([BC], tl.float32)
    for start in range(0, CLASSES, BC):
        classes = start + tl.arange(0, BC)
        inside = classes < CLASSES
        logits = tl.load(logits_ptr + of_row + classes, mask=inside, other=float("-inf"))
        logits = logits.to(tl.float32)
        # Each lane keeps its own largest and total, so that nothing crosses lanes in the loop.
        new = tl.maximum(largest, logits)
        finite = tl.where(new == float("-inf"), 0.0, new)
        total = total * tl.exp(largest - finite) + tl.exp(logits - finite)
        largest = new
    top = tl.max(largest, 0)
    top = tl.where(top == float("-inf"), 0.0, top)
    total = tl.sum(total * tl.exp(largest - top), 0)
    known = (label >= 0) & (label < CLASSES)
    picked = tl.load(logits_ptr + of_row + label, mask=known, other=float("nan")).to(tl.float32)
    tl.store(loss_ptr + row, tl.log(total) + top - picked)

    cotangent = tl.load(cotangent_ptr + row)
    scale = cotangent / total
    for start in range(0, CLASSES, BC):
        classes = start + tl.arange(0, BC)
        inside = classes < CLASSES
        logits = tl.load(logits_ptr + of_row + classes, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.exp(logits - top) * scale - tl.where(classes == label, cotangent, 0.0)
        gradient = gradient.to(gradient_ptr.dtype.element_ty)
        tl.store(gradient_ptr + of_row + classes, gradient, mask=inside)


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Logits and gradient [rows, classes], int32 labels, float32 losses and cotangents [rows]."""

    rows: int
    classes: int
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        if self.rows < 1 or self.classes < 1 or self.dtype.itemsize > 4:
            raise ValueError(
                "cross_entropy takes one row or more of one or more logits, float32 or a half "
                f"type, got {self.rows} rows of {self.classes} {self.dtype}"
            )


def candidates(problem: CrossEntropy) -> list[Tiles]:
    """What an autotuner may try, the default first."""
    size = power_of_two(problem.classes)
    sides = [(4096, 8), (2048, 4), (8192, 16), (1024, 4)]
    fitting = [(side, warps) for side, warps in sides if side <= size] or [(size, 1)]
    return [tiles(warps, 3, BC=side) for side, warps in fitting]


def kernel(problem: CrossEntropy, chosen: Tiles | None = None) -> TritonKernel:
    """The kernel for a problem; by default with the first of `candidates`."""
    chosen = candidates(problem)[0] if chosen is None else chosen
    single = np.dtype(np.float32)
    buffers = {"logits": problem.dtype, "labels": np.dtype(np.int32), "cotangent": single}
    return instantiate(
        cross_entropy,
        buffers=buffers | {"loss": single, "gradient": problem.dtype},
        constants={"CLASSES": problem.classes},
        programs=problem.rows,
        chosen=chosen,
    )


def estimate(problem: CrossEntropy, chosen: Tiles) -> Estimate:
    """One array read and one written, with two exponentials for each element."""
    elements = problem.rows * problem.classes
    size = problem.dtype.itemsize
    return Estimate(
        bytes=2 * elements * size + 12 * problem.rows,
        flops=20 * elements,
        shared=chosen["BC"] * size * chosen.num_stages,
    )
