"""Tiles of 4×4 elements, those that 2×2 neighbouring windows of 3×3 places meet (fd_winograd.h)."""

from __future__ import annotations

from collections.abc import Sequence

from funcdl.kernels.cpu_c.conv.writer import ConvWriter
from funcdl.kernels.cpu_c.tiled import Tiled

# Positions in a tile (FD_WINOGRAD_POSITIONS).
POSITIONS = 16
# Elements between the arrays of two positions (FD_WINOGRAD_GAP).
GAP = 16


def in_place(writer: ConvWriter) -> bool:
    """Whether tiles are read from the image itself; those that reach into padding are copied."""
    if writer.load is None:
        return False
    return writer.features == 1 or writer.stride(writer.load, writer.feature) == 1


def tiles_along(tiled: Tiled) -> str:
    """How many tiles there are along an axis of windows, in a tile of it."""
    if tiled.single or tiled.whole:
        return str(-(-tiled.size // 2))
    return f"({tiled.end} - {tiled.first} + 1) / 2"


def write_tiles(writer: ConvWriter, rows: str, columns: str) -> None:
    """Say where the tiles of a block are, in the image or in its band."""
    first, sizes = ["0", "0"], [writer.band_rows, writer.band_columns]
    if writer.in_place:
        first = [writer.first_row(), str(writer.low_column)]
        sizes = [writer.extents[slide.lhs] for slide in writer.conv.slides]
    strides = (writer.row_stride, writer.column_stride)
    write_spans(writer, "lhs_tiles_at", writer.image_stride, (rows, columns), first, sizes, strides)


def write_spans(
    writer: ConvWriter,
    name: str,
    image_stride: int,
    counts: Sequence[str],
    first: Sequence[str],
    sizes: Sequence[object],
    strides: Sequence[int],
) -> None:
    """Define an ``fd_tiles``: how many tiles, where the first one begins, and of what."""
    spans = zip(counts, first, sizes, strides, strict=True)
    texts = [f"{{{', '.join(map(str, span))}}}" for span in spans]
    numbers = [writer.images.count, str(image_stride), *texts]
    writer.writer.call(f"const fd_tiles {name} = ", numbers, brackets="{}")
