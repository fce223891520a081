"""Integer index expressions of the kernel IR, kept in one normal form.

An `Index` is an affine sum ``offset + Σ coefficient · atom``. An atom is an axis of the kernel, a
value computed by the kernel (a gathered row number, say), or the floor quotient or remainder of
another index by a positive constant (what a reshape leaves behind). Sums, quotients and remainders
are simplified on construction from the ranges of their atoms, so that two equal reads have equal
indices and can share one load. Build quotients and remainders with `//` and `%`, not from atoms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import gcd
from typing import Any

from funcdl.core.records import record


@record
class AxisAtom:
    """The position along a kernel axis, in ``[0, extent)``."""

    name: str
    extent: int


@record
class ValueAtom:
    """An integer computed by the kernel: the SSA id of its instruction, and its inclusive range."""

    id: int
    low: int
    high: int


@record
class DivAtom:
    """``floor(index / divisor)`` for a positive constant divisor."""

    index: Index
    divisor: int


@record
class ModAtom:
    """``index mod divisor``, never negative, for a positive constant divisor."""

    index: Index
    divisor: int


Atom = AxisAtom | ValueAtom | DivAtom | ModAtom


@record
class Index:
    """``offset + Σ coefficient · atom``; `terms` holds each atom once, sorted, none with 0."""

    terms: tuple[tuple[Atom, int], ...] = ()
    offset: int = 0

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.offset + other)
        return combine([(self, 1), (other, 1)])

    def __sub__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.offset - other)
        return combine([(self, 1), (other, -1)])

    def __mul__(self, factor: int) -> Index:
        return combine([(self, factor)])

    def __floordiv__(self, divisor: int) -> Index:
        return floordiv(self, divisor)

    def __mod__(self, divisor: int) -> Index:
        return mod(self, divisor)

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def coefficient(self, axis: str) -> int:
        """The stride along `axis` where it appears as a plain atom, else 0."""
        return next((c for a, c in self.terms if isinstance(a, AxisAtom) and a.name == axis), 0)

    def axes(self) -> frozenset[str]:
        """Axes that the index reads directly; those of its value atoms are the kernel's to know."""
        return frozenset(name for atom, _ in self.terms for name in _atom_axes(atom))

    def values(self) -> frozenset[int]:
        """SSA ids of the computed values that the index reads."""
        return frozenset(id for atom, _ in self.terms for id in _atom_values(atom))

    def range(self) -> tuple[int, int]:
        """Smallest and largest value that the index can take (inclusive, may be wide)."""
        low = high = self.offset
        for atom, coefficient in self.terms:
            a_low, a_high = _atom_range(atom)
            low += coefficient * (a_low if coefficient > 0 else a_high)
            high += coefficient * (a_high if coefficient > 0 else a_low)
        return low, high


def constant(value: int) -> Index:
    """The same position everywhere."""
    return Index((), value)


def axis(name: str, extent: int) -> Index:
    """The position along an axis; an axis of extent 1 is the constant 0."""
    return constant(0) if extent == 1 else Index(((AxisAtom(name, extent), 1),))


def value(id: int, low: int, high: int) -> Index:
    """A computed position; `low` and `high` are inclusive, and the kernel keeps to them."""
    return constant(low) if low == high else Index(((ValueAtom(id, low, high), 1),))


def combine(parts: Iterable[tuple[Index, int]]) -> Index:
    """``Σ factor · index``, with equal atoms gathered and split indices made whole again."""
    total: dict[Atom, int] = {}
    offset = 0
    for index, factor in parts:
        offset += factor * index.offset
        for atom, coefficient in index.terms:
            total[atom] = total.get(atom, 0) + factor * coefficient
    whole = _recombine(total)
    if whole is not None:
        return combine([*whole, (constant(offset), 1)])
    terms = tuple(
        sorted(((a, c) for a, c in total.items() if c), key=lambda term: _sort_key(term[0]))
    )
    return Index(terms, offset)


