"""What kernels with a direct `Conv` share: the band that is read, arrays, operands of any form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from funcdl.core.integers import round_up
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import Action, Loop, Nest
from funcdl.kernels.cpu_c.memory import STACK_BYTES, heap_array, stack_array
from funcdl.kernels.cpu_c.text import POSITION, Writer, factor
from funcdl.kernels.cpu_c.tiled import Tiled
from funcdl.kir.convolution import batch_axes, find_conv
from funcdl.kir.index import AxisAtom
from funcdl.kir.ir import Conv, Kernel, Load
from funcdl.kir.schedule import Schedule

# Features in the widest panel of any instruction set: what tiles of them are a multiple of.
WIDEST = 64
# Terms that are added up in one go (FD_CONV_TERMS).
MOST_RUN = 768
# Elements of a kernel that one thread packs faster than several.
PACK_ALONE = 16 * 1024


class ConvWriter(ABC):
    """Writes parts of the function of a kernel with a direct convolution.

    Subclasses say what a block reads: `images`, a tile of an axis that is n of the convolution or
    its c, and all of the other one, `feature`; from `first_row` on `band_rows` rows, and
    `band_columns` columns from `low_column` on. With `in_place` it is read where it is.
    """

    images: Tiled
    feature: str
    band_rows: int
    band_columns: int
    low_column: int
    in_place: bool

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
        self.batch = batch_axes(kernel, conv)
        self.load = self.plain_load(conv.lhs)

    @property
    def features(self) -> int:
        return self.extents[self.feature]

    @abstractmethod
    def first_row(self) -> str:
        """The first row of the image that the block meets; below 0 where that is padding."""

    def tiled(self, axis: str, unit: int = 1) -> Tiled:
        extent = self.extents[axis]
        size = self.steps[axis].size if axis in self.steps else extent
        size = max(1, min(round_up(size, unit), extent))
        return Tiled(axis, extent, size, self.expressions.axis_name(axis))

    def plain_load(self, id: int) -> Load | None:
        """The operand, if it is a load with fixed strides along all axes."""
        load = self.kernel.body[id]
        if not isinstance(load, Load) or load.mask is not None:
            return None
        return load if all(isinstance(atom, AxisAtom) for atom, _ in load.index.terms) else None

    def stride(self, load: Load | None, axis: str | None) -> int:
        if load is None or axis is None:
            return 0
        return load.index.coefficient(axis)

    # The strides of the band, or of the image where windows are read in place.

    @property
    def column_stride(self) -> int:
        if self.in_place:
            return self.stride(self.load, self.lhs_axis(1))
        return self.features

    @property
    def row_stride(self) -> int:
        if self.in_place:
            return self.stride(self.load, self.lhs_axis(0))
        return self.band_columns * self.features

    @property
    def image_stride(self) -> int:
        if self.in_place:
            return self.stride(self.load, self.images.axis)
        return self.band_rows * self.row_stride

    def lhs_axis(self, dim: int) -> str | None:
        return self.conv.slides[dim].lhs if dim < len(self.conv.slides) else None

    @contextmanager
    def array(self, name: str, size: str, bytes_: int) -> Iterator[None]:
        """A local array, on the stack or on the heap."""
        if bytes_ <= STACK_BYTES:
            self.writer.line(stack_array(self.type, name, size))
            yield
            return
        with heap_array(self.writer, self.type, name, size):
            yield

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

    def first_element(self, load: Load) -> str:
        """The address of the first element of the block's first image."""
        at = {self.images.axis: self.images.first, self.feature: "0"}
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
            (1, self.band_columns, str(self.low_column)),
        ):
            axis = self.lhs_axis(dim)
            size = self.extents[axis] if axis is not None else 1
            spans.append(f"(fd_span){{{count}, {first}, {size}, {self.stride(load, axis)}}}")
        arguments = ["lhs_band", self.first_element(load), self.images.count]
        arguments += [str(self.stride(load, self.images.axis)), *spans]
        arguments += [str(self.features), str(self.stride(load, self.feature))]
        self.writer.call(f"fd_conv_band_{self.short}", arguments)

    def fill_computed(self) -> None:
        conv, writer = self.conv, self.writer
        loops = [self.images.positions()]
        place = self.images.inside
        for dim, count, first in (
            (0, self.band_rows, self.first_row()),
            (1, self.band_columns, str(self.low_column)),
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
        loops.append(self.whole(self.feature, "#pragma omp simd"))
        element = f"({place}) * {self.features} + {self.expressions.axis_name(self.feature)}"
        size = self.images.size * self.band_rows * self.band_columns * self.features
        writer.line(f"memset(lhs_band, 0, {size} * sizeof({self.type}));")
        self.evaluate(conv.lhs, loops, f"lhs_band[{element}]")

    def origin(self) -> str:
        """The address that the first element of the image has, or would have in the band."""
        if self.in_place:
            return "lhs_band"
        column = self.low_column * self.column_stride
        first = self.first_row()
        row = f"({first}) * {self.row_stride}" if first != "0" else "0"
        return " - ".join(
            ["lhs_band", *([row] if row != "0" else []), *([f"({column})"] if column else [])]
        )

    def inside(self, tiled: Tiled, is_factor: bool = False) -> str:
        """A position in the block; the result has no loop along axes that it does not vary over."""
        if tiled.axis not in self.conv.type.axes:
            return "0"
        return factor(tiled.inside) if is_factor else tiled.inside
