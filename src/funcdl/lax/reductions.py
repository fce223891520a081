"""Reductions, contractions and running totals along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, lattice
from funcdl.core.array import shortened
from funcdl.core.integers import integers
from funcdl.core.options import flag
from funcdl.core.primitive import Primitive
from funcdl.errors import ArgumentError, ConcretizationError, ShapeError
from funcdl.lax.naming import dtype_error, publish
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.promotion import array
from funcdl.numpy.reductions import normalize_axes, normalize_axis
from funcdl.ops import arg_reduction, cumulative, reduction
from funcdl.ops import dot as contraction
from funcdl.ops.dot_precision import check_precision, factor_precision


def dot_numbers(name: str, numbers: Any) -> Any:
    """The four tuples of dimension numbers, checked."""
    try:
        contract, batch = ((integers("", left), integers("", right)) for left, right in numbers)
    except ConcretizationError:
        raise
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{name}: dimension_numbers must be ((lhs_contract, rhs_contract), (lhs_batch, "
            f"rhs_batch)), four sequences of integers; got {shortened(numbers)}"
        ) from None
    return contract, batch


def _reduction(
    name: str, primitive: Primitive, text: str
) -> Callable[[ArrayLike, Sequence[int]], Any]:
    def function(operand: ArrayLike, axes: Sequence[int]) -> Any:
        x = array(name, operand)
        return primitive(x, axes=normalize_axes(name, integers(f"{name}: axes", axes), x.ndim))

    return publish(
        function,
        name,
        f"{text} along some axes, which the result does not keep.\n\n"
        f"As `jax.lax.{name}`. The dtype stays; along an axis without elements the result is the\n"
        "neutral element.\n\nRaises:\n"
        "  ArgumentError: there is no such axis, or one is named twice.\n"
        f"{dtype_error(primitive)}",
    )


reduce_sum = _reduction("reduce_sum", reduction.reduce_sum, "Sum")
reduce_prod = _reduction("reduce_prod", reduction.reduce_prod, "Product")
reduce_max = _reduction("reduce_max", reduction.reduce_max, "Largest element")
reduce_min = _reduction("reduce_min", reduction.reduce_min, "Smallest element")
reduce_and = _reduction("reduce_and", reduction.reduce_and, "Conjunction, bit by bit,")
reduce_or = _reduction("reduce_or", reduction.reduce_or, "Disjunction, bit by bit,")


def argmax(operand: ArrayLike, axis: int, index_dtype: DTypeLike) -> Any:
    """Where the largest element is along an axis: the first of equal ones, NaN before all.

    See `jax.lax.argmax`.

    Args:
      operand: the array.
      axis: the dimension, which the result does not keep.
      index_dtype: an integer dtype, of the result.

    Raises:
      ArgumentError: there is no such axis.
      ShapeError: there are no elements along it.
      DtypeError: `index_dtype` is no integer type, or the operand has no order.
    """
    return _find("argmax", arg_reduction.argmax, operand, axis, index_dtype)


def argmin(operand: ArrayLike, axis: int, index_dtype: DTypeLike) -> Any:
    """Where the smallest element is along an axis, an integer array; arguments are `argmax`'s.

    The first of equal ones, NaN before all. Errors are those of `argmax`, too. See
    `jax.lax.argmin`.
    """
    return _find("argmin", arg_reduction.argmin, operand, axis, index_dtype)


def _find(
    name: str, primitive: Primitive, operand: ArrayLike, axis: int, index_dtype: DTypeLike
) -> Any:
    x = array(name, operand)
    axes = (normalize_axis(name, axis, x.ndim),)
    return primitive(x, axes=axes, index_dtype=canonical(index_dtype))


def _running(name: str, primitive: Primitive, text: str) -> Callable[..., Any]:
    def function(operand: ArrayLike, axis: int = 0, reverse: bool = False) -> Any:
        x = array(name, operand)
        return primitive(
            x, axis=normalize_axis(name, axis, x.ndim), reverse=flag(f"{name}: reverse", reverse)
        )

    return publish(
        function,
        name,
        f"{text} of all elements up to each one along an axis, or from each one on if `reverse`."
        f"\n\nAs `jax.lax.{name}`. Shape and dtype stay.\n\nRaises:\n"
        f"  ArgumentError: there is no such axis.\n{dtype_error(primitive)}",
    )


cumsum = _running("cumsum", cumulative.cumsum, "Sum")
cumprod = _running("cumprod", cumulative.cumprod, "Product")
cummax = _running("cummax", cumulative.cummax, "Maximum")
cummin = _running("cummin", cumulative.cummin, "Minimum")
cumlogsumexp = _running("cumlogsumexp", cumulative.cumlogsumexp, "``log(sum(exp(x)))``")


def dot_general(
    lhs: ArrayLike,
    rhs: ArrayLike,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Products summed over some dimensions, for each index of others (`jax.lax.dot_general`).

    Args:
      lhs, rhs: arrays of one dtype. Bools are numbers that are added up to "any of them".
      dimension_numbers: ``((lhs_contract, rhs_contract), (lhs_batch, rhs_batch))``; the result has
        the batch dimensions, then those left of lhs, then those left of rhs.
      precision: what a GPU may round factors of float32 to: nothing (``HIGHEST``), the sum of two
        tf32 numbers (``HIGH``), or what ``config.default_matmul_precision`` says (None). A CPU
        rounds none.
      preferred_element_type: the dtype to add up in and to return. Where it holds all values of the
        operands' dtypes, these may be any; floats may also have a narrower one.

    Raises:
      ShapeError, DtypeError, ArgumentError: the operands or numbers do not fit.
    """
    check_precision("dot_general", precision)
    x, y = array("dot_general", lhs), array("dot_general", rhs)
    preferred = None if preferred_element_type is None else canonical(preferred_element_type)
    numbers = dot_numbers("dot_general", dimension_numbers)
    if preferred is not None:
        fits = x.dtype == y.dtype and _takes(x.dtype, preferred)
        if not fits and lattice.result_type(x.dtype, y.dtype, preferred) == preferred:
            x, y = x.astype(preferred), y.astype(preferred)
    truth = dtypes.is_bool(x.dtype) and dtypes.is_bool(y.dtype)
    if truth:
        x, y, preferred = x.astype(np.int32), y.astype(np.int32), None
    out = contraction.dot_general(
        x,
        y,
        dimension_numbers=numbers,
        preferred_element_type=preferred,
        precision=factor_precision(precision),
    )
    return out != 0 if truth else out


