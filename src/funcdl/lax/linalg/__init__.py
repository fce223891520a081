"""Factorizations of matrices and systems of a form, by `jax.lax.linalg`'s names.

Matrices are the last two dimensions of arrays, dimensions before them a batch. Integers become
floats; half precision is refused, since LAPACK has none. Where a factorization does not exist (or
LAPACK finds none), the results for that matrix are NaN, and nothing is raised.
"""

from __future__ import annotations

from funcdl.absent import getter
from funcdl.lax.linalg.eigen import eig, eigh, hessenberg, schur, tridiagonal
from funcdl.lax.linalg.factorizations import (
    cholesky,
    cholesky_update,
    lu,
    lu_pivots_to_permutation,
    qr,
    svd,
)
from funcdl.lax.linalg.polar import qdwh
from funcdl.lax.linalg.products import householder_product, ormqr, symmetric_product
from funcdl.lax.linalg.systems import triangular_solve, tridiagonal_solve

__getattr__ = getter(__name__)

__all__ = [
    "cholesky",
    "cholesky_update",
    "eig",
    "eigh",
    "hessenberg",
    "householder_product",
    "lu",
    "lu_pivots_to_permutation",
    "ormqr",
    "qdwh",
    "qr",
    "schur",
    "svd",
    "symmetric_product",
    "triangular_solve",
    "tridiagonal",
    "tridiagonal_solve",
]
