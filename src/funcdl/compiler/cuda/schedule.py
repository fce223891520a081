"""Default GPU schedules: which axes become program instances, blocks of lanes and loops.

An axis with a ``vector`` record of `size` lanes is a dimension of the kernel's blocks; one without
is a scalar. Before it stands what moves the block: ``grid`` (one program for each block of `size`
positions), ``tile`` (a loop over blocks of `size`), or nothing where one block holds the axis.
``loop`` is a loop over single positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from funcdl.compiler.cuda.rows import held_warps, looped_rows, reads_again, whole_row_lanes
from funcdl.core.integers import power_of_two
from funcdl.kir import elementwise
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.cut.split_rows import long_axis, takes_rests
from funcdl.kir.dot import integer_dot_as_sum
from funcdl.kir.ir import (
    AtomicUpdate,
    Cast,
    Dot,
    Elementwise,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Store,
)
from funcdl.kir.schedule import Schedule, Step

# Lanes of a block. 1024 is eight to a thread of four warps; for blocks that hold a whole row, and
# rows that are read more than once, see `rows`.
POINTWISE_LANES = 1024
LOOPED_LANES = 2048
# A program reads at least this many neighbours at a time: 128 bytes of float32.
COALESCED = 32
# Below this number of programs, large tiles of a product leave most of the GPU idle.
MANY_PROGRAMS = 128
# The parts that a product's sum may be cut into, and the terms that each has at least.
MAX_PARTS = 32
MIN_SUM = 512
# Sums as long as this are worth large tiles, which read half as much of the factors as ones of half
# the side: tensor cores would wait for the L2 cache. Half as long a part pays for being stored.
LONG_SUM = 4096
# Elements of rows that are cut, the programs that few of these become, and what each has at least.
MIN_ROW = 1 << 16
ROW_PROGRAMS = 1024
MIN_PART = 4096
# Rows of a product's blocks whose programs run side by side: see `kir.schedule.Schedule`.
GROUP = 8
# Longest row that a running result takes in one block, and the blocks in which it takes others.
RUNNING_LANES = 2048
# Elements of a thread, as the lanes above count on. What a function needs on its way to a result is
# held for each of them: where one costs more than an eighth of this (in additions), fewer fit.
ELEMENTS = 8
MAX_COST = 112
TILE_REGISTERS = 192
"""Registers of a thread, of 255, for the elements of a product's tile."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """The numbers that a schedule is made from; where one is None, a heuristic chooses it.

    `lanes`: positions of a block, of a kernel without a product; a reduced row that is longer is
    read in a loop. `m`, `n`, `k`: sides of a product's blocks. `warps`: of 32 threads, for each
    program. `stages`: of a product's pipeline. `group`: rows of a product's blocks whose programs
    run side by side. `programs`: at most so many are launched, each for several blocks.
    """

    lanes: int | None = None
    m: int | None = None
    n: int | None = None
    k: int | None = None
    warps: int | None = None
    stages: int | None = None
    group: int | None = None
    programs: int | None = None


def schedule_gpu(kernel: Kernel, knobs: Knobs | None = None) -> Schedule:
    """The schedule that the Triton renderer is given, made from a few numbers."""
    knobs = Knobs() if knobs is None else knobs
    if kernel.library is not None:
        return Schedule(())
    kernel = integer_dot_as_sum(conv_as_dot(kernel))
    dots = [i for i in kernel.body if isinstance(i, Dot)]
    if dots:
        return _schedule_dot(kernel, dots[0], knobs)
    running = [i for i in kernel.body if isinstance(i, Running | Order)]
    if running:
        return _schedule_running(kernel, running[0], knobs)
    reduced = {axis for i in kernel.body if isinstance(i, Reduce) for axis in i.axes}
    if reduced:
        return _schedule_reduction(kernel, reduced, knobs)
    return _schedule_pointwise(kernel, knobs)


def elements_of_thread(kernel: Kernel) -> int:
    """How many elements a thread computes side by side: fewer, the longer the longest function.

    A thread has 255 registers. Those of a logarithm are few, so that there is room for eight of
    them; the incomplete gamma functions take nearly all for one.
    """
    costs = [elementwise.lookup(i.name).cost for i in kernel.body if isinstance(i, Elementwise)]
    fitting = MAX_COST // max(costs, default=1)
    return 1 << (min(max(fitting, 1), ELEMENTS).bit_length() - 1)


def _schedule_pointwise(kernel: Kernel, knobs: Knobs) -> Schedule:
    extents = {axis.name: axis.extent for axis in kernel.axes}
    elements = elements_of_thread(kernel)
    budget = POINTWISE_LANES * elements // ELEMENTS
    lanes: dict[str, int] = {}
    inner = contiguous_axes(kernel)[:2]
    if len(inner) == 2:  # some buffer runs along another axis: a square tile serves both
        side = min(COALESCED, 1 << (budget.bit_length() - 1) // 2)
        lanes = {name: min(power_of_two(extents[name]), side) for name in inner}
    order = [*inner, *(a.name for a in reversed(kernel.axes) if a.name not in inner)]
    _fill(lanes, order, extents, knobs.lanes or budget)
    steps = [Step(a.name, "grid", lanes.get(a.name, 1)) for a in kernel.axes]
    warps = _warps(lanes.values(), elements)
    return _schedule((*steps, *_vectors(kernel, lanes)), warps, 2, knobs)


def _schedule_reduction(kernel: Kernel, reduced: set[str], knobs: Knobs) -> Schedule:
    extents = {axis.name: axis.extent for axis in kernel.axes}
    elements = elements_of_thread(kernel)
    inner = next(iter(contiguous_axes(kernel)), None)
    lanes: dict[str, int] = {}
    if inner is not None and inner not in reduced:  # neighbours along a column sum's columns
        lanes[inner] = min(power_of_two(extents[inner]), COALESCED)
    width = prod(lanes.values())

    looped: list[Step] = []
    whole = {name: power_of_two(extents[name]) for name in reduced}
    # A row of a long function is computed again sooner than held in registers.
    held = whole_row_lanes(kernel, reduced) if elements >= ELEMENTS // 2 else LOOPED_LANES
    persistent = held * elements // ELEMENTS
    warps = None
    if width * prod(whole.values()) <= (knobs.lanes or persistent):
        lanes |= whole
    else:
        # Each reduction keeps a block of partial results in registers, argmax two of them.
        kept = sum(2 if i.op.startswith("arg") else 1 for i in kernel.body if isinstance(i, Reduce))
        looped_lanes = LOOPED_LANES
        if inner in reduced and len(reduced) == 1 and reads_again(kernel, reduced):
            looped_lanes, warps = looped_rows(kernel, reduced)
        budget = knobs.lanes or looped_lanes * elements // ELEMENTS
        budget = budget // max(1, power_of_two(kept) // 4) // width
        for axis in reversed(kernel.axes):
            if axis.name not in reduced:
                continue
            size = min(power_of_two(axis.extent), max(budget, 1))
            budget //= size
            if size >= axis.extent:
                lanes[axis.name] = size
            elif size > 1:
                lanes[axis.name] = size
                looped.insert(0, Step(axis.name, "tile", size))
            else:
                looped.insert(0, Step(axis.name, "loop"))
    outer = [a.name for a in kernel.axes if a.name not in reduced]
    _fill(lanes, reversed(outer), extents, knobs.lanes or POINTWISE_LANES * elements // ELEMENTS)
    steps = [Step(name, "grid", lanes.get(name, 1)) for name in outer]
    if warps is None or knobs.lanes is not None:
        warps = _warps(lanes.values(), elements)
        if not looped and inner in reduced and elements == ELEMENTS and knobs.lanes is None:
            warps = held_warps(kernel, reduced, warps)
    return _schedule((*steps, *looped, *_vectors(kernel, lanes)), warps, 2, knobs)


def _schedule_running(kernel: Kernel, running: Running | Order, knobs: Knobs) -> Schedule:
    """Running results carry from block to block of a row. Rows that are sorted lie in one block."""
    extents = {axis.name: axis.extent for axis in kernel.axes}
    axis, length = running.axis, power_of_two(extents[running.axis])
    outer = [a.name for a in kernel.axes if a.name != axis]
    if isinstance(running, Order):
        steps = [Step(name, "grid") for name in outer]
        lanes = {axis: length}
        # An exchange needs the keys twice: those of more than a register have room for fewer lanes.
        width = sum(kernel.value_type(key).dtype.itemsize for key in running.keys)
        warps = _warps([length if width <= 4 else 2 * length])
        return _schedule((*steps, *_vectors(kernel, lanes)), warps, 2, knobs)
    elements = elements_of_thread(kernel)
    budget = knobs.lanes or RUNNING_LANES * elements // ELEMENTS
    lanes = {}
    inner = next(iter(contiguous_axes(kernel)), None)
    if inner is not None and inner != axis:  # neighbours along the columns that run down
        lanes[inner] = min(power_of_two(extents[inner]), COALESCED)
    lanes[axis] = max(1, min(length, budget // prod(lanes.values())))
    moved = [Step(axis, "tile", lanes[axis])] if lanes[axis] < extents[axis] else []
    _fill(lanes, reversed(outer), extents, budget)
    steps = [Step(name, "grid", lanes.get(name, 1)) for name in outer]
    warps = _warps(lanes.values(), elements)
    return _schedule((*steps, *moved, *_vectors(kernel, lanes)), warps, 2, knobs)


def _schedule_dot(kernel: Kernel, dot: Dot, knobs: Knobs) -> Schedule:
    extents = {axis.name: axis.extent for axis in kernel.axes}
    half = all(is_upcast(kernel, id) for id in (dot.lhs, dot.rhs))
    lanes = dict(zip((dot.m, dot.n, dot.k), _dot_blocks(dot, half), strict=True))
    given = {dot.m: knobs.m, dot.n: knobs.n, dot.k: knobs.k}
    for name in lanes:
        wanted = given[name] or lanes[name]
        lanes[name] = max(16, min(wanted, power_of_two(extents[name])))
    batch = [a.name for a in kernel.axes if a.name not in (dot.m, dot.n, dot.k)]
    copies = prod(extents[name] for name in batch)
    free = knobs.m is None and knobs.n is None
    beside = _values_beside(kernel, dot)
    while free and lanes[dot.m] * lanes[dot.n] * beside > 8 * 32 * TILE_REGISTERS:
        larger = max((dot.m, dot.n), key=lambda name: lanes[name])
        lanes[larger] //= 2
    while free and copies * _blocks(extents, lanes, (dot.m, dot.n)) < MANY_PROGRAMS:
        larger = max((dot.m, dot.n), key=lambda name: lanes[name])
        if lanes[larger] <= 32:
            break
        lanes[larger] //= 2
    steps = [Step(name, "grid", lanes.get(name, 1)) for name in (*batch, dot.m, dot.n)]
    steps.append(Step(dot.k, "tile", lanes[dot.k]))
    tile = lanes[dot.m] * lanes[dot.n]
    warps = 8 if tile >= 128 * 128 or tile * beside > 4 * 32 * TILE_REGISTERS else 4
    schedule = _schedule((*steps, *_vectors(kernel, lanes)), warps, 3, knobs)
    return replace(schedule, group=knobs.group or GROUP)


def fits_registers(kernel: Kernel, knobs: Knobs) -> bool:
    """Whether threads have registers for these sides of a product's blocks, and what follows it."""
    kernel = integer_dot_as_sum(conv_as_dot(kernel))
    dot = next((i for i in kernel.body if isinstance(i, Dot)), None)
    if dot is None or knobs.m is None or knobs.n is None:
        return True
    held = knobs.m * knobs.n * _values_beside(kernel, dot)
    return held <= (knobs.warps or 4) * 32 * TILE_REGISTERS


