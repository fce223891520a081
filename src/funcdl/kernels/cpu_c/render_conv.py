"""Kernels with a direct `Conv`: a padded band of the image, panels of the kernel, an epilogue.

Threads share blocks of windows: some images, or some rows of one. A block copies what its windows
meet to a band with zeros as padding, unless no window meets padding, and leaves the sums to
``fd_conv.h``. The results go straight to memory where nothing else is computed from them, else to a
local array that the epilogue reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise, product
from math import prod

from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import PARALLEL, Action, Loop, Nest, share
from funcdl.kernels.cpu_c.render_dot import STACK_BYTES, Tiled
from funcdl.kernels.cpu_c.text import POSITION, Writer, factor
from funcdl.kir.convolution import batch_axes, find_conv, plain_store
from funcdl.kir.index import AxisAtom
from funcdl.kir.ir import Conv, Effect, Kernel, Load, operands
from funcdl.kir.motion import Phase, motions
from funcdl.kir.schedule import Schedule

# Features in the widest panel of any instruction set: what tiles of them are a multiple of.
WIDEST = 64
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
        self.phases = [
            (row, column) for row, column in product(self.rows.phases, self.columns.phases)
        ]
        self.taps = [_taps(*phase) for phase in self.phases]

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
        depth = sum(len(taps) for taps in self.taps) * self.features
        columns = self.extents[conv.o]
        self.writer.line(f"enum {{ rhs_depth = {depth} }};")
        self.writer.line(f"enum {{ rhs_columns = FD_CONV_ROUNDED_{suffix}({columns}) }};")
        if self.stored is None:
            width = f"FD_CONV_ROUNDED_{suffix}({self.o.size})"
            self.writer.line(f"enum {{ tile_columns = {width} }};")
        self.write_taps()
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

    def write_taps(self) -> None:
        """Tables of the kernel's places in the order of panels, and of where windows meet them."""
        places = [tap[:2] for taps in self.taps for tap in taps]
        for dim, name in enumerate(("rhs_row", "rhs_column")):
            if self.rhs_axis(dim) is not None:
                self.table(name, [place[dim] for place in places])
        for number, taps in enumerate(self.taps):
            offsets = self.offsets(taps)
            if taps:
                self.table(f"lhs_taps{number}", offsets[:: self.merged(offsets)])

    def table(self, name: str, numbers: Sequence[int]) -> None:
        values = [str(number) for number in numbers] or ["0"]
        self.writer.call(f"static const {POSITION} {name}[] = ", values, brackets="{}")

    def offsets(self, taps: Sequence[tuple[int, int, int, int]]) -> list[int]:
        """Where the elements that the taps meet are, from the beginning of a window."""
        rows, columns = self.rows.low, self.columns.low
        return [
            (row - rows) * self.row_stride + (column - columns) * self.column_stride
            for _, _, row, column in taps
        ]

    def merged(self, offsets: Sequence[int]) -> int:
        """How many taps in a row are one run of terms in memory."""
        count = 1
        while count < len(offsets) and offsets[count] - offsets[count - 1] == self.features:
            count += 1
        if len(offsets) % count:
            return 1
        for start in range(0, len(offsets), count):
            run = offsets[start : start + count]
            if any(b - a != self.features for a, b in pairwise(run)):
                return 1
        return count

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

    def group_loops(self) -> list[Loop]:
        """The loop over the kernel's taps, in each batch element."""
        taps = sum(len(taps) for taps in self.taps)
        first = [
            f"const {POSITION} {self.expressions.axis_name(axis)} = {name}[rhs_tap];"
            for axis, name in ((self.rhs_axis(0), "rhs_row"), (self.rhs_axis(1), "rhs_column"))
            if axis is not None and self.extents[axis] > 1
        ]
        tap = Loop("", "loop", "rhs_tap", "0", str(taps), first=tuple(first), whole=False)
        return [*self.batch_loops(), tap]

    def pack(self) -> None:
        """Pack the kernel to panels, one tap after the other."""
        self.writer.comment(f"panels of v{self.conv.rhs}")
        loops = self.group_loops()
        large = self.features * self.extents[self.conv.o] * len(self.taps[0]) >= PACK_ALONE
        shared = self.steps[self.conv.n].kind == "parallel" and large
        self.nest.write(share(loops, PARALLEL) if shared else loops, inside=self.pack_tap)

    def pack_tap(self) -> None:
        conv, columns = self.conv, self.extents[self.conv.o]
        load = self._plain_load(conv.rhs)
        target = f"rhs_panels + {self.group()} * rhs_depth * rhs_columns"
        arguments = [target if self.batch else "rhs_panels"]
        after = [str(self.features), str(columns), "rhs_depth", f"rhs_tap * {self.features}"]
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
        """The address of the first element that the block meets in the image."""
        at = {self.conv.n: self.n.first, self.conv.c: "0"}
        for dim, position in ((0, factor(self.first_row())), (1, str(self.columns.low))):
            axis = self.lhs_axis(dim)
            if axis is not None:
                at[axis] = position if self.in_place else "0"
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
        """The sums of the block's windows, phase by phase, and what follows from them."""
        height = self.i.size if self.i else 1
        rows, columns = (max(p.count for p in m.phases) for m in (self.rows, self.columns))
        rows = min(rows, -(-height // self.rows.period))
        room = f"{self.n.size * rows * columns} + FD_CONV_SLACK"
        self.writer.line(f"{POSITION} lhs_from[{room}], tile_to[{room}];")
        sequential = self.steps[self.conv.o].kind == "tile"
        loops = self.o.tiles() if sequential else []
        if not loops:
            self.features_of_block()
            return
        self.nest.write(loops, inside=self.features_of_block)

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
        at = 0
        for number, (row, column) in enumerate(self.phases):
            taps = self.taps[number]
            offsets = self.offsets(taps)
            merged = self.merged(offsets) if taps else 1
            target, steps = self.target(row, column)
            count = "tile_count" if number else f"{POSITION} tile_count"
            positions = ["lhs_from", "tile_to", *steps]
            self.writer.call(f"{count} = fd_conv_positions", positions)
            panels = "rhs_panels"
            if self.batch:
                panels += f" + {self.group()} * rhs_depth * rhs_columns"
            if not self.o.single:
                panels += f" + {self.o.first} * rhs_depth"
            arguments = [str(len(taps) // merged), str(self.features * merged)]
            arguments += [f"lhs_taps{number}" if taps else "NULL", "lhs_band", panels]
            arguments += ["rhs_depth", str(at), target, "tile_count", "lhs_from", "tile_to"]
            self.call_block(arguments)
            at += len(taps) * self.features

    def call_block(self, arguments: list[str]) -> None:
        """The call for the number of features in this tile, which must be constant."""
        function = f"fd_conv_block_{self.short}"

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

    def target(self, row: Phase, column: Phase) -> tuple[str, list[str]]:
        """Where the first result of a phase goes, and the steps along n, rows and columns."""
        conv, motion = self.conv, self.rows
        axes = (conv.n, *conv.windows)
        if self.stored is not None:
            first_row = str(row.first)
            if self.i is not None and not self.i.single:
                first_row = f"({self.i.first} + {row.first})" if row.first else self.i.first
            at = {conv.n: self.n.first, conv.o: self.o.first}
            at |= dict(zip(conv.windows, (first_row, str(column.first)), strict=False))
            index = self.expressions.index(self.stored.index, narrow=False, at=at)
            target = f"&{self.expressions.buffer_name(self.stored.buffer)}[{index}]"
            strides = [str(self.stored.index.coefficient(axis)) for axis in axes]
        else:
            width, height = self.columns.windows, self.i.size if self.i else 1
            first = row.first * width + column.first
            target = "product" + (f" + {first} * tile_columns" if first else "")
            strides = [f"{k} * tile_columns" for k in (height * width, width, 1)]
        strides += ["0"] * (3 - len(strides))
        count = self.i.count if self.i else "1"
        if motion.period > 1:
            count = f"({factor(count)} + {motion.period - 1 - row.first}) / {motion.period}"
        row_step, column_step = (
            motion.step * self.row_stride,
            self.columns.step * self.column_stride,
        )
        froms = (self.image_stride, row_step, column_step)
        counts = (self.n.count, count, str(column.count))
        periods = (1, motion.period, self.columns.period)
        return target, [
            f"(fd_steps){{{c}, {f}, {p} * {s}}}" if p > 1 else f"(fd_steps){{{c}, {f}, {s}}}"
            for c, f, p, s in zip(counts, froms, periods, strides, strict=True)
        ]

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


def _taps(row: Phase, column: Phase) -> list[tuple[int, int, int, int]]:
    """The places of the kernel, and the elements that they meet, for windows of one phase."""
    return [
        (place, other, element, other_element)
        for place, element in row.taps
        for other, other_element in column.taps
    ]
