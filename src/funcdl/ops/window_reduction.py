"""Reductions of sliding windows, and the primitives that their derivatives need.

Parameters and meanings are those of the `jax.lax` primitives of the same names: windows of
`window_dimensions` slide over all dimensions of the operand (see `ops.sliding`), and padding and
holes hold the operation's identity. Half precision accumulates in float32, integers wrap around.

The derivative of a window's extreme flows to one element, the first that has it. NaN counts as the
extreme. `select_and_gather_add` reads that element of another array, `select_and_scatter_add` adds
to it; each is the transpose of the other.

There is no kernel form yet. One would read the padded operand as `slicing.pad` does, at a position
linear in the window's place and the place inside it, and reduce over the axes of the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.comparison import ge, le
from funcdl.ops.lowering import compute_dtype
from funcdl.ops.reduction import extreme_identity
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.shape import linear_unary_jvp, move_to_front
from funcdl.ops.sliding import Padding, Sliding, find_windows

NDArray = np.ndarray[Any, Any]
Params = dict[str, Any]

_HOST = {"c": "runs on the host", "triton": "runs on the host"}


def _windows(
    name: str,
    shape: Shape,
    *,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
) -> Sliding:
    """The windows over an operand of this shape.

    Raises:
      ArgumentError: a parameter has the wrong number of entries, or one that is not allowed.
      ShapeError: negative padding removes more than there is.
    """
    if len(window_dimensions) != len(shape) or any(size < 1 for size in window_dimensions):
        raise ArgumentError(
            f"{name}: window_dimensions must have one positive entry for each of the operand's "
            f"{len(shape)} dimensions, got {window_dimensions} for shape {shape}.\n"
            "Use 1 for dimensions that are not reduced."
        )
    return find_windows(
        name, shape, window_dimensions, window_strides, padding, base_dilation, window_dilation
    )


def _params(windows: Sliding) -> Params:
    return {
        "window_dimensions": windows.window,
        "window_strides": windows.strides,
        "padding": windows.padding,
        "base_dilation": windows.base_dilation,
        "window_dilation": windows.window_dilation,
    }


def _with_batch(params: Params) -> Params:
    """The parameters with windows of size 1 along a new first dimension."""
    return params | {
        "window_dimensions": (1, *params["window_dimensions"]),
        "window_strides": (1, *params["window_strides"]),
        "padding": ((0, 0), *params["padding"]),
        "base_dilation": (1, *params["base_dilation"]),
        "window_dilation": (1, *params["window_dilation"]),
    }


def _window_reduction(
    name: str,
    accepts: tuple[str, ...],
    combine: np.ufunc,
    identity: Callable[[np.dtype[Any]], Any],
) -> Primitive:
    """A reduction of windows with all of its rules but the derivative."""
    primitive = Primitive(name)

    def shape(x: ShapedArray, **params: Any) -> ShapedArray:
        _check_dtype(name, x, accepts)
        return ShapedArray(_windows(name, x.shape, **params).counts, x.dtype)

    def impl(x: NDArray, **params: Any) -> NDArray:
        _check_dtype(name, x, accepts)
        windows = _windows(name, x.shape, **params)
        wide = x.astype(compute_dtype(x.dtype), copy=False)
        empty = identity(wide.dtype)
        padded = windows.padded(wide, empty)
        out = np.full(windows.counts, empty, wide.dtype)
        with np.errstate(all="ignore"):
            if out.size:
                for place in windows.elements():
                    combine(out, padded[place], out=out)
            return out.astype(x.dtype, copy=False)

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int], **params: Any
    ) -> tuple[Any, int]:
        return primitive(move_to_front(args[0], dims[0]), **_with_batch(params)), 0

    primitive.shape = shape
    primitive.impl = impl
    primitive.batch = batch
    return primitive


def _check_dtype(name: str, x: Any, accepts: tuple[str, ...]) -> None:
    if dtypes.short_name(x.dtype) not in accepts:
        raise DtypeError(
            f"{name} does not accept {ShapedArray(x.shape, x.dtype)}; it takes "
            f"{', '.join(accepts)}.\nConvert the operand with astype first."
        )


_Case = tuple[Shape, Shape, Shape, Padding, Shape, Shape]
_CASES: tuple[_Case, ...] = (
    ((5,), (3,), (1,), ((0, 0),), (1,), (1,)),
    ((7,), (2,), (3,), ((1, 2),), (1,), (2,)),
    ((2, 4, 5), (1, 2, 2), (1, 2, 1), ((0, 0), (1, 1), (0, 1)), (1, 1, 1), (1, 1, 1)),
    ((2, 3), (2, 2), (1, 1), ((1, 0), (2, -1)), (2, 3), (1, 2)),
    ((), (), (), (), (), ()),
    ((3,), (4,), (1,), ((0, 0),), (1,), (1,)),
    ((0, 3), (1, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1)),
)


def _case_params(case: _Case) -> Params:
    _, window, strides, padding, base_dilation, window_dilation = case
    return {
        "window_dimensions": window,
        "window_strides": strides,
        "padding": padding,
        "base_dilation": base_dilation,
        "window_dilation": window_dilation,
    }


def _sum_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    grad = (0,) if dtypes.is_inexact(dtype) else ()
    for case in _CASES:
        yield Sample((random_array(rng, case[0], dtype),), _case_params(case), grad)


def _apart(rng: np.random.Generator, shape: Shape, dtype: np.dtype[Any]) -> NDArray:
    """Test data in which a finite difference changes no extreme, even in half precision."""
    size = int(np.prod(shape))
    if not dtypes.is_inexact(dtype):
        return random_array(rng, shape, dtype)
    return (rng.permutation(size).reshape(shape) / 4 - 2).astype(dtype)


reduce_window_sum = _window_reduction(
    "reduce_window_sum", registry.NUMBERS, np.add, lambda dtype: dtype.type(0)
)


def _sum_transpose(ct: Any, x: Any, **params: Any) -> list[Any]:
    """Each element collects from the windows that it is in; as windows are symmetric, they too
    are windows over the cotangent."""
    if not (ct.size and x.aval.size):
        return [Zero(x.aval.to_tangent())]
    windows = _windows("reduce_window_sum", x.aval.shape, **params)
    return [reduce_window_sum(ct, **_params(windows.transposed()))]


reduce_window_sum.jvp = linear_unary_jvp(reduce_window_sum)
reduce_window_sum.transpose = _sum_transpose
registry.add(Op(reduce_window_sum, registry.NUMBERS, _sum_samples, _HOST))


def _extreme(name: str, combine: np.ufunc, select_prim: str, lowest: bool) -> Primitive:
    accepts = registry.BOOL + registry.REAL
    primitive = _window_reduction(
        name, accepts, combine, lambda dtype: extreme_identity(dtype, lowest)
    )

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        (x,), (t,) = primals, tangents
        out = primitive(x, **params)
        if is_zero(t):
            return out, Zero(out.aval.to_tangent())
        return out, select_and_gather_add(t, x, select_prim=select_prim, **params)

    def samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
        for case in _CASES:
            params = _case_params(case)
            windows = _windows(name, case[0], **params)
            # A window of padding alone has an infinite extreme, which differences cannot do.
            covered = reduce_window_sum.impl(np.ones(case[0]), **params).all()  # type: ignore[misc]
            grad = (0,) if dtypes.is_inexact(dtype) and covered and windows.sizes else ()
            yield Sample((_apart(rng, case[0], dtype),), params, grad)

    primitive.jvp = jvp
    registry.add(Op(primitive, accepts, samples, _HOST))
    return primitive


def _selected(operand: NDArray, select_prim: str, windows: Sliding) -> NDArray:
    """For each window the row-major number of the element that it selects; -1 where it has none."""
    better = {"ge": np.greater, "le": np.less}[select_prim]
    numbers = windows.padded(np.arange(operand.size).reshape(operand.shape), -1)
    padded = windows.padded(operand.astype(compute_dtype(operand.dtype), copy=False), 0)
    best = np.zeros(windows.counts, padded.dtype)
    found = np.full(windows.counts, -1)
    if found.size:
        for place in windows.elements():
            value, number = padded[place], numbers[place]
            ahead = better(value, best) | (np.isnan(value) & ~np.isnan(best)) | (found < 0)
            ahead &= number >= 0
            best, found = np.where(ahead, value, best), np.where(ahead, number, found)
    return found


def _check_select(
    name: str, operand: Any, other: Any, wanted: Shape, select_prim: str, accepts: tuple[str, ...]
) -> None:
    """Check the operand that is compared, and the other one, which must be of shape `wanted`."""
    if select_prim not in ("ge", "le"):
        raise ArgumentError(f"{name}: select_prim must be 'ge' or 'le', got {select_prim!r}")
    for x in (operand, other):
        _check_dtype(name, x, accepts)
    if other.shape != wanted or other.dtype != operand.dtype:
        found = ShapedArray(other.shape, other.dtype)
        raise ShapeError(
            f"{name} requires its first operand to be {ShapedArray(wanted, operand.dtype)} beside "
            f"an operand {ShapedArray(operand.shape, operand.dtype)}, got {found}"
        )


def _select_batch(primitive: Primitive) -> Callable[..., tuple[Any, int]]:
    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
    ) -> tuple[Any, int]:
        args = [
            broadcast_batch(x, axis_size) if dim is None else move_to_front(x, dim)
            for x, dim in zip(args, dims, strict=True)
        ]
        return primitive(*args, **_with_batch(params)), 0

    return batch


def _select_jvp(primitive: Primitive) -> Callable[..., tuple[Any, Any]]:
    """Linear in the first operand; which elements are selected does not vary smoothly."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        out = primitive(*primals, **params)
        if is_zero(tangents[0]):
            return out, Zero(out.aval.to_tangent())
        return out, primitive(tangents[0], primals[1], **params)

    return jvp


