"""Clusters of points, with the names of `jax.scipy.cluster`."""

from __future__ import annotations

from funcdl.scipy.cluster import vq

__all__ = ["vq"]
