"""Logarithms of differences that are close to 0 or to 1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp


def log1mexp(x: Any) -> Any:
    """``log(1 - exp(-x))`` of an array of floats: minus infinity at 0, NaN below.

    From Maechler, "Accurately computing log(1 - exp(-|a|))" (2012): two forms, which meet where
    ``exp(-x)`` is one half.
    """
    small = x < math.log(2)
    near = fnp.log(-fnp.expm1(-fnp.where(small, x, 1)))
    # A logarithm of negative numbers is NaN, and its derivative there no number either.
    near = fnp.where(x < 0, np.nan, near)
    return fnp.where(small, near, fnp.log1p(-fnp.exp(-fnp.where(small, 1, x))))
