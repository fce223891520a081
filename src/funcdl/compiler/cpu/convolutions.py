"""CPU schedules of convolutions: blocks of windows, and the features that a block computes."""

from __future__ import annotations

from itertools import product
from math import prod

from funcdl.compiler.cpu.winograd import schedule_winograd, schedule_winograd_gradient
from funcdl.core.integers import round_up
from funcdl.kir.convolution import batch_axes, find_conv, needed, plain_store
from funcdl.kir.ir import Conv, Kernel, Load
from funcdl.kir.motion import cost_of_windows, motions
from funcdl.kir.schedule import Kind, Schedule, Step

# A block of windows: so many are enough to make use of a panel of the kernel once it is in the
# cache, and so many bytes of lhs stay in the second-level cache beside the panel.
WINDOWS = 512
MOST_WINDOWS = 1 << 14
BAND_BYTES = 192 * 1024
# The same for several images: the more share a panel, the less often the kernel is read.
IMAGE_BYTES = 1 << 20
# Results of a block that wait for an epilogue.
RESULT_BYTES = 256 * 1024
# Tiles of features are a multiple of this, and so of every micro-kernel's width.
FEATURE_UNIT = 64
# A block of positions that contribute to a kernel's gradient; and memory for partial sums of it.
POSITIONS = 256
SUM_BYTES = 8 << 20
FEW_PLACES = 16
# The sums of a task, in the second-level cache beside what they are of; tiles of input features
# are no narrower than this.
TILE_BYTES = 256 * 1024
FEWEST_FEATURES = 32
# Threads share so many blocks at least, where there is enough work.
MANY_BLOCKS = 8
# So many threads, or half as many, end at the same time if each block costs the same.
FEW_THREADS = 4
PARALLEL_WORK = 32 * 1024
# Places of a kernel that are listed one by one in the C text.
MOST_TAPS = 1024


def schedule_conv(kernel: Kernel) -> Schedule | None:
    """The schedule of a convolution that the C renderer does directly; None where it should not."""
    id = find_conv(kernel)
    if id is None:
        return None
    conv = kernel.body[id]
    assert isinstance(conv, Conv)
    if len(conv.slides) > 2:
        return None
    extents = {axis.name: axis.extent for axis in kernel.axes}
    gradient = _is_kernel_gradient(kernel, conv, extents)
    if _is_depthwise(kernel, conv, extents):
        make = _schedule_depthwise_gradient if gradient else _schedule_depthwise
        return make(kernel, conv, extents)
    if gradient:
        return schedule_winograd_gradient(kernel, conv) or _schedule_gradient(kernel, conv, extents)
    return schedule_winograd(kernel, conv) or _schedule_windows(kernel, conv, extents)


def _is_depthwise(kernel: Kernel, conv: Conv, extents: dict[str, int]) -> bool:
    """Whether there are many groups, of one feature each."""
    groups = batch_axes(kernel, conv)
    if len(groups) != 1 or extents[conv.o] != 1:
        return False
    own = conv.c if _is_kernel_gradient(kernel, conv, extents) else conv.n
    alone = conv.n if own == conv.c else conv.c
    return extents[alone] == 1


