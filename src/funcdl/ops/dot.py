"""The contraction of two arrays, with parameters and meaning of `jax.lax.dot_general`.

``dimension_numbers`` is ``((lhs_contract, rhs_contract), (lhs_batch, rhs_batch))``. The output's
dimensions are the batch dimensions, then those left of lhs, then those left of rhs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.records import record
from funcdl.core.symbolic_zero import is_linear
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.convert import cast
from funcdl.ops.jvp_rules import bilinear_jvp
from funcdl.ops.lowering import Contraction, compute_dtype
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.shape import inverse_permutation, transpose

NDArray = np.ndarray[Any, Any]
Dims = tuple[int, ...]
DimensionNumbers = tuple[tuple[Dims, Dims], tuple[Dims, Dims]]

MATMUL: DimensionNumbers = (((1,), (0,)), ((), ()))
"""The dimension numbers of the product of two matrices."""


@record
class DotDimensions:
    """The roles of the operands' dimensions, and the extents that go with them.

    ``lhs_batch[i]`` is paired with ``rhs_batch[i]``, ``lhs_k[i]`` with ``rhs_k[i]``; `m` are the
    dimensions that lhs alone has, `n` those that rhs alone has. The output's shape is
    ``batch_sizes + m_sizes + n_sizes``.
    """

    lhs_batch: Dims
    rhs_batch: Dims
    m: Dims
    n: Dims
    lhs_k: Dims
    rhs_k: Dims
    batch_sizes: Shape
    m_sizes: Shape
    n_sizes: Shape
    k_sizes: Shape

    @property
    def out_shape(self) -> Shape:
        return self.batch_sizes + self.m_sizes + self.n_sizes


@lru_cache(maxsize=4096)
def dot_dimensions(lhs: Shape, rhs: Shape, dimension_numbers: DimensionNumbers) -> DotDimensions:
    """What each dimension of the operands of these shapes is for.

    Raises:
      ArgumentError: `dimension_numbers` is no pair of pairs of tuples.
      ShapeError: a dimension is out of range, given twice, or paired with one of another size.
    """
    try:
        (lhs_k, rhs_k), (lhs_batch, rhs_batch) = dimension_numbers
    except (TypeError, ValueError):
        raise ArgumentError(
            "dot_general: dimension_numbers must be ((lhs_contract, rhs_contract), "
            f"(lhs_batch, rhs_batch)), got {dimension_numbers}"
        ) from None
    _check_own("lhs", lhs, lhs_k, lhs_batch)
    _check_own("rhs", rhs, rhs_k, rhs_batch)
    k_sizes = _check_paired("contract", lhs, rhs, lhs_k, rhs_k)
    batch_sizes = _check_paired("batch", lhs, rhs, lhs_batch, rhs_batch)
    m = tuple(d for d in range(len(lhs)) if d not in lhs_k and d not in lhs_batch)
    n = tuple(d for d in range(len(rhs)) if d not in rhs_k and d not in rhs_batch)
    m_sizes = tuple(lhs[d] for d in m)
    n_sizes = tuple(rhs[d] for d in n)
    return DotDimensions(
        lhs_batch, rhs_batch, m, n, lhs_k, rhs_k, batch_sizes, m_sizes, n_sizes, k_sizes
    )


def _check_own(side: str, shape: Shape, contract: Dims, batch: Dims) -> None:
    """Check the dimensions named for one operand."""
    named = (*contract, *batch)
    if any(not 0 <= d < len(shape) for d in named):
        raise ShapeError(
            f"dot_general: dimensions of {side} must be from 0 to {len(shape) - 1} for shape "
            f"{shape}, got {side}_contract={contract}, {side}_batch={batch}.\n"
            f"Count negative dimensions from the front: d + {len(shape)}."
        )
    if len(set(named)) != len(named):
        raise ShapeError(
            f"dot_general: each dimension of {side} can be named once, got "
            f"{side}_contract={contract}, {side}_batch={batch} for shape {shape}"
        )


def _check_paired(what: str, lhs: Shape, rhs: Shape, lhs_dims: Dims, rhs_dims: Dims) -> Shape:
    """Check that paired dimensions have equal sizes, and return these."""
    if len(lhs_dims) != len(rhs_dims):
        raise ShapeError(
            f"dot_general: lhs_{what}={lhs_dims} and rhs_{what}={rhs_dims} must pair up, but name "
            f"{len(lhs_dims)} and {len(rhs_dims)} dimensions"
        )
    for left, right in zip(lhs_dims, rhs_dims, strict=True):
        if lhs[left] != rhs[right]:
            raise ShapeError(
                f"dot_general: {what} dimensions must have equal sizes, but dimension {left} of "
                f"lhs {lhs} has {lhs[left]} and dimension {right} of rhs {rhs} has {rhs[right]}"
            )
    return tuple(lhs[d] for d in lhs_dims)


@lru_cache(maxsize=1024)
def _output_dtype(
    lhs: np.dtype[Any], rhs: np.dtype[Any], preferred: np.dtype[Any] | None
) -> np.dtype[Any]:
    if lhs != rhs:
        raise DtypeError(
            f"dot_general requires operands of equal dtype, got {lhs.name} and {rhs.name}.\n"
            "Primitives do not promote; the functions of funcdl.numpy do."
        )
    kind = dtypes.kind(lhs)
    if kind not in ("i", "u", "f", "c"):
        raise DtypeError(
            f"dot_general does not accept {lhs.name}; it takes {', '.join(registry.NUMBERS)}.\n"
            "Convert the operands with astype first."
        )
    if preferred is None:
        return lhs
    kinds = ("f",) if kind == "f" else (kind,) if kind == "c" else (kind, "f")
    narrower = kind != "f" and preferred.itemsize < lhs.itemsize
    if dtypes.kind(preferred) not in kinds or narrower:
        raise DtypeError(
            f"dot_general: preferred_element_type={preferred.name} does not fit operands of "
            f"{lhs.name}. Floats take any float; integers an integer of the same signedness or a "
            "float, complex numbers a complex type, neither narrower than the operands"
        )
    return preferred


def product_dtype(operand: np.dtype[Any], out: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which a contraction multiplies and adds: no narrower than float32."""
    wider = out if out.itemsize > operand.itemsize or dtypes.is_integer(operand) else operand
    return compute_dtype(wider)


