"""Complex numbers from and to their parts.

Cotangents follow JAX: a cotangent `c` of a complex value `z` stands for the linear function
``t -> Re(c t)`` of its tangent, without a conjugate.

In memory the parts of a number lie side by side, so that kernels see a complex array as a real one
with twice as many elements. Only what is defined here touches it there; see
`compiler.rewrite.split_complex`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import is_linear
from funcdl.ops import registry
from funcdl.ops.arithmetic import neg
from funcdl.ops.lowering import ALL_DTYPES, Pointwise, Rewritten, View
from funcdl.ops.rows import Linear, NDArray, elementwise
from funcdl.ops.shape import full_like

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder


def _complex(real: NDArray, imag: NDArray) -> NDArray:
    out = np.empty(np.broadcast_shapes(real.shape, imag.shape), np.result_type(real, np.complex64))
    out.real, out.imag = real, imag
    return out


def _complex_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    return [real(ct) if is_linear(x) else None, neg(imag(ct)) if is_linear(y) else None]


def _join(
    builder: KernelBuilder,
    values: list[int],
    avals: list[ShapedArray],
    output: int,
    params: dict[str, Any],
) -> int:
    raise AssertionError("kernels have no complex values, they store the parts")


complex_ = elementwise(
    "complex",
    _complex,
    accepts=("f32", "f64"),
    derivative=Linear(_complex_transpose),
    arity=2,
    out="complex",
    form=Pointwise(_join, lambda: 1, ALL_DTYPES),
)

real = elementwise(
    "real",
    lambda x: np.array(x.real),
    accepts=registry.COMPLEX,
    derivative=Linear(lambda ct, x: [complex_(ct, full_like(ct, 0))]),
    out="real",
    form=View(lambda reader, index, params: reader.part(0, index, 0), dtypes=ALL_DTYPES),
)

imag = elementwise(
    "imag",
    lambda x: np.array(x.imag),
    accepts=registry.COMPLEX,
    derivative=Linear(lambda ct, x: [complex_(full_like(ct, 0), neg(ct))]),
    out="real",
    form=View(lambda reader, index, params: reader.part(0, index, 1), dtypes=ALL_DTYPES),
)

conj: Primitive = elementwise(
    "conj",
    np.conjugate,
    accepts=registry.COMPLEX,
    derivative=Linear(lambda ct, x: [conj(ct)]),
    form=Rewritten(),
)
