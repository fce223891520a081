"""Minima of functions, with the names and meanings of `jax.scipy.optimize`."""

from __future__ import annotations

from funcdl.scipy.optimize.minimize import OptimizeResults, minimize

__all__ = ["OptimizeResults", "minimize"]
