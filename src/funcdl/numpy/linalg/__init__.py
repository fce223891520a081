"""Linear algebra on the last two dimensions of arrays; names and meanings follow
`jax.numpy.linalg`.

Dimensions before the last two are a batch. Integers become floats; half precision is refused, since
LAPACK has none. Nothing is raised where a result does not exist: it is NaN, or infinite for
singular systems. `funcdl.lax.linalg` has the factorizations with all of their options.
"""

from __future__ import annotations

from funcdl.numpy.linalg.decompositions import (
    cholesky,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    qr,
    svd,
    svdvals,
)
from funcdl.numpy.linalg.determinants import (
    det,
    slogdet,
)
from funcdl.numpy.linalg.norms import (
    cond,
    matrix_norm,
    matrix_rank,
    norm,
    vector_norm,
)
from funcdl.numpy.linalg.products import (
    cross,
    diagonal,
    matmul,
    matrix_power,
    matrix_transpose,
    multi_dot,
    outer,
    tensordot,
    trace,
    vecdot,
)
from funcdl.numpy.linalg.systems import (
    inv,
    lstsq,
    pinv,
    solve,
    tensorinv,
    tensorsolve,
)

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vecdot",
    "vector_norm",
]
