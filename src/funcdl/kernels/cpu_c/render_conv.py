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

from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import PARALLEL, Action, Loop, Nest, share
from funcdl.kernels.cpu_c.render_dot import STACK_BYTES, Tiled
from funcdl.kernels.cpu_c.text import POSITION, Writer, factor
from funcdl.kir.convolution import batch_axes, find_conv, plain_store
from funcdl.kir.index import AxisAtom
from funcdl.kir.ir import Conv, Effect, Kernel, Load, operands
from funcdl.kir.motion import WindowClass, motions
from funcdl.kir.schedule import Schedule

# Features in the widest panel of any instruction set: what tiles of them are a multiple of.
WIDEST = 64
# Terms that are added up in one go (FD_CONV_TERMS).
MOST_RUN = 768
# Elements of a kernel that one thread packs faster than several.
PACK_ALONE = 16 * 1024


def is_direct(kernel: Kernel, schedule: Schedule) -> bool:
    """Whether the kernel has a convolution that the schedule does not see as a product."""
    id = find_conv(kernel)
    if id is None:
        return False
    conv = kernel.body[id]
    assert isinstance(conv, Conv)
    return any(step.axis == conv.o and step.kind == "vector" for step in schedule.of(conv.o)) and (
        bool(schedule.of(conv.n))
    )


