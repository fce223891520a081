"""Rules of the primitives that rearrange: shapes, slices, padding, joins."""

from __future__ import annotations

from funcdl.core.jaxpr import Eqn
from funcdl.onnx.graph import Graph, Value
from funcdl.onnx.rules import rule


@rule("broadcast_in_dim", broadcasts=True)
def _broadcast(g: Graph, eqn: Eqn, x: Value) -> Value:
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    own = [1] * len(shape)
    for d, size in zip(dims, _padded(x.own, len(x.shape)), strict=True):
        own[d] = size
    tight = Value(x.name, x.dtype, x.own, x.own)
    # Dimensions in front come by themselves.
    first = min((d for d, size in enumerate(own) if size != 1), default=len(own))
    if tuple(own[first:]) == _stripped(x.own):
        return Value(x.name, x.dtype, shape, x.own)
    return Value(g.reshape(tight, own).name, x.dtype, shape, tuple(own))


def _padded(shape: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    return (1,) * (ndim - len(shape)) + shape


def _stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    first = next((d for d, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


@rule("reshape", broadcasts=True)
def _reshape(g: Graph, eqn: Eqn, x: Value) -> Value:
    shape = eqn.params["new_sizes"]
    if not x.own and x.shape:
        return Value(x.name, x.dtype, shape, ())
    return g.reshape(x, shape)


@rule("transpose")
def _transpose(g: Graph, eqn: Eqn, x: Value) -> Value:
    return g.transpose(x, eqn.params["permutation"])


@rule("rev")
def _rev(g: Graph, eqn: Eqn, x: Value) -> Value:
    return g.reverse(x, eqn.params["dimensions"])


@rule("concatenate")
def _concatenate(g: Graph, eqn: Eqn, *xs: Value) -> Value:
    return g.concatenate(xs, eqn.params["dimension"])


@rule("slice")
def _slice(g: Graph, eqn: Eqn, x: Value) -> Value:
    params = eqn.params
    return g.slice(x, params["start_indices"], params["limit_indices"], params["strides"])


@rule("pad")
def _pad(g: Graph, eqn: Eqn, x: Value, fill: Value) -> Value:
    return g.pad(x, fill, eqn.params["padding_config"])
