"""Rows of a buffer further apart than they are long, so that each begins at a multiple of 16 bytes.

Rows of 50257 elements of a half type begin at every other byte: a GPU's thread then reads and
writes two bytes at a time, in place of 16, and tensor cores' factors cannot be copied ahead. In a
buffer that only kernels see, rows may begin every 50304 elements. What is between them are zeros,
which whoever writes the rows writes, too:

* an axis that goes along such rows becomes as long as they are apart, so that accesses need no
  mask, or one that is the same for all elements of a vector;
* beyond the end of a row, loads of other buffers and stores to them are masked, and what is reduced
  is the reduction's identity; factors of a product are zeros anyway.

So readers need not look where a row ends, and the factors of a product go to tensor cores as they
are. Rejected: *rows with anything between them*, whose readers would have to put zeros in, by way
of registers; and *a pitch as a property of buffers*, which every pass, checker and renderer would
have to know: here kernels stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from funcdl.core import dtypes
from funcdl.core.records import record
from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.identity import identity
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.ir import (
    AtomicUpdate,
    Cast,
    Const,
    Conv,
    Dot,
    Effect,
    Elementwise,
    Instruction,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Scalar,
    Select,
    Store,
    operands,
)
from funcdl.kir.passes import rebuild_instruction


@record
class Rows:
    """Rows of `length` elements, of which each begins `pitch` elements after the one before."""

    length: int
    pitch: int


def stored_rows(kernel: Kernel, buffer: str) -> int | None:
    """The length of the rows that a kernel fills a buffer with, one along an axis each."""
    stores = [i for i in kernel.body if isinstance(i, Effect) and i.buffer == buffer]
    if len(stores) != 1 or not isinstance(store := stores[0], Store) or store.mask is not None:
        return None
    along = [a for a, c in store.index.terms if c == 1 and isinstance(a, AxisAtom)]
    if len(along) != 1:
        return None
    length = along[0].extent
    return length if _row_axis(store.index, length) == along[0].name else None


def goes_along(kernel: Kernel, buffer: str, length: int) -> bool:
    """Whether a product or a reduction takes a buffer's rows, or many of them at a place."""
    if not any(isinstance(i, Dot | Reduce) for i in kernel.body):
        return False
    accesses = [i for i in kernel.body if isinstance(i, Load | Store) and i.buffer == buffer]
    return any(_row_axis(i.index, length) is not None for i in accesses)


def pitch_rows(kernel: Kernel, rows: Mapping[str, Rows]) -> Kernel | None:
    """The kernel where some buffers have such rows; None where it cannot be written so.

    Args:
        kernel: any but a hand-written one.
        rows: by the names of buffers. Axes that go along rows of one length have one pitch.
    """
    if kernel.library is not None or any(isinstance(i, Conv) for i in kernel.body):
        return None
    extents: dict[str, int] = {}
    for instruction in kernel.body:
        if isinstance(instruction, Load | Effect) and instruction.buffer in rows:
            wanted = rows[instruction.buffer]
            if not _can_pitch(instruction, wanted):
                return None
            axis = _row_axis(instruction.index, wanted.length)
            if axis is not None and extents.setdefault(axis, wanted.pitch) != wanted.pitch:
                return None
    if any(isinstance(i, Running | Order) and i.axis in extents for i in kernel.body):
        return None
    return _Writer(kernel, rows, extents).run()


def _can_pitch(access: Load | Effect, rows: Rows) -> bool:
    """Whether an access stays in one row, and a store fills whole rows."""
    _, rest = _parted(access.index, rows.length)
    low, high = rest.range()
    if low < 0 or high >= rows.length or isinstance(access, AtomicUpdate):
        return False
    if isinstance(access, Store):
        return access.mask is None and _row_axis(access.index, rows.length) is not None
    return True


