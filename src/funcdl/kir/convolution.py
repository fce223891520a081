"""A convolution spelled out as a product of matrices: windows by kernel (implicit GEMM).

The windows are the rows of a matrix whose elements are read from `lhs` at a position that is affine
in row and column, under a mask for padding and holes. The matrix is never stored. Renderers that
have nothing better for a convolution render this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import prod

import numpy as np

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.ir import Cast, Conv, Effect, Kernel, Load, Store, operands
from funcdl.kir.passes import rebuild_instruction
from funcdl.kir.schedule import Schedule


def find_conv(kernel: Kernel) -> int | None:
    """The id of the kernel's convolution, if it has one."""
    return next((id for id, i in enumerate(kernel.body) if isinstance(i, Conv)), None)


def batch_axes(kernel: Kernel, conv: Conv) -> list[str]:
    """The axes that both operands may vary over, and that have several positions."""
    taken = {conv.n, conv.o, *conv.windows, *conv.summed}
    return [axis.name for axis in kernel.axes if axis.name not in taken and axis.extent != 1]


def needed(kernel: Kernel, root: int, known: Collection[int] = ()) -> list[int]:
    """The values that `root` is computed from, itself included, without the `known` ones."""
    found: set[int] = set()
    pending = [root]
    while pending:
        id = pending.pop()
        if id not in found and id not in known:
            found.add(id)
            pending.extend(operands(kernel.body[id]))
    return sorted(found)


def in_tiles(conv: Conv, schedule: Schedule) -> bool:
    """Whether neighbouring windows are computed together, by Winograd's algorithm.

    Only that takes pairs along the second dimension, too: of windows, or of the places of a kernel
    that are windows of the convolution whose kernel's gradient this is.
    """
    if len(conv.slides) != 2:
        return False
    return any(schedule.of(axis) for axis in (conv.windows[1], conv.slides[1].rhs))


def plain_store(kernel: Kernel) -> Store | None:
    """The one effect of a convolution's kernel, if it stores the result as it is."""
    effects = [i for i in kernel.body if isinstance(i, Effect)]
    if len(effects) != 1 or effects[0].value != find_conv(kernel):
        return None
    (effect,) = effects
    if not isinstance(effect, Store) or effect.mask is not None:
        return None
    conv = kernel.body[effect.value]
    assert isinstance(conv, Conv)
    dense = effect.index.coefficient(conv.o) == 1 or kernel.axis(conv.o).extent == 1
    affine = all(isinstance(atom, AxisAtom) for atom, _ in effect.index.terms)
    return effect if dense and affine else None


def conv_as_dot(kernel: Kernel) -> Kernel:
    """The kernel with its `Conv` as a `Dot` over axes m (windows), o and k; others as they are."""
    id = find_conv(kernel)
    return kernel if id is None else _Rewriter(kernel, id).run()


