"""Derivatives of attention (see `ops.attention`), which differentiate its composition.

The first derivative by query, key and value is `attention_tangent`, which is transposed to
`attention_gradient`, so that reverse mode has kernels both ways. Everything else is the derivative
of the composition: by a bias, forward mode, and higher orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.ops.attention import attention, attention_gradient, attention_tangent, composition
from funcdl.ops.shape import instantiate
from funcdl.transforms.jvp import jvp_flat

Pair = tuple[list[Any], list[Any]]


def _attention_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Pair:
    outs = attention.bind(*primals, **params)
    if not all(map(is_zero, tangents[3:])):
        found = _of_composition(attention, primals, tangents, params)[1][0]
    elif all(map(is_zero, tangents)):
        found = Zero(outs[0].aval.to_tangent())
    else:
        given = map(instantiate, tangents[:3])
        (found,) = attention_tangent.bind(*primals, *outs, *given, **params)
    return outs, [found, *(Zero(x.aval.to_tangent()) for x in outs[1:])]


def _tangent_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Pair:
    if not all(map(is_zero, tangents[:-3])):
        return _of_composition(attention_tangent, primals, tangents, params)
    outs = attention_tangent.bind(*primals, **params)
    if all(map(is_zero, tangents)):
        return outs, [Zero(x.aval.to_tangent()) for x in outs]
    given = map(instantiate, tangents[-3:])
    return outs, attention_tangent.bind(*primals[:-3], *given, **params)


def _gradient_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Pair:
    return _of_composition(attention_gradient, primals, tangents, params)


def _of_composition(
    primitive: Primitive,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    params: dict[str, Any],
) -> Pair:
    body = composition(primitive)
    return jvp_flat(lambda *xs: body(*xs, **params), primals, tangents, name=primitive.name)


attention.jvp = _attention_jvp
attention_tangent.jvp = _tangent_jvp
attention_gradient.jvp = _gradient_jvp
