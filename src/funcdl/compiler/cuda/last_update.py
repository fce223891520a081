"""Updates that overwrite elements at computed places: the last one wins, as in a loop.

Programs of a GPU meet in any order, and of two that write to one place nobody knows which is the
last. So updates are numbered, and the largest number that meets at each place is found, which is
the same in every order; each element is then the update of that number, or what it was.

The price is one integer for each element, written, updated and read. Rejected: *plain stores where
the caller promises that no updates meet*, which few callers do and nothing checks.
"""

from __future__ import annotations

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Literal, Var
from funcdl.core.primitive import Primitive
from funcdl.ops.comparison import lt
from funcdl.ops.gather import gather
from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode
from funcdl.ops.scatter import scatter, scatter_max
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, iota, reshape

_NUMBERS = np.dtype(np.int32)


def number_updates(program: ClosedJaxpr) -> ClosedJaxpr:
    """Replace scatters that overwrite by operations whose order does not matter."""
    if not any(map(_is_overwriting, program.jaxpr.eqns)):
        return program
    eqns: list[Eqn] = []
    for eqn in program.jaxpr.eqns:
        eqns += _Numbered(eqn).eqns if _is_overwriting(eqn) else [eqn]
    return ClosedJaxpr(program.jaxpr.replace(eqns=tuple(eqns)), program.consts)


def _is_overwriting(eqn: Eqn) -> bool:
    if eqn.primitive is not scatter:
        return False
    operand, _, updates = (atom.aval for atom in eqn.invars)
    return updates.size <= np.iinfo(_NUMBERS).max and not dtypes.is_complex(operand.dtype)


class _Numbered:
    """The equations in the place of a scatter."""

    def __init__(self, eqn: Eqn) -> None:
        self.eqns: list[Eqn] = []
        self._source = eqn.source
        operand, indices, updates = eqn.invars
        shape, size = operand.aval.shape, updates.aval.size
        if operand.aval.size == 0 or size == 0:
            self._emit(reshape, operand, new_sizes=shape)
            self.eqns[-1] = self.eqns[-1].replace(outvars=eqn.outvars)
            return
        numbers = self._emit(iota, dimension=0, dtype=_NUMBERS, shape=(size,))
        numbers = self._emit(reshape, numbers, new_sizes=updates.aval.shape)
        last = self._emit(scatter_max, self._full(-1, shape), indices, numbers, **eqn.params)
        picked = self._emit(
            gather,
            self._emit(reshape, updates, new_sizes=(size,)),
            self._emit(reshape, last, new_sizes=(*shape, 1)),
            dimension_numbers=GatherDimensionNumbers((), (0,), (0,)),
            slice_sizes=(1,),
            indices_are_sorted=False,
            unique_indices=False,
            mode=GatherScatterMode.CLIP,
            fill_value=None,
        )
        none = self._emit(lt, last, self._full(0, shape))
        self._emit(select_n, none, picked, operand)
        self.eqns[-1] = self.eqns[-1].replace(outvars=eqn.outvars)

    def _full(self, value: int, shape: tuple[int, ...]) -> Var:
        literal = Literal(Array(np.asarray(value, _NUMBERS)))
        return self._emit(broadcast_in_dim, literal, shape=shape, broadcast_dimensions=())

    def _emit(self, primitive: Primitive, *operands: Atom, **params: object) -> Var:
        (aval,) = primitive.output_avals([atom.aval for atom in operands], params)
        out = Var(aval)
        self.eqns.append(Eqn(primitive, operands, [out], params, self._source))
        return out