def fills_processors(kernel: Kernel, knobs: Knobs) -> bool:
    """Whether a product has enough blocks of these sides for all processors."""
    kernel = integer_dot_as_sum(conv_as_dot(kernel))
    dot = next((i for i in kernel.body if isinstance(i, Dot)), None)
    if dot is None or knobs.m is None or knobs.n is None:
        return True
    extents = {axis.name: axis.extent for axis in kernel.axes}
    copies = prod(extent for name, extent in extents.items() if name not in (dot.m, dot.n, dot.k))
    blocks = _blocks(extents, {dot.m: knobs.m, dot.n: knobs.n}, (dot.m, dot.n))
    return copies * blocks >= MANY_PROGRAMS


def _values_beside(kernel: Kernel, dot: Dot) -> int:
    """How many registers a thread needs for each sum: for itself, and for what is read beside.

    All of a tile is read before the first element is computed. An optimizer's update reads three.
    """
    loads = [i for i in kernel.body if isinstance(i, Load) and dot.k not in i.index.axes()]
    beside = sum({dot.m, dot.n} <= set(i.index.axes()) for i in loads)
    return max(1, dot.type.dtype.itemsize // 4) * (1 + beside)


def _schedule(steps: tuple[Step, ...], warps: int, stages: int, knobs: Knobs) -> Schedule:
    return Schedule(
        steps, knobs.warps or warps, knobs.stages or stages, programs=knobs.programs or 0
    )


def _dot_blocks(dot: Dot, half: bool) -> tuple[int, int, int]:
    """Sides of the blocks of a large product.

    A row of k is 128 bytes: a line of the cache, and the width that tensor cores like in shared
    memory. Products of unrounded float32 use no tensor cores.
    """
    if half:
        return 128, 128, 64
    if dot.type.dtype == np.float32 and dot.precision == "tf32":
        return 128, 128, 32
    if dot.type.dtype == np.float32 and dot.precision == "tf32x3":
        return 128, 128, 16
    return 64, 64, 16


def dot_parts(kernel: Kernel) -> int:
    """Into how many parts a product's sum is cut: more than one where its tiles are few.

    Each part adds up `MIN_SUM` products or more, and a part is a divisor's: no term is padding.
    """
    kernel = integer_dot_as_sum(conv_as_dot(kernel))
    dot = next((i for i in kernel.body if isinstance(i, Dot)), None)
    if dot is None or any(axis.extent == 0 for axis in kernel.axes):
        return 1
    extents = {axis.name: axis.extent for axis in kernel.axes}
    others = [name for name in extents if name not in (dot.m, dot.n, dot.k)]
    side, shortest = 64, MIN_SUM
    if _on_tensor_cores(kernel, dot) and extents[dot.k] >= LONG_SUM:
        side = 128
    tiles = prod(extents[name] for name in others)
    tiles *= _blocks(extents, {dot.m: side, dot.n: side}, (dot.m, dot.n))
    if side == 128 and tiles >= MANY_PROGRAMS // 4:
        shortest = LONG_SUM // 2
    wanted = min(-(-MANY_PROGRAMS // tiles), MAX_PARTS)
    most = min(2 * wanted, extents[dot.k] // shortest, MAX_PARTS)
    if wanted == 1 or most < 2:
        return 1
    # A few more programs are better than a few less than there are processors.
    tries = (*range(wanted, most + 1), *range(min(wanted, most), 1, -1))
    return next((n for n in tries if extents[dot.k] % n == 0), 1)


def parts(kernel: Kernel) -> int | tuple[str, int]:
    """Into what a kernel is cut so that all processors have work; 1 leaves it whole.

    0 parts a product from what follows it: a long function, which a thread has no room to compute
    for all of its elements of a tile, or the update of an optimizer, whose arrays leave no room for
    the large tiles that a long sum wants.
    """
    rows = row_parts(kernel)
    if rows is not None:
        return rows
    count = dot_parts(kernel)
    return 0 if count == 1 and _crowds_out(kernel) else count


def _crowds_out(kernel: Kernel) -> bool:
    """Whether what follows a product leaves too few registers for the product itself."""
    kernel = integer_dot_as_sum(conv_as_dot(kernel))
    dot = next((i for i in kernel.body if isinstance(i, Dot)), None)
    if dot is None:
        return False
    if elements_of_thread(kernel) == 1:
        return True
    long = _on_tensor_cores(kernel, dot) and kernel.axis(dot.k).extent >= LONG_SUM
    large = min(kernel.axis(dot.m).extent, kernel.axis(dot.n).extent) >= 128
    return long and large and 128 * 128 * _values_beside(kernel, dot) > 8 * 32 * TILE_REGISTERS


def _on_tensor_cores(kernel: Kernel, dot: Dot) -> bool:
    """Whether a product is one of half types, or of rounded factors."""
    if all(is_upcast(kernel, id) for id in (dot.lhs, dot.rhs)):
        return True
    return dot.type.dtype == np.float32 and dot.precision != "ieee"


def row_parts(kernel: Kernel) -> tuple[str, int] | None:
    """The axis and length of the parts that the rows of a kernel are cut into.

    None where there are rows enough for all processors, or they are short.
    """
    axis = long_axis(kernel)
    if axis is None or any(a.extent == 0 for a in kernel.axes):
        return None
    extents = {a.name: a.extent for a in kernel.axes}
    grid = [step for step in schedule_gpu(kernel).steps if step.kind == "grid"]
    programs = prod(-(-extents[step.axis] // step.size) for step in grid)
    along = {a for i in kernel.body if isinstance(i, Reduce) for a in i.axes} or {axis}
    row = prod(extents[name] for name in along)
    if programs >= MANY_PROGRAMS or row < MIN_ROW:
        return None
    count = min(ROW_PROGRAMS // programs, row // MIN_PART)
    extent = extents[axis]
    if takes_rests(kernel):
        step = LOOPED_LANES if axis in contiguous_axes(kernel)[:1] else COALESCED
        return axis, -(-extent // (count * step)) * step
    divisor = next((n for n in range(count, 1, -1) if extent % n == 0), None)
    return None if divisor is None else (axis, extent // divisor)


def is_upcast(kernel: Kernel, id: int) -> bool:
    """Whether a factor is a widened half-precision value, which tensor cores take as it is."""
    factor = kernel.body[id]
    return isinstance(factor, Cast) and kernel.value_type(factor.arg).dtype.itemsize == 2


def contiguous_axes(kernel: Kernel) -> list[str]:
    """Axes along which some access has stride one, those of the most elements first.

    The innermost axis counts first among equals; axes too short for a coalesced read do not count.
    """
    elements: Counter[str] = Counter()
    for axis in reversed(kernel.axes):
        for instruction in kernel.body:
            if isinstance(instruction, Load | Store | AtomicUpdate):
                index = instruction.index
                if abs(index.coefficient(axis.name)) == 1 and axis.extent >= COALESCED // 2:
                    elements[axis.name] += prod(kernel.axis(a).extent for a in index.axes())
    return [name for name, _ in elements.most_common()]


def _fill(
    lanes: dict[str, int], order: Iterable[str], extents: Mapping[str, int], budget: int
) -> None:
    """Widen the block along the axes in `order` until it holds `budget` lanes."""
    for name in order:
        spare = budget // prod(lanes.values())
        if name in lanes:
            wanted = power_of_two(extents[name]) // lanes[name]
            lanes[name] *= max(1, min(wanted, spare))
        elif spare > 1 and extents[name] > 1:
            lanes[name] = min(power_of_two(extents[name]), spare)


def _vectors(kernel: Kernel, lanes: Mapping[str, int]) -> list[Step]:
    return [Step(a.name, "vector", lanes[a.name]) for a in kernel.axes if a.name in lanes]


def _blocks(extents: Mapping[str, int], lanes: Mapping[str, int], names: tuple[str, ...]) -> int:
    return prod(-(-extents[name] // lanes[name]) for name in names)


def _warps(lanes: Iterable[int], elements: int = ELEMENTS) -> int:
    """Eight lanes a thread up to four warps, then sixteen; `elements` where these are fewer."""
    total = prod(lanes)
    if elements < ELEMENTS:
        return int(np.clip(total // (32 * elements), 1, 16 if elements >= ELEMENTS // 2 else 8))
    return int(np.clip(total // 256, 1, 4)) if total <= 1024 else int(np.clip(total // 512, 4, 16))
