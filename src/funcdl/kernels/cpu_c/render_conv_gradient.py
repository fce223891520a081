"""Kernels with a `Conv` whose windows are large and few: the gradient of a convolution's kernel.

Each tap of the kernel is a product of two matrices, elements of the image by output features,
summed over the positions that the tap meets. Threads share chunks of images, each with a sum of its
own, rows of taps where features are many, and tiles of the output features. A chunk goes through
its images in blocks that stay in the cache for all taps. The sums are added in one order for any
number of threads.
"""

from __future__ import annotations

from itertools import product
from math import prod

from funcdl.kernels.cpu_c.conv_writer import WIDEST, ConvWriter
from funcdl.kernels.cpu_c.loops import PARALLEL, Loop, share
from funcdl.kernels.cpu_c.render_dot import Tiled
from funcdl.kernels.cpu_c.text import POSITION, Writer, factor
from funcdl.kir.ir import Effect, Kernel, Load, operands
from funcdl.kir.schedule import Schedule

# Rows of the micro-tile, which features fill up; all taps together fill up fewer.
TILE_ROWS = 6
# A multiple of the lanes of every instruction set.
WHOLE_VECTORS = 16
# Features of all taps that are listed one by one.
MOST_TOGETHER = 512


class GradientRenderer(ConvWriter):
    """Writes the body of the C function of such a kernel."""

    def __init__(self, kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
        super().__init__(kernel, schedule, writer)
        conv = self.conv
        self.feature = conv.n
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
        self.split = bool(conv.windows) and bool(schedule.of(conv.windows[0]))
        # With zeros as padding all taps meet elements in the same windows.
        self.merged = not self.split and self._merges()
        self.in_place = not self.merged and self.load is not None
        if self.features > 1 and self.stride(self.load, conv.n) != 1:
            self.in_place = False
        # Packing the other factor does not pay for the few features of a first layer.
        rhs = self.plain_load(conv.rhs)
        self.position = self.stride(rhs, conv.slides[-1].rhs)
        self.unpacked = (
            self.merged
            and self.stride(rhs, conv.o) == 1
            and self.extents[conv.o] % WHOLE_VECTORS == 0
            and self.dense(rhs)
        )
        # Rows of the sums, beside the output features.
        self.sum_rows = prod(self.windows) * self.features
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

    def _merges(self) -> bool:
        count = prod(self.windows)
        apart = count * -(-self.features // TILE_ROWS)
        together = -(-count * self.features // TILE_ROWS)
        return count * self.features <= MOST_TOGETHER and 10 * together < 9 * apart

    def first_row(self) -> str:
        slide = self.conv.slides[0]
        if self.k.single:
            return str(-slide.low)
        position = self.k.first if slide.dilation == 1 else f"{self.k.first} * {slide.dilation}"
        return position if not slide.low else f"{position} - ({slide.low})"

    def render(self) -> None:
        conv, suffix = self.conv, self.short.upper()
        groups = prod(self.extents[axis] for axis in self.batch)
        rows = self.sum_rows
        columns = -(-self.o.extent // WIDEST) * WIDEST
        self.writer.line(f"enum {{ tile_columns = {columns} }};")
        self.writer.line(f"enum {{ tile_size = {rows} * tile_columns }};")
        depth = self.images.size * self.k.size * self.width
        if not self.unpacked:
            self.writer.line(f"enum {{ rhs_depth = {depth} }};")
        if self.merged:
            self.table()
        total = f"{self.chunks * groups} * tile_size"
        with self.array("tile_sums", total, self.chunks * groups * rows * columns * self.itemsize):
            self.writer.comment(f"v{self.id}: a sum for each chunk of {conv.c}")
            taps = [self.whole(conv.windows[0])] if self.split else []
            loops = [*self.batch_loops(), self.chunk_loop(), *taps, *self.o.tiles()]
            loops = share(loops, PARALLEL) if self.shared else loops
            self.nest.write(loops, inside=lambda: self.chunk_sum(suffix))
            self.writer.comment("their total, and what follows from it")
            self.epilogue()

    def chunk_loop(self) -> Loop:
        return Loop(self.conv.c, "tile", "tile_chunk", "0", str(self.chunks), whole=False)

    def sums(self, chunk: str) -> str:
        """The sum of one chunk, at the batch element that the loops are at."""
        number = f"{self.group()} * {self.chunks} + {chunk}" if self.batch else chunk
        return f"tile_sums + {factor(number)} * tile_size"

    def chunk_sum(self, suffix: str) -> None:
        writer = self.writer
        writer.line(f"{self.type} *const tile_sum = {self.sums('tile_chunk')};")
        width = f"FD_CONV_ROUNDED_{suffix}({self.o.count})"
        first = "" if self.o.single else f" + {self.o.first}"
        begin, end = "0", str(self.sum_rows)
        if self.split:
            name = self.expressions.axis_name(self.conv.windows[0])
            rows = self.sum_rows // self.windows[0]
            begin, end = f"{name} * {rows}", f"({name} + 1) * {rows}"
        with writer.block(f"for ({POSITION} tile_row = {begin}; tile_row < {end}; ++tile_row)"):
            target = f"tile_sum + tile_row * tile_columns{first}"
            writer.line(f"memset({target}, 0, {width} * sizeof({self.type}));")
        limit = f"tile_chunk * {self.chunk} + {self.chunk}"
        end = str(self.images.extent)
        if self.chunks > 1:
            writer.line(f"const {POSITION} tile_last = {limit} < {end} ? {limit} : {end};")
            end = "tile_last"
        loops = [self.image_loop(end), *self.k.tiles()]
        self.nest.write(loops, inside=self.block)

    def image_loop(self, end: str) -> Loop:
        """Blocks of images of the chunk, under the names that their tile goes by."""
        first, size = f"{self.images.position}_tile", self.images.size
        last = f"{first} + {size}"
        lines = (f"const {POSITION} {self.images.position}_end = {last} < {end} ? {last} : {end};",)
        begin = f"tile_chunk * {self.chunk}"
        return Loop(self.conv.c, "tile", first, begin, end, size, first=lines, whole=False)

    def block(self) -> None:
        self.images = _Block(self.images)
        if self.unpacked:
            load = self.plain_load(self.conv.rhs)
            assert load is not None
            at = {self.images.axis: self.images.first, self.k.axis: self.k.first}
            at |= {slide.rhs: "0" for slide in self.conv.slides[1:]}
            at[self.o.axis] = self.o.first
            index = self.expressions.index(load.index, narrow=False, at=at)
            source = f"&{self.expressions.buffer_name(load.buffer)}[{index}]"
            self.writer.line(f"const {self.type} *const rhs_panels = {source};")
            self.block_of_lhs()
            return
        size = f"rhs_depth * FD_CONV_ROUNDED_{self.short.upper()}({self.o.size})"
        depth = self.images.size * self.k.size * self.width
        with self.array("rhs_panels", size, depth * (self.o.size + 16) * self.itemsize):
            self.pack()
            self.block_of_lhs()

    def block_of_lhs(self) -> None:
        if self.in_place:
            load = self.load
            assert load is not None
            self.writer.line(f"const {self.type} *const lhs_band = {self.first_element(load)};")
            self.taps()
            return
        band = self.images.size * self.band_rows * self.band_columns * self.features
        with self.array("lhs_band", str(band), band * self.itemsize):
            self.fill()
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

    def taps(self) -> None:
        """Add the block to the sums of all taps."""
        conv = self.conv
        axes = () if self.merged else conv.windows[self.split :]
        self.nest.write([self.whole(axis) for axis in axes], inside=self.tap)

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
        first = "" if self.o.single else f" + {self.o.first}"
        target = f"tile_sum + {row} * {self.features} * tile_columns{first}"
        features, places, origin = self.features, "NULL", self.origin()
        if self.merged:
            target, origin, places = f"tile_sum{first}", "lhs_band", "lhs_places"
            features *= prod(self.windows)
        self.call_outer(["tile_outer", str(features), places, origin, "rhs_panels"], target)

    def call_outer(self, arguments: list[str], target: str) -> None:
        """The call for the number of output features in this tile, which must be constant."""
        arguments += ["0", str(self.position)] if self.unpacked else ["rhs_depth", "0"]
        arguments += [target, "tile_columns"]
        function = f"fd_conv_outer_{self.short}"
        if self.o.single or self.o.whole:
            self.writer.call(function, [*arguments, str(self.o.size)])
            return
        with self.writer.block(f"if ({self.o.count} == {self.o.size})"):
            self.writer.call(function, [*arguments, str(self.o.size)])
        with self.writer.block("else"):
            self.writer.call(function, [*arguments, str(self.o.extent % self.o.size)])

    def epilogue(self) -> None:
        """Loops that add the chunks' sums, and compute from them and store."""
        conv = self.conv
        effects = [i for i in self.kernel.body if isinstance(i, Effect)]
        varies = set(conv.type.axes)
        row = "0"
        for axis, count in zip(conv.windows, self.windows, strict=True):
            name = self.expressions.axis_name(axis) if axis in varies else "0"
            row = f"({row} * {count} + {name})" if row != "0" else name
        if self.sum_rows > prod(self.windows):
            name = self.expressions.axis_name(conv.n) if conv.n in varies else "0"
            row = f"({row} * {self.features} + {name})"
        column = self.expressions.axis_name(self.o.axis) if self.o.axis in varies else "0"
        parts = [
            f"({self.sums(str(chunk))})[{row} * tile_columns + {column}]"
            for chunk in range(self.chunks)
        ]
        self.expressions.vector_axis = self.o.axis
        self.expressions.elements[self.id] = " + ".join(parts)
        loops = [*self.batch_loops(), *(self.whole(axis) for axis in conv.windows)]
        loops.append(self.whole(conv.n))
        loops = share(loops, PARALLEL) if self.shared else loops
        loops.append(self.whole(self.o.axis, "#pragma omp simd"))
        self.nest.write(
            loops,
            self.nest.needed(id for effect in effects for id in operands(effect)),
            [self.nest.effect(effect) for effect in effects],
        )


class _Block(Tiled):
    """A block of images, which starts at its chunk and may end before its size."""

    def __init__(self, tiled: Tiled) -> None:
        super().__init__(tiled.axis, tiled.extent, tiled.size, tiled.position)

    @property
    def single(self) -> bool:
        return False

    @property
    def whole(self) -> bool:
        return False