class _Rewriter:
    def __init__(self, kernel: Kernel, id: int) -> None:
        conv = kernel.body[id]
        assert isinstance(conv, Conv)
        self.kernel, self.id, self.conv = kernel, id, conv
        self.builder = KernelBuilder(kernel.name)
        self.extents = {axis.name: axis.extent for axis in kernel.axes}

    def run(self) -> Kernel:
        conv, builder = self.conv, self.builder
        near_n, far_c = self.lhs_order()
        rows = (*conv.windows, conv.n) if near_n else (conv.n, *conv.windows)
        shifts = tuple(slide.rhs for slide in conv.slides)
        terms = (conv.c, *shifts) if far_c else (*shifts, conv.c)
        gone = {*rows, *conv.summed}
        for axis in self.kernel.axes:
            if axis.name not in {*gone, conv.o}:
                builder.axis(axis.name, axis.extent)
        row = self.split(builder.axis("m", prod(self.extents[axis] for axis in rows)), rows)
        builder.axis(conv.o, self.extents[conv.o])
        term = self.split(builder.axis("k", prod(self.extents[axis] for axis in terms)), terms)
        for buffer in self.kernel.buffers:
            builder.buffer(buffer.name, buffer.dtype, buffer.size, buffer.role, buffer.may_alias)
        lhs_at = {conv.n: row[conv.n], conv.c: term[conv.c]}
        checks: list[int] = []
        for slide in conv.slides:
            place = row[slide.out] * slide.stride + term[slide.rhs] * slide.dilation - slide.low
            lhs_at[slide.lhs] = place // slide.spread
            last = (self.extents[slide.lhs] - 1) * slide.spread
            checks += [self.compare("ge", place, 0), self.compare("le", place, last)]
            if slide.spread > 1:
                checks.append(self.compare("eq", place % slide.spread, 0))
        mask: int | None = None
        for check in checks:
            mask = check if mask is None else builder.elementwise("and", mask, check)
        lhs = self.lhs(lhs_at, mask)
        rhs = self.rebuild([conv.rhs], term, {}, None)[conv.rhs]
        product = builder.dot(lhs, rhs, "m", conv.o, "k", conv.precision)
        effects = [id for id, i in enumerate(self.kernel.body) if isinstance(i, Effect)]
        self.rebuild(effects, row, {self.id: product}, None)
        return builder.build()

    def lhs_order(self) -> tuple[bool, bool]:
        """Whether elements along `n` lie nearer in memory than windows, those along `c` further.

        Rows and terms take the order of memory, of which a program reads neighbours at a time. In
        a weight gradient `n` are the channels, and `c` the images.
        """
        conv, body = self.conv, self.kernel.body
        slid = [slide.lhs for slide in conv.slides]
        for id in needed(self.kernel, conv.lhs):
            load = body[id]
            if isinstance(load, Load) and {conv.n, conv.c, *slid} <= load.index.axes():
                strides = [abs(load.index.coefficient(axis)) for axis in slid]
                n, c = (abs(load.index.coefficient(axis)) for axis in (conv.n, conv.c))
                return n < min(strides, default=0), c > max(strides, default=c)
        return False, False

    def lhs(self, at: Mapping[str, Index], mask: int | None) -> int:
        """The left operand, zero outside of the mask.

        What is widened is made zero before: tensor cores take factors of half types as they are.
        """
        id = self.conv.lhs
        if mask is None or self.is_zero_outside(id):
            return self.rebuild([id], at, {}, mask)[id]
        widened = self.kernel.body[id]
        inner = widened.arg if isinstance(widened, Cast) else id
        value = self.rebuild([inner], at, {}, mask)[inner]
        zero = self.builder.const(0, self.kernel.value_type(inner).dtype)
        value = self.builder.select(mask, value, zero)
        if inner == id:
            return value
        return self.builder.cast(value, self.kernel.value_type(id).dtype)

    def split(self, position: Index, axes: tuple[str, ...]) -> dict[str, Index]:
        """Positions along some axes from the row-major position in all of them."""
        found: dict[str, Index] = {}
        inner = 1
        for axis in reversed(axes):
            extent = self.extents[axis]
            found[axis] = position // inner % extent if extent > 1 else ix.constant(0)
            inner *= max(extent, 1)
        return found

    def compare(self, name: str, place: Index, bound: int) -> int:
        large = max(map(abs, (*place.range(), bound))) > 2**31 - 1
        dtype = np.dtype(np.int64 if large else np.int32)
        value = self.builder.index_value(place, dtype)
        return self.builder.elementwise(name, value, self.builder.const(bound, dtype))

    def rebuild(
        self,
        roots: Iterable[int],
        at: Mapping[str, Index],
        ids: dict[int, int],
        mask: int | None,
    ) -> dict[int, int]:
        """Write what `roots` need at other positions along some axes, loads under a mask."""
        body = self.kernel.body
        for id in sorted({id for root in roots for id in needed(self.kernel, root, ids)}):
            instruction = body[id]
            if mask is not None and isinstance(instruction, Load):
                ids[id] = self.load(instruction, at, ids, mask)
                continue
            new = rebuild_instruction(
                self.builder, instruction, ids, lambda i: ix.substitute(i, at), lambda name: name
            )
            if new is not None:
                ids[id] = new
        return ids

    def load(self, load: Load, at: Mapping[str, Index], ids: Mapping[int, int], mask: int) -> int:
        if load.mask is not None:
            mask = self.builder.elementwise("and", mask, ids[load.mask])
        index = ix.substitute(load.index, at)
        index = ix.rename_values(index, ids) if index.values() else index
        return self.builder.load(load.buffer, index, mask, load.other)

    def is_zero_outside(self, id: int) -> bool:
        """Whether a value is zero where its loads are masked out."""
        instruction = self.kernel.body[id]
        if isinstance(instruction, Cast):
            return self.is_zero_outside(instruction.arg)
        return isinstance(instruction, Load) and instruction.other == 0