@lru_cache(maxsize=16384)
def floordiv(index: Index, divisor: int) -> Index:
    """``floor(index / divisor)``; splits off the terms that the divisor divides."""
    _require_positive(divisor)
    if divisor == 1:
        return index
    exact, rest = _split(index, divisor)
    low, high = rest.range()
    if low // divisor == high // divisor:
        return exact + low // divisor
    step, coarse, _ = _coarsen(rest, divisor)
    if step > 1:
        return exact + floordiv(coarse, divisor // step)
    quotients = [a for a, c in rest.terms if c == 1 and isinstance(a, DivAtom)]
    if len(quotients) == 1:
        # floor((floor(x / a) + t) / b) = floor((x + a·t) / (a·b)) for every integer t.
        inner, scale = quotients[0].index, quotients[0].divisor
        others = rest - Index(((quotients[0], 1),))
        return exact + floordiv(combine([(inner, 1), (others, scale)]), scale * divisor)
    remainder = _only_atom(rest)
    if isinstance(remainder, ModAtom) and remainder.divisor % divisor == 0:
        return exact + mod(floordiv(remainder.index, divisor), remainder.divisor // divisor)
    return exact + Index(((DivAtom(rest, divisor), 1),))


@lru_cache(maxsize=16384)
def mod(index: Index, divisor: int) -> Index:
    """``index mod divisor`` in ``[0, divisor)``; drops the terms that the divisor divides."""
    _require_positive(divisor)
    if divisor == 1:
        return constant(0)
    _, rest = _split(index, divisor)
    low, high = rest.range()
    if low // divisor == high // divisor:
        return rest - (low // divisor) * divisor
    step, coarse, fine = _coarsen(rest, divisor)
    if step > 1:
        return mod(coarse, divisor // step) * step + fine
    remainder = _only_atom(rest)
    if isinstance(remainder, ModAtom) and remainder.divisor % divisor == 0:
        return mod(remainder.index, divisor)
    return Index(((ModAtom(rest, divisor), 1),))


def substitute(index: Index, axes: Mapping[str, Index]) -> Index:
    """Replace each axis named in `axes` by an index; used when axes are merged or split."""
    parts: list[tuple[Index, int]] = [(constant(index.offset), 1)]
    for atom, coefficient in index.terms:
        match atom:
            case AxisAtom(name):
                parts.append((axes.get(name, Index(((atom, 1),))), coefficient))
            case DivAtom(inner, divisor):
                parts.append((floordiv(substitute(inner, axes), divisor), coefficient))
            case ModAtom(inner, divisor):
                parts.append((mod(substitute(inner, axes), divisor), coefficient))
            case ValueAtom():
                parts.append((Index(((atom, 1),)), coefficient))
    return combine(parts)


def rename_values(index: Index, ids: Mapping[int, int]) -> Index:
    """Replace the SSA ids of computed values, each of which must be a key of `ids`."""
    parts: list[tuple[Index, int]] = [(constant(index.offset), 1)]
    for atom, coefficient in index.terms:
        match atom:
            case AxisAtom():
                parts.append((Index(((atom, 1),)), coefficient))
            case DivAtom(inner, divisor):
                parts.append((floordiv(rename_values(inner, ids), divisor), coefficient))
            case ModAtom(inner, divisor):
                parts.append((mod(rename_values(inner, ids), divisor), coefficient))
            case ValueAtom(id, low, high):
                parts.append((value(ids[id], low, high), coefficient))
    return combine(parts)


def evaluate(index: Index, axes: Mapping[str, Any], values: Mapping[int, Any]) -> Any:
    """The index at given positions along its axes and given computed values.

    These are Python integers, or integer arrays that broadcast together.
    """
    total: Any = index.offset
    for atom, coefficient in index.terms:
        match atom:
            case AxisAtom(name):
                total = total + axes[name] * coefficient
            case ValueAtom(id):
                total = total + values[id] * coefficient
            case DivAtom(inner, divisor):
                total = total + evaluate(inner, axes, values) // divisor * coefficient
            case ModAtom(inner, divisor):
                total = total + evaluate(inner, axes, values) % divisor * coefficient
    return total


def _split(index: Index, divisor: int) -> tuple[Index, Index]:
    """``index = divisor · exact + rest`` with every divisible term in `exact`."""
    exact = tuple((a, c // divisor) for a, c in index.terms if c % divisor == 0)
    rest = tuple((a, c) for a, c in index.terms if c % divisor)
    return Index(exact, index.offset // divisor), Index(rest, index.offset % divisor)


def _coarsen(rest: Index, divisor: int) -> tuple[int, Index, Index]:
    """``rest = step · coarse + fine`` with ``0 <= fine < step`` and `step` dividing `divisor`.

    `fine` can then cross no multiple of the divisor: ``rest // divisor`` is
    ``coarse // (divisor // step)``. The largest step is taken; 1 where there is none.
    """
    shared = [gcd(c, divisor) for _, c in rest.terms]
    for step in sorted({*shared, gcd(*shared)} - {1}, reverse=True):
        coarse, fine = _split(rest, step)
        low, high = fine.range()
        if low >= 0 and high < step:
            return step, coarse, fine
    return 1, rest, constant(0)


def _recombine(total: Mapping[Atom, int]) -> list[tuple[Index, int]] | None:
    """The same sum with a remainder and its quotient joined, or None where nothing joins."""
    for atom, coefficient in total.items():
        if not isinstance(atom, ModAtom) or not coefficient:
            continue
        for other, found in total.items():
            if found == coefficient * atom.divisor and (joined := _join(atom, other)):
                rest = [(Index(((a, 1),)), c) for a, c in total.items() if a not in (atom, other)]
                return [*rest, (joined, coefficient)]
    return None


def _join(remainder: ModAtom, other: Atom) -> Index | None:
    """``remainder + divisor · other`` as one index, or None where they do not belong together.

    With ``y`` and ``d`` from the remainder ``y mod d``: ``d·(y // d) + y mod d = y``, and
    ``d·((y // d + t) mod f) + y mod d = (y + d·t) mod (d·f)``.
    """
    index, divisor = remainder.index, remainder.divisor
    quotient = floordiv(index, divisor)
    difference = quotient - Index(((other, 1),))
    if _is_plain(difference):
        return combine([(index, 1), (difference, -divisor)])
    if isinstance(other, ModAtom):
        difference = other.index - quotient
        if _is_plain(difference):
            whole = combine([(index, 1), (difference, divisor)])
            return mod(whole, divisor * other.divisor)
    return None


def _is_plain(index: Index) -> bool:
    return all(isinstance(atom, AxisAtom | ValueAtom) for atom, _ in index.terms)


def _only_atom(index: Index) -> Atom | None:
    if len(index.terms) == 1 and index.offset == 0 and index.terms[0][1] == 1:
        return index.terms[0][0]
    return None


def _require_positive(divisor: int) -> None:
    if divisor <= 0:
        raise ValueError(f"index divisor must be positive, got {divisor}")


def _atom_axes(atom: Atom) -> frozenset[str]:
    match atom:
        case AxisAtom(name):
            return frozenset((name,))
        case ValueAtom():
            return frozenset()
        case DivAtom(index) | ModAtom(index):
            return index.axes()


def _atom_values(atom: Atom) -> frozenset[int]:
    match atom:
        case AxisAtom():
            return frozenset()
        case ValueAtom(id):
            return frozenset((id,))
        case DivAtom(index) | ModAtom(index):
            return index.values()


def _atom_range(atom: Atom) -> tuple[int, int]:
    match atom:
        case AxisAtom(_, extent):
            return 0, max(extent - 1, 0)
        case ValueAtom(_, low, high):
            return low, high
        case DivAtom(index, divisor):
            low, high = index.range()
            return low // divisor, high // divisor
        case ModAtom(_, divisor):
            return 0, divisor - 1


@lru_cache(maxsize=16384)
def _sort_key(atom: Atom) -> tuple[int, str]:
    """A total order on atoms: axes by name, then values, then quotients and remainders by text."""
    match atom:
        case AxisAtom(name, extent):
            return 0, f"{name} {extent}"
        case ValueAtom(id, low, high):
            return 1, f"{id:08d} {low} {high}"
        case DivAtom():
            return 2, repr(atom)
        case ModAtom():
            return 3, repr(atom)
