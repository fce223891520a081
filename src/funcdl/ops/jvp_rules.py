"""Forms of jvp rules that primitives share: linear, bilinear, by operand, zero, refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import NotDifferentiableError

Rule = Callable[..., tuple[Any, Any]]


def linear_jvp(primitive: Primitive) -> Rule:
    """The jvp rule of a primitive that is linear in all its operands together."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        out = primitive.bind(*primals, **params)
        if all(map(is_zero, tangents)):
            return out, Zero(out.aval.to_tangent())
        if any(map(is_zero, tangents)):
            from funcdl.ops.shape import instantiate

            tangents = [instantiate(t) for t in tangents]
        return out, primitive.bind(*tangents, **params)

    return jvp


def bilinear_jvp(primitive: Primitive) -> Rule:
    """The jvp rule of a primitive that is linear in each of its two operands."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        (x, y), (tx, ty) = primals, tangents
        out = primitive.bind(x, y, **params)
        parts = []
        if not is_zero(tx):
            parts.append(primitive.bind(tx, y, **params))
        if not is_zero(ty):
            parts.append(primitive.bind(x, ty, **params))
        return out, add_tangents(parts, out.aval)

    return jvp


def jvp_from_rules(primitive: Primitive, rules: Sequence[Callable[..., Any] | None]) -> Rule:
    """The jvp rule that adds ``rule(tangent, output, *primals)`` of each operand; None is zero."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        out = primitive.bind(*primals, **params)
        parts = [
            rule(t, out, *primals, **params)
            for rule, t in zip(rules, tangents, strict=True)
            if rule is not None and not is_zero(t)
        ]
        return out, add_tangents(parts, out.aval)

    return jvp


def zero_jvp(primitive: Primitive) -> Rule:
    """The jvp rule of operations whose output never varies smoothly (comparisons, say)."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        out = primitive.bind(*primals, **params)
        return out, Zero(out.aval.to_tangent())

    return jvp


def refuse_jvp(primitive: Primitive, reason: str) -> Rule:
    """The jvp rule of operations that have no derivative, for this reason."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        raise NotDifferentiableError(
            f"{primitive.name} cannot be differentiated: {reason}.\n"
            "Wrap its argument in funcdl.lax.stop_gradient if no derivative should flow through it."
        )

    return jvp


def add_tangents(parts: Sequence[Any], aval: ShapedArray) -> Any:
    """The sum of some tangents, or a symbolic zero when there are none."""
    from funcdl.ops.arithmetic import add

    total = None
    for part in parts:
        if not is_zero(part):
            total = part if total is None else add(total, part)
    return Zero(aval.to_tangent()) if total is None else total