select_and_gather_add = Primitive("select_and_gather_add")


def _gather_shape(
    tangents: ShapedArray, operand: ShapedArray, *, select_prim: str, **params: Any
) -> ShapedArray:
    name = "select_and_gather_add"
    _check_select(name, operand, tangents, operand.shape, select_prim, registry.FLOATS)
    return ShapedArray(_windows(name, operand.shape, **params).counts, tangents.dtype)


def _gather_impl(
    tangents: NDArray, operand: NDArray, *, select_prim: str, **params: Any
) -> NDArray:
    name = "select_and_gather_add"
    _check_select(name, operand, tangents, operand.shape, select_prim, registry.FLOATS)
    found = _selected(operand, select_prim, _windows(name, operand.shape, **params))
    if tangents.size == 0:
        return np.zeros(found.shape, tangents.dtype)
    return np.where(found >= 0, tangents.reshape(-1)[found], tangents.dtype.type(0))


def _gather_transpose(ct: Any, tangents: Any, operand: Any, **params: Any) -> list[Any]:
    return [select_and_scatter_add(ct, operand, **params), None]


def _gather_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for case, select_prim in zip(_CASES, ("ge", "le") * len(_CASES), strict=False):
        args = (random_array(rng, case[0], dtype), _apart(rng, case[0], dtype))
        yield Sample(args, {"select_prim": select_prim, **_case_params(case)}, (0,))