def _parted(index: Index, length: int) -> tuple[Index, Index]:
    """The number of a row, and the place in it."""
    exact = tuple((a, c // length) for a, c in index.terms if c % length == 0)
    rest = tuple((a, c) for a, c in index.terms if c % length)
    return Index(exact, index.offset // length), Index(rest, index.offset % length)


def _row_axis(index: Index, length: int) -> str | None:
    """The axis that an access takes whole rows along."""
    _, rest = _parted(index, length)
    if rest.offset or len(rest.terms) != 1:
        return None
    ((atom, coefficient),) = rest.terms
    along = isinstance(atom, AxisAtom) and coefficient == 1 and atom.extent == length
    return atom.name if along and isinstance(atom, AxisAtom) else None


class _Writer:
    """One kernel being written anew, with longer axes."""

    def __init__(
        self, kernel: Kernel, rows: Mapping[str, Rows], extents: Mapping[str, int]
    ) -> None:
        self._kernel = kernel
        self._rows = rows
        self._extents = extents
        self._at = {name: ix.axis(name, extent) for name, extent in extents.items()}
        self._ids: dict[int, int] = {}
        # New ids of values that are zero, and that are -inf, beyond the end of rows along an axis.
        self._zero: set[tuple[int, str]] = set()
        self._least: set[tuple[int, str]] = set()
        self._builder = KernelBuilder(kernel.name)
        for axis in kernel.axes:
            self._builder.axis(axis.name, extents.get(axis.name, axis.extent))
        for b in kernel.buffers:
            size = b.size
            if b.name in rows:
                size = size // rows[b.name].length * rows[b.name].pitch
            self._builder.buffer(b.name, b.dtype, size, b.role, b.may_alias)

    def run(self) -> Kernel:
        for id, instruction in enumerate(self._kernel.body):
            match instruction:
                case Load():
                    self._ids[id] = self._load(instruction)
                case Reduce(arg=arg):
                    before = self._ids[arg]
                    self._fill(instruction)
                    self._copy(id, instruction)
                    # What else is made of the filled value is not needed beyond the end of rows
                    # either: the sum of exponentials relative to a maximum is one of the same
                    # elements. A value that is the same along the axis stays so for others.
                    if not set(instruction.axes) <= set(self._kernel.value_type(arg).axes):
                        self._ids[arg] = before
                case Dot(lhs=lhs, rhs=rhs, k=k):
                    if k in self._extents:
                        for factor in (lhs, rhs):
                            self._ids[factor] = self._zero_beyond(self._ids[factor], k)
                    self._copy(id, instruction)
                case Store() | AtomicUpdate():
                    self._effect(instruction)
                case _:
                    self._copy(id, instruction)
        return self._builder.build()

    def _index(self, index: Index) -> Index:
        return ix.substitute(index, self._at)

    def _copy(self, id: int, instruction: Instruction) -> None:
        new = rebuild_instruction(
            self._builder, instruction, self._ids, self._index, lambda name: name
        )
        assert new is not None
        self._ids[id] = new
        if isinstance(instruction, Cast):
            old = self._ids[instruction.arg]
            self._zero |= {(new, axis) for axis in self._extents if (old, axis) in self._zero}

    def _longer(self, instruction: Instruction) -> list[str]:
        """The longer axes that an instruction happens along."""
        axes: set[str] = set()
        if isinstance(instruction, Effect):
            axes |= instruction.index.axes()
            for id in operands(instruction):
                axes |= set(self._kernel.value_type(id).axes)
        else:
            axes |= set(instruction.type.axes)
        return [name for name in self._extents if name in axes]

    def _inside(self, axis: str) -> int:
        """Whether a position along an axis is in the row."""
        builder = self._builder
        place = builder.index_value(self._at[axis], np.int32)
        length = builder.const(self._kernel.axis(axis).extent, np.int32)
        return builder.elementwise("lt", place, length)

    def _masked(self, mask: int | None, axes: list[str]) -> int | None:
        for axis in axes:
            inside = self._inside(axis)
            mask = inside if mask is None else self._builder.elementwise("and", mask, inside)
        return mask

    def _place(self, access: Load | Effect) -> tuple[Index, str | None]:
        """Where an access is, and the axis that it takes whole pitched rows along."""
        rows = self._rows.get(access.buffer)
        index, along = access.index, None
        if rows is not None:
            row, rest = _parted(index, rows.length)
            index = row * rows.pitch + rest
            along = _row_axis(access.index, rows.length)
        index = self._index(index)
        return ix.rename_values(index, self._ids) if index.values() else index, along

    def _load(self, load: Load) -> int:
        index, along = self._place(load)
        mask = None if load.mask is None else self._ids[load.mask]
        longer = self._longer(load)
        mask = self._masked(mask, [axis for axis in longer if axis != along])
        new = self._builder.load(load.buffer, index, mask, load.other)
        if load.mask is None or load.other == 0:
            self._zero |= {(new, axis) for axis in longer}
        return new

    def _chosen(self, value: int, axis: str, beyond: Scalar) -> int:
        """A value inside of rows, and a constant beyond."""
        builder = self._builder
        other = builder.const(beyond, builder.type_of(value).dtype)
        return builder.select(self._inside(axis), value, other)

    def _zero_beyond(self, value: int, axis: str) -> int:
        if (value, axis) in self._zero:
            return value
        dtype = self._builder.type_of(value).dtype
        return self._chosen(value, axis, np.zeros((), dtype).item())

    def _fill(self, reduce: Reduce) -> None:
        """Put a reduction's identity beyond the end of rows."""
        axes = [axis for axis in reduce.axes if axis in self._extents]
        varies = self._kernel.value_type(reduce.arg)
        for axis in axes:
            value = self._ids[reduce.arg]
            if axis in varies.axes and reduce.op == "sum" and self._adds_zero(reduce.arg, axis):
                continue
            value = self._chosen(value, axis, identity(reduce.op, varies.dtype))
            if axis in varies.axes and reduce.op == "max" and varies.dtype.kind == "f":
                self._least.add((value, axis))
            self._ids[reduce.arg] = value

    def _adds_zero(self, id: int, axis: str) -> bool:
        """Whether a value is zero beyond the end of rows, as a sum's terms must be."""
        return (self._ids[id], axis) in self._zero or self._vanishes(id, axis)

    def _vanishes(self, id: int, axis: str) -> bool:
        """Whether a value is exp(x - y) with an `x` of -inf beyond rows, and `y` its maximum.

        Where the maximum is not finite, or all elements are -inf, each element's term is NaN, too.
        """
        body = self._kernel.body
        power = body[id]
        if not isinstance(power, Elementwise) or power.name != "exp":
            return False
        difference = body[power.args[0]]
        if not isinstance(difference, Elementwise) or difference.name != "sub":
            return False
        elements, largest = difference.args
        choice = body[largest]
        if isinstance(choice, Select):  # the maximum where it is finite
            other = body[choice.on_false]
            if not isinstance(other, Const) or not np.isfinite(other.value):
                return False
            largest = choice.on_true
        maximum = body[largest]
        same = isinstance(maximum, Reduce) and maximum.op == "max" and maximum.arg == elements
        return same and (self._ids[elements], axis) in self._least

    def _effect(self, effect: Effect) -> None:
        index, along = self._place(effect)
        mask = None if effect.mask is None else self._ids[effect.mask]
        mask = self._masked(mask, [axis for axis in self._longer(effect) if axis != along])
        value = self._ids[effect.value]
        if isinstance(effect, AtomicUpdate):
            self._builder.atomic_update(effect.op, effect.buffer, index, value, mask)
            return
        if along is not None and (value, along) not in self._zero:
            dtype, stored = self._builder.type_of(value).dtype, self._kernel.body[effect.value]
            if dtype in dtypes.HALF:  # chosen between before it is rounded
                wide = isinstance(stored, Cast)
                value = self._ids[stored.arg] if isinstance(stored, Cast) else value
                value = value if wide else self._builder.cast(value, np.float32)
            value = self._builder.cast(self._zero_beyond(value, along), dtype)
        self._builder.store(effect.buffer, index, value, mask)
