"""Modified Bessel functions of the first kind, scaled by ``exp(-|x|)`` so that none overflows."""

from __future__ import annotations

from typing import Any

from funcdl.core.primitive import Primitive
from funcdl.ops import registry
from funcdl.ops.arithmetic import add, div, mul, non_zero, sign, sub
from funcdl.ops.comparison import eq
from funcdl.ops.rows import Jvp, elementwise
from funcdl.ops.select import select_n
from funcdl.ops.shape import full_like
from funcdl.ops.special.gamma import by_scipy


def _i1e_slope(x: Any, out: Any) -> Any:
    """i0e - i1e (sign + 1/x), which is 1/2 at 0."""
    slope = sub(bessel_i0e(x), mul(out, add(sign(x), div(full_like(x, 1), non_zero(x)))))
    return select_n(eq(x, full_like(x, 0)), slope, full_like(x, 0.5))


bessel_i0e: Primitive = elementwise(
    "bessel_i0e",
    by_scipy("i0e"),
    accepts=registry.FLOATS,
    derivative=Jvp((lambda t, out, x: mul(t, sub(bessel_i1e(x), mul(sign(x), out))),)),
    c="fd_bessel_i0e_{t}({0})",
    triton="fd_bessel_i0e({0})",
    cost=120,
    domain=(0.5, 6.0),
)

bessel_i1e: Primitive = elementwise(
    "bessel_i1e",
    by_scipy("i1e"),
    accepts=registry.FLOATS,
    derivative=Jvp((lambda t, out, x: mul(t, _i1e_slope(x, out)),)),
    c="fd_bessel_i1e_{t}({0})",
    triton="fd_bessel_i1e({0})",
    cost=120,
    domain=(0.5, 6.0),
)
