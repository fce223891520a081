"""Which knobs an autotuner tries for a kernel (see docs/autotuning.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import prod

from funcdl.compiler.cuda.schedule import Knobs, is_upcast, schedule_gpu
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.dot import integer_dot_as_sum
from funcdl.kir.ir import Dot, Kernel, Order
from funcdl.kir.schedule import Schedule

VERSION = 3
"""Raised when knobs change their meaning, so that kept choices are made again."""

_GROUPS = (1, 4, 16)
_LANES = (256, 512, 1024, 2048, 4096, 8192, 16384)
_WARPS = (1, 2, 4, 8, 16, 32)

# Blocks of a product (m, n, k), warps and stages; beyond a square of 256 the sums no longer fit
# into registers. Thin ones serve skinny matrices.
_HALF_TILES = (
    (128, 256, 64, 8, 4),
    (128, 256, 64, 8, 3),
    (256, 128, 64, 8, 3),
    (128, 128, 64, 8, 4),
    (128, 128, 64, 4, 4),
    (128, 128, 32, 8, 4),
    (128, 128, 32, 4, 4),
    (64, 256, 32, 4, 4),
    (256, 64, 32, 4, 4),
    (128, 64, 64, 4, 4),
    (64, 128, 64, 4, 4),
    (64, 64, 64, 4, 4),
    (64, 64, 32, 4, 5),
    (32, 64, 64, 4, 5),
    (64, 32, 64, 4, 5),
    (16, 64, 128, 4, 4),
    (64, 16, 128, 4, 4),
)
_FLOAT_TILES = (
    (128, 128, 16, 8, 3),
    (128, 128, 32, 8, 3),
    (128, 64, 32, 8, 3),
    (64, 128, 32, 8, 3),
    (128, 64, 16, 4, 3),
    (64, 128, 16, 4, 3),
    (64, 64, 16, 4, 3),
    (64, 64, 32, 4, 3),
    (64, 32, 32, 4, 4),
    (32, 64, 32, 4, 4),
    (32, 32, 32, 4, 4),
    (16, 64, 32, 4, 4),
    (64, 16, 32, 4, 4),
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Knobs and the schedule that they make."""

    knobs: Knobs
    schedule: Schedule

    @property
    def label(self) -> str:
        """The knobs that are set: ``lanes=1024 warps=4``."""
        return label(self.knobs)


def candidates(kernel: Kernel, first: Knobs, *, exhaustive: bool = False) -> list[Candidate]:
    """What to try, each schedule once: `first`, then the heuristics' choice, then others.

    Args:
      first: what is used where nothing is measured.
      exhaustive: all combinations instead of those that tend to be good.
    """
    found: dict[Schedule, Candidate] = {}
    for knobs in (first, Knobs(), *_others(kernel, exhaustive)):
        schedule = schedule_gpu(kernel, knobs)
        found.setdefault(schedule, Candidate(knobs, schedule))
    return list(found.values())


def refinements(
    kernel: Kernel, knobs: Knobs, processors: int, *, exhaustive: bool = False
) -> list[Candidate]:
    """What to try once a product's tiles are chosen: `knobs`, then other orders of the tiles, and
    no more programs than the device takes at a time, each for several tiles.

    One change at a time, or all combinations if `exhaustive`.

    Args:
      processors: of the device.
    """
    base = schedule_gpu(kernel, knobs)
    found = {base: Candidate(knobs, base)}
    as_dot = integer_dot_as_sum(conv_as_dot(kernel))
    dot = next((i for i in as_dot.body if isinstance(i, Dot)), None)
    if dot is not None:
        blocks = {
            s.axis: -(-as_dot.axis(s.axis).extent // s.size) for s in base.steps if s.kind == "grid"
        }
        # Where all rows or columns of tiles are one group, the order is the same for all heights.
        rows, columns = blocks[dot.m], blocks[dot.n]
        groups = [g for g in _GROUPS if columns > 1 and min(g, rows) != min(base.group, rows)]
        tiles = prod(blocks.values())
        programs = [n * processors for n in (1, 2) if n * processors < tiles]
        for group, count in product((None, *groups), (None, *programs)):
            if group is None or count is None or exhaustive:
                changed = replace(knobs, group=group or knobs.group, programs=count)
                schedule = schedule_gpu(kernel, changed)
                found.setdefault(schedule, Candidate(changed, schedule))
    return list(found.values())


def label(knobs: Knobs) -> str:
    """The knobs that are set, as text."""
    parts = [f"{name}={value}" for name, value in asdict(knobs).items() if value is not None]
    return " ".join(parts) or "heuristics"


def _others(kernel: Kernel, exhaustive: bool) -> Iterator[Knobs]:
    kernel = integer_dot_as_sum(conv_as_dot(kernel))
    dot = next((i for i in kernel.body if isinstance(i, Dot)), None)
    if dot is not None:
        yield from _tiles(kernel, dot, exhaustive)
    elif any(isinstance(i, Order) for i in kernel.body):
        yield from (Knobs(warps=warps) for warps in _WARPS)
    else:
        yield from _blocks(exhaustive)


def _blocks(exhaustive: bool) -> Iterator[Knobs]:
    for lanes, warps in product(_LANES, _WARPS):
        # From one element a thread, which starts many threads, to 32, which fill its registers.
        per_thread = lanes // (32 * warps)
        if exhaustive or 4 <= per_thread <= 16:
            yield Knobs(lanes=lanes, warps=warps)


def _tiles(kernel: Kernel, dot: Dot, exhaustive: bool) -> Iterator[Knobs]:
    half = is_half_product(kernel, dot)
    if not exhaustive:
        if half or dot.precision == "ieee":
            shrink, tiles = 1, _HALF_TILES if half else _FLOAT_TILES
        else:  # on tensor cores, in factors twice as wide
            shrink, tiles = 2, _HALF_TILES
        for m, n, k, warps, stages in tiles:
            yield Knobs(m=m, n=n, k=k // shrink, warps=warps, stages=stages)
        return
    sides = (16, 32, 64, 128, 256)
    depths: Iterable[int] = (32, 64, 128) if half else (16, 32, 64)
    for m, n, k, warps in product(sides, sides, depths, (4, 8)):
        sums = m * n // (32 * warps)  # accumulators of a thread, of 255 registers
        if 4 <= sums <= 128:
            yield from (Knobs(m=m, n=n, k=k, warps=warps, stages=s) for s in (2, 3, 4, 5))


def is_half_product(kernel: Kernel, dot: Dot) -> bool:
    """Whether a product's factors are widened half types, which tensor cores take as they are."""
    return all(is_upcast(kernel, id) for id in (dot.lhs, dot.rhs))


def from_json(fields: dict[str, int | None]) -> Knobs:
    """Knobs that were kept; raises `TypeError` for unknown names."""
    return replace(Knobs(), **fields)


def to_json(knobs: Knobs) -> dict[str, int]:
    """The knobs that are set."""
    return {name: value for name, value in asdict(knobs).items() if value is not None}
