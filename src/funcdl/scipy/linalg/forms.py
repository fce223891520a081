"""Matrices of a form: of blocks on the diagonal, constant along diagonals."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.errors import ShapeError
from funcdl.numpy.indexing import getitem
from funcdl.numpy.joining import concatenate
from funcdl.numpy.promotion import ArrayLike, array, promote_dtypes
from funcdl.numpy.shaping import atleast_1d, atleast_2d, flip
from funcdl.ops.linalg.common import conjugate
from funcdl.ops.shape import full
from funcdl.ops.slicing import pad

__all__ = ["block_diag", "toeplitz"]


def block_diag(*arrs: ArrayLike) -> Any:
    """A matrix with others on its diagonal (see `jax.scipy.linalg.block_diag`).

    Args:
      arrs: matrices; vectors and scalars are matrices of one row.

    Raises:
      ShapeError: an operand has more than two dimensions.
    """
    if not arrs:
        arrs = (full((1, 0), 0, np.dtype(np.float32)),)
    blocks = promote_dtypes("block_diag", *(atleast_2d(array("block_diag", x)) for x in arrs))
    for i, block in enumerate(blocks):
        if block.ndim != 2:
            raise ShapeError(
                f"block_diag: arguments must have at most two dimensions, got {block.aval} as "
                f"argument {i}"
            )
    columns = sum(block.aval.shape[1] for block in blocks)
    rows = []
    before = 0
    zero = full((), 0, blocks[0].aval.dtype)
    for block in blocks:
        width = block.aval.shape[1]
        config = ((0, 0, 0), (before, columns - before - width, 0))
        rows.append(pad(block, zero, padding_config=config))
        before += width
    return concatenate(rows, axis=0)


def toeplitz(c: ArrayLike, r: ArrayLike | None = None) -> Any:
    """Matrices that are constant along diagonals (see `jax.scipy.linalg.toeplitz`).

    Args:
      c: first columns ``[..., m]``.
      r: first rows ``[..., n]``, of which the first element is not read; by default the conjugate
        of `c`.

    Returns:
      Matrices ``[..., m, n]``.

    Raises:
      ShapeError: leading dimensions differ.
    """
    c = atleast_1d(array("toeplitz", c))
    r = conjugate(c) if r is None else atleast_1d(array("toeplitz", r))
    c, r = promote_dtypes("toeplitz", c, r)
    if c.aval.shape[:-1] != r.aval.shape[:-1]:
        raise ShapeError(
            f"toeplitz: c and r must have equal leading dimensions, got {c.aval} and {r.aval}"
        )
    m, n = c.aval.shape[-1], r.aval.shape[-1]
    # From the top right corner down to the bottom left one.
    values = concatenate([flip(getitem(r, (..., slice(1, None))), -1), c], axis=-1)
    places = np.arange(m)[:, None] - np.arange(n) + max(n - 1, 0)
    return getitem(values, (..., places.astype(np.int32)))