def render_conv(kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
    """Write the body of the C function of a kernel with a direct convolution (see `is_direct`)."""
    _ConvRenderer(kernel, schedule, writer).render()


class _ConvRenderer:
    def __init__(self, kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
        id = find_conv(kernel)
        assert id is not None
        conv = kernel.body[id]
        assert isinstance(conv, Conv)
        self.kernel, self.writer, self.id, self.conv = kernel, writer, id, conv
        self.expressions = Expressions(kernel)
        self.nest = Nest(kernel, writer, self.expressions)
        self.type = text.type_name(conv.type.dtype)
        self.short = text.short_name(conv.type.dtype)
        self.itemsize = conv.type.dtype.itemsize
        self.extents = {axis.name: axis.extent for axis in kernel.axes}
        self.steps = {step.axis: step for step in reversed(schedule.steps)}
        self.rows, self.columns = motions(kernel, conv)
        self.features = self.extents[conv.c]
        self.batch = batch_axes(kernel, conv)
        self.n = self._tiled(conv.n)
        self.i = self._tiled(conv.windows[0]) if conv.windows else None
        self.o = self._tiled(conv.o, WIDEST)
        self.stored = plain_store(kernel)
        height = self.i.size if self.i else 1
        self.band_rows = self.rows.elements(height)
        self.band_columns = self.columns.elements(self.columns.windows)
        self.load = self._plain_load(conv.lhs)
        self.in_place = self.load is not None and self.rows.inside and self.columns.inside
        if self.in_place and self._stride(self.load, conv.c) != 1 and self.features > 1:
            self.in_place = False
        # A long run of features is cut where that leaves no rest.
        self.pieces = next(
            (p for p in range(1, 33) if self.features / p <= MOST_RUN and self.features % p == 0), 1
        )
        self.taps = self.rows.places * self.columns.places

    def _tiled(self, axis: str, unit: int = 1) -> Tiled:
        extent = self.extents[axis]
        size = self.steps[axis].size if axis in self.steps else extent
        size = max(1, min(-(-size // unit) * unit, extent))
        return Tiled(axis, extent, size, self.expressions.axis_name(axis))

    def _plain_load(self, id: int) -> Load | None:
        """The operand, if it is a load with fixed strides along all axes."""
        load = self.kernel.body[id]
        if not isinstance(load, Load) or load.mask is not None:
            return None
        return load if all(isinstance(atom, AxisAtom) for atom, _ in load.index.terms) else None

    def _stride(self, load: Load | None, axis: str | None) -> int:
        if load is None or axis is None:
            return 0
        return load.index.coefficient(axis)

    # The strides of the band, or of the image where windows are read in place.

    @property
    def column_stride(self) -> int:
        if self.in_place:
            return self._stride(self.load, self.lhs_axis(1))
        return self.features

    @property
    def row_stride(self) -> int:
        if self.in_place:
            return self._stride(self.load, self.lhs_axis(0))
        return self.band_columns * self.features

    @property
    def image_stride(self) -> int:
        if self.in_place:
            return self._stride(self.load, self.conv.n)
        return self.band_rows * self.row_stride

    def lhs_axis(self, dim: int) -> str | None:
        return self.conv.slides[dim].lhs if dim < len(self.conv.slides) else None

    def rhs_axis(self, dim: int) -> str | None:
        return self.conv.slides[dim].rhs if dim < len(self.conv.slides) else None

    def render(self) -> None:
        conv, suffix = self.conv, self.short.upper()
        depth = self.taps * self.features
        columns = self.extents[conv.o]
        self.writer.line(f"enum {{ rhs_depth = {depth} }};")
        self.writer.line(f"enum {{ rhs_columns = FD_CONV_ROUNDED_{suffix}({columns}) }};")
        if self.stored is None:
            width = f"FD_CONV_ROUNDED_{suffix}({self.o.size})"
            self.writer.line(f"enum {{ tile_columns = {width} }};")
        self.table("lhs_rows", self.rows.classes)
        self.table("lhs_columns", self.columns.classes)
        groups = prod(self.extents[axis] for axis in self.batch)
        size = f"{groups} * rhs_depth * rhs_columns" if groups > 1 else "rhs_depth * rhs_columns"
        bytes_ = groups * depth * -(-columns // 16) * 16 * self.itemsize
        with self.array("rhs_panels", size, bytes_):
            self.pack()
            self.writer.comment(f"blocks of v{self.id}, and what follows from them")
            loops = [*self.batch_loops(), *self.n.tiles(), *(self.i.tiles() if self.i else ())]
            step = self.steps[conv.o]
            if step.kind == "parallel":
                loops += self.o.tiles()
            shared = self.steps[conv.n].kind == "parallel"
            self.nest.write(share(loops, PARALLEL) if shared else loops, inside=self.block)

    def table(self, name: str, classes: Sequence[WindowClass]) -> None:
        values = [f"{{{c.first}, {c.count}, {c.place}, {c.element}, {c.taps}}}" for c in classes]
        self.writer.call(f"static const fd_class {name}[] = ", values, brackets="{}")

    @contextmanager
    def array(self, name: str, size: str, bytes_: int) -> Iterator[None]:
        """A local array, on the stack or from malloc."""
        if bytes_ <= STACK_BYTES:
            self.writer.line(f"_Alignas(64) {self.type} {name}[{size}];")
            yield
            return
        # aligned_alloc wants a multiple of the alignment.
        size = f"((size_t){factor(size)} * sizeof({self.type}) + 63) / 64 * 64"
        self.writer.line(f"{self.type} *const {name} = aligned_alloc(64, {size});")
        self.writer.line(f"if ({name} == NULL) abort();")
        yield
        self.writer.line(f"free({name});")

    def batch_loops(self) -> list[Loop]:
        return [
            Loop(axis, "loop", self.expressions.axis_name(axis), "0", str(self.extents[axis]))
            for axis in self.batch
        ]

    def group(self) -> str:
        """The number of the batch element that the loops are at."""
        number = ""
        for axis in self.batch:
            name = self.expressions.axis_name(axis)
            number = f"({number} * {self.extents[axis]} + {name})" if number else name
        return number

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
        load = self._plain_load(conv.rhs)
        target = f"rhs_panels + {self.group()} * rhs_depth * rhs_columns"
        arguments = [target if self.batch else "rhs_panels"]
        tap = "0"
        for slide in conv.slides:
            name = self.expressions.axis_name(slide.rhs)
            tap = f"({tap} * {self.extents[slide.rhs]} + {name})" if tap != "0" else name
        at = f"{tap} * {self.features}" if self.taps > 1 else "0"
        after = [str(self.features), str(columns), "rhs_depth", at]
        function = f"fd_conv_pack_{self.short}"
        if load is not None:
            index = self.expressions.index(load.index, narrow=False, at={conv.c: "0", conv.o: "0"})
            arguments.append(f"&{self.expressions.buffer_name(load.buffer)}[{index}]")
            arguments += [str(self._stride(load, axis)) for axis in (conv.c, conv.o)]
            self.writer.call(function, [*arguments, *after])
            return
        size = self.features * columns
        with self.array("rhs_values", str(size), size * self.itemsize):
            position = f"{self.expressions.axis_name(conv.c)} * {columns}"
            element = f"rhs_values[{position} + {self.expressions.axis_name(conv.o)}]"
            loops = [self.whole(conv.c), self.whole(conv.o, "#pragma omp simd")]
            self.evaluate(conv.rhs, loops, element)
            self.writer.call(function, [*arguments, "rhs_values", str(columns), "1", *after])

    def evaluate(self, id: int, loops: list[Loop], element: str) -> None:
        """Compute an operand at the points of some loops into an array."""
        values = self.nest.needed([id])
        axes = [loop.axis for loop in loops]
        self.expressions.vector_axis = axes[-1]
        action = Action(lambda: [f"{element} = {self.expressions.value(id)};"], axes)
        self.nest.write(loops, values, [action])

    def whole(self, axis: str, pragma: str = "") -> Loop:
        name = self.expressions.axis_name(axis)
        return Loop(axis, "loop", name, "0", str(self.extents[axis]), pragma=pragma)

    # A block of windows

    def block(self) -> None:
        if self.in_place:
            load = self.load
            assert load is not None
            self.writer.line(f"const {self.type} *const lhs_band = {self.first_element(load)};")
            self.windows()
            return
        size = self.n.size * self.band_rows * self.band_columns * self.features
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

    def first_element(self, load: Load) -> str:
        """The address of the first element of the block's first image."""
        at = {self.conv.n: self.n.first, self.conv.c: "0"}
        at |= {slide.lhs: "0" for slide in self.conv.slides}
        index = self.expressions.index(load.index, narrow=False, at=at)
        return f"&{self.expressions.buffer_name(load.buffer)}[{index}]"

    def fill(self) -> None:
        """Copy what the windows of the block meet, with zeros as padding."""
        conv, load = self.conv, self.load
        self.writer.comment(f"v{conv.lhs} with its padding")
        if load is None:
            self.fill_computed()
            return
        spans = []
        for dim, count, first in (
            (0, self.band_rows, self.first_row()),
            (1, self.band_columns, str(self.columns.low)),
        ):
            axis = self.lhs_axis(dim)
            size = self.extents[axis] if axis is not None else 1
            spans.append(f"(fd_span){{{count}, {first}, {size}, {self._stride(load, axis)}}}")
        arguments = ["lhs_band", self.first_element(load), self.n.count]
        arguments += [str(self._stride(load, conv.n)), *spans]
        arguments += [str(self.features), str(self._stride(load, conv.c))]
        self.writer.call(f"fd_conv_band_{self.short}", arguments)

    def fill_computed(self) -> None:
        conv, writer = self.conv, self.writer
        loops = [self.n.positions()]
        place = self.n.inside
        for dim, count, first in (
            (0, self.band_rows, self.first_row()),
            (1, self.band_columns, str(self.columns.low)),
        ):
            axis = self.lhs_axis(dim)
            if axis is None:
                continue
            name = self.expressions.axis_name(axis)
            size = self.extents[axis]
            writer.line(f"const {POSITION} lhs_first{dim} = {first};")
            end = f"lhs_first{dim} + {count}"
            writer.line(f"const {POSITION} lhs_end{dim} = {end} < {size} ? {end} : {size};")
            begin = f"lhs_first{dim} > 0 ? lhs_first{dim} : 0"
            loops.append(Loop(axis, "loop", name, begin, f"lhs_end{dim}"))
            place = f"({place}) * {count} + {name} - lhs_first{dim}"
        loops.append(self.whole(conv.c, "#pragma omp simd"))
        element = f"({place}) * {self.features} + {self.expressions.axis_name(conv.c)}"
        size = self.n.size * self.band_rows * self.band_columns * self.features
        writer.line(f"memset(lhs_band, 0, {size} * sizeof({self.type}));")
        self.evaluate(conv.lhs, loops, f"lhs_band[{element}]")

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
        sequential = self.steps[self.conv.o].kind == "tile"
        self.nest.write(self.o.tiles() if sequential else [], inside=self.features_of_block)

    def features_of_block(self) -> None:
        """The sums for one tile of the features."""
        if self.stored is None:
            height = self.i.size if self.i else 1
            count = self.n.size * height * self.columns.windows
            with self.array(
                "product", f"{count} * tile_columns", count * self.o.size * self.itemsize
            ):
                self.sums()
                self.epilogue()
        else:
            self.sums()

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
        panels = "rhs_panels"
        if self.batch:
            panels += f" + {self.group()} * rhs_depth * rhs_columns"
        if not self.o.single:
            panels += f" + {self.o.first} * rhs_depth"
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
        arguments += [str(self.image_stride), to_image, str(self.features), str(self.pieces)]

        def inside() -> None:
            self.writer.call("fd_conv_list", arguments)
            self.call_sums(["&tile_block", self.origin(), panels, "rhs_depth", target])

        self.nest.write(loops, inside=inside)

    def origin(self) -> str:
        """The address that the first element of the image has, or would have in the band."""
        if self.in_place:
            return "lhs_band"
        column = self.columns.low * self.column_stride
        first = self.first_row()
        row = f"({first}) * {self.row_stride}" if first != "0" else "0"
        return " - ".join(
            ["lhs_band", *([row] if row != "0" else []), *([f"({column})"] if column else [])]
        )

    def call_sums(self, arguments: list[str]) -> None:
        """The call for the number of features in this tile, which must be constant."""
        function = f"fd_conv_sums_{self.short}"

        def call(columns: int) -> None:
            # The local array has room for whole vectors.
            rounded = f"FD_CONV_ROUNDED_{self.short.upper()}({columns})"
            last = rounded if self.stored is None else str(columns)
            self.writer.call(function, [*arguments, last])

        if self.o.single or self.o.whole:
            call(self.o.size)
            return
        with self.writer.block(f"if ({self.o.count} == {self.o.size})"):
            call(self.o.size)
        with self.writer.block("else"):
            call(self.o.extent % self.o.size)

    def target(self) -> tuple[str, list[str]]:
        """Where the first result of a block goes, and the steps along n, rows and columns."""
        conv = self.conv
        if self.stored is None:
            width, height = self.columns.windows, self.i.size if self.i else 1
            return "product", [f"{k} * tile_columns" for k in (height * width, width, 1)]
        at = {conv.n: self.n.first, conv.o: self.o.first}
        for axis, first in zip(conv.windows, (self.i.first if self.i else "0", "0"), strict=False):
            at[axis] = first
        index = self.expressions.index(self.stored.index, narrow=False, at=at)
        strides = [self.stored.index.coefficient(axis) for axis in (conv.n, *conv.windows)]
        strides += [0] * (3 - len(strides))
        target = f"&{self.expressions.buffer_name(self.stored.buffer)}[{index}]"
        return target, [str(stride) for stride in strides]

    def inside(self, tiled: Tiled, is_factor: bool = False) -> str:
        """A position in the block; the result has no loop along axes that it does not vary over."""
        if tiled.axis not in self.conv.type.axes:
            return "0"
        return factor(tiled.inside) if is_factor else tiled.inside

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
        self.expressions.vector_axis = conv.o
        self.expressions.elements[self.id] = (
            f"product[{position} * tile_columns + {self.inside(self.o)}]"
        )
        self.nest.write(
            loops,
            self.nest.needed(id for effect in effects for id in operands(effect)),
            [self.nest.effect(effect) for effect in effects],
        )
