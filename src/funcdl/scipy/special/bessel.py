"""Modified Bessel functions of the first kind."""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.scipy.special.elementwise import elementwise


@elementwise
def i0e(x: Any) -> Any:
    """``exp(-|x|)`` times `i0`."""
    return lax.bessel_i0e(x)


@elementwise
def i1e(x: Any) -> Any:
    """``exp(-|x|)`` times `i1`."""
    return lax.bessel_i1e(x)


def _size(x: Any) -> Any:
    """``|x|`` with derivative 0 at 0, where that of abs is 1: so i0 and i1 have theirs there."""
    return x * fnp.sign(x)


@elementwise
def i0(x: Any) -> Any:
    """The modified Bessel function of the first kind and order 0."""
    return fnp.exp(_size(x)) * lax.bessel_i0e(x)


@elementwise
def i1(x: Any) -> Any:
    """The modified Bessel function of the first kind and order 1."""
    return fnp.exp(_size(x)) * lax.bessel_i1e(x)
