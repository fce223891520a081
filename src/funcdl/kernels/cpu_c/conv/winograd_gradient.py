"""The gradient of a kernel of 3×3 places by Winograd's algorithm, transposed.

Elements of the image and cotangents of 2×2 windows are transformed to 16 positions each, a product
of matrices for each position adds up the tiles of a block, and a task's sums are transformed back
once. A task whose sums are not finite adds up all places directly: its transforms may have carried
an infinity, or a number too large to be added, to places that do not meet it.
"""

from __future__ import annotations

from contextlib import ExitStack

from funcdl.kernels.cpu_c.conv.gradient import Block, GradientRenderer
from funcdl.kernels.cpu_c.conv.tiles import (
    GAP,
    POSITIONS,
    in_place,
    tiles_along,
    write_spans,
    write_tiles,
)
from funcdl.kernels.cpu_c.conv.writer import WIDEST
from funcdl.kernels.cpu_c.loops import Loop
from funcdl.kernels.cpu_c.text import POSITION, Writer, factor
from funcdl.kir.ir import Kernel
from funcdl.kir.schedule import Schedule


class WinogradGradientRenderer(GradientRenderer):
    """Writes the body of the C function of such a kernel."""

    def __init__(self, kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
        super().__init__(kernel, schedule, writer)
        self.sum_rows = POSITIONS * self.n.size
        self.merged, self.unpacked = False, True
        self.in_place = in_place(self)
        self.tile_rows, self.tile_width = -(-self.k.size // 2), -(-self.width // 2)
        self.band_rows, self.band_columns = 2 * self.tile_rows + 2, 2 * self.tile_width + 2
        self.low_column = -self.conv.slides[1].low
        rhs = self.plain_load(self.conv.rhs)
        self.rhs = rhs if rhs is not None and self.stride(rhs, self.o.axis) == 1 else None

    def sum(self, begin: str, end: str) -> None:
        """The sum over images from `begin` to `end`, at the nine places."""
        with self.writer.block("for (int alone = 0; alone < 2; ++alone)"):
            super().sum(begin, end)
            size = f"{self.n.size} * tile_columns"
            finite = f"fd_winograd_gradient_{self.short}(tile_sum, {size})"
            self.writer.line(f"if (alone || {finite}) break;")

    def block(self) -> None:
        self.images = Block(self.images)
        if self.rhs is not None:
            self.writer.line(f"const {self.type} *const rhs_band = {self.rhs_first()};")
            self.block_of_lhs()
            return
        size = self.images.size * self.k.size * self.width * self.o.size
        with self.array("rhs_band", str(size), size * self.itemsize):
            self.pack()
            self.block_of_lhs()

    def pack(self) -> None:
        """Compute the block's cotangents."""
        self.writer.comment(f"v{self.conv.rhs}")
        column = self.conv.slides[1].rhs
        place = f"({factor(self.images.inside)} * {self.k.size} + {self.k.inside})"
        place = f"({place} * {self.width} + {self.expressions.axis_name(column)})"
        loops = [self.images.positions(), self.k.positions(), self.whole(column)]
        loops.append(self.o.positions("#pragma omp simd"))
        self.evaluate(self.conv.rhs, loops, f"rhs_band[{place} * {self.o.size} + {self.o.inside}]")

    def rhs_strides(self) -> list[int]:
        """The steps between images, rows and columns of cotangents."""
        if self.rhs is None:
            row = self.width * self.o.size
            return [self.k.size * row, row, self.o.size]
        axes = (self.images.axis, *(slide.rhs for slide in self.conv.slides))
        return [self.stride(self.rhs, axis) for axis in axes]

    def taps(self) -> None:
        """Add the block to the sums of all positions."""
        counts = (tiles_along(self.k), str(self.tile_width))
        write_tiles(self, *counts)
        image, *strides = self.rhs_strides()
        write_spans(
            self, "rhs_tiles_at", image, counts, ("0", "0"), (self.k.count, self.width), strides
        )
        lhs = "lhs_band" if self.n.single else f"lhs_band + {self.n.first}"
        with self.writer.block("if (alone)"):
            arguments = ["tile_sum", lhs, "&lhs_tiles_at", self.n.count, "rhs_band"]
            arguments += ["&rhs_tiles_at", self.o.count, str(self.n.size), "tile_columns"]
            self.writer.call(f"fd_winograd_gradient_alone_{self.short}", arguments)
        with self.writer.block("else"):
            rows, columns = counts
            count = f"{factor(self.images.count)} * {rows} * {columns}"
            self.writer.line(f"const {POSITION} tile_count = {count};")
            for name, width in (("lhs", factor(self.n.count)), ("rhs", "tile_columns")):
                step = f"tile_count * {width} + FD_WINOGRAD_GAP"
                self.writer.line(f"const {POSITION} {name}_step = {step};")
            self.transforms(lhs)

    def transforms(self, lhs: str) -> None:
        """Transform both factors, and multiply."""
        tiles = self.images.size * self.tile_rows * self.tile_width
        arrays = ("lhs_tiles", str(self.n.size)), ("rhs_tiles", "tile_columns")
        with ExitStack() as stack:
            for name, width in arrays:
                size = f"FD_WINOGRAD_POSITIONS * ({tiles} * {width} + FD_WINOGRAD_GAP)"
                most = int(width) if width.isdigit() else self.o.size + WIDEST
                bytes_ = POSITIONS * (tiles * most + GAP) * self.itemsize
                stack.enter_context(self.array(name, size, bytes_))
            image = ["lhs_tiles", "lhs_step", lhs, "&lhs_tiles_at", self.n.count]
            cotangents = ["rhs_tiles", "rhs_step", "rhs_band", "&rhs_tiles_at", self.o.count]
            cotangents.append("tile_columns")
            self.writer.call(f"fd_winograd_image_{self.short}", image)
            self.writer.call(f"fd_winograd_cotangents_{self.short}", cotangents)
            position = Loop("", "loop", "position", "0", "FD_WINOGRAD_POSITIONS")
            self.nest.write([position], inside=self.products)

    def products(self) -> None:
        """Add up the tiles of the block at one position."""
        steps = f".columns = tile_count, .column_from = {self.n.count}"
        self.writer.line(f"const fd_outer tile_outer = {{.images = 1, .rows = 1, {steps}}};")
        lhs = "lhs_tiles + position * lhs_step"
        rhs = "rhs_tiles + position * rhs_step"
        target = f"tile_sum + position * {self.n.size} * tile_columns"
        self.call_outer(["tile_outer", self.n.count, "NULL", lhs, rhs], target)

    def rhs_rows(self) -> list[str]:
        return ["0", "tile_columns"]
