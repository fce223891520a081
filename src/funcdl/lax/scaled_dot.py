"""Products of operands with a scale for each block, by `jax.lax`'s name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from funcdl.errors import ArgumentError, ShapeError
from funcdl.lax.reductions import dot_general, dot_numbers
from funcdl.numpy.promotion import array
from funcdl.ops.shape import broadcast_in_dim, reshape

_NAME = "scaled_dot"
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def scaled_dot(
    lhs: Any,
    rhs: Any,
    *,
    lhs_scale: Any = None,
    rhs_scale: Any = None,
    dimension_numbers: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """`dot_general` of ``lhs * lhs_scale`` and ``rhs * rhs_scale`` (see `jax.lax.scaled_dot`).

    Operands and scales are turned into bfloat16, and so are their products, as JAX does where the
    hardware has no such operation. Unlike JAX's, it has derivatives.

    Args:
      lhs, rhs: arrays.
      lhs_scale, rhs_scale: of the shapes of `lhs` and `rhs`, but along contracted dimensions, where
        each element is the scale of a block of at least two neighbours. None is a scale of 1.
      dimension_numbers: as for `dot_general`; by default a matrix product, all dimensions but the
        last two being batch dimensions.
      preferred_element_type: the dtype to add up in and to return, by default bfloat16.

    Raises:
      ArgumentError: there is no default for `dimension_numbers`.
      ShapeError: a scale does not fit its operand, or the operands do not fit.
    """
    x, y = array(_NAME, lhs), array(_NAME, rhs)
    numbers = _matrix_product(x, y) if dimension_numbers is None else dimension_numbers
    (x_contract, y_contract), _ = dot_numbers(_NAME, numbers)
    return dot_general(
        _scaled("lhs", x, lhs_scale, x_contract),
        _scaled("rhs", y, rhs_scale, y_contract),
        numbers,
        preferred_element_type=_BFLOAT16
        if preferred_element_type is None
        else preferred_element_type,
    )


def _matrix_product(x: Any, y: Any) -> Any:
    if x.ndim < 2 or x.ndim != y.ndim:
        raise ArgumentError(
            f"{_NAME} requires dimension_numbers, or operands of one number of dimensions, at "
            f"least 2; got lhs {x.aval} and rhs {y.aval}"
        )
    batch = tuple(range(x.ndim - 2))
    return ((x.ndim - 1,), (x.ndim - 2,)), (batch, batch)


def _scaled(name: str, x: Any, scale: Any, contract: Sequence[int]) -> Any:
    """The operand times its scales, in bfloat16."""
    narrow = x.astype(_BFLOAT16)
    if scale is None:
        return narrow
    scale = array(_NAME, scale).astype(_BFLOAT16)
    along = {d % x.ndim for d in contract}
    fits = scale.ndim == x.ndim and all(
        (count > 0 and size % count == 0 and size >= 2 * count) if d in along else size == count
        for d, (size, count) in enumerate(zip(x.shape, scale.shape, strict=True))
    )
    if not fits:
        raise ShapeError(
            f"{_NAME} requires {name}_scale to have the sizes of {name}, and along contracted "
            f"dimensions (here {tuple(contract)}) a divisor of at most half; got {name} {x.aval} "
            f"and {name}_scale {scale.aval}"
        )
    # Each contracted dimension as two, the number of blocks and their size.
    shape: list[int] = []
    places: list[int] = []
    for d, (size, count) in enumerate(zip(x.shape, scale.shape, strict=True)):
        places.append(len(shape))
        shape += [count, size // count] if d in along else [size]
    wide = broadcast_in_dim(scale, shape=tuple(shape), broadcast_dimensions=tuple(places))
    return narrow * reshape(wide, new_sizes=x.shape)
