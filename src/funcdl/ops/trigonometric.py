"""Trigonometric and hyperbolic functions, and their inverses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core.primitive import Primitive
from funcdl.ops import registry
from funcdl.ops.arithmetic import REAL_OR_COMPLEX, add, div, mul, neg, one_minus, square, sub
from funcdl.ops.exponential import rsqrt
from funcdl.ops.rows import Jvp, elementwise
from funcdl.ops.shape import full_like


def _one_plus(x: Any) -> Any:
    return add(full_like(x, 1), x)


def _function(
    name: str,
    ufunc: Any,
    tangent: Any,
    *,
    domain: tuple[float, float] = (-3.0, 3.0),
    triton: str | None = None,
    cost: int = 20,
) -> Primitive:
    """One function of one operand; `tangent` as in `Jvp`."""
    return elementwise(
        name,
        ufunc,
        accepts=REAL_OR_COMPLEX,
        derivative=Jvp((tangent,)),
        c=f"fd_{name}_{{t}}({{0}})",
        triton=triton or f"libdevice.{name}({{0}})",
        cost=cost,
        domain=domain,
    )


sin: Primitive = _function(
    "sin", np.sin, lambda t, out, x: mul(t, cos(x)), triton="tl.sin({0})", cost=15
)
cos: Primitive = _function(
    "cos", np.cos, lambda t, out, x: mul(t, neg(sin(x))), triton="tl.cos({0})", cost=15
)
tan = _function("tan", np.tan, lambda t, out, x: mul(t, _one_plus(square(out))), domain=(-1.2, 1.2))
asin = _function(
    "asin",
    np.arcsin,
    lambda t, out, x: mul(t, rsqrt(one_minus(square(x)))),
    domain=(-0.9, 0.9),
)
acos = _function(
    "acos",
    np.arccos,
    lambda t, out, x: mul(t, neg(rsqrt(one_minus(square(x))))),
    domain=(-0.9, 0.9),
)
atan = _function("atan", np.arctan, lambda t, out, x: div(t, _one_plus(square(x))))
sinh: Primitive = _function("sinh", np.sinh, lambda t, out, x: mul(t, cosh(x)))
cosh: Primitive = _function("cosh", np.cosh, lambda t, out, x: mul(t, sinh(x)))
asinh = _function("asinh", np.arcsinh, lambda t, out, x: mul(t, rsqrt(_one_plus(square(x)))))
acosh = _function(
    "acosh",
    np.arccosh,
    # Two roots: on the left half of the plane their product is not the root of x^2 - 1.
    lambda t, out, x: mul(t, mul(rsqrt(sub(x, full_like(x, 1))), rsqrt(_one_plus(x)))),
    domain=(1.1, 4.0),
)
atanh = _function(
    "atanh",
    np.arctanh,
    lambda t, out, x: div(t, mul(one_minus(x), _one_plus(x))),
    domain=(-0.9, 0.9),
)


def _slope_of_angle(along: Any, x: Any, y: Any) -> Any:
    return div(along, add(square(x), square(y)))


atan2 = elementwise(
    "atan2",
    np.arctan2,
    accepts=registry.FLOATS,
    derivative=Jvp(
        (
            lambda t, out, x, y: mul(t, _slope_of_angle(y, x, y)),
            lambda t, out, x, y: mul(t, neg(_slope_of_angle(x, x, y))),
        )
    ),
    arity=2,
    c="fd_atan2_{t}({0}, {1})",
    triton="libdevice.atan2({0}, {1})",
    cost=30,
    domain=((0.5, 3.0), (-math.pi, math.pi)),
)
