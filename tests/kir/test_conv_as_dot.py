"""A convolution as a product: factors of half types stay so, and rows follow memory."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
from funcdl import lax, nn
from funcdl.compiler.cuda.candidates import is_half_product
from funcdl.compiler.cuda.defaults import kernel_class
from funcdl.kir.convolution import conv_as_dot, find_conv
from funcdl.kir.index import evaluate
from funcdl.kir.ir import Dot, Kernel, Load
from funcdl.kir.program import all_kernels

BF16 = np.dtype(ml_dtypes.bfloat16)
IMAGES, FILTERS = (8, 14, 14, 32), (3, 3, 32, 64)


def convolution(x: Any, w: Any) -> Any:
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def gradients(x: Any, w: Any, ct: Any) -> Any:
    return fd.vjp(convolution, x, w)[1](ct)


def after_activation(x: Any, w: Any) -> Any:
    """What precedes is computed in float32, and 1 where an image is 0."""
    return convolution(nn.sigmoid(x) * 2, w)


def products(function: Any, *shapes: tuple[int, ...], dtype: Any = BF16) -> list[Kernel]:
    """The kernels of convolutions, as products."""
    args = [fd.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    with fd.config.override(backend="cpu"):
        program = fd.jit(function).lower(*args)._lowered._pipeline.program
    kernels = [k for segment in program.segments for k, _ in all_kernels(segment)]
    return [conv_as_dot(k) for k in kernels if find_conv(k) is not None]


def dot_of(kernel: Kernel) -> Dot:
    return next(i for i in kernel.body if isinstance(i, Dot))


@pytest.mark.parametrize(
    ("function", "shapes", "count"),
    [
        (convolution, (IMAGES, FILTERS), 1),
        (after_activation, (IMAGES, FILTERS), 1),
        (gradients, (IMAGES, FILTERS, (*IMAGES[:3], 64)), 2),
    ],
    ids=["convolution", "after an activation", "gradients"],
)
def test_half_types_reach_the_product_as_they_are(function: Any, shapes: Any, count: int) -> None:
    found = products(function, *shapes)
    assert len(found) == count
    for kernel in found:
        assert is_half_product(kernel, dot_of(kernel))
        known = kernel_class(kernel)
        assert known is not None and known.name == "dot16"


def test_rows_of_every_product_follow_memory() -> None:
    """Neighbours along rows or terms of the left factor are neighbours in memory."""
    weights = 3 * 3 * 32
    found = products(convolution, IMAGES, FILTERS)
    found += products(gradients, IMAGES, FILTERS, (*IMAGES[:3], 64))
    for kernel in found:
        axis = "m" if kernel.axis("m").extent == weights else "k"
        channels = 64 if kernel.axis("k").extent == 3 * 3 * 64 else 32
        lhs = next(i for i in kernel.body if isinstance(i, Load))
        along = {name: np.arange(channels) * (name == axis) for name in ("m", "k")}
        assert (np.diff(evaluate(lhs.index, along, {})) == 1).all()
    assert sum(kernel.axis("m").extent == weights for kernel in found) == 1
