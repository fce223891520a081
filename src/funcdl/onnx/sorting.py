"""Rules of sort and top_k, by ONNX's TopK: of equal elements, the first one comes first.

Where NaN comes the standard leaves open, and with it onnxruntime leaves other elements out of
order. So it sorts infinity in place of NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.jaxpr import Eqn
from funcdl.onnx.carriers import COMMON, FLOATS, Kinds
from funcdl.onnx.graph import BOOL, INT64, Graph, Value
from funcdl.onnx.reductions import reduce
from funcdl.onnx.rules import aval, rule

_SORTED: Kinds = COMMON | {"i8", "u8", "i16"}


def _top(g: Graph, x: Value, axis: int, k: int, largest: bool) -> tuple[Value, Value]:
    """The first `k` values in order, and their positions."""
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    wide = g.carried(x, _SORTED)
    values, places = g.nodes_of(
        "TopK",
        [wide, g.constant([k], INT64)],
        [(wide.dtype, shape), (INT64, shape)],
        axis=axis,
        largest=int(largest),
        sorted=1,
    )
    return g.restored(values, x.dtype), places


def _is_nan(g: Graph, x: Value) -> Value:
    return g.apply("IsNaN", x, kinds=FLOATS, dtype=BOOL)


def _key(g: Graph, x: Value) -> Value:
    """What to sort by: NaN counts as infinity."""
    if not dtypes.is_float(x.dtype):
        return x
    return g.dense(g.where(_is_nan(g, x), g.constant(np.inf, x.dtype), x))


def _sorted(g: Graph, x: Value, axis: int) -> Value:
    """One array in order, NaN behind infinity: the last places are as many as there were."""
    size = x.shape[axis]
    out = _top(g, _key(g, x), axis, size, largest=False)[0]
    if not dtypes.is_float(x.dtype):
        return out
    count = reduce(g, "ReduceSum", g.cast(_is_nan(g, x), INT64), [axis], exact=False)
    count = g.reshape(count, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    places: Any = np.arange(size).reshape(-1, *(1,) * (len(x.shape) - axis - 1))
    end = g.apply("Sub", g.constant(size, INT64), count)
    is_last = g.apply("GreaterOrEqual", g.constant(places), end, dtype=BOOL)
    return g.where(is_last, g.constant(np.nan, x.dtype), out)


def _take(g: Graph, x: Value, places: Value, axis: int) -> Value:
    return g.node("GatherElements", x, places, shape=places.shape, axis=axis)


@rule("sort")
def _sort(g: Graph, eqn: Eqn, *xs: Value) -> list[Value]:
    axis, keys = eqn.params["dimension"], eqn.params["num_keys"]
    if len(xs) == 1:
        return [_sorted(g, xs[0], axis)]
    order = _order(g, xs[:keys], axis)
    return [_take(g, x, order, axis) for x in xs]


def _order(g: Graph, keys: Sequence[Value], axis: int) -> Value:
    """The positions in stable order: by the last key first, and then by those before it."""
    order: Value | None = None
    for key in reversed(keys):
        if order is not None:
            key = _take(g, key, order, axis)
        _, places = _top(g, _key(g, key), axis, key.shape[axis], largest=False)
        order = places if order is None else _take(g, order, places, axis)
    assert order is not None
    return order


@rule("top_k")
def _top_k(g: Graph, eqn: Eqn, x: Value) -> list[Value]:
    axis = eqn.params["axis"]
    values, places = _top(g, _key(g, x), axis, eqn.params["k"], largest=True)
    if dtypes.is_float(x.dtype):
        values = _take(g, x, places, axis)
    return [values, g.cast(places, aval(eqn, 1).dtype)]
