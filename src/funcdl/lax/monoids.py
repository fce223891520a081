"""Reductions by any function: `reduce` and `reduce_window` with a computation of the caller.

A computation that is one of the well-known ones (sum, product, extremes, bitwise and, or) is
recognised, by name or by tracing it, and becomes the primitive for it. Any other is applied to
whole arrays at once by `vmap`, to neighbours in pairs, then to the results in pairs: about log2(n)
applications, which are compiled and differentiated like all code. A primitive with a program for
its body would be no quicker: a loop over single elements is what this avoids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import dtypes, tree
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.integers import integers
from funcdl.core.primitive import Primitive
from funcdl.core.staging import trace_to_jaxpr
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.lax import elementwise
from funcdl.lax.convolution import PaddingLike, pads_of
from funcdl.lax.operands import ArrayLike, check_fit
from funcdl.numpy.promotion import array, convert, operand
from funcdl.numpy.reductions import normalize_axes
from funcdl.ops import arithmetic, bits, reduction
from funcdl.ops.reduction import extreme_identity
from funcdl.ops.shape import broadcast_to, reshape, transpose
from funcdl.ops.slicing import concatenate, pad, slice_along
from funcdl.ops.windows import reduction as window_reduction
from funcdl.ops.windows.sliding import dilated_size
from funcdl.transforms import vmap
from funcdl.transforms.arguments import check_function

Leaves = list[Any]
Combine = Callable[[Leaves, Leaves], Leaves]

# What a primitive reduces to: over axes, over windows, and its identity.
_REDUCTIONS: dict[Primitive, tuple[Primitive, Primitive | None, Callable[[Any], Any]]] = {
    arithmetic.add: (
        reduction.reduce_sum,
        window_reduction.reduce_window_sum,
        lambda dtype: dtype.type(0),
    ),
    arithmetic.mul: (reduction.reduce_prod, None, lambda dtype: dtype.type(1)),
    arithmetic.max_: (
        reduction.reduce_max,
        window_reduction.reduce_window_max,
        lambda dtype: extreme_identity(dtype, lowest=True),
    ),
    arithmetic.min_: (
        reduction.reduce_min,
        window_reduction.reduce_window_min,
        lambda dtype: extreme_identity(dtype, lowest=False),
    ),
    bits.and_: (reduction.reduce_and, None, lambda dtype: np.array(-1).astype(dtype)[()]),
    bits.or_: (reduction.reduce_or, None, lambda dtype: dtype.type(0)),
}
_KNOWN: dict[Any, Primitive] = {
    elementwise.add: arithmetic.add,
    elementwise.mul: arithmetic.mul,
    elementwise.max: arithmetic.max_,
    elementwise.min: arithmetic.min_,
    elementwise.bitwise_and: bits.and_,
    elementwise.bitwise_or: bits.or_,
    fnp.add: arithmetic.add,
    fnp.multiply: arithmetic.mul,
    fnp.maximum: arithmetic.max_,
    fnp.minimum: arithmetic.min_,
}


def _recognise(computation: Callable[[Any, Any], Any], dtype: np.dtype[Any]) -> Primitive | None:
    """The primitive that a computation on two scalars of this dtype is, if it is one."""
    try:
        known = _KNOWN.get(computation)
    except TypeError:  # it cannot be hashed
        known = None
    if known is not None:
        return known
    scalar = ShapedArray((), dtype)
    jaxpr, _ = trace_to_jaxpr(lambda x, y: [computation(x, y)], [scalar, scalar])
    if len(jaxpr.eqns) != 1:
        return None
    (eqn,) = jaxpr.eqns
    matches = tuple(eqn.outvars) == tuple(jaxpr.outvars) and set(eqn.invars) == set(jaxpr.invars)
    return eqn.primitive if matches and eqn.primitive in _REDUCTIONS else None


def _operands(name: str, operands: Any) -> tuple[Leaves, tree.TreeDef]:
    """The leaves as arrays, which have one shape, and the structure."""
    leaves, treedef = tree.flatten(operands)
    if not leaves:
        raise ArgumentError(f"{name}: at least one operand is needed")
    xs = [array(name, x) for x in leaves]
    if any(x.shape != xs[0].shape for x in xs):
        raise ShapeError(
            f"{name}: operands must have one shape, got {', '.join(str(x.aval) for x in xs)}"
        )
    return xs, treedef


def _starts(name: str, xs: Leaves, init_values: Any, treedef: tree.TreeDef) -> Leaves:
    """The initial values as scalars of the operands' dtypes."""
    values, init_tree = tree.flatten(init_values)
    if init_tree != treedef:
        raise TreeError(
            f"{name}: init_values must have the structure of the operands, {treedef}, got "
            f"{init_tree}"
        )
    starts = []
    for x, value in zip(xs, values, strict=True):
        start = operand(name, value)
        known = start.value if isinstance(start, Array) else start
        if dtypes.is_integer(x.dtype) and _is_infinite(known):
            # The nearest integer: so minus infinity starts a maximum of integers, too.
            start = Array(np.asarray(extreme_identity(x.dtype, lowest=bool(known < 0))))
        else:
            if not (dtypes.is_integer(x.dtype) and _is_whole(known)):
                check_fit(name, "an initial value", start, x.aval)
            if isinstance(start, Array):
                # At once, so that the value is known under jit as well.
                start = Array(start.value.astype(x.dtype))
            start = convert(start, x.dtype)
        if start.aval.shape:
            raise ShapeError(f"{name}: init_values must be scalars, got {start.aval}")
        starts.append(start)
    return starts


