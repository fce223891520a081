"""The reference evaluator: a program run equation by equation with NumPy.

This is the meaning of every program, the back end of last resort, and the oracle of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core.jaxpr import Atom, ClosedJaxpr, Literal, Var, last_uses

NDArray = np.ndarray[Any, Any]


def run_reference(program: ClosedJaxpr, args: Sequence[NDArray]) -> list[NDArray]:
    """Run a program on NumPy arrays by its primitives' `impl` rules."""
    jaxpr = program.jaxpr
    env: dict[Var, NDArray] = {}

    def read(atom: Atom) -> NDArray:
        return atom.value.value if isinstance(atom, Literal) else env[atom]

    env.update(zip(jaxpr.constvars, (c.value for c in program.consts), strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    dying = last_uses(jaxpr)
    for position, eqn in enumerate(jaxpr.eqns):
        assert eqn.primitive.impl is not None, eqn.primitive.name
        out = eqn.primitive.impl(*map(read, eqn.invars), **eqn.params)
        outs = out if eqn.primitive.multiple_results else [out]
        # NumPy turns 0-d results into scalars.
        env.update(zip(eqn.outvars, map(np.asarray, outs), strict=True))
        for var in dying.get(position, ()):
            env.pop(var, None)
    return [read(atom) for atom in jaxpr.outvars]