def _schedule_depthwise(kernel: Kernel, conv: Conv, extents: dict[str, int]) -> Schedule | None:
    """As `_schedule_windows`, with the groups as features."""
    (group,) = batch_axes(kernel, conv)
    rows, columns = motions(kernel, conv)
    taps = prod(extents[slide.rhs] for slide in conv.slides)
    n, channels = extents[conv.n], extents[group]
    row_bytes = columns.elements(columns.windows) * channels * conv.type.dtype.itemsize
    if taps > MOST_TAPS or columns.windows > MOST_WINDOWS:
        return None
    height = min(max(WINDOWS // columns.windows, 1), rows.windows)
    while height > rows.period and rows.elements(height) * row_bytes > BAND_BYTES:
        height = -(-height // 2)
    images = 1
    if height == rows.windows:
        images = max(1, min(WINDOWS // (height * columns.windows), n))
    while images > 1 and -(-n // images) < MANY_BLOCKS:
        images = -(-images // 2)
    while height > rows.period and -(-n // images) * -(-rows.windows // height) < MANY_BLOCKS:
        height = -(-height // 2)
    height = min(round_up(height, rows.period), rows.windows)
    outer: Kind = "parallel" if conv_work(kernel, conv) >= PARALLEL_WORK else "tile"
    steps = [Step(conv.n, outer, images)]
    if conv.windows:
        steps.append(Step(conv.windows[0], outer, height))
    return Schedule((*steps, Step(group, "tile", channels), Step(group, "vector")))


def _schedule_depthwise_gradient(
    kernel: Kernel, conv: Conv, extents: dict[str, int]
) -> Schedule | None:
    """As `_schedule_gradient`, with the groups as output features."""
    (group,) = batch_axes(kernel, conv)
    images, rows = extents[conv.c], extents[conv.slides[0].rhs]
    width = extents[conv.slides[1].rhs] if len(conv.slides) > 1 else 1
    windows = prod(extents[axis] for axis in conv.windows)
    if width > MOST_WINDOWS or windows > MOST_TAPS:
        return None
    row_bytes = width * extents[group] * conv.type.dtype.itemsize
    height = max(1, min(rows, POSITIONS // width, BAND_BYTES // row_bytes))
    outer: Kind = "parallel" if conv_work(kernel, conv) >= PARALLEL_WORK else "tile"
    return Schedule(
        (
            Step(conv.c, outer, -(-images // min(images, MANY_BLOCKS))),
            Step(group, "tile", extents[group]),
            Step(conv.c, "tile", 1),
            Step(conv.slides[0].rhs, "tile", height),
            Step(group, "vector"),
        )
    )


def conv_work(kernel: Kernel, conv: Conv) -> int:
    """What the products cost, in additions."""
    places = (slide.rhs for slide in conv.slides)
    axes = {*batch_axes(kernel, conv), conv.n, conv.o, conv.c, *conv.windows, *places}
    return 2 * prod(kernel.axis(axis).extent for axis in axes)


def _is_kernel_gradient(kernel: Kernel, conv: Conv, extents: dict[str, int]) -> bool:
    """Whether windows are large and few, and n is what lies together in memory.

    So it is where lhs has the roles of batch and features exchanged, to find the gradient of a
    convolution's kernel: n are the input features, c the images, the window is the whole output.
    """
    if not conv.slides or any(slide.spread != 1 for slide in conv.slides):
        return False
    windows, places = (
        prod(extents[axis] for axis in axes)
        for axes in (conv.windows, (slide.rhs for slide in conv.slides))
    )
    if places < windows or places < FEW_PLACES:
        return False
    loads = [kernel.body[id] for id in needed(kernel, conv.lhs)]
    along = [i.index for i in loads if isinstance(i, Load)]
    by_n = extents[conv.n] == 1 or any(index.coefficient(conv.n) == 1 for index in along)
    return by_n or not any(index.coefficient(conv.c) == 1 for index in along)


def _schedule_gradient(kernel: Kernel, conv: Conv, extents: dict[str, int]) -> Schedule | None:
    """Tiles of input by output features and chunks of images, each with a sum; in these, blocks.

    Of the ways to cut the work into enough tasks, that which reads and writes least: each tile of
    output features reads the image once, each tile of input features packs the other factor, and
    the sums of chunks are cleared, added to and added up.
    """
    item = conv.type.dtype.itemsize
    images, features, o = extents[conv.c], extents[conv.n], extents[conv.o]
    rows = extents[conv.slides[0].rhs]
    width = extents[conv.slides[1].rhs] if len(conv.slides) > 1 else 1
    windows = prod(extents[axis] for axis in conv.windows)
    if width > MOST_WINDOWS or windows > MOST_TAPS:
        return None
    groups = prod(extents[axis] for axis in batch_axes(kernel, conv))
    outer: Kind = "parallel" if conv_work(kernel, conv) >= PARALLEL_WORK else "tile"
    wanted = MANY_BLOCKS if outer == "parallel" else 1
    elements = groups * images * prod(extents[slide.lhs] for slide in conv.slides) * features
    positions = groups * images * rows * width * round_up(o, FEATURE_UNIT)
    sums = groups * windows * features * round_up(o, FEATURE_UNIT)

    def chunks_of(tile: tuple[int, int]) -> int:
        tasks = groups * -(-features // tile[0]) * -(-o // tile[1])
        return max(1, min(images, -(-wanted // tasks), SUM_BYTES // (sums * item)))

    def cost(tile: tuple[int, int]) -> tuple[int, int, int]:
        chunks, across, along = chunks_of(tile), -(-o // tile[1]), -(-features // tile[0])
        moved = elements * across + 2 * positions * along + (3 * chunks * sums if chunks > 1 else 0)
        tasks = min(groups * across * along * chunks, wanted)
        size = max(windows * tile[0], POSITIONS) * tile[1] * item
        return max(size, TILE_BYTES), -tasks, moved

    tiles = product(_tiles(features, FEWEST_FEATURES, 2), _tiles(o, FEATURE_UNIT, FEATURE_UNIT))
    tile = min(tiles, key=cost)
    chunk = -(-images // chunks_of(tile))
    height = min(rows, max(1, POSITIONS // width))
    block = min(chunk, max(1, POSITIONS // (rows * width))) if height == rows else 1
    return Schedule(
        (
            *(Step(axis, outer) for axis in batch_axes(kernel, conv)),
            Step(conv.c, outer, chunk),
            Step(conv.n, outer, tile[0]),
            Step(conv.o, outer, tile[1]),
            Step(conv.c, "tile", block),
            Step(conv.slides[0].rhs, "tile", height),
            Step(conv.o, "vector"),
        )
    )


def _tiles(features: int, least: int, unit: int) -> list[int]:
    """Sizes of tiles of an equal number of features: multiples of a unit, the largest first."""
    sizes = [features]
    for count in range(2, -(-features // least) + 1):
        size = round_up(-(-features // count), unit)
        if least <= size < sizes[-1]:
            sizes.append(size)
    return sizes


def _schedule_windows(kernel: Kernel, conv: Conv, extents: dict[str, int]) -> Schedule | None:
    """Blocks of windows of one or more images; a block has all rows of an image, or only one."""
    rows, columns = motions(kernel, conv)
    taps = prod(extents[slide.rhs] for slide in conv.slides)
    item = conv.type.dtype.itemsize
    n, o, c = extents[conv.n], extents[conv.o], extents[conv.c]
    row_bytes = columns.elements(columns.windows) * c * item
    if taps > MOST_TAPS or columns.windows > MOST_WINDOWS:
        return None
    images = 1
    parallel = conv_work(kernel, conv) >= PARALLEL_WORK
    groups = prod(extents[axis] for axis in batch_axes(kernel, conv))
    # Features are split first: the fewer windows in a block, the fewer share their class.
    pieces = max(o // FEATURE_UNIT, 1)
    height = min(max(WINDOWS // columns.windows, 1), rows.windows)
    while height > rows.period and rows.elements(height) * row_bytes > BAND_BYTES:
        height = -(-height // 2)
    if height == rows.windows:
        image_bytes = rows.elements(rows.windows) * row_bytes
        most = min(2 * WINDOWS // (rows.windows * columns.windows), IMAGE_BYTES // image_bytes, n)

        def cost(images: int) -> int:
            """Of all blocks, the last one counted as whole, if so many threads share them."""
            tasks = round_up(groups * -(-n // images) * pieces, FEW_THREADS if parallel else 1)
            return tasks * cost_of_windows(rows, columns, images, c)

        images = min(range(1, most + 1), key=lambda count: (cost(count), -count), default=1)

    def blocks() -> int:
        return groups * -(-n // images) * -(-rows.windows // height)

    while parallel and images > 1 and blocks() * pieces < MANY_BLOCKS:
        images = -(-images // 2)
    while parallel and height > rows.period and blocks() * pieces < MANY_BLOCKS:
        height = -(-height // 2)
    height = min(-(-height // rows.period) * rows.period, rows.windows)
    features, kind = o, "tile"
    if plain_store(kernel) is None:
        block = images * height * columns.windows * item
        features = min(o, max(FEATURE_UNIT, RESULT_BYTES // block // FEATURE_UNIT * FEATURE_UNIT))
    if parallel and blocks() < MANY_BLOCKS and o > FEATURE_UNIT:
        pieces = -(-MANY_BLOCKS // blocks())
        features = max(FEATURE_UNIT, round_up(-(-o // pieces), FEATURE_UNIT))
        kind = "parallel"
    outer: Kind = "parallel" if parallel else "tile"
    steps = [Step(axis, outer) for axis in batch_axes(kernel, conv)]
    steps.append(Step(conv.n, outer, images))
    if conv.windows:
        steps.append(Step(conv.windows[0], outer, height))
    steps.append(Step(conv.o, "parallel" if parallel and kind == "parallel" else "tile", features))
    return Schedule((*steps, Step(conv.o, "vector")))