def _is_whole(x: Any) -> bool:
    """Whether a float is known to be an integer, as zero is: the start of a sum of integers."""
    scalar = isinstance(x, float | np.ndarray) and np.ndim(x) == 0
    return scalar and dtypes.is_float(np.asarray(x).dtype) and float(x).is_integer()


def _is_infinite(x: Any) -> bool:
    scalar = isinstance(x, float | np.ndarray) and np.ndim(x) == 0
    return scalar and np.asarray(x).dtype.kind == "f" and bool(np.isinf(x))


def _is_identity(start: Any, identity: Any) -> bool:
    return isinstance(start, Array) and bool(np.all(start.value == identity))


def _on_arrays(
    name: str, computation: Callable[[Any, Any], Any], xs: Leaves, treedef: tree.TreeDef
) -> Combine:
    """The computation, which takes trees of scalars, on lists of arrays of any one shape."""

    def scalars(left: Leaves, right: Leaves) -> Leaves:
        found = computation(treedef.unflatten(left), treedef.unflatten(right))
        outs, out_tree = tree.flatten(found)
        outs = [array(name, out) for out in outs]
        wanted = [ShapedArray((), x.dtype) for x in xs]
        if out_tree != treedef or any(
            not out.aval.same_type(aval) for out, aval in zip(outs, wanted, strict=True)
        ):
            raise ShapeError(
                f"{name}: the computation must return what it gets, "
                f"{treedef.unflatten(map(str, wanted))}; got "
                f"{out_tree.unflatten([str(out.aval) for out in outs])}"
            )
        return outs

    def apply(left: Leaves, right: Leaves) -> Leaves:
        shape = left[0].shape
        size = (math.prod(shape),)
        if not size[0]:
            return left
        flat = [[reshape(x, new_sizes=size) for x in side] for side in (left, right)]
        return [reshape(x, new_sizes=shape) for x in vmap(scalars)(*flat)]

    return apply


def reduce(
    operands: Any,
    init_values: Any,
    computation: Callable[[Any, Any], Any],
    dimensions: Sequence[int],
) -> Any:
    """Elements combined over some dimensions (see `jax.lax.reduce`).

    Args:
      operands: an array, or a pytree of arrays of one shape that are reduced together.
      init_values: scalars, in the same structure: where each reduction starts. Given a computation
        that is associative, a start that is not its identity counts once.
      computation: ``computation(left, right)``, associative, on scalars in the structure of the
        operands; returns the same. It sees elements in row-major order.
      dimensions: what to reduce over, one by one.

    Raises:
      TreeError, ShapeError: structures or shapes differ, or the computation returns other types.
      ArgumentError: there are no operands, or no such dimension.
    """
    check_function("reduce", computation, "computation")
    xs, treedef = _operands("reduce", operands)
    shape = xs[0].shape
    axes = normalize_axes("reduce", integers("reduce: dimensions", dimensions), len(shape))
    starts = _starts("reduce", xs, init_values, treedef)
    if treedef == tree.structure(0):
        primitive = _recognise(computation, xs[0].dtype)
        if primitive is not None:
            over_axes, _, identity = _REDUCTIONS[primitive]
            out = over_axes(xs[0], axes=axes)
            if _is_identity(starts[0], identity(out.dtype)):
                return out
            return primitive(broadcast_to(starts[0], out.shape), out)
    kept = tuple(d for d in range(len(shape)) if d not in axes)
    rest = tuple(shape[d] for d in kept)
    count = math.prod(shape[d] for d in axes)
    outs = [broadcast_to(start, rest) for start in starts]
    if count:
        rows = [
            reshape(transpose(x, permutation=(*axes, *kept)), new_sizes=(count, *rest)) for x in xs
        ]
        combine = _on_arrays("reduce", computation, xs, treedef)
        outs = combine(outs, [x[0] for x in _in_pairs(combine, rows, 0)])
    return treedef.unflatten(outs)


def _in_pairs(combine: Combine, xs: Leaves, axis: int) -> Leaves:
    """The elements along an axis combined with their neighbours until one is left."""
    while (count := xs[0].shape[axis]) > 1:
        paired = count - count % 2
        left = [slice_along(x, axis, 0, paired, 2) for x in xs]
        right = [slice_along(x, axis, 1, paired, 2) for x in xs]
        outs = combine(left, right)
        if count % 2:
            rest = [slice_along(x, axis, paired, count, 1) for x in xs]
            outs = [concatenate(x, y, dimension=axis) for x, y in zip(outs, rest, strict=True)]
        xs = outs
    return xs


