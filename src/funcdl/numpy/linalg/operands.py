"""Operands of functions of matrices."""

from __future__ import annotations

from typing import Any

from funcdl.numpy.promotion import ArrayLike, promote_inexact
from funcdl.ops.linalg import common


def square_matrices(name: str, a: ArrayLike) -> Any:
    """Matrices ``[..., n, n]`` of a dtype that LAPACK has.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    (x,) = promote_inexact(name, a)
    common.check_matrix(name, x.aval, square=True)
    common.check_dtype(name, x.aval)
    return x