def _takes(operand: np.dtype[Any], preferred: np.dtype[Any]) -> bool:
    """Whether the primitive itself turns operands of this dtype into the preferred one."""
    kinds = dtypes.kind(operand), dtypes.kind(preferred)
    return kinds in (("f", "f"), ("i", "i"), ("u", "u"), ("i", "f"), ("u", "f"), ("c", "c"))


def dot(
    lhs: ArrayLike,
    rhs: ArrayLike,
    *,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Product of vectors and matrices: the last dimension of lhs with the first of rhs.

    With `dimension_numbers` it is `dot_general`.

    Raises:
      ShapeError: an operand is neither vector nor matrix, or sizes differ.
    """
    x, y = array("dot", lhs), array("dot", rhs)
    if dimension_numbers is not None:
        return dot_general(x, y, dimension_numbers, precision, preferred_element_type)
    if x.ndim not in (1, 2) or y.ndim not in (1, 2):
        raise ShapeError(f"dot: vectors or matrices are needed, got {x.aval} and {y.aval}")
    numbers = (((x.ndim - 1,), (0,)), ((), ()))
    return dot_general(x, y, numbers, precision, preferred_element_type)


def batch_matmul(lhs: ArrayLike, rhs: ArrayLike, precision: Any = None) -> Any:
    """Products of matrices (see `jax.lax.batch_matmul`).

    Args:
      lhs: matrices ``[..., m, k]``.
      rhs: matrices ``[..., k, n]``, with the same leading dimensions.
      precision: as for `dot_general`.

    Raises:
      ShapeError: there are fewer than two dimensions, or the shapes do not fit.
    """
    x, y = array("batch_matmul", lhs), array("batch_matmul", rhs)
    if x.ndim < 2 or x.ndim != y.ndim:
        raise ShapeError(
            f"batch_matmul: equal numbers of dimensions, at least two, are needed, got {x.aval} "
            f"and {y.aval}"
        )
    batch = tuple(range(x.ndim - 2))
    numbers = (((x.ndim - 1,), (x.ndim - 2,)), (batch, batch))
    return dot_general(x, y, numbers, precision)
