"""Systems of equations given by functions, with the names of `jax.scipy.sparse`."""

from __future__ import annotations

from funcdl.scipy.sparse import linalg

__all__ = ["linalg"]
