"""Kernels with a direct `Conv`: a padded band of the image, panels of the kernel, an epilogue.

Threads share blocks of windows: some images, or some rows of one. A block copies what its windows
meet to a band with zeros as padding, unless no window meets padding, and leaves the sums to
``fd_conv.h``. The results go straight to memory where nothing else is computed from them, else to a
local array that the epilogue reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

from funcdl.kernels.cpu_c.conv.writer import MOST_RUN, PACK_ALONE, WIDEST, ConvWriter
from funcdl.kernels.cpu_c.loops import PARALLEL, Loop, share
from funcdl.kernels.cpu_c.text import POSITION, Writer, factor
from funcdl.kir.convolution import plain_store
from funcdl.kir.ir import Effect, Kernel, operands
from funcdl.kir.motion import WindowClass, motions
from funcdl.kir.schedule import Schedule

# So few output features are not worth vectors of them: these run along the input features, which
# must make up whole ones of the widest kind.
FEW = 4
VECTOR_BYTES = 64


class WindowsRenderer(ConvWriter):
    """Writes the body of the C function of a kernel with many windows."""

    def __init__(self, kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
        super().__init__(kernel, schedule, writer)
        conv = self.conv
        self.rows, self.columns = motions(kernel, conv)
        self.feature = conv.c
        self.n = self.images = self.tiled(conv.n)
        self.i = self.tiled(conv.windows[0]) if conv.windows else None
        self.o = self.tiled(conv.o, WIDEST)
        self.stored = plain_store(kernel)
        height = self.i.size if self.i else 1
        self.band_rows = self.rows.elements(height)
        self.band_columns = self.columns.elements(self.columns.windows)
        self.low_column = self.columns.low
        self.in_place = self.load is not None and self.rows.inside and self.columns.inside
        if self.in_place and self.stride(self.load, conv.c) != 1 and self.features > 1:
            self.in_place = False
        # A long run of features is cut where that leaves no rest.
        self.pieces = next(
            (p for p in range(1, 33) if self.features / p <= MOST_RUN and self.features % p == 0), 1
        )
        self.run = self.features
        run = self.features // self.pieces
        self.few = self.o.size <= FEW and run > 0 and run * self.itemsize % VECTOR_BYTES == 0
        self.taps = self.rows.places * self.columns.places

    @property
    def function(self) -> str:
        """The library function that sums."""
        return "fd_conv_few" if self.few else "fd_conv_sums"

    def render(self) -> None:
        conv, suffix = self.conv, self.short.upper()
        self.writer.line(f"enum {{ rhs_depth = {self.taps * self.features} }};")
        self.writer.line(f"enum {{ rhs_columns = FD_CONV_ROUNDED_{suffix}({self.o.extent}) }};")
        if self.local_sums():
            width = f"FD_CONV_ROUNDED_{suffix}({self.o.size})"
            self.writer.line(f"enum {{ tile_columns = {width} }};")
        self.tables()
        with self.packed():
            self.writer.comment(f"blocks of v{self.id}, and what follows from them")
            loops = [*self.batch_loops(), *self.n.tiles(), *(self.i.tiles() if self.i else ())]
            step = self.steps[self.o.axis]
            if step.kind == "parallel":
                loops += self.o.tiles()
            shared = self.steps[conv.n].kind == "parallel"
            self.nest.write(share(loops, PARALLEL) if shared else loops, inside=self.block)

    def local_sums(self) -> bool:
        """Whether sums of a tile of features wait in a local array."""
        return self.stored is None

    def tables(self) -> None:
        """Constants that the blocks read."""
        self.table("lhs_rows", self.rows.classes)
        self.table("lhs_columns", self.columns.classes)

    @contextmanager
    def packed(self) -> Iterator[None]:
        """The kernel in panels, for as long as blocks read it."""
        groups = prod(self.extents[axis] for axis in self.batch)
        size = f"{groups} * rhs_depth * rhs_columns" if groups > 1 else "rhs_depth * rhs_columns"
        depth, columns = self.taps * self.features, -(-self.o.extent // 16) * 16
        with self.array("rhs_panels", size, groups * depth * columns * self.itemsize):
            self.pack()
            yield

    def table(self, name: str, classes: Sequence[WindowClass]) -> None:
        values = [f"{{{c.first}, {c.count}, {c.place}, {c.element}, {c.taps}}}" for c in classes]
        self.writer.call(f"static const fd_class {name}[] = ", values, brackets="{}")

    def rhs_loops(self) -> list[Loop]:
        """The loops over the places of the kernel, in each batch element."""
        return [*self.batch_loops(), *(self.whole(slide.rhs) for slide in self.conv.slides)]

    def pack(self) -> None:
        """Pack the kernel to panels, one place after the other."""
        self.writer.comment(f"panels of v{self.conv.rhs}")
        loops = self.rhs_loops()
        large = self.features * self.extents[self.conv.o] * self.taps >= PACK_ALONE
        shared = self.steps[self.conv.n].kind == "parallel" and large
        self.nest.write(share(loops, PARALLEL) if shared else loops, inside=self.pack_tap)

    def pack_tap(self) -> None:
        conv, columns = self.conv, self.extents[self.conv.o]
        load = self.plain_load(conv.rhs)
        arguments = [self.group_panels()]
        tap = "0"
        for slide in conv.slides:
            name = self.expressions.axis_name(slide.rhs)
            tap = f"({tap} * {self.extents[slide.rhs]} + {name})" if tap != "0" else name
        at = f"{tap} * {self.features}" if self.taps > 1 else "0"
        after = [str(self.features), str(columns), "rhs_depth", at]
        function = f"fd_conv_pack{'_rows' * self.few}_{self.short}"
        if load is not None:
            index = self.expressions.index(load.index, narrow=False, at={conv.c: "0", conv.o: "0"})
            arguments.append(f"&{self.expressions.buffer_name(load.buffer)}[{index}]")
            arguments += [str(self.stride(load, axis)) for axis in (conv.c, conv.o)]
            self.writer.call(function, [*arguments, *after])
            return
        size = self.features * columns
        with self.array("rhs_values", str(size), size * self.itemsize):
            position = f"{self.expressions.axis_name(conv.c)} * {columns}"
            element = f"rhs_values[{position} + {self.expressions.axis_name(conv.o)}]"
            loops = [self.whole(conv.c), self.whole(conv.o, "#pragma omp simd")]
            self.evaluate(conv.rhs, loops, element)
            self.writer.call(function, [*arguments, "rhs_values", str(columns), "1", *after])

    # A block of windows

    def block(self) -> None:
        if self.in_place:
            load = self.load
            assert load is not None
            self.writer.line(f"const {self.type} *const lhs_band = {self.first_element(load)};")
            self.windows()
            return
        size = self.n.size * self.band_rows * self.band_columns * self.features + self.spare()
        with self.array("lhs_band", str(size), size * self.itemsize):
            self.fill()
            self.windows()

    def first_row(self) -> str:
        """The first row of the image that the block meets; below 0 where that is padding."""
        motion = self.rows
        if self.i is None or self.i.single:
            return str(motion.low)
        position = self.i.first if motion.period == 1 else f"{self.i.first} / {motion.period}"
        position = position if motion.step == 1 else f"{position} * {motion.step}"
        return position + (
            f" {'-' if motion.low < 0 else '+'} {abs(motion.low)}" if motion.low else ""
        )

    def windows(self) -> None:
        """The sums of the block's windows, class by class, and what follows from them."""
        height = self.i.size if self.i else 1
        columns = max(c.count for c in self.columns.classes)
        rows = min(max(c.count for c in self.rows.classes), -(-height // self.rows.period))
        room = f"{self.n.size * rows * columns} + FD_CONV_SLACK"
        self.writer.line(f"{POSITION} lhs_from[{room}], tile_to[{room}];")
        runs = self.taps * self.pieces
        self.writer.line(f"{POSITION} lhs_taps[{runs}], rhs_places[{runs}];")
        pointers = "lhs_from, tile_to, lhs_taps, rhs_places"
        self.writer.line(f"fd_block tile_block = {{0, 0, 0, {pointers}}};")
        sequential = self.steps[self.o.axis].kind == "tile"
        self.nest.write(self.o.tiles() if sequential else [], inside=self.features_of_block)

    def features_of_block(self) -> None:
        """The sums for one tile of the features."""
        if self.stored is not None:
            self.sums()
            return
        height = self.i.size if self.i else 1
        count = self.n.size * height * self.columns.windows
        with self.array("product", f"{count} * tile_columns", count * self.o.size * self.itemsize):
            self.sums()
            self.epilogue()

    def sums(self) -> None:
        """Class by class: list the windows and their taps, and sum."""
        target, (to_image, to_row, to_column) = self.target()
        rows, columns = self.rows, self.columns
        begin, end = (self.i.first, self.i.end) if self.i is not None else ("0", "1")
        along = []
        for motion, limits, from_, to, places in (
            (rows, (begin, end), self.row_stride, to_row, columns.places * self.features),
            (columns, ("0", str(columns.windows)), self.column_stride, to_column, self.features),
        ):
            steps = motion.period, motion.step, motion.place_step, motion.element_step
            numbers = [*limits, *map(str, steps), str(from_), to, str(places)]
            along.append(f"(fd_motion){{{', '.join(numbers)}}}")
        panels = self.panels()
        loops = [
            Loop("", "loop", f"tile_{what}", "0", str(len(motion.classes)))
            for what, motion in (("row", rows), ("column", columns))
        ]
        classes = [
            f"lhs_{what}s[tile_{what}]" if len(motion.classes) > 1 else f"lhs_{what}s[0]"
            for what, motion in (("row", rows), ("column", columns))
        ]
        loops = [loop for loop in loops if loop.end != "1"]
        arguments = ["&tile_block", classes[0], along[0], classes[1], along[1], self.n.count]
        arguments += [str(self.image_stride), to_image, str(self.run), str(self.pieces)]

        def inside() -> None:
            self.writer.call("fd_conv_list", arguments)
            self.call_sums(["&tile_block", self.origin(), panels, "rhs_depth", target])

        self.nest.write(loops, inside=inside)

    def panels(self) -> str:
        """The panels of this tile of features."""
        panels = self.group_panels()
        return panels if self.o.single else f"{panels} + {self.o.first} * rhs_depth"

    def group_panels(self) -> str:
        """The panels of this batch element."""
        if not self.batch:
            return "rhs_panels"
        return f"rhs_panels + {self.group()} * rhs_depth * rhs_columns"

    def call_sums(self, arguments: list[str]) -> None:
        """The call for the number of features in this tile, which must be constant."""
        function = f"{self.function}_{self.short}"

        def call(columns: int) -> None:
            rounded = f"FD_CONV_ROUNDED_{self.short.upper()}({columns})"
            last = rounded if self.whole_vectors() else str(columns)
            self.writer.call(function, [*arguments, last])

        if self.o.single or self.o.whole:
            call(self.o.size)
            return
        with self.writer.block(f"if ({self.o.count} == {self.o.size})"):
            call(self.o.size)
        with self.writer.block("else"):
            call(self.o.extent % self.o.size)

    def whole_vectors(self) -> bool:
        """Whether features may be rounded up: the local array of sums has room for that."""
        return self.stored is None and not self.few

    def spare(self) -> int:
        """How many elements behind the band are read, and have no meaning."""
        return 0

    def target(self) -> tuple[str, list[str]]:
        """Where the first result of a block goes, and the steps along n, rows and columns."""
        conv = self.conv
        if self.stored is None:
            width, height = self.columns.windows, self.i.size if self.i else 1
            return "product", [f"{k} * tile_columns" for k in (height * width, width, 1)]
        at = {conv.n: self.n.first, self.o.axis: self.o.first}
        for axis, first in zip(conv.windows, (self.i.first if self.i else "0", "0"), strict=False):
            at[axis] = first
        index = self.expressions.index(self.stored.index, narrow=False, at=at)
        strides = [self.stored.index.coefficient(axis) for axis in (conv.n, *conv.windows)]
        strides += [0] * (3 - len(strides))
        target = f"&{self.expressions.buffer_name(self.stored.buffer)}[{index}]"
        return target, [str(stride) for stride in strides]

    def epilogue(self) -> None:
        """Loops over the block that compute from the sums and store."""
        conv = self.conv
        effects = [i for i in self.kernel.body if isinstance(i, Effect)]
        position, loops = self.inside(self.n, True), [self.n.positions()]
        if self.i is not None:
            row = self.inside(self.i)
            position = f"({position} * {self.i.size} + {row})" if position != "0" else factor(row)
            loops.append(self.i.positions())
        if len(conv.windows) > 1:
            loops.append(self.whole(conv.windows[1]))
            if conv.windows[1] in conv.type.axes:
                name = self.expressions.axis_name(conv.windows[1])
                position = f"({position} * {self.columns.windows} + {name})"
        loops.append(self.o.positions("#pragma omp simd"))
        self.expressions.vector_axis = self.o.axis
        self.expressions.elements[self.id] = (
            f"product[{position} * tile_columns + {self.inside(self.o)}]"
        )
        self.nest.write(
            loops,
            self.nest.needed(id for effect in effects for id in operands(effect)),
            [self.nest.effect(effect) for effect in effects],
        )
