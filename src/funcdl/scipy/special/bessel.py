"""Modified Bessel functions of the first kind."""

from __future__ import annotations

import math
from typing import Any

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.scipy.special.elementwise import elementwise
from funcdl.transforms import custom_jvp


@elementwise
def i0e(x: Any) -> Any:
    """``exp(-|x|)`` times `i0`."""
    return lax.bessel_i0e(x)


@elementwise
def i1e(x: Any) -> Any:
    """``exp(-|x|)`` times `i1`."""
    return lax.bessel_i1e(x)


@elementwise
def i0(x: Any) -> Any:
    """The modified Bessel function of the first kind and order 0."""
    return _i0(x)


@elementwise
def i1(x: Any) -> Any:
    """The modified Bessel function of the first kind and order 1."""
    return _i1(x)


@custom_jvp
def _i0(x: Any) -> Any:
    return fnp.exp(abs(x)) * lax.bessel_i0e(x)


@custom_jvp
def _i1(x: Any) -> Any:
    return fnp.exp(abs(x)) * lax.bessel_i1e(x)


# The terms of i1(x) / x in powers of (x / 2)^2 (DLMF 10.25.2).
_QUOTIENT = tuple(0.5 / (math.factorial(k) * math.factorial(k + 1)) for k in range(14))


def _quotient(x: Any) -> Any:
    """``i1(x) / x``: as a series near 0, so that its derivatives of any order are right there."""
    near = abs(x) < 2
    square = fnp.where(near, x, 0) ** 2 / 4
    series = fnp.zeros_like(x)
    for term in reversed(_QUOTIENT):
        series = series * square + term
    far = fnp.where(near, 2, x)
    return fnp.where(near, series, _i1(far) / far)


_i0.defjvps(lambda t, out, x: t * _i1(x))
_i1.defjvps(lambda t, out, x: t * (_i0(x) - _quotient(x)))
