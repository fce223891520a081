"""Kernels with a `Conv` of one feature in each group: vectors run over the groups.

Forward, and for the gradient with respect to the image, each window is a sum over the taps of the
kernel; for the gradient with respect to the kernel, each tap is a sum over windows.
"""

from __future__ import annotations

from math import prod

from funcdl.kernels.cpu_c.conv.gradient import GradientRenderer
from funcdl.kernels.cpu_c.conv.windows import WindowsRenderer
from funcdl.kernels.cpu_c.text import Writer, factor
from funcdl.kir.ir import Kernel
from funcdl.kir.schedule import Schedule

# Elements of the widest vector that a loop over features reads at a time.
LANES = 16


class DepthwiseRenderer(WindowsRenderer):
    """Writes the body of the C function of a depthwise convolution."""

    def __init__(self, kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
        super().__init__(kernel, schedule, writer)
        (group,) = self.batch
        self.feature, self.batch = group, []
        self.o = self.tiled(group)
        # Taps are listed one by one.
        self.run, self.pieces, self.few = 0, 1, False
        inside = self.rows.inside and self.columns.inside
        self.in_place = inside and self.stride(self.load, group) == 1
        if self.stored is not None and self.stored.index.coefficient(group) != 1:
            self.stored = None

    @property
    def function(self) -> str:
        return "fd_conv_depthwise"

    def whole_vectors(self) -> bool:
        """Only where the image is a local array too: nobody may read behind the user's."""
        return self.stored is None and not self.in_place

    def spare(self) -> int:
        return -self.features % LANES if self.whole_vectors() else 0

    def pack(self) -> None:
        """Write the kernel as one row of features for each tap."""
        self.writer.comment(f"v{self.conv.rhs}, one row for each tap")
        place = "0"
        for slide in self.conv.slides:
            name = self.expressions.axis_name(slide.rhs)
            place = f"({place} * {self.extents[slide.rhs]} + {name})" if place != "0" else name
        element = f"{factor(place)} * {self.features} + {self.expressions.axis_name(self.feature)}"
        loops = [*self.rhs_loops(), self.whole(self.feature, "#pragma omp simd")]
        self.evaluate(self.conv.rhs, loops, f"rhs_panels[{element}]")


class DepthwiseGradientRenderer(GradientRenderer):
    """Writes the body of the C function of the gradient of a depthwise convolution's kernel."""

    def __init__(self, kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
        super().__init__(kernel, schedule, writer)
        (group,) = self.batch
        self.feature, self.batch = group, []
        self.o = self.tiled(group)
        self.sum_rows = prod(self.windows)
        # All taps meet elements in the same windows, of a band with zeros as padding.
        self.merged, self.in_place = True, False
        rhs = self.plain_load(self.conv.rhs)
        self.unpacked = self.stride(rhs, group) == 1 and self.dense(rhs)

    def pack(self) -> None:
        """Write the block's rows of rhs, one row of features for each position."""
        self.writer.comment(f"v{self.conv.rhs}, one row for each position")
        row = f"({factor(self.images.inside)} * {self.k.size} + {self.k.inside})"
        loops = [self.images.positions(), self.k.positions()]
        for slide in self.conv.slides[1:]:
            name = self.expressions.axis_name(slide.rhs)
            row = f"({row} * {self.width} + {name})"
            loops.append(self.whole(slide.rhs))
        element = f"{row} * {self.features} + {self.expressions.axis_name(self.feature)}"
        loops.append(self.whole(self.feature, "#pragma omp simd"))
        self.evaluate(self.conv.rhs, loops, f"rhs_panels[{element}]")

    def group_step(self) -> int:
        """How far the rows of rhs are apart."""
        return self.position if self.unpacked else self.features

    def ahead(self) -> None:
        """Nothing: a position has few terms, and the prefetchers of the processor keep up."""

    def call_outer(self, arguments: list[str], target: str) -> None:
        arguments[1] = str(self.sum_rows)
        arguments += [str(self.group_step()), target, "tile_columns", str(self.features)]
        self.writer.call(f"fd_conv_depthwise_outer_{self.short}", arguments)
