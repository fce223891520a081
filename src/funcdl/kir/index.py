"""Integer index expressions of the kernel IR, kept in one normal form.

An `Index` is an affine sum ``offset + Σ coefficient · atom``. An atom is an axis of the kernel, a
value computed by the kernel (a gathered row number, say), or the floor quotient or remainder of
another index by a positive constant (what a reshape leaves behind). Sums, quotients and remainders
are simplified on construction from the ranges of their atoms, so that two equal reads have equal
indices and can share one load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class AxisAtom:
    """The position along a kernel axis, in ``[0, extent)``."""

    name: str
    extent: int


@dataclass(frozen=True, slots=True)
class ValueAtom:
    """An integer computed by the kernel: the SSA id of its instruction, and its inclusive range."""

    id: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class DivAtom:
    """``floor(index / divisor)`` for a positive constant divisor."""

    index: Index
    divisor: int


@dataclass(frozen=True, slots=True)
class ModAtom:
    """``index mod divisor``, never negative, for a positive constant divisor."""

    index: Index
    divisor: int


Atom = AxisAtom | ValueAtom | DivAtom | ModAtom


@dataclass(frozen=True, slots=True)
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
        return frozenset().union(*(_atom_axes(a) for a, _ in self.terms))

    def values(self) -> frozenset[int]:
        """SSA ids of the computed values that the index reads."""
        return frozenset().union(*(_atom_values(a) for a, _ in self.terms))

    def range(self) -> tuple[int, int]:
        """Smallest and largest value that the index can take (inclusive, may be wide)."""
        low = high = self.offset
        for atom, coefficient in self.terms:
            a_low, a_high = _atom_range(atom)
            low += coefficient * (a_low if coefficient > 0 else a_high)
            high += coefficient * (a_high if coefficient > 0 else a_low)
        return low, high


def constant(value: int) -> Index:
    return Index((), value)


def axis(name: str, extent: int) -> Index:
    """The position along an axis; an axis of extent 1 is the constant 0."""
    return constant(0) if extent == 1 else Index(((AxisAtom(name, extent), 1),))


def value(id: int, low: int, high: int) -> Index:
    return Index(((ValueAtom(id, low, high), 1),))


def combine(parts: Iterable[tuple[Index, int]]) -> Index:
    """``Σ factor · index``, with equal atoms gathered."""
    total: dict[Atom, int] = {}
    offset = 0
    for index, factor in parts:
        offset += factor * index.offset
        for atom, coefficient in index.terms:
            total[atom] = total.get(atom, 0) + factor * coefficient
    terms = tuple(
        sorted(((a, c) for a, c in total.items() if c), key=lambda term: _sort_key(term[0]))
    )
    return Index(terms, offset)


def floordiv(index: Index, divisor: int) -> Index:
    """``floor(index / divisor)``; splits off the terms that the divisor divides."""
    _require_positive(divisor)
    if divisor == 1:
        return index
    exact, rest = _split(index, divisor)
    low, high = rest.range()
    if low // divisor == high // divisor:
        return exact + low // divisor
    return exact + _nested_div(rest, divisor)


def mod(index: Index, divisor: int) -> Index:
    """``index mod divisor`` in ``[0, divisor)``; drops the terms that the divisor divides."""
    _require_positive(divisor)
    if divisor == 1:
        return constant(0)
    _, rest = _split(index, divisor)
    low, high = rest.range()
    if low // divisor == high // divisor:
        return rest - (low // divisor) * divisor
    if len(rest.terms) == 1 and rest.offset == 0:
        ((atom, coefficient),) = rest.terms
        if coefficient == 1 and isinstance(atom, ModAtom) and atom.divisor % divisor == 0:
            return mod(atom.index, divisor)
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


def _split(index: Index, divisor: int) -> tuple[Index, Index]:
    """``index = divisor · exact + rest`` with every divisible term in `exact`."""
    exact = tuple((a, c // divisor) for a, c in index.terms if c % divisor == 0)
    rest = tuple((a, c) for a, c in index.terms if c % divisor)
    return Index(exact, index.offset // divisor), Index(rest, index.offset % divisor)


def _nested_div(rest: Index, divisor: int) -> Index:
    if len(rest.terms) == 1 and rest.offset == 0:
        ((atom, coefficient),) = rest.terms
        if coefficient == 1 and isinstance(atom, DivAtom):
            return floordiv(atom.index, atom.divisor * divisor)
    return Index(((DivAtom(rest, divisor), 1),))


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


@lru_cache(maxsize=4096)
def _sort_key(atom: Atom) -> tuple[int, str]:
    """A total order on atoms: axes by name, then values, then quotients and remainders by text."""
    match atom:
        case AxisAtom(name):
            return 0, name
        case ValueAtom(id):
            return 1, f"{id:08d}"
        case DivAtom():
            return 2, repr(atom)
        case ModAtom():
            return 3, repr(atom)
