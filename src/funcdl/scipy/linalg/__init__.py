"""Linear algebra by SciPy's names; names and meanings follow `jax.scipy.linalg`.

As in `funcdl.numpy.linalg`, what does not exist is NaN, and nothing is raised for it. Arguments
that let SciPy overwrite its operands, or check them, have no effect.
"""

from __future__ import annotations

from funcdl.absent import getter
from funcdl.scipy.linalg.factorizations import (
    cho_factor,
    cho_solve,
    cholesky,
    det,
    eigh,
    hessenberg,
    inv,
    lu,
    lu_factor,
    lu_solve,
    qr,
    schur,
    solve,
    solve_triangular,
    svd,
)
from funcdl.scipy.linalg.forms import block_diag, toeplitz
from funcdl.scipy.linalg.functions import expm, expm_frechet, polar, sqrtm

__getattr__ = getter(__name__)

__all__ = [
    "block_diag",
    "cho_factor",
    "cho_solve",
    "cholesky",
    "det",
    "eigh",
    "expm",
    "expm_frechet",
    "hessenberg",
    "inv",
    "lu",
    "lu_factor",
    "lu_solve",
    "polar",
    "qr",
    "schur",
    "solve",
    "solve_triangular",
    "sqrtm",
    "svd",
    "toeplitz",
]
