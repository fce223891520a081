"""Whether the points of an access are at different elements.

An index is read as a number of mixed radix. Its terms are divided into digits: those of a digit are
multiples of a stride that is larger than all that the digits below can sum up to. Where two points
have one index, they have the same digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from funcdl.core.records import record
from funcdl.kir.index import AxisAtom, Index, ValueAtom
from funcdl.kir.ir import AtomicUpdate, Kernel, operands


def may_collide(index: Index) -> bool:
    """Whether two points might share this index; indices that are not affine are trusted."""
    if not all(isinstance(atom, AxisAtom) for atom, _ in index.terms):
        return False
    span = 0
    for atom, coefficient in sorted(index.terms, key=lambda term: abs(term[1])):
        assert isinstance(atom, AxisAtom)
        if abs(coefficient) <= span and atom.extent > 1:
            return True
        span += abs(coefficient) * max(atom.extent - 1, 0)
    return False


def points_are_distinct(kernel: Kernel, update: AtomicUpdate) -> bool:
    """Whether no two points of an update meet, whatever is computed.

    A window at a computed place is met once, and so is one for each position along other axes,
    where a computed place does not lead from one position to another.
    """
    terms = []
    for atom, coefficient in update.index.terms:
        if isinstance(atom, AxisAtom):
            terms.append(_Term(abs(coefficient), atom.extent - 1, axis=atom.name))
        elif isinstance(atom, ValueAtom):
            varies = frozenset(kernel.value_type(atom.id).axes)
            terms.append(_Term(abs(coefficient), atom.high - atom.low, varies))
        else:
            return False
    known = {axis.name for axis in kernel.axes if axis.extent <= 1}
    wanted = {axis for id in operands(update) for axis in kernel.value_type(id).axes}
    wanted |= {term.axis for term in terms if term.axis}
    digits = _digits(terms)
    # Two points with the same place along some axes have the values that vary over these alone.
    while digits:
        rest = []
        for digit in digits:
            if _tells_axes(digit, known):
                known |= {term.axis for term in digit if term.axis}
            else:
                rest.append(digit)
        if len(rest) == len(digits):
            return False
        digits = rest
    return wanted <= known


@record
class _Term:
    """A stride, up to `steps` times: along an axis, or by a value that varies over other axes."""

    stride: int
    steps: int
    varies: frozenset[str] = frozenset()
    axis: str = ""

    @property
    def reach(self) -> int:
        """By how much it may differ from one point to another."""
        return self.stride * max(self.steps, 0)


def _digits(terms: Sequence[_Term]) -> list[list[_Term]]:
    """The terms by their stride, divided where those before do not reach a multiple of the rest."""
    ordered = sorted(terms, key=lambda term: term.stride)
    digits: list[list[_Term]] = []
    reach = 0
    for number, term in enumerate(ordered):
        if reach < gcd(*(later.stride for later in ordered[number:])):
            digits.append([])
        digits[-1].append(term)
        reach += term.reach
    return digits


def _tells_axes(digit: Sequence[_Term], known: set[str]) -> bool:
    """Whether a digit differs from place to place along its axes, those that are `known` aside."""
    reach = sum(term.reach for term in digit if term.varies - known)
    for term in digit:
        if term.axis and term.axis not in known:
            if term.stride <= reach:
                return False
            reach += term.reach
    return True
