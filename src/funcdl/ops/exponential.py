"""Roots, exponentials, logarithms, and the sigmoids made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.primitive import Primitive
from funcdl.ops import registry
from funcdl.ops.arithmetic import REAL_OR_COMPLEX, add, div, mul, one_minus, scaled, square
from funcdl.ops.rows import Jvp, NDArray, elementwise
from funcdl.ops.shape import full_like

_POSITIVE = (0.1, 4.0)


def _triton_sqrt(dtype: np.dtype[Any]) -> str:
    # In float32 the plain name is an approximation.
    return "tl.sqrt_rn({0})" if dtype.itemsize == 4 else "tl.sqrt({0})"


sqrt = elementwise(
    "sqrt",
    np.sqrt,
    accepts=REAL_OR_COMPLEX,
    derivative=Jvp((lambda t, out, x: mul(t, div(full_like(x, 0.5), out)),)),
    c="fd_sqrt_{t}({0})",
    triton=_triton_sqrt,
    cost=4,
    domain=_POSITIVE,
)

rsqrt = elementwise(
    "rsqrt",
    lambda x: np.reciprocal(np.sqrt(x)),
    accepts=REAL_OR_COMPLEX,
    derivative=Jvp((lambda t, out, x: mul(t, scaled(div(out, x), -0.5)),)),
    c="fd_rsqrt_{t}({0})",
    triton="tl.rsqrt({0})",
    cost=5,
    domain=_POSITIVE,
)

cbrt = elementwise(
    "cbrt",
    np.cbrt,
    accepts=registry.FLOATS,
    derivative=Jvp((lambda t, out, x: div(scaled(t, 1 / 3), square(out)),)),
    c="fd_cbrt_{t}({0})",
    triton="libdevice.cbrt({0})",
    cost=20,
    domain=_POSITIVE,
)

exp: Primitive = elementwise(
    "exp",
    np.exp,
    accepts=REAL_OR_COMPLEX,
    derivative=Jvp((lambda t, out, x: mul(t, out),)),
    c="fd_exp_{t}({0})",
    # In float32 the plain name is 2 to the rounded product of x and log2(e).
    triton="libdevice.exp({0})",
    cost=10,
)

exp2 = elementwise(
    "exp2",
    np.exp2,
    accepts=REAL_OR_COMPLEX,
    derivative=Jvp((lambda t, out, x: mul(t, scaled(out, math.log(2))),)),
    c="fd_exp2_{t}({0})",
    triton="tl.exp2({0})",
    cost=10,
)

expm1 = elementwise(
    "expm1",
    np.expm1,
    accepts=REAL_OR_COMPLEX,
    # Not `out + 1`, which cancels far below zero.
    derivative=Jvp((lambda t, out, x: mul(t, exp(x)),)),
    c="fd_expm1_{t}({0})",
    triton="libdevice.expm1({0})",
    cost=12,
)

log = elementwise(
    "log",
    np.log,
    accepts=REAL_OR_COMPLEX,
    derivative=Jvp((lambda t, out, x: div(t, x),)),
    c="fd_log_{t}({0})",
    triton="tl.log({0})",
    cost=12,
    domain=_POSITIVE,
)

log1p = elementwise(
    "log1p",
    np.log1p,
    accepts=REAL_OR_COMPLEX,
    derivative=Jvp((lambda t, out, x: div(t, add(x, full_like(x, 1))),)),
    c="fd_log1p_{t}({0})",
    triton="libdevice.log1p({0})",
    cost=14,
    domain=(-0.8, 3.0),
)

tanh = elementwise(
    "tanh",
    np.tanh,
    accepts=REAL_OR_COMPLEX,
    # As a product, since near the ends 1 - out^2 loses twice the bits that 1 - |out| does.
    derivative=Jvp((lambda t, out, x: mul(t, mul(one_minus(out), add(full_like(out, 1), out))),)),
    c="fd_tanh_{t}({0})",
    triton="libdevice.tanh({0})",
    cost=14,
)


def _logistic(x: NDArray) -> NDArray:
    power: NDArray = np.exp(-x)
    if dtypes.is_complex(x.dtype):
        # An infinite power would have parts that are NaN.
        return np.where(np.isinf(power), 0, 1 / (1 + power)).astype(x.dtype)
    out: NDArray = np.reciprocal(1 + power)
    return out


logistic = elementwise(
    "logistic",
    _logistic,
    accepts=REAL_OR_COMPLEX,
    derivative=Jvp((lambda t, out, x: mul(t, mul(out, one_minus(out))),)),
    c="fd_logistic_{t}({0})",
    triton="fd_logistic({0})",
    cost=12,
)
