"""Fourier transforms as calls of the C back end's library, one for each dimension.

`with_tables` puts `tabled_fft` in place of a transform, which takes the roots of unity as operands:
constants of the program, so that a loop's body reads them as any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from funcdl.compiler.loops import LoopStep
from funcdl.compiler.roots import chirps, padded_length, prime_factors, roots_of_unity
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.integers import round_up
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Var
from funcdl.core.records import record
from funcdl.kir.cost import Cost
from funcdl.kir.program import Address, LibraryCall, Pointer, Record, Value
from funcdl.ops.fft import FftType, tabled_fft

HEADER = "fd_fft.h"
LONGEST = 1 << 20
"""The longest row. A program keeps tables as large as a row; the host needs none."""

# Larger prime factors make a length one of Bluestein's: FD_FFT_RADIX in fd_fft.h, and less where
# most lanes of a panel would be idle.
_LARGEST_FACTOR, _LARGEST_ALONE = 127, 31
# Lanes of the widest vector, of which parts of a long row had best be multiples.
_LANES = 16
# Rows are lanes of a panel beside others, or panels by themselves: shorter ones are lanes; longer
# ones are panels, since a panel of many would leave the caches; between the two they are panels
# where those leave few lanes idle (a share), or where there are few rows.
_SHORTEST_PANEL = 64
_LONGEST_LANE = 2048
_IDLE = 0.1


@record
class Axis:
    """How one dimension is transformed.

    `kind` says from and to what: a dimension other than the last is one of complex numbers.
    `first * second` is the length of the complex transform that does the work; see `fd_fft_core`.
    """

    kind: FftType
    length: int
    outer: int
    inner: int
    chirped: bool
    first: int
    second: int

    @property
    def real(self) -> int:
        """1 from real numbers, -1 to them, else 0."""
        return {FftType.RFFT: 1, FftType.IRFFT: -1}.get(self.kind, 0)

    @property
    def halved(self) -> bool:
        """Whether pairs of real numbers are transformed as complex ones."""
        return not self.chirped and self.first * self.second != self.length

    @property
    def tabled(self) -> tuple[int, bool, int, int, bool]:
        """All that the table depends on: equal dimensions share one constant."""
        return self.length, self.halved, self.first, self.second, self.chirped


def with_tables(eqn: Eqn) -> ClosedJaxpr | None:
    """A transform with its tables; None where the host does it."""
    if eqn.primitive.name != "fft" or not eqn.outvars[0].aval.size:
        return None
    if max(eqn.params["fft_lengths"]) > LONGEST:
        return None
    return _with_tables(eqn.invars[0].aval, eqn.params["fft_type"], eqn.params["fft_lengths"])


@lru_cache(maxsize=256)
def _with_tables(aval: ShapedArray, fft_type: FftType, fft_lengths: Shape) -> ClosedJaxpr:
    params = {"fft_type": fft_type, "fft_lengths": fft_lengths}
    axes = plan(aval.shape, fft_type, fft_lengths)
    dtype = np.result_type(aval.dtype, np.complex64)
    tables = [table(axis.tabled, dtype) for axis in axes]
    x, operands = Var(aval), [Var(table.aval) for table in tables]
    (out,) = tabled_fft.output_avals([aval, *(var.aval for var in operands)], params)
    eqn = Eqn(tabled_fft, [x, *operands], [Var(out)], params)
    return ClosedJaxpr(Jaxpr(operands, [x], list(eqn.outvars), [eqn]), tables)


@lru_cache(maxsize=256)
def plan(shape: Shape, fft_type: FftType, fft_lengths: Shape) -> tuple[Axis, ...]:
    """The dimensions of an operand in the order that they are transformed in.

    The last one comes first, but for real results, of which it is the only real one.
    """
    count = len(fft_lengths)
    extents = list(shape)
    order = list(range(len(shape) - 1, len(shape) - 1 - count, -1))
    if fft_type is FftType.IRFFT:
        order = [*order[1:], order[0]]
    found = []
    for at in order:
        kind, length = fft_type, fft_lengths[at - len(shape)]
        if at < len(shape) - 1:
            kind = {FftType.RFFT: FftType.FFT, FftType.IRFFT: FftType.IFFT}.get(kind, kind)
        outer, inner = math.prod(extents[:at]), math.prod(extents[at + 1 :])
        found.append(_axis(kind, length, outer, inner))
        if kind is FftType.RFFT:
            extents[at] = length // 2 + 1
    return tuple(found)


def _axis(kind: FftType, length: int, outer: int, inner: int) -> Axis:
    real = kind in (FftType.RFFT, FftType.IRFFT)
    points = length // 2 if real and length % 2 == 0 else length
    most = _LARGEST_FACTOR if outer * inner >= _LANES // 2 else _LARGEST_ALONE
    if max(prime_factors(points), default=1) > most:
        return Axis(kind, length, outer, inner, True, *_halves(padded_length(length)))
    alone = inner == 1 and points >= _SHORTEST_PANEL
    if alone and outer >= _LANES // 2 and points <= _LONGEST_LANE:
        alone = points > _LANES**2 and _lanes(*_halves(points)) <= 2 * points * (1 + _IDLE)
    first, second = _halves(points) if alone else (points, 1)
    return Axis(kind, length, outer, inner, False, first, second)


def _factors(n: int) -> list[int]:
    """The factors that a transform takes one by one: eights and fours rather than twos."""
    primes = prime_factors(n)
    twos = primes.count(2)
    fours = -twos % 3 if twos > 1 else 0
    eights = (twos - 2 * fours) // 3
    return [8] * eights + [4] * fours + [2] * (twos - 3 * eights - 2 * fours) + primes[twos:]


def _halves(n: int) -> tuple[int, int]:
    """Two factors of a number that leave few lanes of vectors idle, and are close to each other."""

    def price(first: int) -> tuple[int, int]:
        second = n // first
        return _lanes(first, second), max(first, second)

    return (best := min((d for d in range(1, n + 1) if n % d == 0), key=price)), n // best


def _lanes(first: int, second: int) -> int:
    """The lanes that two steps over a row pass, of which there are twice as many as elements."""
    return first * round_up(second, _LANES) + second * round_up(first, _LANES)


@lru_cache(maxsize=256)
def table(axis: tuple[int, bool, int, int, bool], dtype: np.dtype[Any]) -> Array:
    """The numbers that a dimension's transform needs, one part after the other; see `offsets`."""
    length, halved, first, second, chirped = axis
    k = np.arange(first)[:, None] * np.arange(second)
    parts = [roots_of_unity(np.arange(first), first), roots_of_unity(np.arange(second), second)]
    parts.append(roots_of_unity(k.ravel(), first * second) if second > 1 else np.zeros(0))
    parts.append(roots_of_unity(np.arange(length // 4 + 1), length) if halved else np.zeros(0))
    if chirped:
        parts += chirps(length, first * second)
    return Array(np.concatenate(parts).astype(dtype))


def offsets(axis: Axis) -> dict[str, int]:
    """Where the parts of a table begin, in real numbers."""
    points = axis.first * axis.second
    sizes = {
        "first_roots": axis.first,
        "second_roots": axis.second,
        "turns": points if axis.second > 1 else 0,
        "half_roots": axis.length // 4 + 1 if axis.halved else 0,
        "chirps": axis.length if axis.chirped else 0,
        "spectrum": points,
    }
    starts = [0]
    for size in sizes.values():
        starts.append(starts[-1] + 2 * size)
    return dict(zip(sizes, starts, strict=False))


def fourier_transform(eqn: Eqn, name: str) -> LoopStep | None:
    """A call of the library, where the equation is a transform with tables."""
    if eqn.primitive is not tabled_fft:
        return None
    scratch = {}
    if eqn.params["fft_type"] is FftType.IRFFT and len(eqn.params["fft_lengths"]) > 1:
        # The spectrum, whose other dimensions are transformed first, is not to be written to.
        scratch["spectrum"] = Var(eqn.invars[0].aval)
    return LoopStep(eqn, (), scratch, library=_fft_call)


def _fft_call(
    eqn: Eqn, scratch: dict[str, Var], name: str, address: Callable[[Var], Address]
) -> LibraryCall:
    def place(atom: object) -> Pointer:
        assert isinstance(atom, Var), "arrays are no literals"
        return Pointer(address(atom), atom.aval.dtype)

    (out,) = eqn.outvars
    x, *tables = map(place, eqn.invars)
    aval = eqn.invars[0].aval
    axes = plan(aval.shape, eqn.params["fft_type"], eqn.params["fft_lengths"])
    between = place(scratch.get("spectrum", out))
    short = dtypes.short_name(dtypes.real_dtype(aval.dtype))
    functions = []
    for number, (axis, table) in enumerate(zip(axes, tables, strict=True)):
        source = x if number == 0 else between
        target = place(out) if number == len(axes) - 1 else between
        arguments = (*_records(axis), source, target, table)
        functions.append((f"fd_fft_{short}", arguments))
    return LibraryCall(name, HEADER, tuple(functions), _cost(eqn, axes))


def _records(axis: Axis) -> tuple[Record, Record]:
    starts = offsets(axis)
    core: dict[str, Value] = {
        "first": axis.first,
        "second": axis.second,
        "first_factors": (*_factors(axis.first), 0),
        "second_factors": (*_factors(axis.second), 0),
        **{name: starts[name] for name in ("first_roots", "second_roots", "turns")},
    }
    inverse = axis.kind in (FftType.IFFT, FftType.IRFFT)
    sizes: dict[str, Value] = {
        "outer": axis.outer,
        "length": axis.length,
        "inner": axis.inner,
        "inverse": int(inverse),
        "real": axis.real,
        "scale": 1 / axis.length if inverse else 1.0,
        **{name: starts[name] for name in ("half_roots", "chirps", "spectrum")},
        "has_chirps": int(axis.chirped),
    }
    return (
        Record("fd_fft_sizes", tuple(sizes.items())),
        Record("fd_fft_core", tuple(core.items())),
    )


def _cost(eqn: Eqn, axes: Sequence[Axis]) -> Cost:
    """The usual count, 5 n log2 n for n complex numbers, whatever the factors are."""
    flops = 0
    for axis in axes:
        points = axis.length / (2 if axis.real else 1)
        flops += int(axis.outer * axis.inner * 5 * points * math.log2(max(axis.length, 2)))
    aval, out = eqn.invars[0].aval, eqn.outvars[0].aval
    wide = dtypes.real_dtype(aval.dtype) == np.float64
    return Cost(
        flops=flops,
        operations=flops * (2 if wide else 1),
        bytes_read=aval.nbytes,
        bytes_written=out.nbytes,
    )
