"""CPU schedules of convolutions: blocks of windows, and the features that a block computes."""

from __future__ import annotations

from math import prod

from funcdl.kir.convolution import batch_axes, find_conv, plain_store
from funcdl.kir.ir import Conv, Kernel
from funcdl.kir.motion import motions
from funcdl.kir.schedule import Kind, Schedule, Step

# A block of windows: so many are enough to make use of a panel of the kernel once it is in the
# cache, and so many bytes of lhs stay in the second-level cache beside the panel.
WINDOWS = 512
MOST_WINDOWS = 1 << 14
BAND_BYTES = 192 * 1024
# Features of a block whose results wait for an epilogue. A multiple of every micro-kernel's width.
FEATURES = 128
FEATURE_UNIT = 64
# Threads share so many blocks at least, where there is enough work.
MANY_BLOCKS = 8
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
    return _schedule_windows(kernel, conv, extents)


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
    height = min(max(WINDOWS // columns.windows, 1), rows.windows)
    while height > rows.period and rows.elements(height) * row_bytes > BAND_BYTES:
        height = -(-height // 2)
    if height == rows.windows:
        image_bytes = rows.elements(rows.windows) * row_bytes
        images = min(WINDOWS // (rows.windows * columns.windows), BAND_BYTES // image_bytes, n)
        images = max(images, 1)
    parallel = 2 * n * prod(extents[axis] for axis in conv.windows) * o * c * taps >= PARALLEL_WORK
    groups = prod(extents[axis] for axis in batch_axes(kernel, conv))

    def blocks() -> int:
        return groups * -(-n // images) * -(-rows.windows // height)

    # Features are split first: the fewer windows in a block, the fewer share their class.
    pieces = max(o // FEATURE_UNIT, 1)
    while parallel and images > 1 and blocks() * pieces < MANY_BLOCKS:
        images = -(-images // 2)
    while parallel and height > rows.period and blocks() * pieces < MANY_BLOCKS:
        height = -(-height // 2)
    height = min(-(-height // rows.period) * rows.period, rows.windows)
    features, kind = o, "tile"
    if plain_store(kernel) is None:
        features = min(o, FEATURES)
    if parallel and blocks() < MANY_BLOCKS and o > FEATURE_UNIT:
        pieces = -(-MANY_BLOCKS // blocks())
        features = max(FEATURE_UNIT, _round_up(-(-o // pieces), FEATURE_UNIT))
        kind = "parallel"
    outer: Kind = "parallel" if parallel else "tile"
    steps = [Step(axis, outer) for axis in batch_axes(kernel, conv)]
    steps.append(Step(conv.n, outer, images))
    if conv.windows:
        steps.append(Step(conv.windows[0], outer, height))
    steps.append(Step(conv.o, "parallel" if parallel and kind == "parallel" else "tile", features))
    return Schedule((*steps, Step(conv.o, "vector")))


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
