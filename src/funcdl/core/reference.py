"""The reference evaluator: a program run equation by equation with NumPy.

This is the meaning of every program, the back end of last resort, and the oracle of all others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from funcdl.core import profiler
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var, last_uses

NDArray = np.ndarray[Any, Any]


class _Watch(threading.local):
    after: Callable[[Jaxpr, Eqn, Sequence[NDArray], Sequence[NDArray]], None] | None = None


watch = _Watch()
"""`watch.after(jaxpr, eqn, operands, outputs)`, where set, sees every equation that has run, those
of loops' bodies included. Equations without outputs, which exist for their effects, are left out
meanwhile."""


def _timed(eqn: Eqn) -> AbstractContextManager[None]:
    """Tell the open profiles the time of an equation, without that of the equations inside it."""
    name = eqn.primitive.name
    nbytes = sum(atom.aval.nbytes for atom in (*eqn.invars, *eqn.outvars))
    work = profiler.Work("equation", name, profiler.current_program(), eqn.source, nbytes)
    return profiler.span(work)


def run_reference(program: ClosedJaxpr, args: Sequence[NDArray]) -> list[NDArray]:
    """Run a program on NumPy arrays by its primitives' `impl` rules."""
    jaxpr = program.jaxpr
    env: dict[Var, NDArray] = {}

    def read(atom: Atom) -> NDArray:
        return atom.value.value if isinstance(atom, Literal) else env[atom]

    env.update(zip(jaxpr.constvars, (c.value for c in program.consts), strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    dying = last_uses(jaxpr)
    after = watch.after
    timed = bool(profiler.active)
    for position, eqn in enumerate(jaxpr.eqns):
        assert eqn.primitive.impl is not None, eqn.primitive.name
        if after is not None and not eqn.outvars:
            continue
        values = [read(atom) for atom in eqn.invars]
        with _timed(eqn) if timed else nullcontext():
            out = eqn.primitive.impl(*values, **eqn.params)
        # NumPy turns 0-d results into scalars.
        outs = [np.asarray(x) for x in (out if eqn.primitive.multiple_results else [out])]
        if after is not None:
            after(jaxpr, eqn, values, outs)
        env.update(zip(eqn.outvars, outs, strict=True))
        del values, outs, out
        for var in dying.get(position, ()):
            env.pop(var, None)
    return [read(atom) for atom in jaxpr.outvars]