dot_general = Primitive("dot_general")


def _dot_shape(
    lhs: ShapedArray,
    rhs: ShapedArray,
    *,
    dimension_numbers: DimensionNumbers,
    preferred_element_type: np.dtype[Any] | None = None,
    precision: Any = None,
) -> ShapedArray:
    out_dtype = _output_dtype(lhs.dtype, rhs.dtype, preferred_element_type)
    return ShapedArray(dot_dimensions(lhs.shape, rhs.shape, dimension_numbers).out_shape, out_dtype)


def _dot_impl(
    lhs: NDArray,
    rhs: NDArray,
    *,
    dimension_numbers: DimensionNumbers,
    preferred_element_type: np.dtype[Any] | None = None,
    precision: Any = None,
) -> NDArray:
    out_dtype = _output_dtype(lhs.dtype, rhs.dtype, preferred_element_type)
    dims = dot_dimensions(lhs.shape, rhs.shape, dimension_numbers)
    dtype = product_dtype(lhs.dtype, out_dtype)
    batch, m, n, k = dims.batch_sizes, *map(math.prod, (dims.m_sizes, dims.n_sizes, dims.k_sizes))
    left = lhs.transpose(dims.lhs_batch + dims.m + dims.lhs_k).reshape(*batch, m, k)
    right = rhs.transpose(dims.rhs_batch + dims.rhs_k + dims.n).reshape(*batch, k, n)
    with np.errstate(all="ignore"):
        product = np.matmul(left.astype(dtype, copy=False), right.astype(dtype, copy=False))
        out: NDArray = product.reshape(dims.out_shape).astype(out_dtype, copy=False)
    return out


def _dot_transpose(
    ct: Any,
    x: Any,
    y: Any,
    *,
    dimension_numbers: DimensionNumbers,
    preferred_element_type: np.dtype[Any] | None = None,
    precision: Any = None,
) -> list[Any]:
    dims = dot_dimensions(x.aval.shape, y.aval.shape, dimension_numbers)
    batch = len(dims.batch_sizes)
    out_batch = tuple(range(batch))
    out_m = tuple(range(batch, batch + len(dims.m)))
    out_n = tuple(range(batch + len(dims.m), ct.ndim))
    # In the product below the contracted dimensions that are left of the other operand keep that
    # operand's order, so theirs in the result is found by sorting the pairs by it.
    if is_linear(x):
        order = sorted(range(len(dims.rhs_k)), key=dims.rhs_k.__getitem__)
        found = (*dims.lhs_batch, *dims.m, *(dims.lhs_k[i] for i in order))
        numbers = ((out_n, dims.n), (out_batch, dims.rhs_batch))
        return [_cotangent(ct, y, numbers, found, x.aval, precision), None]
    order = sorted(range(len(dims.lhs_k)), key=dims.lhs_k.__getitem__)
    found = (*dims.rhs_batch, *dims.n, *(dims.rhs_k[i] for i in order))
    numbers = ((out_m, dims.m), (out_batch, dims.lhs_batch))
    return [None, _cotangent(ct, x, numbers, found, y.aval, precision)]


