"""Pytrees as vectors, for solvers and optimisers that want one (see `jax.flatten_util`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import funcdl.numpy as fnp
from funcdl import tree
from funcdl.core.array import Array, aval_of
from funcdl.core.avals import ShapedArray
from funcdl.errors import DtypeError, ShapeError

__all__ = ["ravel_pytree"]


def ravel_pytree(pytree: Any) -> tuple[Array, Callable[[Any], Any]]:
    """The leaves of a pytree as one vector, and a function that takes such vectors apart again.

    See `jax.flatten_util.ravel_pytree`.

    Args:
      pytree: of arrays and numbers. Leaves of several dtypes are promoted to one.

    Returns:
      The leaves in row-major order, one after the other; and a function from vectors of this shape
      and dtype to pytrees of this structure, with the shapes and dtypes of the leaves. Both can be
      transformed: the function is linear where no leaf has integers.
    Raises (of the function):
      ShapeError: the vector has another shape.
      DtypeError: the vector has another dtype.
    """
    leaves, structure = tree.flatten(pytree)
    arrays = [fnp.asarray(leaf) for leaf in leaves]
    avals = [aval_of(x) for x in arrays]
    if not arrays:
        flat = fnp.zeros(0)
    else:
        dtype = fnp.result_type(*arrays)
        flat = fnp.concatenate([fnp.ravel(x).astype(dtype) for x in arrays])
    kind = aval_of(flat)
    ends = [0, *accumulate(math.prod(aval.shape) for aval in avals)]

    def unravel(vector: Any) -> Any:
        vector = fnp.asarray(vector)
        found = aval_of(vector)
        if found.shape != kind.shape:
            raise ShapeError(
                f"unravel: the vector must have shape {kind.shape}, got {found.shape}; it must be "
                "like that which ravel_pytree returned"
            )
        if found.dtype != kind.dtype:
            raise DtypeError(
                f"unravel: the vector must be {kind.dtype}, got {found.dtype}; convert it with "
                f".astype({str(kind.dtype)!r})"
            )
        parts = [
            _as_leaf(vector[start:end], aval)
            for aval, (start, end) in zip(avals, pairwise(ends), strict=True)
        ]
        return tree.unflatten(structure, parts)

    return flat, unravel


def _as_leaf(part: Any, aval: ShapedArray) -> Any:
    if fnp.iscomplexobj(part) and not fnp.issubdtype(aval.dtype, fnp.complexfloating):
        part = part.real
    return part.reshape(aval.shape).astype(aval.dtype)
