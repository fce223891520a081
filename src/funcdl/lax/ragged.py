"""Products of matrices whose rows belong to groups of different sizes.

A group's rows are those of a mask, so that the whole is one contraction over groups and features:
as many multiplications as one product for each group over all rows would take. Its derivatives are
contractions as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.lax.operands import ArrayLike
from funcdl.lax.reductions import dot_general
from funcdl.numpy.creation import DTypeLike
from funcdl.numpy.promotion import array


@dataclass(frozen=True)
class RaggedDotDimensionNumbers:
    """Roles of dimensions in `ragged_dot_general` (as in JAX).

    Attributes:
      dot_dimension_numbers: as for `dot_general`, group dimensions left out.
      lhs_ragged_dimensions: the dimension of lhs that is divided into groups, in a sequence.
      rhs_group_dimensions: the dimension of rhs that runs over groups, in a sequence; empty where
        the ragged dimension is contracted, or a batch dimension.
    """

    dot_dimension_numbers: Any
    lhs_ragged_dimensions: Sequence[int]
    rhs_group_dimensions: Sequence[int]


def ragged_dot(
    lhs: ArrayLike,
    rhs: ArrayLike,
    group_sizes: ArrayLike,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
    group_offset: None = None,
) -> Any:
    """Each row times the matrix of its group (see `jax.lax.ragged_dot`).

    Args:
      lhs: rows, of shape ``(m, k)``: those of the first group, then of the second, ….
      rhs: matrices, of shape ``(g, k, n)``.
      group_sizes: `g` integers; rows after the last group give zeros.
      precision: has no effect.
      preferred_element_type: the dtype to add up in and to return.
      group_offset: None; only distributed programs have a use for another value.

    Returns:
      An array of shape ``(m, n)``.

    Raises:
      ShapeError, DtypeError, ArgumentError: operands do not fit.
    """
    numbers = RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), (0,), (0,))
    return ragged_dot_general(
        lhs, rhs, group_sizes, numbers, precision, preferred_element_type, group_offset
    )


def ragged_dot_general(
    lhs: ArrayLike,
    rhs: ArrayLike,
    group_sizes: ArrayLike,
    ragged_dot_dimension_numbers: RaggedDotDimensionNumbers,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
    group_offset: None = None,
) -> Any:
    """`dot_general` in groups along one dimension of lhs (see `jax.lax.ragged_dot_general`).

    Where that dimension is one that lhs alone has, rhs holds one operand for each group. Where it
    is contracted, the result holds one for each group, along a new first dimension. Where it is a
    batch dimension, groups make no difference.

    Args:
      lhs, rhs: arrays of one dtype.
      group_sizes: integers of shape ``(g,)``: the same sizes everywhere.
      ragged_dot_dimension_numbers: the roles of the dimensions.
      precision: has no effect.
      preferred_element_type: the dtype to add up in and to return.
      group_offset: None.

    Raises:
      ShapeError, DtypeError, ArgumentError: operands or numbers do not fit.
    """
    name = "ragged_dot_general"
    x, y, sizes = array(name, lhs), array(name, rhs), array(name, group_sizes)
    numbers = ragged_dot_dimension_numbers
    if not isinstance(numbers, RaggedDotDimensionNumbers):
        raise ArgumentError(
            f"{name}: ragged_dot_dimension_numbers must be a "
            f"funcdl.lax.RaggedDotDimensionNumbers, got {shortened(numbers)}"
        )
    (lhs_k, rhs_k), (lhs_batch, rhs_batch) = (
        tuple(map(tuple, pair)) for pair in numbers.dot_dimension_numbers
    )
    ragged, group = tuple(numbers.lhs_ragged_dimensions), tuple(numbers.rhs_group_dimensions)
    if group_offset is not None:
        raise ArgumentError(f"{name}: group_offset must be None; slice rhs and group_sizes instead")
    if len(ragged) != 1 or not 0 <= ragged[0] < x.ndim:
        raise ArgumentError(
            f"{name}: lhs_ragged_dimensions must hold one dimension of lhs {x.aval}, got {ragged}"
        )
    if not dtypes.is_integer(sizes.dtype):
        raise DtypeError(f"{name}: group_sizes must be integers, got {sizes.aval}")
    if sizes.ndim != 1:
        raise ShapeError(
            f"{name}: group_sizes must have one dimension, got {sizes.aval}. For sizes that differ "
            "between batches use vmap"
        )
    (axis,) = ragged
    is_free = axis not in lhs_k and axis not in lhs_batch
    if len(group) != is_free:
        raise ArgumentError(
            f"{name}: rhs_group_dimensions must hold {'one dimension' if is_free else 'nothing'} "
            f"where the ragged dimension {axis} of lhs is "
            f"{'one that lhs alone has' if is_free else 'contracted or a batch dimension'}, got "
            f"{group}"
        )
    count = sizes.shape[0]
    if is_free and not 0 <= group[0] < y.ndim:
        raise ArgumentError(
            f"{name}: rhs_group_dimensions must hold a dimension of rhs {y.aval}, got {group}"
        )
    if is_free and y.shape[group[0]] != count:
        raise ShapeError(
            f"{name}: rhs {y.aval} must have size {count} along dimension {group[0]}, one for each "
            f"of group_sizes"
        )
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    if axis in lhs_batch:
        return dot_general(x, y, ((lhs_k, rhs_k), (lhs_batch, rhs_batch)), **options)
    # One copy of lhs for each group, along a new first dimension, zero where rows are of others.
    sizes = sizes.astype(np.int32)
    ends = fnp.cumsum(sizes)
    places = fnp.arange(x.shape[axis], dtype=np.int32)
    belongs = (places >= (ends - sizes)[:, None]) & (places < ends[:, None])
    shape = [1] * (x.ndim + 1)
    shape[0], shape[axis + 1] = belongs.shape
    masked = fnp.where(belongs.reshape(shape), x[None], fnp.zeros((), x.dtype))
    lhs_k, lhs_batch = tuple(d + 1 for d in lhs_k), tuple(d + 1 for d in lhs_batch)
    if is_free:
        contract = ((0, *lhs_k), (group[0], *rhs_k))
        return dot_general(masked, y, (contract, (lhs_batch, rhs_batch)), **options)
    out = dot_general(masked, y, ((lhs_k, rhs_k), (lhs_batch, rhs_batch)), **options)
    return fnp.moveaxis(out, len(lhs_batch), 0)
