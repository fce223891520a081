"""Attention and its gradient, with strided parts of larger arrays as operands and results.

Only GPU programs have them, after the pass `attention_places`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.compiler.cuda.strided import Strided
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.jaxpr import Atom, Eqn
from funcdl.core.primitive import Primitive, never_weak
from funcdl.ops.attention import attention, attention_gradient
from funcdl.ops.lowering import Loop

NDArray = np.ndarray[Any, Any]

OPERANDS = ("query", "key", "value")
GRADIENTS = ("query_gradient", "key_gradient", "value_gradient")

placed_attention = Primitive("placed_attention", multiple_results=True)
placed_attention_gradient = Primitive("placed_attention_gradient", multiple_results=True)
_PLAIN = {placed_attention: attention, placed_attention_gradient: attention_gradient}
PLACED = {plain: placed for placed, plain in _PLAIN.items()}


@dataclass(frozen=True, slots=True)
class Places:
    """Which arrays of an attention are parts of others, by their names.

    `joined` is the shape of the array that holds those gradients that have a place; it is the first
    result, and the other gradients follow.
    """

    parts: tuple[tuple[str, Strided], ...]
    joined: Shape | None = None


def plain_attention(eqn: Eqn) -> tuple[Primitive, dict[str, Any], Mapping[str, Strided]]:
    """The primitive of `ops.attention`, its parameters, and the arrays that are parts of others."""
    params = dict(eqn.params)
    places = params.pop("places", Places(()))
    return _PLAIN.get(eqn.primitive, eqn.primitive), params, dict(places.parts)


def named_atoms(eqn: Eqn) -> dict[str, Atom]:
    """Operands and results of an attention or its gradient, by their names."""
    primitive, params, places = plain_attention(eqn)
    statistics = ("out", "largest", "total")
    given = (*OPERANDS, *params["extra_names"])
    if primitive is attention:
        return dict(zip((*given, *statistics), (*eqn.invars, *eqn.outvars), strict=True))
    atoms = dict(zip((*given, *statistics, "cotangent"), eqn.invars, strict=True))
    joined = [name for name in GRADIENTS if name in places]
    alone = [name for name in GRADIENTS if name not in places]
    own = eqn.outvars[1:] if joined else eqn.outvars
    return atoms | dict.fromkeys(joined, eqn.outvars[0]) | dict(zip(alone, own, strict=True))


def _impl(primitive: Primitive) -> Any:
    def impl(*args: NDArray, places: Places, **params: Any) -> list[NDArray]:
        parts = dict(places.parts)
        given = [
            parts[name].of(x) if name in parts else x
            for name, x in zip(OPERANDS, args, strict=False)
        ]
        assert primitive.impl is not None
        results: list[NDArray] = primitive.impl(*given, *args[3:], **params)
        if places.joined is None:
            return results
        joined = np.empty(places.joined, results[0].dtype)
        for name, result in zip(GRADIENTS, results, strict=True):
            if name in parts:
                parts[name].of(joined)[...] = result
        alone = zip(GRADIENTS, results, strict=True)
        return [joined, *(result for name, result in alone if name not in parts)]

    return impl


def _shape(primitive: Primitive) -> Any:
    def shape(*avals: ShapedArray, places: Places, **params: Any) -> list[ShapedArray]:
        parts = dict(places.parts)
        given = [
            ShapedArray(parts[name].shape, aval.dtype) if name in parts else aval
            for name, aval in zip(OPERANDS, avals, strict=False)
        ]
        assert primitive.shape is not None
        results: list[ShapedArray] = primitive.shape(*given, *avals[3:], **params)
        if places.joined is None:
            return results
        alone = [x for name, x in zip(GRADIENTS, results, strict=True) if name not in parts]
        return [ShapedArray(places.joined, results[0].dtype), *alone]

    return shape


for _placed, _plain in _PLAIN.items():
    _placed.impl = _impl(_plain)
    _placed.shape = _shape(_plain)
    _placed.weak = never_weak
    _placed.lower = Loop()
