"""Which convolutions Winograd's algorithm computes with less work, and their CPU schedules.

F(2×2, 3×3) takes 16 products for four windows where a direct sum takes 36, less those with padding.
Beside them stand the transforms of image, sums and kernel, which small kernels or few windows do
not pay for. Sums of rounded numbers that the transforms have added up are rounded a few times more:
a program that asks for the highest precision has its windows summed directly.
"""

from __future__ import annotations

from math import prod

from funcdl.core.integers import round_up
from funcdl.kir.convolution import batch_axes
from funcdl.kir.ir import Conv, Kernel
from funcdl.kir.motion import find_motion
from funcdl.kir.schedule import Schedule, Step

PLACES = 3
# Products for a tile of 2×2 windows.
POSITIONS = 16
# Tiles of a block: enough to make use of what stays in the cache meanwhile (a panel of the kernel,
# or the sums of its gradient), few enough for their transforms to stay there, too.
TILES = 32
GRADIENT_TILES = 64
MOST_ACROSS = 256
# The sums of a block's tiles for as many features as it computes at a time; and those of a task of
# the kernel's gradient.
SUM_BYTES = 256 * 1024
FEATURE_UNIT = 64
FEWEST_FEATURES = 8
MANY_BLOCKS = 8
CHUNK_BYTES = 8 << 20
# What transforms cost for each tile and feature of the image, for each tile and feature of the
# sums, and for each element of the kernel, in products; what a micro-tile's beginning and end cost,
# in terms of its sums.
IMAGE_COST = 60
SUMS_COST = 45
KERNEL_COST = 80
TILE_COST = 4
# Another algorithm pays if it takes no more than so much of the direct sums' work.
GAIN = 0.85


def schedule_winograd(kernel: Kernel, conv: Conv) -> Schedule | None:
    """The schedule of a convolution with less work by Winograd's algorithm; None for all others."""
    extents = {axis.name: axis.extent for axis in kernel.axes}
    n, o, c = extents[conv.n], extents[conv.o], extents[conv.c]
    if not _is_plain(conv, [extents[slide.rhs] for slide in conv.slides], min(o, c)):
        return None
    down, across = (-(-extents[axis] // 2) for axis in conv.windows)
    if not n * down * across > 0 or across > MOST_ACROSS:
        return None
    products = POSITIONS * (c + TILE_COST) * o
    work = n * down * across * (products + IMAGE_COST * c + SUMS_COST * o) + KERNEL_COST * c * o
    if work > GAIN * _direct(kernel, conv) * n * c * o:
        return None
    # Rows of tiles in a block, or all of some images.
    lines, images = max(1, min(TILES // across, down)), 1
    if lines == down:
        images = max(1, min(TILES // (down * across), n))
    groups = prod(extents[axis] for axis in batch_axes(kernel, conv))
    while images > 1 and groups * -(-n // images) < MANY_BLOCKS:
        images = -(-images // 2)
    sums = POSITIONS * images * lines * across * conv.type.dtype.itemsize
    features = max(FEATURE_UNIT, SUM_BYTES // sums // FEATURE_UNIT * FEATURE_UNIT)
    return Schedule(
        (
            *(Step(axis, "parallel") for axis in batch_axes(kernel, conv)),
            Step(conv.n, "parallel", images),
            Step(conv.windows[0], "parallel", 2 * lines),
            Step(conv.o, "tile", min(o, features)),
            Step(conv.windows[1], "tile", 2),
            Step(conv.o, "vector"),
        )
    )


def schedule_winograd_gradient(kernel: Kernel, conv: Conv) -> Schedule | None:
    """The same for a gradient of a kernel: tiles of its features, chunks of images, blocks."""
    extents = {axis.name: axis.extent for axis in kernel.axes}
    images, o, features = extents[conv.c], extents[conv.o], extents[conv.n]
    if not _is_plain(conv, [extents[axis] for axis in conv.windows], min(o, features)):
        return None
    down, across = (-(-extents[slide.rhs] // 2) for slide in conv.slides)
    if not images * down * across > 0 or across > MOST_ACROSS:
        return None
    item = conv.type.dtype.itemsize
    parts = -(-features // FEATURE_UNIT)
    tile = -(-features // parts)
    columns = max(SUM_BYTES // (POSITIONS * item * tile) // FEATURE_UNIT, 1) * FEATURE_UNIT
    columns = min(columns, o)
    along = -(-o // columns)
    # Sums are read and written once a block.
    products = (POSITIONS + 2 * POSITIONS * 2 / GRADIENT_TILES) * features * o
    transforms = IMAGE_COST * features * along + SUMS_COST * round_up(o, FEATURE_UNIT) * parts
    work = images * down * across * (products + transforms)
    if work > GAIN * _direct(kernel, conv) * images * features * o:
        return None
    tasks = prod(extents[axis] for axis in batch_axes(kernel, conv)) * parts * along
    room = CHUNK_BYTES // (tasks * POSITIONS * tile * round_up(columns, FEATURE_UNIT) * item)
    chunks = max(1, min(images, -(-MANY_BLOCKS // tasks), room))
    chunk = -(-images // chunks)
    lines, block = max(1, min(GRADIENT_TILES // across, down)), 1
    if lines == down:
        block = max(1, min(GRADIENT_TILES // (down * across), chunk))
    return Schedule(
        (
            *(Step(axis, "parallel") for axis in batch_axes(kernel, conv)),
            Step(conv.c, "parallel", chunk),
            Step(conv.n, "parallel", tile),
            Step(conv.o, "parallel", columns),
            Step(conv.c, "tile", block),
            Step(conv.slides[0].rhs, "tile", 2 * lines),
            Step(conv.slides[1].rhs, "tile", 2),
            Step(conv.o, "vector"),
        )
    )


def _is_plain(conv: Conv, places: list[int], features: int) -> bool:
    """Whether the kernel has 3×3 places that move by single elements, for floats."""
    return (
        places == [PLACES, PLACES]
        and all(s.stride == s.dilation == s.spread == 1 for s in conv.slides)
        and features >= FEWEST_FEATURES
        and conv.type.dtype.kind == "f"
        and not conv.direct
    )


def _direct(kernel: Kernel, conv: Conv) -> int:
    """How many products an image takes, for two features, whose windows are summed directly."""
    met = []
    for slide in conv.slides:
        windows, size, places = (
            kernel.axis(axis).extent for axis in (slide.out, slide.lhs, slide.rhs)
        )
        motion = find_motion(slide, windows, size, places, clipped=True)
        met.append(sum(c.count * c.taps for c in motion.classes))
    return prod(met)
