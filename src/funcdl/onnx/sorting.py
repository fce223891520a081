"""Rules of sort and top_k, by ONNX's TopK: of equal elements, the first one comes first."""

from __future__ import annotations

from collections.abc import Sequence

from funcdl.core.jaxpr import Eqn
from funcdl.onnx.carriers import COMMON, Kinds
from funcdl.onnx.graph import INT64, Graph, Value
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


def _take(g: Graph, x: Value, places: Value, axis: int) -> Value:
    return g.node("GatherElements", x, places, shape=places.shape, axis=axis)


@rule("sort")
def _sort(g: Graph, eqn: Eqn, *xs: Value) -> list[Value]:
    axis, keys = eqn.params["dimension"], eqn.params["num_keys"]
    size = xs[0].shape[axis]
    if len(xs) == 1:
        return [_top(g, xs[0], axis, size, largest=False)[0]]
    order = _order(g, xs[:keys], axis)
    return [_take(g, x, order, axis) for x in xs]


def _order(g: Graph, keys: Sequence[Value], axis: int) -> Value:
    """The positions in stable order: by the last key first, and then by those before it."""
    order: Value | None = None
    for key in reversed(keys):
        if order is not None:
            key = _take(g, key, order, axis)
        _, places = _top(g, key, axis, key.shape[axis], largest=False)
        order = places if order is None else _take(g, order, places, axis)
    assert order is not None
    return order


@rule("top_k")
def _top_k(g: Graph, eqn: Eqn, x: Value) -> list[Value]:
    values, places = _top(g, x, eqn.params["axis"], eqn.params["k"], largest=True)
    return [values, g.cast(places, aval(eqn, 1).dtype)]