def reduce_xor(operand: ArrayLike, axes: Sequence[int]) -> Any:
    """Exclusive disjunction, bit by bit, along some axes, which the result does not keep.

    The dtype stays. See `jax.lax.reduce_xor`.

    Raises:
      ArgumentError: there is no such axis, or one is named twice.
    """
    x = array("reduce_xor", operand)
    return reduce(x, x.dtype.type(0), elementwise.bitwise_xor, axes)


def reduce_window(
    operand: Any,
    init_value: Any,
    computation: Callable[..., Any],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: PaddingLike = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Any:
    """Elements of windows that slide over all dimensions, combined (see `jax.lax.reduce_window`).

    Args:
      operand: an array, or a pytree of arrays of one shape that are reduced together.
      init_value: scalars, in the same structure: the value of padding and of holes, with which
        each window starts as well: 0 for sums, minus infinity for maxima, of integers too.
      computation: ``computation(left, right)``, associative, as for `reduce`.
      window_dimensions: the size of windows along each dimension, 1 to leave it alone.
      window_strides: steps from one window to the next; None means 1.
      padding: ``"SAME"``, ``"SAME_LOWER"``, ``"VALID"``, or a pair for each dimension.
      base_dilation: steps from one element of the operand to the next; None means 1.
      window_dilation: steps from one element of a window to the next; None means 1.

    Raises:
      ArgumentError: parameters do not fit the operand.
      TreeError, ShapeError: structures or shapes differ, or the computation returns other types.
    """
    check_function("reduce_window", computation, "computation")
    xs, treedef = _operands("reduce_window", operand)
    x = xs[0]
    ones = (1,) * x.ndim
    window = integers("window_dimensions", window_dimensions)
    strides = ones if window_strides is None else integers("window_strides", window_strides)
    base = ones if base_dilation is None else integers("base_dilation", base_dilation)
    spread = ones if window_dilation is None else integers("window_dilation", window_dilation)
    if len(window) != x.ndim:
        raise ArgumentError(
            f"reduce_window: window_dimensions must have an entry for each dimension of {x.aval}, "
            f"got {window}"
        )
    params = {
        "window_dimensions": window,
        "window_strides": strides,
        "padding": pads_of("reduce_window", x.shape, window, strides, padding, base, spread),
        "base_dilation": base,
        "window_dilation": spread,
    }
    starts = _starts("reduce_window", xs, init_value, treedef)
    if treedef == tree.structure(0):
        primitive = _recognise(computation, x.dtype)
        found = None if primitive is None else _known_windows(primitive, x, starts[0], params)
        if found is not None:
            return found
    combine = _on_arrays("reduce_window", computation, xs, treedef)
    return treedef.unflatten(_any_windows(combine, xs, starts, params))


def _known_windows(primitive: Primitive, x: Any, start: Any, params: dict[str, Any]) -> Any:
    """The reduction of windows by a primitive, or None where there is no primitive for it."""
    _, over_windows, identity = _REDUCTIONS[primitive]
    extreme = primitive in (arithmetic.max_, arithmetic.min_)
    if over_windows is None or (extreme and dtypes.is_complex(x.dtype)):
        return None
    if _is_identity(start, identity(x.dtype)):
        return over_windows(x, **params)
    # A start that is no identity counts once for each window, as in JAX, and not in padding.
    out = over_windows(x, **params)
    return primitive(out, broadcast_to(start, out.shape))


def _any_windows(combine: Combine, xs: Leaves, starts: Leaves, params: dict[str, Any]) -> Leaves:
    """Windows reduced along one dimension after the other, the last one first.

    That takes as many combinations as the window's sizes have in sum, not in product, and keeps
    the elements in row-major order.
    """
    # Checks the parameters, and says how many windows there are.
    first = xs[0]
    counted = window_reduction.reduce_window_sum.shape
    assert counted is not None
    counts = counted(ShapedArray(first.shape, np.dtype(np.int32)), **params).shape
    config = tuple(
        (low, high, base - 1)
        for (low, high), base in zip(params["padding"], params["base_dilation"], strict=True)
    )
    if any(map(any, config)):
        xs = [pad(x, start, padding_config=config) for x, start in zip(xs, starts, strict=True)]
    if 0 in counts:
        return [broadcast_to(start, counts) for start in starts]
    for axis in reversed(range(first.ndim)):
        size, stride = params["window_dimensions"][axis], params["window_strides"][axis]
        spread = params["window_dilation"][axis]
        reach = dilated_size(counts[axis], stride)
        parts = [
            [slice_along(x, axis, k * spread, k * spread + reach, stride) for x in xs]
            for k in range(size)
        ]
        while len(parts) > 1:
            pairs = [combine(*parts[i : i + 2]) for i in range(0, len(parts) - 1, 2)]
            parts = pairs + parts[len(parts) - len(parts) % 2 :]
        (xs,) = parts
    return combine([broadcast_to(start, counts) for start in starts], xs)