def _cotangent(
    ct: Any, other: Any, numbers: DimensionNumbers, found: Dims, aval: ShapedArray, precision: Any
) -> Any:
    """``ct · other``, whose dimensions are those called `found` of the operand of type `aval`."""
    dtype = product_dtype(aval.dtype, ct.dtype) if ct.dtype != aval.dtype else aval.dtype
    product = dot_general(
        cast(ct, dtype),
        cast(other, dtype),
        dimension_numbers=numbers,
        preferred_element_type=None,
        precision=precision,
    )
    if found != tuple(range(len(found))):
        product = transpose(product, permutation=inverse_permutation(found))
    return cast(product, aval.dtype)


def _dot_batch(
    axis_size: int,
    args: Sequence[Any],
    batch_dims: Sequence[int | None],
    *,
    dimension_numbers: DimensionNumbers,
    **params: Any,
) -> tuple[Any, int]:
    (lhs, rhs), (left, right) = args, batch_dims
    (lhs_k, rhs_k), (lhs_batch, rhs_batch) = dimension_numbers
    lhs_k, lhs_batch = _shift(lhs_k, left), _shift(lhs_batch, left)
    rhs_k, rhs_batch = _shift(rhs_k, right), _shift(rhs_batch, right)
    if left is not None and right is not None:
        lhs_batch, rhs_batch = (left, *lhs_batch), (right, *rhs_batch)
        out_dim = 0
    else:
        # One operand's batch is one more of the dimensions that it alone has.
        numbers = ((lhs_k, rhs_k), (lhs_batch, rhs_batch))
        dims = dot_dimensions(lhs.shape, rhs.shape, numbers)
        out_dim = len(lhs_batch)
        out_dim += dims.m.index(left) if left is not None else len(dims.m) + dims.n.index(right)
    numbers = ((lhs_k, rhs_k), (lhs_batch, rhs_batch))
    return dot_general(lhs, rhs, dimension_numbers=numbers, **params), out_dim


def _shift(dims: Dims, new: int | None) -> Dims:
    """Dimension numbers after a dimension `new` has been put in."""
    return dims if new is None else tuple(d + (d >= new) for d in dims)


dot_general.shape = _dot_shape
dot_general.impl = _dot_impl
dot_general.jvp = bilinear_jvp(dot_general)
dot_general.transpose = _dot_transpose
dot_general.batch = _dot_batch
dot_general.lower = Contraction()


def _dot_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    cases: list[tuple[Shape, Shape, DimensionNumbers]] = [
        ((2, 3), (3, 5), MATMUL),
        ((3, 2), (5, 3), (((0,), (1,)), ((), ()))),
        ((4,), (4,), (((0,), (0,)), ((), ()))),
        ((2, 3), (3,), MATMUL),
        ((3, 2, 5), (3, 5, 4), (((2,), (1,)), ((0,), (0,)))),
        ((2, 3, 4), (4, 5, 3), (((1, 2), (2, 0)), ((), ()))),
        ((2, 4, 3, 2), (3, 2, 5, 2), (((2,), (0,)), ((3, 0), (1, 3)))),
        ((2,), (3,), (((), ()), ((), ()))),
        ((), (), (((), ()), ((), ()))),
        ((2, 0), (0, 3), MATMUL),
        ((0, 2), (2, 3), MATMUL),
        ((1, 3), (3, 1), MATMUL),
    ]
    grad = (0, 1) if dtypes.is_inexact(dtype) else ()
    for lhs, rhs, numbers in cases:
        args = (random_array(rng, lhs, dtype), random_array(rng, rhs, dtype))
        yield Sample(args, _params(numbers, None), grad)
    wider = _WIDER.get(dtypes.short_name(dtype))
    if wider is not None:
        args = (random_array(rng, (2, 3), dtype), random_array(rng, (3, 5), dtype))
        yield Sample(args, _params(MATMUL, dtypes.from_short_name(wider)), grad)


def _params(numbers: DimensionNumbers, preferred: np.dtype[Any] | None) -> dict[str, Any]:
    return {
        "dimension_numbers": numbers,
        "preferred_element_type": preferred,
        "precision": None,
    }


_WIDER = {"i8": "i32", "u8": "u32", "i32": "f32", "f16": "f32", "bf16": "f32", "c64": "c128"}

registry.add(Op(dot_general, registry.NUMBERS, _dot_samples))
