"""Which concatenations are stored by the kernels that compute their parts, each part at its place.

Others are views, like all that only rearranges: whoever reads an element finds out in which part it
is. That takes a comparison and a choice for each part and element, so it is better to store what
needs memory anyway, or is read again and again by a product. Interleaved arrays that are
interleaved again, as an associative scan does at each of its levels, are stored as well: every
level of them adds a division, a remainder and a choice to the index that the next one reads at.

One kernel stores all parts, in loops over one of them. Parts of several sizes are cut into pieces
of one size first.
"""

from __future__ import annotations

from collections.abc import Set

from funcdl.compiler.piece_shapes import piece_shape
from funcdl.core.avals import Shape
from funcdl.core.jaxpr import Atom, Eqn, Jaxpr, Var
from funcdl.core.records import record
from funcdl.ops.lowering import Contraction, Correlation, Position, View, reason_for_host
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
    """Concatenations that products read, that are interleaved, or `stored` for other reasons.

    Returns the shape of the pieces of each.
    """
    wanted = stored | _interleaved(jaxpr)
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


def _interleaved(jaxpr: Jaxpr) -> set[Var]:
    """Concatenations of interleaved arrays, and what they join.

    To interleave is to concatenate, and to group the elements anew by a reshape.
    """
    found: set[Var] = set()
    joined: dict[Var, Set[Var]] = {}  # the concatenations that a view shows
    regrouped: dict[Var, Set[Var]] = {}  # those it shows through such a reshape
    again: set[Var] = set()  # concatenations of interleaved arrays
    for eqn in jaxpr.eqns:
        if not isinstance(eqn.primitive.lower, View):
            continue
        operands, out = _variables(eqn), eqn.outvars[0]
        shown = set[Var]().union(*(joined.get(var, ()) for var in operands))
        anew = set[Var]().union(*(regrouped.get(var, ()) for var in operands))
        if eqn.primitive is concatenate:
            found |= anew
            joined[out] = {out}
            if anew:
                again.add(out)
        elif shown:
            joined[out], regrouped[out] = shown, anew
            if eqn.primitive is reshape and _long(eqn.invars[0]) != _long(out):
                found |= shown & again
                regrouped[out] = shown
    return found


def _long(atom: Atom) -> Shape:
    """The sizes of the dimensions of more than one element."""
    return tuple(size for size in atom.aval.shape if size != 1)


def _is_real(eqn: Eqn) -> bool:
    types = {atom.aval.dtype for atom in eqn.invars}
    return not reason_for_host(eqn.primitive.lower, types)


def _variables(eqn: Eqn) -> set[Var]:
    return {atom for atom in eqn.invars if isinstance(atom, Var)}
