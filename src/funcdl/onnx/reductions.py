"""Rules of reductions of whole axes, of positions of extremes, and of running reductions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.jaxpr import Eqn
from funcdl.onnx.carriers import COMMON, ORDERED
from funcdl.onnx.graph import BOOL, INT64, Graph, Value
from funcdl.onnx.rules import aval, rule

Combine = Callable[[Value, Value], Value]

_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_prod": "ReduceProd",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
}


def of_nothing(g: Graph, eqn: Eqn, *shapes: tuple[tuple[int, ...], Any]) -> Value:
    """The result of a primitive on empty operands, which its reference computes."""
    impl = eqn.primitive.impl
    assert impl is not None
    args = [np.zeros(shape, dtype) for shape, dtype in shapes]
    return g.constant(np.asarray(impl(*args, **eqn.params), aval(eqn).dtype))


@rule(*_REDUCTIONS)
def _reduce(g: Graph, eqn: Eqn, x: Value) -> Value:
    name, axes = eqn.primitive.name, eqn.params["axes"]
    if not x.size:
        return of_nothing(g, eqn, (x.shape, x.dtype))
    return reduce(g, _REDUCTIONS[name], x, axes, exact=name not in ("reduce_sum", "reduce_prod"))


def reduce(g: Graph, op: str, x: Value, axes: Sequence[int], exact: bool = True) -> Value:
    """Reduce axes of an array that is not empty, by an ONNX operator."""
    if not axes:
        return x
    shape = tuple(size for d, size in enumerate(x.shape) if d not in axes)
    wide = g.carried(x, ORDERED if exact else COMMON, exact)
    which = g.constant(list(axes), INT64)
    out = g.node(op, wide, which, shape=shape, keepdims=0)
    return g.restored(out, x.dtype, exact)


@rule("reduce_and", "reduce_or")
def _reduce_bits(g: Graph, eqn: Eqn, x: Value) -> Value:
    is_and, axes = eqn.primitive.name == "reduce_and", eqn.params["axes"]
    if not x.size:
        return of_nothing(g, eqn, (x.shape, x.dtype))
    if x.dtype == BOOL:
        return reduce(g, "ReduceMin" if is_and else "ReduceMax", x, axes)
    # No operator reduces bits: halves are combined until one is left.
    kept = [d for d in range(len(x.shape)) if d not in axes]
    shape = tuple(x.shape[d] for d in kept)
    rows = g.transpose(x, [*kept, *axes])
    x = g.reshape(rows, (*shape, math.prod(x.shape[d] for d in axes)))
    op = "BitwiseAnd" if is_and else "BitwiseOr"
    return g.reshape(_by_halves(g, x, lambda a, b: g.apply(op, a, b)), shape)


def _by_halves(g: Graph, x: Value, combine: Combine) -> Value:
    axis = len(x.shape) - 1
    while (size := x.shape[axis]) > 1:
        half = size // 2
        low, high = (g.slice_along(x, axis, i * half, (i + 1) * half) for i in range(2))
        rest = [g.slice_along(x, axis, 2 * half, size)] if size % 2 else []
        x = g.concatenate([combine(low, high), *rest], axis)
    return x


@rule("argmax", "argmin")
def _arg_extreme(g: Graph, eqn: Eqn, x: Value) -> Value:
    (axis,) = eqn.params["axes"]
    shape = tuple(size for d, size in enumerate(x.shape) if d != axis)
    op = "ArgMax" if eqn.primitive.name == "argmax" else "ArgMin"
    wide = g.carried(x, ORDERED)
    out = g.node(op, wide, shape=shape, dtype=INT64, axis=axis, keepdims=0, select_last_index=0)
    return g.cast(out, eqn.params["index_dtype"])


@rule("cumsum")
def _cumsum(g: Graph, eqn: Eqn, x: Value) -> Value:
    axis = g.constant(eqn.params["axis"], INT64)
    wide = g.carried(x, COMMON, exact=False)
    out = g.node("CumSum", wide, axis, shape=x.shape, reverse=int(eqn.params["reverse"]))
    return g.restored(out, x.dtype, exact=False)


def _log_add(g: Graph, a: Value, b: Value) -> Value:
    """``log(exp(a) + exp(b))``, also of infinities."""
    high, low = (g.apply(op, a, b) for op in ("Max", "Min"))
    less = g.apply("Sub", low, high)
    # The difference of equal infinities is no number.
    same = g.apply("Equal", low, high, dtype=BOOL)
    less = g.where(same, g.constant(0, a.dtype), less)
    more = g.apply("Log", g.apply("Add", g.constant(1, a.dtype), g.apply("Exp", less)))
    return g.apply("Add", high, more)


@rule("cumprod", "cummax", "cummin", "cumlogsumexp")
def _running(g: Graph, eqn: Eqn, x: Value) -> Value:
    """Each element with the one 1, 2, 4, ... places before it (Hillis and Steele, 1986)."""
    name, axis = eqn.primitive.name, eqn.params["axis"]
    narrow = x.dtype
    if narrow in dtypes.HALF:
        x = g.cast(x, np.float32)
    if eqn.params["reverse"]:
        x = g.reverse(x, [axis])

    def combine(a: Value, b: Value) -> Value:
        if name == "cumlogsumexp":
            return _log_add(g, a, b)
        if name == "cumprod":
            return g.apply("Mul", a, b)
        return g.extreme("Max" if name == "cummax" else "Min", a, b)

    step, size = 1, x.shape[axis]
    while step < size:
        before = g.slice_along(x, axis, 0, size - step)
        after = g.slice_along(x, axis, step, size)
        x = g.concatenate([g.slice_along(x, axis, 0, step), combine(before, after)], axis)
        step *= 2
    if eqn.params["reverse"]:
        x = g.reverse(x, [axis])
    return g.cast(x, narrow)
