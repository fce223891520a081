"""Vector quantization, with the names of `jax.scipy.cluster.vq`."""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.errors import DtypeError, ShapeError
from funcdl.numpy.promotion import promote_inexact

__all__ = ["vq"]


def vq(obs: Any, code_book: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """The nearest code of each observation, and how far it is (see `jax.scipy.cluster.vq.vq`).

    Args:
      obs: ``[n, d]``, or ``[n]`` for numbers.
      code_book: ``[k, d]``, or ``[k]``.
      check_finite: has no effect.

    Returns:
      The codes' indices ``[n]``, integers, of equally near ones the first; and the Euclidean
      distances ``[n]``, floats, whose derivatives are 0 where they are 0.

    Raises:
      ShapeError: the operands are no vectors or matrices of one width.
      DtypeError: they are complex.
    """
    x, codes = promote_inexact("vq", obs, code_book)
    if x.ndim not in (1, 2) or codes.ndim != x.ndim or x.shape[1:] != codes.shape[1:]:
        raise ShapeError(
            "vq: obs and code_book must both be vectors, or matrices with rows of one length, got "
            f"{x.aval} and {codes.aval}"
        )
    if dtypes.is_complex(x.dtype):
        raise DtypeError(f"vq takes real numbers, got {x.aval} and {codes.aval}")
    if x.ndim == 1:
        x, codes = x[:, None], codes[:, None]
    squares = fnp.sum((x[:, None, :] - codes) ** 2, axis=-1)
    nearest = fnp.argmin(squares, axis=-1)
    square = fnp.take_along_axis(squares, nearest[:, None], axis=-1)[:, 0]
    apart = square > 0
    distance = fnp.where(apart, fnp.sqrt(fnp.where(apart, square, 1)), square)
    return nearest, distance
