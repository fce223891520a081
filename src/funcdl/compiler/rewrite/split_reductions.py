"""The pass `split_reductions`: long reductions with few results become short ones.

A kernel is parallel over its results only, so that sums have the same bits for any number of
threads. A reduction of everything to one number would then run on one thread; cut into a fixed
number of chunks it does not. Rows that are left over when all chunks have one size are reduced by
themselves.
"""

from __future__ import annotations

import math
from typing import Any

from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Var
from funcdl.core.primitive import Primitive
from funcdl.ops.arithmetic import add, max_, min_, mul
from funcdl.ops.bits import and_, or_
from funcdl.ops.convert import convert_element_type
from funcdl.ops.lowering import Reduction, compute_dtype
from funcdl.ops.shape import reshape
from funcdl.ops.slicing import slice_

CHUNKS = 32
# Terms of a sum to few results; rows, and elements, of one to many.
MIN_ELEMENTS = 1 << 16
MIN_ROWS = 16 * CHUNKS
MIN_COLUMN_ELEMENTS = 1 << 18
# Of an array that is reduced whole, rows at least so long are reduced first.
MIN_ROW = 256
# Chunks have a multiple of this many rows, which kernels take in at a time.
ROWS = 4
_JOIN: dict[str, Primitive] = {
    "sum": add,
    "prod": mul,
    "max": max_,
    "min": min_,
    "and": and_,
    "or": or_,
}


def split_reductions(program: ClosedJaxpr, even: bool = False, few: bool = True) -> ClosedJaxpr:
    """Cut every long reduction of leading dimensions into `CHUNKS` parts.

    Args:
        program: what is cut.
        even: rather another number of parts, up to four times more or less, than a remainder.
        few: also those with few results; a back end may cut the kernels of these instead.
    """
    eqns: list[Eqn] = []
    for eqn in program.jaxpr.eqns:
        for part in _rows_first(eqn) if _is_long(eqn, few) else [eqn]:
            eqns += _split(part, even) if _is_long(part, few) else [part]
    if len(eqns) == len(program.jaxpr.eqns):
        return program
    return ClosedJaxpr(program.jaxpr.replace(eqns=tuple(eqns)), program.consts)


def _is_long(eqn: Eqn, few: bool) -> bool:
    form = eqn.primitive.lower
    if not isinstance(form, Reduction) or form.op not in _JOIN:
        return False
    axes = tuple(sorted(eqn.params["axes"]))
    count: int = math.prod(eqn.invars[0].aval.shape[d] for d in axes)
    if axes != tuple(range(len(axes))):
        return False
    if eqn.outvars[0].aval.size < CHUNKS:
        return few and count >= MIN_ELEMENTS
    return count >= MIN_ROWS and eqn.invars[0].aval.size >= MIN_COLUMN_ELEMENTS


def _chunks(count: int, even: bool) -> tuple[int, int]:
    """How many parts there are of so many rows, and how long they are."""
    if even:
        near = sorted(range(CHUNKS // 4, 4 * CHUNKS + 1), key=lambda n: max(n, CHUNKS**2 / n))
        divisor = next((n for n in near if count % n == 0), None)
        if divisor is not None:
            return divisor, count // divisor
    return CHUNKS, count // (CHUNKS * ROWS) * ROWS


def _rows_first(eqn: Eqn) -> list[Eqn]:
    """The rows of what is reduced whole, and then the column of their results.

    Rows are what normalisations and losses are computed along, so that the first half joins their
    kernels, and what is reduced never reaches memory.
    """
    (x,), (out,) = eqn.invars, eqn.outvars
    shape, wide = x.aval.shape, compute_dtype(x.aval.dtype)
    if out.aval.shape or wide != x.aval.dtype or shape[-1] < MIN_ROW:
        return [eqn]
    rows = math.prod(shape[:-1])
    if rows < CHUNKS:
        return [eqn]
    parts = _Parts(eqn)
    column = parts.add(reshape, parts.reduce(x, len(shape) - 1), new_sizes=(rows,))
    parts.reduce(column, 0)
    last = parts.eqns.pop()
    return [*parts.eqns, last.replace(outvars=(out,))]


def _split(eqn: Eqn, even: bool) -> list[Eqn]:
    parts = _Parts(eqn)
    (x,), (out,) = eqn.invars, eqn.outvars
    reduced = len(eqn.params["axes"])
    count, rest = math.prod(x.aval.shape[:reduced]), x.aval.shape[reduced:]
    chunks, length = _chunks(count, even)
    left = count - chunks * length
    wide = compute_dtype(x.aval.dtype)
    weak = out.aval.weak_type
    if wide != x.aval.dtype:
        # Partial results are rounded no more than the result.
        x = parts.add(convert_element_type, x, new_dtype=wide, weak_type=weak)
    rows = parts.add(reshape, x, new_sizes=(count, *rest))
    head = parts.rows(rows, 0, count - left)
    cut = parts.add(reshape, head, new_sizes=(chunks, length, *rest))
    result = parts.reduce(parts.reduce(cut, 1), 0)
    if left:
        join = _JOIN[eqn.primitive.lower.op]
        result = parts.add(join, result, parts.reduce(parts.rows(rows, count - left, count), 0))
    if wide != out.aval.dtype:
        result = parts.add(convert_element_type, result, new_dtype=out.aval.dtype, weak_type=weak)
    last = parts.eqns.pop()
    return [*parts.eqns, last.replace(outvars=(out,))]


class _Parts:
    """The equations that take the place of one."""

    def __init__(self, eqn: Eqn) -> None:
        self._eqn = eqn
        self.eqns: list[Eqn] = []

    def add(self, primitive: Primitive, *operands: Atom, **params: Any) -> Var:
        (aval,) = primitive.output_avals([atom.aval for atom in operands], params)
        out = Var(aval)
        self.eqns.append(Eqn(primitive, operands, [out], params, self._eqn.source))
        return out

    def reduce(self, x: Atom, axis: int) -> Var:
        return self.add(self._eqn.primitive, x, **{**self._eqn.params, "axes": (axis,)})

    def rows(self, x: Var, start: int, limit: int) -> Var:
        """Some of the positions along the first dimension."""
        rest = x.aval.shape[1:]
        if limit - start == x.aval.shape[0]:
            return x
        return self.add(
            slice_,
            x,
            start_indices=(start, *(0 for _ in rest)),
            limit_indices=(limit, *rest),
            strides=None,
        )
