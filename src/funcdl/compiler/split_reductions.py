"""The pass `split_reductions`: long reductions with few results become two short ones.

A kernel is parallel over its results only, so that sums have the same bits for any number of
threads. A reduction of everything to one number would then run on one thread; cut into a fixed
number of chunks it does not.
"""

from __future__ import annotations

import math

from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Var
from funcdl.core.primitive import Primitive
from funcdl.ops.lowering import Reduction
from funcdl.ops.shape import reshape

CHUNKS = 32
MIN_ELEMENTS = 1 << 16
_SPLITTABLE = frozenset({"sum", "prod", "max", "min", "and", "or"})


def split_reductions(program: ClosedJaxpr) -> ClosedJaxpr:
    """Cut every long reduction to fewer than `CHUNKS` results into `CHUNKS` parts."""
    eqns: list[Eqn] = []
    changed = False
    for eqn in program.jaxpr.eqns:
        parts = _split(eqn)
        changed |= parts is not None
        eqns += [eqn] if parts is None else parts
    return (
        ClosedJaxpr(program.jaxpr.replace(eqns=tuple(eqns)), program.consts) if changed else program
    )


def _split(eqn: Eqn) -> list[Eqn] | None:
    form = eqn.primitive.lower
    if not isinstance(form, Reduction) or form.op not in _SPLITTABLE:
        return None
    (x,), (out,) = eqn.invars, eqn.outvars
    axes = tuple(sorted(eqn.params["axes"]))
    count = math.prod(x.aval.shape[d] for d in axes)
    if out.aval.size >= CHUNKS or count < MIN_ELEMENTS or axes != tuple(range(len(axes))):
        return None
    chunks = next((c for c in range(CHUNKS, 1, -1) if count % c == 0), 1)
    if chunks == 1:
        return None
    rest = x.aval.shape[len(axes) :]
    parts, cut = _new(eqn, reshape, x, (chunks, count // chunks, *rest), new_sizes=True)
    partial, reduced = _new(eqn, eqn.primitive, cut, (chunks, *rest), axes=(1,))
    final = eqn.replace(invars=(reduced,), params={**eqn.params, "axes": (0,)})
    return [parts, partial, final]


def _new(
    eqn: Eqn,
    primitive: Primitive,
    operand: Atom,
    shape: tuple[int, ...],
    *,
    axes: tuple[int, ...] = (),
    new_sizes: bool = False,
) -> tuple[Eqn, Var]:
    var = Var(operand.aval.update(shape=shape))
    params = {"new_sizes": shape} if new_sizes else {**eqn.params, "axes": axes}
    return Eqn(primitive, [operand], [var], params, eqn.source), var
