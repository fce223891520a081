"""Integrals of samples, with the names of `jax.scipy.integrate`."""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp

__all__ = ["trapezoid"]


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """The integral along an axis by the trapezoidal rule: `funcdl.numpy.trapezoid`."""
    return fnp.trapezoid(y, x, dx, axis)
