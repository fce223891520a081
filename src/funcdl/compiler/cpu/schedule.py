"""Default CPU schedules: which axes run on threads, which in SIMD lanes, and in what tiles.

The schedule of a kernel never depends on the number of threads, and no reduction is shared among
threads: results have the same bits for any number of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod

from funcdl.compiler.cpu.convolutions import conv_work, schedule_conv
from funcdl.core.integers import round_up
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.dot import is_strided, reads_in_place, runs_along_terms
from funcdl.kir.elementwise import lookup
from funcdl.kir.flat_rows import flat_rows
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.interleaved import interleaved
from funcdl.kir.ir import (
    AtomicUpdate,
    Conv,
    Dot,
    Effect,
    Elementwise,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Store,
)
from funcdl.kir.schedule import Kind, Schedule, Step
from funcdl.kir.unroll import can_unroll

# Kernels of less work than this, in additions, run faster on one thread than it takes to start two.
PARALLEL_WORK = 32 * 1024
# There are this many parallel iterations at least, where the axes allow it.
MANY_CHUNKS = 32
# Elements of a chunk of the innermost axis.
MIN_CHUNK = 1024
MAX_CHUNK = 16 * 1024
# Lanes of a column reduction: the accumulators stay in the first-level cache. With fewer lanes than
# the last number the reduced axes make better vectors, though they take strides through memory.
COLUMN_LANES = 1024
MIN_LANES = 64
SHORT_LANES = 8
# Rows of no more terms than this make few vectors, and each waits for what the last one came to.
# Where there are so many rows, those side by side make more, as lanes of so few that an array of
# their elements stays in the first-level cache.
SHORT_ROW = 64
MANY_ROWS = 16
ROW_LANES = 256
MIN_ROW_LANES = 16
ROW_BYTES = 16 * 1024
# Without a reduction it pays to transpose rows that are shorter than the first number and leave
# elements to be computed one by one, if an element costs so many additions.
PART_VECTOR = 16
LEAST_VECTOR = 4
HEAVY = 12
# Rows that a column reduction takes in at a time, where each costs no more additions than this.
UNROLLED_ROWS = 4
MOST_UNROLLED = 8
# Rows and columns of a tile of a transposition, and the fewest that are worth one: each line of a
# cache is used up while it is there.
TRANSPOSE_TILE = (16, 128)
TRANSPOSE_LEAST = 16
# Terms of a float sum that are added up one after the other (in each lane) before the sum moves on
# to a fresh accumulator: rounding errors grow with this, and not with the length of the sum.
ROW_BLOCK = 4096
COLUMN_BLOCK = 256
# Positions of a row in which a maximum is found before the row's next ones are compared with it:
# only the block with the greatest is searched for the maximum's position.
ARG_BLOCK = 512

# Positions of a row that are accumulated at a time, in an array in the first-level cache; and lanes
# of an accumulation down columns, at least the second number where threads share them.
RUNNING_BLOCK = 1024
RUNNING_LANES = 1024
RUNNING_MIN_LANES = 256

# What it takes to put one element in order, in additions.
SORT_COST = 50

# A product with fewer rows, columns or terms than this, or fewer multiplications in all, is not
# worth packing its operands. It takes more of them where columns make whole vectors in loops, of
# at least so many bytes, where operands are computed, or elements have fewer bytes.
DOT_THIN = 4
DOT_SMALL = 320
DOT_MEDIUM = 4096
DOT_COLUMNS = 16
DOT_ITEMSIZE = 4
# Rows and columns of a tile of a product in float32: what is read repeatedly stays in the
# second-level cache. Terms of a block, where operands are evaluated block by block.
DOT_TILE = (128, 256)
DOT_DEPTH = 256
# Tiles are made smaller, down to a limit, until there are this many for threads to share. Products
# of less work than this, in additions, take one thread less than 3 us, and two of them hardly less.
MANY_TILES = 8
DOT_PARALLEL_WORK = 256 * 1024
MIN_TILE = (8, 32)
# There are about this many tiles of columns, where tiles of the sizes above allow it: few columns
# and many rows read the right operand, the larger one as a rule, fewer times.
COLUMN_TILES = 8
# Rows of a tile that is as wide as it can be, where the left operand's terms are far apart.
FAR_ROWS = 64


def schedule_cpu(kernel: Kernel) -> Schedule:
    """The schedule that the C renderer is given."""
    if any(isinstance(i, AtomicUpdate) for i in kernel.body):
        return _schedule_updates(kernel)
    for instruction in kernel.body:
        if isinstance(instruction, Running | Order):
            return _schedule_running(kernel, instruction)
    direct = schedule_conv(kernel)
    if direct is not None:
        return direct
    kernel = conv_as_dot(kernel)
    reduced = {axis for i in kernel.body if isinstance(i, Reduce) for axis in i.axes}
    lane = None
    for dot in kernel.body:
        if isinstance(dot, Dot):
            if _is_blocked(kernel, dot):
                return _schedule_dot(kernel, dot)
            reduced = {dot.k}
            lane = _columns_as_lanes(kernel, dot)
    if not reduced:
        return _schedule_pointwise(kernel)
    lane = lane or _lane_axis(kernel, reduced)
    if lane is not None:
        columns = _schedule_columns(kernel, reduced, lane, COLUMN_LANES, MIN_LANES)
        return _with_rows_unrolled(kernel, reduced, columns)
    across = _axis_across_short_rows(kernel, reduced)
    if across is not None:
        lanes = _rows_side_by_side(kernel, reduced)
        return _schedule_columns(kernel, reduced, across, lanes, MIN_ROW_LANES)
    return _schedule_rows(kernel, reduced)


def work(kernel: Kernel) -> int:
    """What one run of the kernel costs, in units of one addition."""
    extents = {axis.name: axis.extent for axis in kernel.axes}
    total = 0
    axes: Iterable[str]
    for instruction in kernel.body:
        match instruction:
            case Store() | AtomicUpdate():
                axes, cost = instruction.index.axes(), 1
            case Elementwise(type_, name, _):
                axes, cost = type_.axes, lookup(name).cost
            case Reduce(_, _, arg, _):
                axes, cost = (*instruction.axes, *kernel.value_type(arg).axes), 1
            case Order(type_, keys):
                axes, cost = type_.axes, SORT_COST * len(keys)
            case Dot(type_, _, _, m, n, k):
                axes, cost = (*type_.axes, m, n, k), 2
            case Conv():
                axes, cost = (), conv_work(kernel, instruction)
            case _:
                axes, cost = instruction.type.axes, 1
        total += cost * prod(extents[axis] for axis in set(axes))
    return total


def _schedule_pointwise(kernel: Kernel) -> Schedule:
    axes = [axis.name for axis in kernel.axes if axis.extent != 1]
    if not axes:
        return Schedule(())
    *outer, inner = axes
    across = _transposed_axis(kernel, inner)
    if across is not None:
        tiles = [Step(across, "tile", TRANSPOSE_TILE[0]), Step(inner, "tile", TRANSPOSE_TILE[1])]
        if work(kernel) >= PARALLEL_WORK:
            tiles = [Step(step.axis, "parallel", step.size) for step in tiles]
        rest = [Step(axis, "loop") for axis in outer if axis != across]
        return Schedule((*tiles, *rest, Step(across, "loop"), Step(inner, "vector")))
    lane = _axis_across_short_rows(kernel, {inner})
    extent = kernel.axis(inner).extent
    in_parts = extent < PART_VECTOR and extent % LEAST_VECTOR != 0
    flat = lane is not None and flat_rows(kernel, lane, inner) is not None
    if lane is not None and not flat and in_parts and _cost_along(kernel, inner) >= HEAVY:
        lanes = _rows_side_by_side(kernel, {inner})
        return _schedule_columns(kernel, {inner}, lane, lanes, MIN_ROW_LANES)
    steps = _share(kernel, outer)
    chunks = _chunks(kernel, steps)
    if work(kernel) >= PARALLEL_WORK and len(steps) == len(outer) and chunks < MANY_CHUNKS:
        size = -(-extent * max(chunks, 1) // MANY_CHUNKS)
        size = min(max(round_up(size, 256), MIN_CHUNK), MAX_CHUNK)
        steps.append(Step(inner, "parallel", size))
    shared = {step.axis for step in steps}
    steps += [Step(axis, "loop") for axis in outer if axis not in shared]
    return Schedule((*steps, Step(inner, "vector")))


def _transposed_axis(kernel: Kernel, inner: str) -> str | None:
    """An outer axis along which a large buffer is read, where `inner` takes far strides in it."""
    pairs = interleaved(kernel)
    for id, load in enumerate(kernel.body):
        unit = 2 if id in pairs else 1
        if not isinstance(load, Load) or abs(load.index.coefficient(inner)) <= unit:
            continue
        for axis in kernel.axes:
            if abs(load.index.coefficient(axis.name)) == unit and axis.name != inner:
                least = min(kernel.axis(inner).extent, axis.extent)
                return axis.name if least >= TRANSPOSE_LEAST else None
    return None


def _schedule_rows(kernel: Kernel, reduced: set[str]) -> Schedule:
    """Reduced axes innermost: each row of them is one vector loop."""
    outer = [axis.name for axis in kernel.axes if axis.name not in reduced and axis.extent != 1]
    steps = _share(kernel, outer)
    shared = {step.axis for step in steps}
    steps += [Step(axis, "loop") for axis in outer if axis not in shared]
    return Schedule((*steps, *_reduce_steps(kernel, reduced, ROW_BLOCK, "vector")))


def _schedule_columns(
    kernel: Kernel, reduced: set[str], lane: str, size: int, least: int
) -> Schedule:
    """An outer axis innermost: the reductions of a tile of `size` columns advance together.

    Of fewer, but of no fewer than `least`, where threads share the tiles.
    """
    outer = [
        axis.name
        for axis in kernel.axes
        if axis.name not in reduced and axis.name != lane and axis.extent != 1
    ]
    steps = _share(kernel, outer)
    shared = {step.axis for step in steps}
    extent = kernel.axis(lane).extent
    is_parallel = work(kernel) >= PARALLEL_WORK and len(steps) == len(outer)
    while is_parallel and size > least and _chunks(kernel, steps) * extent < size * MANY_CHUNKS:
        size //= 2
    steps += [Step(axis, "loop") for axis in outer if axis not in shared]
    steps.append(Step(lane, "parallel" if is_parallel else "tile", size))
    steps += _reduce_steps(kernel, reduced, COLUMN_BLOCK, "loop")
    return Schedule((*steps, Step(lane, "vector")))


def _with_rows_unrolled(kernel: Kernel, reduced: set[str], columns: Schedule) -> Schedule:
    """The schedule with several rows at a time, where little is computed from each."""
    *steps, vector = columns.steps
    axis = next(a.name for a in reversed(kernel.axes) if a.name in reduced)
    cost = _cost_along(kernel, axis)
    tiles = [step.size for step in steps if step.axis == axis and step.kind == "tile"]
    if (
        cost > MOST_UNROLLED
        or any(size % UNROLLED_ROWS for size in tiles)
        or not can_unroll(kernel, axis, UNROLLED_ROWS)
    ):
        return columns
    return Schedule((*steps, Step(axis, "unroll", UNROLLED_ROWS), vector))


def _cost_along(kernel: Kernel, axis: str) -> int:
    """What is computed for each position along an axis, in additions."""
    return sum(
        lookup(i.name).cost if isinstance(i, Elementwise) else 1
        for i in kernel.body
        if not isinstance(i, Effect) and axis in i.type.axes
    )


def _schedule_running(kernel: Kernel, running: Running | Order) -> Schedule:
    """Rows in chunks, or down columns that are contiguous across, a tile of them at a time.

    What is put in order are whole rows.
    """
    axis = running.axis
    lane = None if isinstance(running, Order) else _lane_axis(kernel, {axis})
    outer = [a.name for a in kernel.axes if a.name not in (axis, lane) and a.extent != 1]
    steps = _share(kernel, outer)
    shared = {step.axis for step in steps}
    is_parallel = work(kernel) >= PARALLEL_WORK and len(steps) == len(outer)
    size = RUNNING_LANES
    if lane is not None and is_parallel:
        tiles = _chunks(kernel, steps) * kernel.axis(lane).extent
        while size > RUNNING_MIN_LANES and tiles < size * MANY_CHUNKS:
            size //= 2
    steps += [Step(name, "loop") for name in outer if name not in shared]
    if isinstance(running, Order):
        return Schedule((*steps, Step(axis, "vector")))
    if lane is None:
        return Schedule((*steps, Step(axis, "tile", RUNNING_BLOCK), Step(axis, "vector")))
    steps.append(Step(lane, "parallel" if is_parallel else "tile", size))
    return Schedule((*steps, Step(axis, "loop"), Step(lane, "vector")))


def _is_blocked(kernel: Kernel, dot: Dot) -> bool:
    """Whether a product is large enough for tiles, and not nearly a vector times a matrix."""
    m, n, k = (kernel.axis(axis).extent for axis in (dot.m, dot.n, dot.k))
    if min(m, n, k) < DOT_THIN and not runs_along_terms(kernel, dot):
        return False
    loads = is_strided(kernel, dot, dot.lhs) and is_strided(kernel, dot, dot.rhs)
    itemsize = dot.type.dtype.itemsize
    whole = n * itemsize % DOT_COLUMNS == 0 and _columns_as_lanes(kernel, dot) is not None
    in_loops = whole or not loads or itemsize < DOT_ITEMSIZE
    return m * n * k >= (DOT_MEDIUM if in_loops else DOT_SMALL)


def _columns_as_lanes(kernel: Kernel, dot: Dot) -> str | None:
    """The axis of columns that make vectors, which need not be added up as those of terms do."""
    if kernel.axis(dot.n).extent * dot.type.dtype.itemsize < DOT_COLUMNS:
        return None
    loads = [i for i in kernel.body if isinstance(i, Load) and {dot.k, dot.n} <= {*i.type.axes}]
    along = all(abs(load.index.coefficient(dot.n)) == 1 for load in loads)
    return dot.n if loads and along else None


def _schedule_dot(kernel: Kernel, dot: Dot) -> Schedule:
    """Tiles of m and n for threads to share, or whole batch elements where these are many."""
    k = kernel.axis(dot.k).extent
    batch = [a for a in kernel.axes if a.name not in (dot.m, dot.n, dot.k) and a.extent != 1]
    elements = prod(axis.extent for axis in batch)
    tiles_wanted = MANY_TILES if work(kernel) >= DOT_PARALLEL_WORK else 1
    # What is packed is packed for all tiles of an element: then threads share one or the other.
    in_place = reads_in_place(kernel, dot)
    by_element = elements >= (2 if in_place else MANY_CHUNKS) and tiles_wanted > 1
    if by_element:
        tiles_wanted = -(-tiles_wanted // elements) if in_place else 1
    tile_m, tile_n = _dot_tile(kernel, dot, tiles_wanted)
    tiles: Kind = "parallel" if tiles_wanted > 1 else "tile"
    depth = k
    if not is_strided(kernel, dot, dot.lhs) or not is_strided(kernel, dot, dot.rhs):
        depth = min(round_up(-(-k // -(-k // DOT_DEPTH)), 16), k)
    return Schedule(
        (
            *(Step(a.name, "parallel" if by_element else "loop") for a in batch),
            Step(dot.m, tiles, tile_m),
            Step(dot.n, tiles, tile_n),
            Step(dot.k, "tile", depth),
            Step(dot.k if runs_along_terms(kernel, dot) else dot.n, "vector"),
        )
    )


def _dot_tile(kernel: Kernel, dot: Dot, wanted: int) -> tuple[int, int]:
    """Rows and columns of a tile, so that there are `wanted` tiles if rows allow it.

    Columns do not depend on the number of rows, so that batches of all sizes share code; unless
    rows are what the left operand is contiguous along, as in gradients of weights. Its terms are
    far apart then and cost more to read again, and tiles are as wide as can be.
    """
    m, n = kernel.axis(dot.m).extent, kernel.axis(dot.n).extent
    most_m, most_n = DOT_TILE
    if dot.type.dtype.itemsize == 8:
        most_n //= 2
    least_m, least_n = MIN_TILE
    tile_n = most_n
    lhs = kernel.body[dot.lhs]
    if isinstance(lhs, Load) and is_strided(kernel, dot, dot.lhs):
        far = lhs.index.coefficient(dot.m) == 1
        while tile_n > least_n and (
            -(-m // FAR_ROWS) * -(-n // tile_n) < wanted if far else COLUMN_TILES * tile_n > n
        ):
            tile_n //= 2
    # What is evaluated from the left operand is evaluated for each tile of columns anew.
    tile_n = min(tile_n, round_up(n, least_n))
    rows = -(-m // most_m)
    tile_m = round_up(-(-m // rows), least_m)
    while -(-m // tile_m) * -(-n // tile_n) < wanted and tile_m > least_m:
        rows *= 2
        tile_m = round_up(-(-m // rows), least_m)
    return tile_m, tile_n


def _schedule_updates(kernel: Kernel) -> Schedule:
    """Sequential; the last axis is a vector where its positions meet at no element."""
    steps = [Step(axis.name, "loop") for axis in kernel.axes]
    last = kernel.axes[-1].name if kernel.axes else ""
    updates = [i for i in kernel.body if isinstance(i, Effect)]
    if last and all(_is_injective(kernel, update.index, last) for update in updates):
        steps[-1] = Step(last, "vector")
    return Schedule(tuple(steps))


def _is_injective(kernel: Kernel, index: Index, axis: str) -> bool:
    """Whether two positions along `axis` surely have different indices."""
    others = [atom for atom, _ in index.terms if atom != AxisAtom(axis, kernel.axis(axis).extent)]
    rest = Index(tuple((atom, 1) for atom in others))
    moved = any(axis in kernel.value_type(id).axes for id in rest.values())
    return index.coefficient(axis) != 0 and axis not in rest.axes() and not moved


def _share(kernel: Kernel, outer: Sequence[str]) -> list[Step]:
    """`parallel` records for as many leading axes as make a fair share of the work."""
    steps: list[Step] = []
    if work(kernel) >= PARALLEL_WORK:
        for axis in outer:
            if steps and _chunks(kernel, steps) >= MANY_CHUNKS:
                break
            steps.append(Step(axis, "parallel"))
    return steps


def _chunks(kernel: Kernel, steps: Iterable[Step]) -> int:
    return prod(kernel.axis(step.axis).extent for step in steps)


def _reduce_steps(kernel: Kernel, reduced: set[str], block: int, last: Kind) -> list[Step]:
    """Loops over the reduced axes, with a tile where a float sum starts a new accumulator."""
    axes = [axis for axis in kernel.axes if axis.name in reduced and axis.extent != 1]
    steps = [Step(axis.name, "loop") for axis in axes]
    if not steps:
        return []
    steps[-1] = Step(axes[-1].name, last)
    sums = any(
        isinstance(i, Dot)
        or (isinstance(i, Reduce) and i.op == "sum" and i.type.dtype.kind in "fc")
        for i in kernel.body
    )
    args = any(isinstance(i, Reduce) and i.op in ("argmax", "argmin") for i in kernel.body)
    if args and last == "vector" and axes[-1].extent > ARG_BLOCK:
        return [Step(axes[-1].name, "tile", ARG_BLOCK), *steps]
    inside = 1
    for at in range(len(axes) - 1, -1, -1):
        if sums and inside * axes[at].extent > block:
            size = max(1, block // inside)
            tile = Step(axes[at].name, "tile", size)
            return [*steps[:at], tile, *(steps[at:] if size > 1 else steps[at + 1 :])]
        inside *= axes[at].extent
    return steps


def _lane_axis(kernel: Kernel, reduced: set[str]) -> str | None:
    """The outer axis along which most of what is reduced is contiguous, if there is one."""
    votes: Counter[str] = Counter()
    for instruction in kernel.body:
        if isinstance(instruction, Load) and not reduced.isdisjoint(instruction.type.axes):
            size = prod(kernel.axis(axis).extent for axis in instruction.type.axes)
            for axis in instruction.type.axes:
                if abs(instruction.index.coefficient(axis)) == 1 and kernel.axis(axis).extent > 1:
                    votes[axis] += size
    best = max(votes, key=lambda axis: (votes[axis], axis in reduced), default=None)
    if best is None or best in reduced or kernel.axis(best).extent < SHORT_LANES:
        return None
    return best


def _axis_across_short_rows(kernel: Kernel, reduced: set[str]) -> str | None:
    """The axis along which short rows follow each other, if there are many of them.

    All that is computed, of the elements and of the results, is computed in full vectors.
    """
    if not 0 < prod(kernel.axis(axis).extent for axis in reduced) <= SHORT_ROW:
        return None
    across = [axis for axis in kernel.axes if axis.name not in reduced and axis.extent != 1]
    return across[-1].name if across and across[-1].extent >= MANY_ROWS else None


def _rows_side_by_side(kernel: Kernel, reduced: set[str]) -> int:
    """Of how many short rows, a power of two, the elements stay in the first-level cache."""
    of_rows = [
        i.type.dtype.itemsize
        for i in kernel.body
        if not isinstance(i, Effect) and not reduced.isdisjoint(i.type.axes)
    ]
    row = prod(kernel.axis(axis).extent for axis in reduced) * max(of_rows, default=8)
    return 1 << min(ROW_LANES, ROW_BYTES // row).bit_length() - 1
