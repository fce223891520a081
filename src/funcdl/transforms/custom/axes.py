"""Whether a custom call can give different results to the members of a named axis.

What a custom call does is known only when its function, its rule or its pullback runs. Under a
vmap with an axis name, a call without mapped operands is the same for all members if none of the
three refers to the axis, so they are traced, for nothing but this question. The derivative has to
be asked as well as the function: a pullback that says ``where(axis_index(name) == 0, ct, 0)`` needs
the cotangent of each member.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextvars import ContextVar
from typing import Any

from funcdl.core.avals import ShapedArray
from funcdl.core.axes import Axis, axes_in_scope, program_uses_axis
from funcdl.core.jaxpr import ClosedJaxpr, sub_jaxprs
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.core.trace import context, current_trace
from funcdl.ops.shape import instantiate
from funcdl.transforms.batching import AxisTrace
from funcdl.transforms.custom.definition import CustomCall

_asked: ContextVar[tuple[object, ...]] = ContextVar("_asked", default=())


def may_use_axis(
    call: CustomCall, program: ClosedJaxpr | None, avals: Sequence[ShapedArray], name: Hashable
) -> bool:
    """Whether a custom call may refer to a named axis.

    Args:
      program: what the function is, where it has been traced.
      avals: of its operands.
    """
    # A rule may map its own function, which must not ask again; yes is never wrong.
    return bool(_asked.get()) or _ask(call, program, avals, name)


def _ask(
    call: CustomCall, program: ClosedJaxpr | None, avals: Sequence[ShapedArray], name: Hashable
) -> bool:
    if program is not None and _refers(program, name):
        return True
    asked = _asked.get()
    if any(call.owner is owner for owner in asked):  # a rule that uses its own function
        return False
    size = dict(axes_in_scope()).get(name, 1)
    token = _asked.set((*asked, call.owner))
    try:
        with current_trace(AxisTrace(context.trace, Axis(size, name))):
            if program is None and _traced_refers(call.fun, avals, name):
                return True
            return _traced_refers(lambda *xs: _derivative(call, xs), avals, name)
    except Exception:
        # Rules that cannot run, such as one that is not written yet, matter only if they must.
        return True
    finally:
        _asked.reset(token)


def _traced_refers(f: Any, avals: Sequence[ShapedArray], name: Hashable) -> bool:
    jaxpr, consts = trace_to_jaxpr(f, avals, name="the search for an axis")
    return _refers(ClosedJaxpr(jaxpr, consts), name)


def _refers(program: ClosedJaxpr, name: Hashable) -> bool:
    """As `program_uses_axis`, whose answers are kept and so must not depend on who asks."""
    if not _asked.get():
        return program_uses_axis(program, name)
    for eqn in program.eqns:
        call, inner = eqn.params.get("call"), eqn.params.get("jaxpr")
        if isinstance(call, CustomCall) and inner is not None:
            found = _ask(call, inner, inner.in_avals, name)
        elif eqn.primitive.uses_axis is not None:
            found = eqn.primitive.uses_axis(eqn.params, name)
        else:
            found = any(_refers(part, name) for part in sub_jaxprs(eqn.params))
        if found:
            return True
    return False


def _derivative(call: CustomCall, xs: Sequence[Any]) -> list[Any]:
    """What the rules return, at tangents and cotangents of zero, which are recorded like others."""
    captured, primals = xs[: call.num_captured], xs[call.num_captured :]
    if call.kind == "jvp":
        outs, found = call.rule(captured, primals, [_no_tangent(x) for x in primals])
    else:
        assert call.pullback is not None
        outs, residuals = call.rule(captured, primals, (True,) * len(primals))
        found = call.pullback(captured, residuals, [_no_tangent(x) for x in outs])
    return [*outs, *(x for x in found if not is_zero(x))]


def _no_tangent(x: Any) -> Any:
    return instantiate(Zero(x.aval.to_tangent()))
