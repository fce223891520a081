"""Sums of padded arrays that meet nowhere, as concatenations, which are written part by part.

The gradient of an array that is cut into parts is such a sum: of queries, keys and values from one
product, of the gates of a recurrent cell. As a sum, every element would look at every part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.compiler.piece_shapes import MAX_PIECES, piece_shape
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.jaxpr import Atom, Eqn, Literal, Var
from funcdl.core.records import record
from funcdl.ops.arithmetic import add
from funcdl.ops.shape import broadcast_in_dim
from funcdl.ops.slicing import concatenate, slice_

Emit = Callable[..., Atom]
Origin = Callable[[Atom, str], Eqn | None]


@record
class _Cover:
    """Zeros but for `size` positions along dimension `axis`, where no two parts share one."""

    axis: int
    size: int


class DisjointPads:
    """Finds such sums among the equations of a program, which it sees in their order.

    Args:
        origin: the equation of this name that computes a value, if one does.
        scalar: the value of an atom whose elements are all one known constant, else None.
    """

    def __init__(self, origin: Origin, scalar: Callable[[Atom], Any]) -> None:
        self._origin = origin
        self._scalar = scalar
        # Of operands of sums only: chains of sums are as long as a program.
        self._covers: dict[Var, _Cover | None] = {}

    def concatenation(self, emit: Emit, eqn: Eqn) -> Atom | None:
        """The output of a sum whose terms are parts of it, or None for any other.

        It is made by calls ``emit(primitive, invars, eqn, **params)``.
        """
        cover, shape = self._sum(eqn), eqn.outvars[0].aval.shape
        if cover is None or cover.size != shape[cover.axis] or not eqn.outvars[0].aval.size:
            return None
        axis = cover.axis
        placed = sorted(self._parts(eqn, axis), key=lambda part: part[0])
        placed = [(low, part) for low, part in placed if part.aval.size]
        parts = [part for _, part in placed]
        ends = itertools.accumulate((part.aval.shape[axis] for part in parts), initial=0)
        if any(low != end for (low, _), end in zip(placed, ends, strict=False)):
            return None
        if any(atom.aval.weak_type for atom in (*parts, eqn.outvars[0])):
            return None
        run = _run(parts)
        piece = piece_shape([part.aval.shape for part in parts], axis)
        if run > 1:
            starts = range(0, len(parts), run)
            parts = [_plus_zero(emit, eqn, part) for part in parts]
            parts = [_join(emit, eqn, parts[at : at + run], axis) for at in starts]
        elif piece is not None:
            # Cut first, so that zeros are added where a piece is stored.
            parts = [cut for part in parts for cut in _cut(emit, eqn, part, axis, piece[axis])]
            parts = [_plus_zero(emit, eqn, part) for part in parts]
        else:
            return None
        return _join(emit, eqn, parts, axis)

    def _sum(self, eqn: Eqn) -> _Cover | None:
        x, y = map(self._cover, eqn.invars)
        if x is None or y is None or x.axis != y.axis:
            return None
        return _Cover(x.axis, x.size + y.size)

    def _cover(self, atom: Atom) -> _Cover | None:
        if not isinstance(atom, Var):
            return None
        if atom not in self._covers:
            padded, summed = self._origin(atom, "pad"), self._origin(atom, "add")
            cover = None
            if padded is not None:
                cover = self._pad(padded)
            elif summed is not None:
                cover = self._sum(summed)
            self._covers[atom] = cover
        return self._covers[atom]

    def _pad(self, eqn: Eqn) -> _Cover | None:
        """What a padded array covers, if it is padded along one dimension, with zeros."""
        config = eqn.params["padding_config"]
        axes = [d for d, widths in enumerate(config) if widths != (0, 0, 0)]
        value = self._scalar(eqn.invars[1])
        if len(axes) != 1 or value is None or any(np.asarray(value).tobytes()):
            return None
        low, high, interior = config[axes[0]]
        if low < 0 or high < 0 or interior:
            return None
        return _Cover(axes[0], eqn.invars[0].aval.shape[axes[0]])

    def _parts(self, eqn: Eqn, axis: int) -> list[tuple[int, Atom]]:
        """The arrays that are padded, and where each starts."""
        found: list[tuple[int, Atom]] = []
        pending: list[Atom] = list(eqn.invars)
        while pending:
            atom = pending.pop()
            padded = self._origin(atom, "pad")
            if padded is not None:
                found.append((padded.params["padding_config"][axis][0], padded.invars[0]))
                continue
            summed = self._origin(atom, "add")
            assert summed is not None, "what covers something is a pad or a sum"
            pending += summed.invars
        return found


def _run(parts: Sequence[Atom]) -> int:
    """How many parts are joined before the results are, where one kernel does not take them all."""
    count = len(parts)
    if count <= MAX_PIECES or len({part.aval.shape for part in parts}) > 1:
        return 1
    runs = (n for n in range(2, MAX_PIECES + 1) if count % n == 0 and count // n <= MAX_PIECES)
    return max(runs, default=1)


def _cut(emit: Emit, eqn: Eqn, x: Atom, axis: int, size: int) -> Iterator[Atom]:
    """An array in pieces of a size along one dimension."""
    shape = x.aval.shape
    before, after = (0,) * axis, shape[axis + 1 :]
    for start in range(0, shape[axis], size):
        yield (
            x
            if size == shape[axis]
            else emit(
                slice_,
                (x,),
                eqn,
                start_indices=(*before, start, *(0 for _ in after)),
                limit_indices=(*shape[:axis], start + size, *after),
                strides=None,
            )
        )


def _plus_zero(emit: Emit, eqn: Eqn, x: Atom) -> Atom:
    """An array as it is in a sum with zeros: without negative ones."""
    dtype = x.aval.dtype
    if dtypes.is_integer(dtype):
        return x
    zero = Literal(Array(np.zeros((), dtype)))
    return emit(
        add,
        (x, emit(broadcast_in_dim, (zero,), eqn, shape=x.aval.shape, broadcast_dimensions=())),
        eqn,
    )


def _join(emit: Emit, eqn: Eqn, parts: Sequence[Atom], axis: int) -> Atom:
    return emit(concatenate, parts, eqn, dimension=axis)
