"""Primitives of linear algebra: factorizations, triangular and tridiagonal systems.

Names, parameters and meanings are those of the `jax.lax.linalg` primitives.
"""

from __future__ import annotations

from funcdl.ops.linalg.cholesky import cholesky, cholesky_update
from funcdl.ops.linalg.eig import eig
from funcdl.ops.linalg.eigh import eigh
from funcdl.ops.linalg.lu import lu, lu_pivots_to_permutation
from funcdl.ops.linalg.qr import geqrf, householder_product, qr
from funcdl.ops.linalg.reductions import hessenberg, schur, tridiagonal
from funcdl.ops.linalg.svd import svd
from funcdl.ops.linalg.triangular_solve import triangular_solve
from funcdl.ops.linalg.tridiagonal_solve import tridiagonal_solve

__all__ = [
    "cholesky",
    "cholesky_update",
    "eig",
    "eigh",
    "geqrf",
    "hessenberg",
    "householder_product",
    "lu",
    "lu_pivots_to_permutation",
    "qr",
    "schur",
    "svd",
    "triangular_solve",
    "tridiagonal",
    "tridiagonal_solve",
]
