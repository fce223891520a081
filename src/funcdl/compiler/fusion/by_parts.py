"""Which concatenations are stored by the kernels that compute their parts, each part at its place.

Others are views, like all that only rearranges: whoever reads an element finds out in which part it
is. That takes a comparison and a choice for each part and element, so it is better to store what
needs memory anyway, or is read again and again by a product.

One kernel stores all parts, in loops over one of them. Parts of several sizes are cut into pieces
of one size first.
"""

from __future__ import annotations

from collections.abc import Set

from funcdl.compiler.piece_shapes import piece_shape
from funcdl.core.avals import Shape
from funcdl.core.jaxpr import Atom, Eqn, Jaxpr, Var
from funcdl.core.records import record
from funcdl.ops.lowering import Contraction, Correlation, Position, reason_for_host
from funcdl.ops.shape import reshape, transpose
from funcdl.ops.slicing import concatenate


@record
class Piece:
    """Elements of an operand from `start` on along the dimension that is concatenated.

    In the result they are from `place` on.
    """

    operand: Atom
    start: int
    place: int


def stored_by_parts(jaxpr: Jaxpr, stored: Set[Var]) -> dict[Var, Shape]:
    """Concatenations that products read, or that are `stored` for other reasons.

    Returns the shape of the pieces of each.
    """
    wanted = set(stored)
    found: dict[Var, Shape] = {}
    for eqn in reversed(jaxpr.eqns):
        product = isinstance(eqn.primitive.lower, Contraction | Correlation)
        out = eqn.outvars[0] if eqn.outvars else None
        turned = eqn.primitive in (reshape, transpose) and out in wanted and out not in stored
        if product or turned:
            wanted |= _variables(eqn)
        elif eqn.primitive is concatenate and out in wanted and _is_real(eqn):
            shapes = [atom.aval.shape for atom in eqn.invars]
            shape = piece_shape(shapes, eqn.params["dimension"])
            if shape is not None:
                found[eqn.outvars[0]] = shape
                # Where it is itself joined from parts, no piece of it should have to choose.
                wanted |= _variables(eqn)
    return found


def pieces(eqn: Eqn, shape: Shape) -> list[Piece]:
    """The pieces, of one shape, of the result of a concatenation."""
    dimension = eqn.params["dimension"]
    found: list[Piece] = []
    place = 0
    for atom in eqn.invars:
        for start in range(0, atom.aval.shape[dimension], shape[dimension]):
            found.append(Piece(atom, start, place))
            place += shape[dimension]
    return found


def shifted(position: Position, dimension: int, by: int) -> Position:
    """The position so many elements on along a dimension."""
    return (*position[:dimension], position[dimension] + by, *position[dimension + 1 :])


def _is_real(eqn: Eqn) -> bool:
    types = {atom.aval.dtype for atom in eqn.invars}
    return not reason_for_host(eqn.primitive.lower, types)


def _variables(eqn: Eqn) -> set[Var]:
    return {atom for atom in eqn.invars if isinstance(atom, Var)}
