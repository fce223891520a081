"""Slices that are written into one of a program's inputs, as scatters of one window.

`dynamic_update_slice` is a view: what reads it chooses, element by element, between the operand and
the update. That is right for what is never stored. A program that returns the whole array, such as
the body of a loop that fills a table or a cache of keys and values, would write all of it to
change a slice: a scatter copies the operand where it must, and then writes the slice alone.

Rejected: stores of a view's changed part only, which would be a third kind of kernel beside loops
and updates; and a scatter in each place, which would store what is read but once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.compiler.update_chains import updates_on_the_way
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Var
from funcdl.core.primitive import Primitive
from funcdl.ops.dynamic import dynamic_update_slice
from funcdl.ops.indexed_windows import GatherScatterMode
from funcdl.ops.scatter import ScatterDimensionNumbers, scatter
from funcdl.ops.shape import broadcast_in_dim
from funcdl.ops.slicing import concatenate

# Arrays of fewer bytes are written as a whole as soon as by a kernel more.
MIN_BYTES = 4096
# The share of an array that a slice has at the most.
MAX_SHARE = 0.5


def written_slices(program: ClosedJaxpr, min_bytes: int | None = None) -> ClosedJaxpr:
    """Write the small slices of inputs that become results by scatters.

    Args:
      min_bytes: arrays of fewer bytes are written as a whole; by default `MIN_BYTES`.
    """
    least = MIN_BYTES if min_bytes is None else min_bytes
    chosen = {id(eqn) for eqn in updates_on_the_way(program.jaxpr) if _is_small_slice(eqn, least)}
    if not chosen:
        return program
    eqns: list[Eqn] = []
    for eqn in program.jaxpr.eqns:
        eqns += _scatter(eqn) if id(eqn) in chosen else [eqn]
    return ClosedJaxpr(program.jaxpr.replace(eqns=tuple(eqns)), program.consts)


def _is_small_slice(eqn: Eqn, min_bytes: int) -> bool:
    if eqn.primitive is not dynamic_update_slice:
        return False
    operand, update = eqn.invars[0].aval, eqn.invars[1].aval
    return operand.nbytes >= min_bytes and 0 < update.size <= MAX_SHARE * operand.size


def _scatter(eqn: Eqn) -> list[Eqn]:
    """The equations of a scatter in place of a `dynamic_update_slice`."""
    operand, update, *starts = eqn.invars
    eqns: list[Eqn] = []

    def emit(primitive: Primitive, invars: Sequence[Atom], **params: Any) -> Atom:
        avals = primitive.output_avals([atom.aval for atom in invars], params)
        eqns.append(Eqn(primitive, invars, list(map(Var, avals)), params, eqn.source))
        return eqns[-1].outvars[0]

    indices = [
        emit(broadcast_in_dim, [start], shape=(1,), broadcast_dimensions=()) for start in starts
    ]
    if len(indices) > 1:
        indices = [emit(concatenate, indices, dimension=0)]
    every = tuple(range(len(starts)))
    params = {
        "dimension_numbers": ScatterDimensionNumbers(every, (), every),
        "indices_are_sorted": True,
        "unique_indices": True,
        "mode": GatherScatterMode.CLIP,
    }
    eqns.append(Eqn(scatter, [operand, *indices, update], eqn.outvars, params, eqn.source))
    return eqns
