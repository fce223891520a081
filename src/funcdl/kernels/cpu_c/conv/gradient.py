"""Kernels with a `Conv` whose windows are large and few: the gradient of a convolution's kernel.

Each tap of the kernel is a product of two matrices, elements of the image by output features,
summed over the positions that the tap meets. Threads share tiles of input by output features; where
these are few, also chunks of images, each with a sum of its own. A task goes through its images in
blocks that stay in the cache for all taps, and has the cache fetch the next block meanwhile. The
sums are added in one order for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod

from funcdl.kernels.cpu_c.conv.writer import WIDEST, ConvWriter
from funcdl.kernels.cpu_c.loops import PARALLEL, Loop, share
from funcdl.kernels.cpu_c.text import POSITION, Writer, factor
from funcdl.kernels.cpu_c.tiled import Tiled
from funcdl.kir.convolution import needed
from funcdl.kir.ir import Effect, Kernel, Load, operands
from funcdl.kir.schedule import Schedule

# Rows of the micro-tile, which features fill up; all taps together fill up fewer.
TILE_ROWS = 6
# A multiple of the lanes of every instruction set.
WHOLE_VECTORS = 16
# How many streams a micro-tile fetches (FD_CONV_STREAMS), and how many bytes of each at most.
STREAMS = 2
MOST_AHEAD = 4096
# Features of all taps that are listed one by one.
MOST_TOGETHER = 512


class GradientRenderer(ConvWriter):
    """Writes the body of the C function of such a kernel."""

    def __init__(self, kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
        super().__init__(kernel, schedule, writer)
        conv = self.conv
        self.feature = conv.n
        self.n = self.tiled(conv.n)
        chunk, block = schedule.of(conv.c)
        images = self.extents[conv.c]
        name = self.expressions.axis_name(conv.c)
        self.chunk, self.shared = chunk.size, chunk.kind == "parallel"
        self.chunks = -(-images // chunk.size)
        # Blocks of images inside of a chunk: the loop's variable is that of blocks.
        self.images = Tiled(conv.c, images, max(1, min(block.size, images)), name)
        self.o = self.tiled(conv.o, WIDEST)
        self.k = self.tiled(conv.slides[0].rhs)
        self.width = self.extents[conv.slides[1].rhs] if len(conv.slides) > 1 else 1
        self.windows = [self.extents[axis] for axis in conv.windows]
        # With zeros as padding all taps meet elements in the same windows.
        self.merged = self.n.single and self._merges()
        self.in_place = not self.merged and self.load is not None
        if self.features > 1 and self.stride(self.load, conv.n) != 1:
            self.in_place = False
        # Packing the other factor does not pay for the few features of a first layer, nor where it
        # would be a mere copy.
        rhs = self.plain_load(conv.rhs)
        self.position = self.stride(rhs, conv.slides[-1].rhs)
        self.unpacked = (
            (self.merged or self.position == self.extents[conv.o] <= WIDEST)
            and self.stride(rhs, conv.o) == 1
            and self.extents[conv.o] % WHOLE_VECTORS == 0
            and self.dense(rhs)
        )
        # Rows of the sums of a task, beside the output features.
        self.sum_rows = prod(self.windows) * self.n.size
        self.beside = self._beside()
        lows, extents = [], []
        for dim, places in ((0, self.k.size), (1, self.width)):
            slide = conv.slides[dim] if dim < len(conv.slides) else None
            lows.append(-slide.low if slide else 0)
            reach = (places - 1) * slide.dilation if slide else 0
            extents.append(reach + (self.windows[dim] - 1) * slide.stride + 1 if slide else 1)
        self.band_rows, self.band_columns = extents
        self.low_column = lows[1]

    def dense(self, rhs: Load | None) -> bool:
        """Whether the positions of rhs can be numbered from one end of memory to the other."""
        outer = (self.images.axis, self.k.axis)
        if rhs is None or self.position <= 0:
            return False
        return not any(self.stride(rhs, axis) % self.position for axis in outer)

    def _beside(self) -> list[Load]:
        """What the epilogue reads beside the sums, as large as they are."""
        conv = self.conv
        own = {*needed(self.kernel, conv.lhs), *needed(self.kernel, conv.rhs)}
        loads = (self.plain_load(id) for id in range(len(self.kernel.body)) if id not in own)
        axes = (conv.n, *conv.windows)
        return [
            load
            for load in loads
            if load is not None
            and self.stride(load, conv.o) == 1
            and all(self.stride(load, axis) for axis in axes if self.extents[axis] > 1)
        ][:STREAMS]

    def _merges(self) -> bool:
        count = prod(self.windows)
        apart, together = count * _computed(self.features), _computed(count * self.features)
        return count * self.features <= MOST_TOGETHER and 10 * together < 9 * apart

    def first_row(self) -> str:
        slide = self.conv.slides[0]
        if self.k.single:
            return str(-slide.low)
        position = self.k.first if slide.dilation == 1 else f"{self.k.first} * {slide.dilation}"
        return position if not slide.low else f"{position} - ({slide.low})"

    def render(self) -> None:
        columns = -(-self.o.size // WIDEST) * WIDEST
        self.writer.line(f"enum {{ tile_columns = {columns} }};")
        self.writer.line(f"enum {{ tile_size = {self.sum_rows} * tile_columns }};")
        depth = self.images.size * self.k.size * self.width
        if not self.unpacked:
            self.writer.line(f"enum {{ rhs_depth = {depth} }};")
        if self.merged:
            self.table()
        size = self.sum_rows * columns * self.itemsize
        loops = [*self.n.tiles(), *self.o.tiles()]
        if self.chunks == 1:
            self.write([*self.batch_loops(), *loops], lambda: self.whole_sum(size))
            return
        tasks = prod(self.extents[axis] for axis in self.batch)
        tasks *= self.chunks * prod(-(-tiled.extent // tiled.size) for tiled in (self.n, self.o))
        with self.array("tile_sums", f"{tasks} * tile_size", tasks * size):
            self.writer.comment(f"v{self.id}: a sum for each chunk of {self.conv.c}")
            self.write([*self.batch_loops(), self.chunk_loop(), *loops], self.chunk_sum)
            self.writer.comment("their total, and what follows from it")
            loops = [*self.batch_loops(), *loops, *self.taps_loops()]
            rows = [self.n.positions()]
            if self.n.single:
                loops, rows = [*loops, *rows], []
            self.epilogue(share(loops, PARALLEL) if self.shared else loops, rows)

    def write(self, loops: list[Loop], inside: Callable[[], None]) -> None:
        """Loops over tasks."""
        self.nest.write(share(loops, PARALLEL) if self.shared else loops, inside=inside)

    def taps_loops(self) -> list[Loop]:
        return [self.whole(axis) for axis in self.conv.windows]

    def chunk_loop(self) -> Loop:
        return Loop(self.conv.c, "tile", "tile_chunk", "0", str(self.chunks), whole=False)

    def whole_sum(self, size: int) -> None:
        """The sum over all images for one tile of features, and what follows from it."""
        with self.array("tile_sum", "tile_size", size):
            self.sum("0", str(self.images.extent))
            self.epilogue([], [*self.taps_loops(), self.n.positions()])

    def chunk_sum(self) -> None:
        """The sum over a chunk of images for one tile of features."""
        self.writer.line(f"{self.type} *const tile_sum = {self.sums('tile_chunk')};")
        begin, extent = f"tile_chunk * {self.chunk}", self.images.extent
        limit = f"{begin} + {self.chunk}"
        self.writer.line(f"const {POSITION} tile_last = {limit} < {extent} ? {limit} : {extent};")
        self.sum(begin, "tile_last")

    def sums(self, chunk: str) -> str:
        """The sum of one chunk for the tile of features that the loops are at."""
        number = self.group()
        for tiled in (self.n, self.o):
            if not tiled.single:
                at, count = f"{tiled.first} / {tiled.size}", -(-tiled.extent // tiled.size)
                number = f"({number} * {count} + {at})" if number else f"({at})"
        number = f"{number} * {self.chunks} + {chunk}" if number else chunk
        return f"tile_sums + {factor(number)} * tile_size"

    def sum(self, begin: str, end: str) -> None:
        """The sum over images from `begin` to `end`."""
        self.writer.line(f"memset(tile_sum, 0, tile_size * sizeof({self.type}));")
        self.nest.write([self.image_loop(begin, end), *self.k.tiles()], inside=self.block)

    def image_loop(self, begin: str, end: str) -> Loop:
        """Blocks of images, under the names that their tile goes by."""
        first, size = f"{self.images.position}_tile", self.images.size
        last = f"{first} + {size}"
        lines = (f"const {POSITION} {self.images.position}_end = {last} < {end} ? {last} : {end};",)
        return Loop(self.conv.c, "tile", first, begin, end, size, first=lines, whole=False)

    def block(self) -> None:
        self.images = Block(self.images)
        if self.unpacked:
            self.writer.line(f"const {self.type} *const rhs_panels = {self.rhs_first()};")
            self.block_of_lhs()
            return
        size = f"rhs_depth * FD_CONV_ROUNDED_{self.short.upper()}({self.o.size})"
        depth = self.images.size * self.k.size * self.width
        with self.array("rhs_panels", size, depth * (self.o.size + 16) * self.itemsize):
            self.pack()
            self.block_of_lhs()

    def rhs_first(self) -> str:
        """The address of the block's first element of rhs."""
        load = self.plain_load(self.conv.rhs)
        assert load is not None
        at = {self.images.axis: self.images.first, self.k.axis: self.k.first}
        at |= {slide.rhs: "0" for slide in self.conv.slides[1:]}
        at[self.o.axis] = self.o.first
        index = self.expressions.index(load.index, narrow=False, at=at)
        return f"&{self.expressions.buffer_name(load.buffer)}[{index}]"

    def block_of_lhs(self) -> None:
        if self.in_place:
            load = self.load
            assert load is not None
            self.writer.line(f"const {self.type} *const lhs_band = {self.first_element(load)};")
            self.ahead()
            self.taps()
            return
        band = self.images.size * self.band_rows * self.band_columns * self.features
        with self.array("lhs_band", str(band), band * self.itemsize):
            self.fill()
            self.ahead()
            self.taps()

    def pack(self) -> None:
        """Pack the block's rows of rhs to panels, one position after the other."""
        conv, columns = self.conv, self.o.count
        self.writer.comment(f"panels of v{conv.rhs}")
        row = f"{factor(self.images.inside)} * {self.k.size} + {self.k.inside}"
        after = [str(self.width), columns, "rhs_depth", f"({row}) * {self.width}"]
        function = f"fd_conv_pack_{self.short}"
        load = self.plain_load(conv.rhs)
        inner = conv.slides[1].rhs if len(conv.slides) > 1 else None
        loops = [self.images.positions(), self.k.positions()]

        def pack_row() -> None:
            if load is not None:
                at = {conv.o: self.o.first} | ({inner: "0"} if inner else {})
                index = self.expressions.index(load.index, narrow=False, at=at)
                source = f"&{self.expressions.buffer_name(load.buffer)}[{index}]"
                strides = [str(self.stride(load, axis)) for axis in (inner, conv.o)]
                self.writer.call(function, ["rhs_panels", source, *strides, *after])
                return
            size = self.width * self.o.size
            with self.array("rhs_values", str(size), size * self.itemsize):
                position = self.expressions.axis_name(inner) if inner else "0"
                element = f"rhs_values[{position} * {self.o.size} + {self.o.inside}]"
                inside = [self.whole(inner)] if inner else []
                self.evaluate(conv.rhs, [*inside, self.o.positions("#pragma omp simd")], element)
                strides = [str(self.o.size), "1"]
                self.writer.call(function, ["rhs_panels", "rhs_values", *strides, *after])

        self.nest.write(loops, inside=pack_row)

    def ahead(self) -> None:
        """What the next block reads, which is fetched while this one is computed."""
        found = [
            self.stream(*of, self.sum_rows) for of in (self.lhs_ahead(), self.rhs_ahead()) if of
        ]
        streams = [stream for stream in found if stream]
        name = "fd_stream tile_ahead[FD_CONV_STREAMS] ="
        self.writer.call(f"{name} ", streams or ["{0}"], brackets="{}")

    def stream(self, start: str, rows: int, features: int, step: int, tile_rows: int) -> str:
        """What micro-tiles of so many rows of sums share, where that is not too much for each."""
        tiles = -(-tile_rows // TILE_ROWS) * -(-self.o.size // WIDEST)
        width = features * self.itemsize
        if rows * width > tiles * MOST_AHEAD:
            return ""
        return f"fd_conv_stream({start}, {rows}, {width}, {step * self.itemsize}, {tiles})"

    def epilogue_ahead(self) -> None:
        """What the epilogue reads for a tap, in the last block."""
        at = {self.n.axis: self.n.first, self.o.axis: self.o.first}
        at |= {axis: self.expressions.axis_name(axis) for axis in (*self.batch, *self.conv.windows)}
        streams = []
        for load in self.beside:
            index = self.expressions.index(load.index, narrow=False, at=at)
            start = f"&{self.expressions.buffer_name(load.buffer)}[{index}]"
            step = self.stride(load, self.n.axis)
            stream = self.stream(start, self.n.size, self.o.size, step, self.n.size)
            if stream:
                streams.append(stream)
        if not streams:
            return
        last = f"{self.images.end} == {self.images.extent}"
        if not self.k.single:
            last += f" && {self.k.end} == {self.k.extent}"
        with self.writer.block(f"if ({last})"):
            for number, stream in enumerate(streams):
                self.writer.line(f"tile_ahead[{number}] = {stream};")

    def lhs_ahead(self) -> tuple[str, int, int, int] | None:
        """Where the elements of the next block begin; how many of how many features, how far apart.

        None where they are not in order in memory.
        """
        slides = self.conv.slides
        rows, columns = (*(self.extents[slide.lhs] for slide in slides), 1)[:2]
        step = self.column_stride if len(slides) > 1 else self.row_stride
        if not self.in_place or self.row_stride != columns * step:
            return None
        if self.image_stride != rows * self.row_stride:
            return None
        first = "" if self.n.single else f" + {self.n.first}"
        if self.k.single:
            count = self.images.size * rows * columns
            return f"lhs_band + {count * step}{first}", count, self.n.size, step
        height = self.k.size * slides[0].dilation
        begin = f"({self.k.end}) * {slides[0].dilation * self.row_stride}"
        return f"lhs_band + {begin}{first}", height * columns, self.n.size, step

    def rhs_ahead(self) -> tuple[str, int, int, int] | None:
        """The same for the other factor."""
        rhs = self.plain_load(self.conv.rhs)
        if rhs is None or self.stride(rhs, self.o.axis) != 1:
            return None
        row = self.width * self.position
        if len(self.conv.slides) > 1 and self.stride(rhs, self.k.axis) != row:
            return None
        if self.stride(rhs, self.images.axis) != self.k.extent * row:
            return None
        count = self.images.size * self.k.size * self.width
        return f"{self.rhs_first()} + {count * self.position}", count, self.o.size, self.position

    def taps(self) -> None:
        """Add the block to the sums of all taps."""
        self.nest.write([] if self.merged else self.taps_loops(), inside=self.tap)

    def table(self) -> None:
        """Where the features of all taps are in the band, from that of the first."""
        strides = (self.row_stride, self.column_stride)
        steps = [s.stride * stride for s, stride in zip(self.conv.slides, strides, strict=False)]
        places = [
            sum(i * step for i, step in zip(at, steps, strict=True)) + f
            for at in product(*map(range, self.windows))
            for f in range(self.sum_rows // prod(self.windows))
        ]
        values = list(map(str, places))
        self.writer.call(f"static const {POSITION} lhs_places[] = ", values, brackets="{}")

    def tap(self) -> None:
        conv = self.conv
        meetings = []
        row = ""
        limits = ((self.k.first, self.k.end), ("0", str(self.width)))
        strides = (self.row_stride, self.column_stride)
        for dim in (0, 1):
            slide = conv.slides[dim] if dim < len(conv.slides) else None
            name, step, size = "0", 1, 1
            if slide is not None:
                name = self.expressions.axis_name(slide.out)
                step, size = slide.dilation, self.extents[slide.lhs]
                name = "0" if self.merged else name
                row = f"({row} * {self.windows[dim]} + {name})" if row else name
                if slide.stride > 1 and name != "0":
                    name = f"{name} * {slide.stride}"
                offset = f"{name} - ({slide.low})" if slide.low else name
            else:
                offset = "0"
            if self.merged and slide is not None:
                # Positions in the band, which holds all that the block meets.
                first = self.first_row() if dim == 0 else str(self.low_column)
                offset = f"{offset} - ({first})"
                size = 1 << 40
            numbers = [*limits[dim], offset, str(step), str(size), str(strides[dim])]
            meetings.append(f"(fd_meeting){{{', '.join(numbers)}}}")
        image, row_panel = self.k.size * self.width, self.width
        if self.unpacked:
            load = self.plain_load(conv.rhs)
            image, row_panel = (
                self.stride(load, axis) // self.position for axis in (conv.c, self.k.axis)
            )
        arguments = [*meetings, self.images.count, str(self.image_stride)]
        arguments += [str(image), str(row_panel)]
        self.writer.call("fd_outer tile_outer = fd_conv_contributors", arguments)
        target = f"tile_sum + {row} * {self.n.size} * tile_columns"
        features, places, origin = self.n.count, "NULL", self.origin()
        if not self.n.single:
            origin += f" + {self.n.first}"
        if self.merged:
            target, origin, places = "tile_sum", "lhs_band", "lhs_places"
            features = str(self.sum_rows)
        elif self.chunks == 1:
            self.epilogue_ahead()
        self.call_outer(["tile_outer", features, places, origin, "rhs_panels"], target)

    def call_outer(self, arguments: list[str], target: str) -> None:
        """The call for the number of output features in this tile, which must be constant."""
        arguments += [*self.rhs_rows(), target, "tile_columns", "tile_ahead"]
        function = f"fd_conv_outer_{self.short}"
        if self.o.single or self.o.whole:
            self.writer.call(function, [*arguments, str(self.o.size)])
            return
        with self.writer.block(f"if ({self.o.count} == {self.o.size})"):
            self.writer.call(function, [*arguments, str(self.o.size)])
        with self.writer.block("else"):
            self.writer.call(function, [*arguments, str(self.o.extent % self.o.size)])

    def rhs_rows(self) -> list[str]:
        """How many positions panels have; where none are packed, how far apart these are."""
        return ["0", str(self.position)] if self.unpacked else ["rhs_depth", "0"]

    def epilogue(self, outer: list[Loop], inner: list[Loop]) -> None:
        """Loops that add the chunks' sums, and compute from them and store."""
        conv = self.conv
        effects = [i for i in self.kernel.body if isinstance(i, Effect)]
        row = "0"
        for axis, count in zip(conv.windows, self.windows, strict=True):
            name = self.expressions.axis_name(axis) if axis in conv.type.axes else "0"
            row = f"({row} * {count} + {name})" if row != "0" else name
        if self.n.size > 1:
            row = f"({row} * {self.n.size} + {self.inside(self.n)})"
        place = f"[{row} * tile_columns + {self.inside(self.o)}]"
        chunks = range(self.chunks)
        sums = [f"({self.sums(str(chunk))})" if self.chunks > 1 else "tile_sum" for chunk in chunks]
        self.expressions.vector_axis = self.o.axis
        self.expressions.elements[self.id] = " + ".join(name + place for name in sums)
        self.nest.write(
            [*outer, *inner, self.o.positions("#pragma omp simd")],
            self.nest.needed(id for effect in effects for id in operands(effect)),
            [self.nest.effect(effect) for effect in effects],
        )


def _computed(rows: int) -> int:
    """How many rows micro-tiles of six and of four compute for so many."""
    return max(rows + rows % 2, 4)


class Block(Tiled):
    """A block of images, which starts at its chunk and may end before its size."""

    def __init__(self, tiled: Tiled) -> None:
        super().__init__(tiled.axis, tiled.extent, tiled.size, tiled.position)

    @property
    def single(self) -> bool:
        return False

    @property
    def whole(self) -> bool:
        return False
