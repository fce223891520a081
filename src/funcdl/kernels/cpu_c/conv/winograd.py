"""Kernels with a `Conv` of 3×3 places by Winograd's algorithm: 16 products for 4 windows, not 36.

A block copies what its windows meet to a band with zeros as padding and transforms it, 4×4 elements
for 2×2 windows. Between the transforms of ``fd_winograd.h`` there are 16 products of matrices, one
for each position in a tile, by the micro-kernels of ``fd_conv.h``. What follows from the sums is as
for windows that are summed directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

from funcdl.kernels.cpu_c.conv.tiles import GAP, POSITIONS, in_place, tiles_along, write_tiles
from funcdl.kernels.cpu_c.conv.windows import WindowsRenderer
from funcdl.kernels.cpu_c.conv.writer import PACK_ALONE
from funcdl.kernels.cpu_c.loops import PARALLEL, Loop, share
from funcdl.kernels.cpu_c.text import POSITION, Writer, factor
from funcdl.kir.ir import Kernel
from funcdl.kir.schedule import Schedule

# Threads share the transform of a large kernel in so many parts.
PARTS = 16


class WinogradRenderer(WindowsRenderer):
    """Writes the body of the C function of such a kernel."""

    def __init__(self, kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
        super().__init__(kernel, schedule, writer)
        assert self.i is not None
        height, self.tile_width = -(-self.i.size // 2), -(-self.columns.windows // 2)
        self.tiles = self.n.size * height * self.tile_width
        self.band_rows, self.band_columns = 2 * height + 2, 2 * self.tile_width + 2
        self.low_row, self.low_column = (-slide.low for slide in self.conv.slides)
        # Tiles that reach into padding are copied one by one.
        self.in_place = in_place(self)
        self.few = False

    def first_row(self) -> str:
        assert self.i is not None
        if self.i.single:
            return str(self.low_row)
        sign = "-" if self.low_row < 0 else "+"
        return self.i.first + (f" {sign} {abs(self.low_row)}" if self.low_row else "")

    def local_sums(self) -> bool:
        return True

    def tables(self) -> None:
        self.writer.line("enum { rhs_step = rhs_depth / 9 * rhs_columns + FD_WINOGRAD_GAP };")

    @contextmanager
    def packed(self) -> Iterator[None]:
        """The kernel in panels of its nine places, and in panels of 16 positions."""
        groups = prod(self.extents[axis] for axis in self.batch)
        step = self.features * -(-self.o.extent // 16) * 16 + GAP
        size = f"{groups * POSITIONS} * rhs_step"
        bytes_ = groups * POSITIONS * step * self.itemsize
        with super().packed(), self.array("rhs_tiles", size, bytes_):
            self.writer.comment(f"the transform of v{self.conv.rhs}")
            large = self.features * self.o.extent * self.taps >= PACK_ALONE
            shared = self.steps[self.conv.n].kind == "parallel" and large
            parts = PARTS if shared else 1
            loops = [*self.batch_loops(), *([Loop("", "loop", "part", "0", str(PARTS))] * shared)]
            arguments = [self.transformed(), self.group_panels(), str(self.features)]
            arguments += [str(self.o.extent), "rhs_step", "part" if shared else "0", str(parts)]
            self.nest.write(
                share(loops, PARALLEL) if shared else loops,
                inside=lambda: self.call("kernel", arguments),
            )
            yield

    def call(self, function: str, arguments: list[str]) -> None:
        self.writer.call(f"fd_winograd_{function}_{self.short}", arguments)

    def transformed(self) -> str:
        """The transform of this batch element's kernel."""
        return f"rhs_tiles + {self.group()} * {POSITIONS} * rhs_step" if self.batch else "rhs_tiles"

    def windows(self) -> None:
        """The transform of the block, and what follows from it for each tile of the features."""
        assert self.i is not None
        rows, columns = tiles_along(self.i), str(self.tile_width)
        write_tiles(self, rows, columns)
        count = f"{factor(self.n.count)} * {rows} * {columns}"
        self.writer.line(f"const {POSITION} tile_count = {count};")
        step = f"tile_count * {self.features} + FD_WINOGRAD_GAP"
        self.writer.line(f"const {POSITION} lhs_step = {step};")
        size = f"FD_WINOGRAD_POSITIONS * ({self.tiles * self.features} + FD_WINOGRAD_GAP)"
        bytes_ = POSITIONS * (self.tiles * self.features + GAP) * self.itemsize
        with self.array("lhs_tiles", size, bytes_):
            self.call(
                "image", ["lhs_tiles", "lhs_step", "lhs_band", "&lhs_tiles_at", str(self.features)]
            )
            room = f"{self.tiles} + FD_CONV_SLACK"
            self.writer.line(f"{POSITION} lhs_from[{room}], tile_to[{room}];")
            self.writer.line(f"{POSITION} lhs_taps[{self.pieces}], rhs_places[{self.pieces}];")
            pointers = "lhs_from, tile_to, lhs_taps, rhs_places"
            self.writer.line(f"fd_block tile_block = {{0, 0, 0, {pointers}}};")
            arguments = ["&tile_block", "tile_count", str(self.features), str(self.pieces)]
            self.writer.call("fd_winograd_list", [*arguments, "tile_columns"])
            sequential = self.steps[self.o.axis].kind == "tile"
            self.nest.write(self.o.tiles() if sequential else [], inside=self.features_of_block)

    def sums(self) -> None:
        """The sums of all positions, and the windows that they are."""
        columns = -(-self.o.size // 16) * 16
        size = f"FD_WINOGRAD_POSITIONS * ({self.tiles} * tile_columns + FD_WINOGRAD_GAP)"
        bytes_ = POSITIONS * (self.tiles * columns + GAP) * self.itemsize
        step = "tile_count * tile_columns + FD_WINOGRAD_GAP"
        self.writer.line(f"const {POSITION} tile_step = {step};")
        with self.array("tile_sums", size, bytes_):
            panels = f"{self.transformed()} + position * rhs_step"
            if not self.o.single:
                panels += f" + {self.o.first} * {self.features}"
            arguments = ["&tile_block", "lhs_tiles + position * lhs_step", panels]
            arguments += [str(self.features), "tile_sums + position * tile_step"]
            position = Loop("", "loop", "position", "0", "FD_WINOGRAD_POSITIONS")
            self.nest.write([position], inside=lambda: self.call_sums(arguments))
            self.sums_to_windows()

    def sums_to_windows(self) -> None:
        assert self.i is not None
        target, strides = self.target()
        results = ", ".join([self.i.count, str(self.columns.windows), *strides])
        arguments = [target, "tile_sums", "tile_step", "lhs_band", self.panels(), "&lhs_tiles_at"]
        arguments += [f"(fd_results){{{results}}}", str(self.features)]
        self.call("windows", [*arguments, "tile_columns", self.o.count])

    def whole_vectors(self) -> bool:
        return True