select_and_gather_add.shape = _gather_shape
select_and_gather_add.impl = _gather_impl
select_and_gather_add.jvp = _select_jvp(select_and_gather_add)
select_and_gather_add.transpose = _gather_transpose
select_and_gather_add.batch = _select_batch(select_and_gather_add)
registry.add(Op(select_and_gather_add, registry.FLOATS, _gather_samples, _HOST))


select_and_scatter_add = Primitive("select_and_scatter_add")


def _scatter_shape(
    source: ShapedArray, operand: ShapedArray, *, select_prim: str, **params: Any
) -> ShapedArray:
    name = "select_and_scatter_add"
    counts = _windows(name, operand.shape, **params).counts
    _check_select(name, operand, source, counts, select_prim, registry.FLOATS)
    return ShapedArray(operand.shape, source.dtype)


def _scatter_impl(source: NDArray, operand: NDArray, *, select_prim: str, **params: Any) -> NDArray:
    name = "select_and_scatter_add"
    windows = _windows(name, operand.shape, **params)
    _check_select(name, operand, source, windows.counts, select_prim, registry.FLOATS)
    found = _selected(operand, select_prim, windows)
    out = np.zeros(operand.size, compute_dtype(source.dtype))
    inside = found >= 0
    np.add.at(out, found[inside], source[inside].astype(out.dtype, copy=False))
    return out.reshape(operand.shape).astype(source.dtype, copy=False)


def _scatter_transpose(ct: Any, source: Any, operand: Any, **params: Any) -> list[Any]:
    return [select_and_gather_add(ct, operand, **params), None]


def _scatter_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for case, select_prim in zip(_CASES, ("le", "ge") * len(_CASES), strict=False):
        params = _case_params(case)
        counts = _windows("select_and_scatter_add", case[0], **params).counts
        args = (random_array(rng, counts, dtype), _apart(rng, case[0], dtype))
        yield Sample(args, {"select_prim": select_prim, **params}, (0,))


select_and_scatter_add.shape = _scatter_shape
select_and_scatter_add.impl = _scatter_impl
select_and_scatter_add.jvp = _select_jvp(select_and_scatter_add)
select_and_scatter_add.transpose = _scatter_transpose
select_and_scatter_add.batch = _select_batch(select_and_scatter_add)
registry.add(Op(select_and_scatter_add, registry.FLOATS, _scatter_samples, _HOST))


reduce_window_max = _extreme("reduce_window_max", np.maximum, ge.name, lowest=True)
reduce_window_min = _extreme("reduce_window_min", np.minimum, le.name, lowest=False)
