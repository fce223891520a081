"""Builds kernels instruction by instruction: infers types, shares equal values, drops dead ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast as typing_cast

import numpy as np
from numpy.typing import DTypeLike

from funcdl.core import dtypes
from funcdl.kir import index as ix
from funcdl.kir.conversion import convert
from funcdl.kir.index import Index
from funcdl.kir.ir import (
    AtomicUpdate,
    Axis,
    Bitcast,
    Buffer,
    Cast,
    Const,
    Conv,
    Dot,
    DotPrecision,
    Effect,
    Elementwise,
    IndexValue,
    Instruction,
    Kernel,
    Load,
    Order,
    Reduce,
    ReduceOp,
    Role,
    Running,
    RunningOp,
    Scalar,
    Select,
    Slide,
    Store,
    UpdateOp,
    ValueInstruction,
    ValueType,
    operands,
)
from funcdl.kir.rules import (
    INDEX_DTYPES,
    KernelError,
    canonical_scalar,
    elementwise_dtype,
)

# When an operation on integers is decided, by the range of lhs - rhs: a comparison that holds at
# every point, or at none; a maximum or minimum that is always lhs, or always rhs.
_Range = Callable[[int, int], bool]
_FOLDED: dict[str, tuple[_Range, _Range]] = {
    "lt": (lambda low, high: high < 0, lambda low, high: low >= 0),
    "le": (lambda low, high: high <= 0, lambda low, high: low > 0),
    "gt": (lambda low, high: low > 0, lambda low, high: high <= 0),
    "ge": (lambda low, high: low >= 0, lambda low, high: high < 0),
    "eq": (lambda low, high: low == high == 0, lambda low, high: low > 0 or high < 0),
    "ne": (lambda low, high: low > 0 or high < 0, lambda low, high: low == high == 0),
    "max": (lambda low, high: low >= 0, lambda low, high: high <= 0),
    "min": (lambda low, high: high <= 0, lambda low, high: low >= 0),
}


class KernelBuilder:
    """Collects the axes, buffers and instructions of one kernel.

    Methods that make a value return its id, the same id for an equal value. Types follow from the
    arguments: a value varies over the union of what its arguments and its index vary over. Rules
    that need the whole kernel are left to `check`.

    Args:
        name: the kernel's name, an identifier.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._axes: dict[str, Axis] = {}
        self._buffers: dict[str, Buffer] = {}
        self._body: list[Instruction] = []
        self._ids: dict[Hashable, int] = {}
        # Sets of axes as bit masks, for speed: bit p stands for the axis declared p-th.
        self._bits: dict[str, int] = {}
        self._masks: list[int] = []
        self._types: dict[tuple[np.dtype, int], ValueType] = {}
        self._index_masks: dict[Index, int] = {}

    def axis(self, name: str, extent: int) -> Index:
        """Add an axis, inside those added before, and return the position along it.

        Raises:
            KernelError: the name is taken.
        """
        if name in self._axes:
            raise KernelError(f"kernel {self.name}: axis {name!r} is added twice")
        self._bits[name] = 1 << len(self._axes)
        self._axes[name] = Axis(name, extent)
        return ix.axis(name, extent)

    def buffer(
        self, name: str, dtype: DTypeLike, size: int, role: Role, may_alias: bool = False
    ) -> str:
        """Add a buffer, the next in call order, and return its name.

        Raises:
            KernelError: the name is taken.
        """
        if name in self._buffers:
            raise KernelError(f"kernel {self.name}: buffer {name!r} is added twice")
        self._buffers[name] = Buffer(name, np.dtype(dtype), size, role, may_alias)
        return name

    def has_buffer(self, name: str) -> bool:
        """Whether a buffer of this name was added."""
        return name in self._buffers

    def type_of(self, id: int) -> ValueType:
        """Element type and axes of a value."""
        return typing_cast(ValueInstruction, self._body[id]).type

    def position(self, id: int, low: int, high: int) -> Index:
        """The value as an index, known to be in ``[low, high]`` wherever the index is used.

        A value that is only in range under a mask must be compared as a value, by `elementwise`:
        comparisons of the index trust its range. Constants and index values come back as plain
        indices where they are in that range.
        """
        instruction = self._body[id]
        if isinstance(instruction, Const) and low <= instruction.value <= high:
            return ix.constant(int(instruction.value))
        if isinstance(instruction, IndexValue):
            least, most = instruction.index.range()
            if low <= least and most <= high:
                return instruction.index
        return ix.value(id, low, high)

    def const(self, value: Scalar, dtype: DTypeLike) -> int:
        """A compile-time scalar, rounded to `dtype`."""
        type_ = self._type(np.dtype(dtype), 0)
        value = canonical_scalar(value, type_.dtype)
        # By text, since 0.0 and -0.0 compare equal.
        key = ("const", type_, repr(value))
        return self._value(key, 0, lambda: Const(type_, value))

    def index_value(self, index: Index, dtype: DTypeLike = np.int32) -> int:
        """An index expression as an integer value."""
        dtype = np.dtype(dtype)
        if index.is_constant:
            return self.const(index.offset, dtype)
        mask = self._index_mask(index)
        key = ("index", dtype, index)
        return self._value(key, mask, lambda: IndexValue(self._type(dtype, mask), index))

    def load(self, buffer: str, index: Index, mask: int | None = None, other: Scalar = 0) -> int:
        """``buffer[index]``, or `other` where `mask` is false (nothing is read there)."""
        dtype = self._buffers[buffer].dtype
        if mask is None or self._is_const(mask, True):
            mask, other = None, 0
        varies = self._index_mask(index) | (0 if mask is None else self._masks[mask])
        other = canonical_scalar(other, dtype)
        key = ("load", buffer, index, mask, repr(other))
        type_ = self._type(dtype, varies)
        return self._value(key, varies, lambda: Load(type_, buffer, index, mask, other))

    def elementwise(self, name: str, *args: int) -> int:
        """The elementwise operation `name` of `kir.elementwise` on values of one dtype.

        What ranges of positions decide (a comparison, a clamp) and what constants decide is
        folded: so masks and clamps vanish where nothing is outside.
        """
        folded = self._fold(name, args) if name in _FOLDED or name in ("and", "or") else None
        if folded is not None:
            return folded
        dtype = elementwise_dtype(name, self.type_of(args[0]).dtype)
        mask = 0
        for arg in args:
            mask |= self._masks[arg]
        key = (name, args)
        return self._value(key, mask, lambda: Elementwise(self._type(dtype, mask), name, args))

    def select(self, which: int, on_true: int, on_false: int) -> int:
        """``on_true if which else on_false``; `which` is bool."""
        if on_true == on_false or self._is_const(which, True):
            return on_true
        if self._is_const(which, False):
            return on_false
        mask = self._masks[which] | self._masks[on_true] | self._masks[on_false]
        type_ = self._type(self.type_of(on_true).dtype, mask)
        key = ("select", which, on_true, on_false)
        return self._value(key, mask, lambda: Select(type_, which, on_true, on_false))

    def cast(self, arg: int, dtype: DTypeLike) -> int:
        """The value converted to `dtype`."""
        dtype = np.dtype(dtype)
        instruction = self._body[arg]
        if self.type_of(arg).dtype == dtype:
            return arg
        if isinstance(instruction, Const) and dtype not in dtypes.HALF and dtype.kind != "c":
            value = np.asarray(instruction.value, instruction.type.dtype)
            return self.const(convert(value, dtype).item(), dtype)
        if isinstance(instruction, IndexValue) and dtype in INDEX_DTYPES:
            low, high = instruction.index.range()
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return self.index_value(instruction.index, dtype)
        mask = self._masks[arg]
        key = ("cast", dtype, arg)
        return self._value(key, mask, lambda: Cast(self._type(dtype, mask), arg))

    def bitcast(self, arg: int, dtype: DTypeLike) -> int:
        """The value's bits as another dtype of the same width."""
        dtype = np.dtype(dtype)
        if self.type_of(arg).dtype == dtype:
            return arg
        mask = self._masks[arg]
        key = ("bitcast", dtype, arg)
        return self._value(key, mask, lambda: Bitcast(self._type(dtype, mask), arg))

    def reduce(
        self, op: ReduceOp, arg: int, axes: Iterable[str], dtype: DTypeLike = np.int32
    ) -> int:
        """The reduction of a value over `axes`.

        Axes of extent 1 are left out. The value may be constant along an axis: it then counts
        once for each position. `dtype` is the result's for ``argmax`` and ``argmin`` only.
        """
        wanted = {name for name in axes if self._axes[name].extent != 1}
        names = tuple(name for name in self._axes if name in wanted)
        if op in ("argmax", "argmin"):
            result = np.dtype(dtype)
            if not names:
                return self.const(0, result)
        else:
            result = self.type_of(arg).dtype
            if not names:
                return arg
        mask = self._masks[arg]
        for name in names:
            mask &= ~self._bits[name]
        key = ("reduce", op, arg, names, result)
        return self._value(key, mask, lambda: Reduce(self._type(result, mask), op, arg, names))

    def running(self, op: RunningOp, arg: int, axis: str, reverse: bool = False) -> int:
        """The results of `op` over a value at all positions along `axis` up to each one."""
        if self._axes[axis].extent == 1:
            return arg
        mask = self._masks[arg] | self._bits[axis]
        type_ = self._type(self.type_of(arg).dtype, mask)
        key = ("running", op, arg, axis, reverse)
        return self._value(key, mask, lambda: Running(type_, op, arg, axis, reverse))

    def order(
        self, keys: Sequence[int], axis: str, descending: bool = False, first: int = 0
    ) -> int:
        """The positions along `axis` of a value's elements in their order (see `Order`)."""
        if self._axes[axis].extent == 1:
            return self.const(0, np.int32)
        mask = self._bits[axis]
        for key in keys:
            mask |= self._masks[key]
        type_ = self._type(np.dtype(np.int32), mask)
        found = ("order", tuple(keys), axis, descending, first)
        return self._value(found, mask, lambda: Order(type_, tuple(keys), axis, descending, first))

    def dot(
        self, lhs: int, rhs: int, m: str, n: str, k: str, precision: DotPrecision = "ieee"
    ) -> int:
        """``Σ_k lhs · rhs``: `lhs` varies over `m` and `k`, `rhs` over `k` and `n`, and batch."""
        mask = (self._masks[lhs] | self._masks[rhs]) & ~self._bits[k]
        type_ = self._type(self.type_of(lhs).dtype, mask)
        key = ("dot", lhs, rhs, m, n, k, precision)
        return self._value(key, mask, lambda: Dot(type_, lhs, rhs, m, n, k, precision))

    def conv(
        self,
        lhs: int,
        rhs: int,
        n: str,
        o: str,
        c: str,
        slides: Sequence[Slide],
        precision: DotPrecision = "ieee",
        direct: bool = False,
    ) -> int:
        """The convolution of `lhs` with the kernel `rhs` (see `Conv`)."""
        mask = self._masks[lhs] | self._masks[rhs] | self._bits_of(s.out for s in slides)
        mask &= ~self._bits_of((c, *(axis for s in slides for axis in (s.lhs, s.rhs))))
        type_ = self._type(self.type_of(lhs).dtype, mask)
        key = ("conv", lhs, rhs, n, o, c, tuple(slides), precision, direct)
        new = Conv(type_, lhs, rhs, n, o, c, tuple(slides), precision, direct)
        return self._value(key, mask, lambda: new)

    def store(self, buffer: str, index: Index, value: int, mask: int | None = None) -> None:
        """``buffer[index] = value`` where `mask`."""
        self._effect(Store(buffer, index, value, self._mask(mask)))

    def atomic_update(
        self, op: UpdateOp, buffer: str, index: Index, value: int, mask: int | None = None
    ) -> None:
        """``buffer[index] = op(buffer[index], value)`` where `mask`; points may share elements."""
        self._effect(AtomicUpdate(op, buffer, index, value, self._mask(mask)))

    def build(self) -> Kernel:
        """The kernel, without the values that no store needs; ids are renumbered."""
        live = bytearray(len(self._body))
        for id in range(len(self._body) - 1, -1, -1):
            if live[id] or isinstance(self._body[id], Store | AtomicUpdate):
                live[id] = 1
                for operand in operands(self._body[id]):
                    live[operand] = 1
        body = self._body
        if not all(live):
            new_ids: dict[int, int] = {}
            body = []
            for id, instruction in enumerate(self._body):
                if live[id]:
                    new_ids[id] = len(body)
                    body.append(renumber(instruction, new_ids))
        return Kernel(
            self.name, tuple(self._buffers.values()), tuple(self._axes.values()), tuple(body)
        )

    def _value(self, key: Hashable, mask: int, make: Callable[[], ValueInstruction]) -> int:
        id = self._ids.get(key)
        if id is None:
            id = self._ids[key] = len(self._body)
            self._body.append(make())
            self._masks.append(mask)
        return id

    def _effect(self, effect: Effect) -> None:
        self._body.append(effect)
        self._masks.append(0)

    def _mask(self, mask: int | None) -> int | None:
        return None if mask is None or self._is_const(mask, True) else mask

    def _is_const(self, id: int, value: Scalar) -> bool:
        instruction = self._body[id]
        return isinstance(instruction, Const) and instruction.value == value

    def _fold(self, name: str, args: tuple[int, ...]) -> int | None:
        """The value of a comparison, clamp or logical operation that is known, or None."""
        lhs, rhs = args
        if name in ("and", "or"):
            for arg, other in ((lhs, rhs), (rhs, lhs)):
                instruction = self._body[arg]
                if isinstance(instruction, Const) and isinstance(instruction.value, bool):
                    return other if instruction.value == (name == "and") else arg
            return None
        left, right = self._as_index(lhs), self._as_index(rhs)
        if left is None or right is None:
            return None
        low, high = (left - right).range()
        always, never = _FOLDED[name]
        if not always(low, high) and not never(low, high):
            return None
        outcome = always(low, high)
        if name in ("max", "min"):
            return lhs if outcome else rhs
        return self.const(outcome, np.bool_)

    def _as_index(self, id: int) -> Index | None:
        match self._body[id]:
            case IndexValue(_, index):
                return index
            case Const(ValueType(dtype), value) if dtype.kind in "iu":
                return ix.constant(int(value))
            case Order(_, _, axis):
                return ix.value(id, 0, self._axes[axis].extent - 1)
        return None

    def _bits_of(self, axes: Iterable[str]) -> int:
        """The bits of those of some axes that have several positions."""
        return sum(self._bits[axis] for axis in axes if self._axes[axis].extent != 1)

    def _type(self, dtype: np.dtype, mask: int) -> ValueType:
        type_ = self._types.get((dtype, mask))
        if type_ is None:
            names = tuple(name for name, bit in self._bits.items() if bit & mask)
            type_ = self._types[dtype, mask] = ValueType(dtype, names)
        return type_

    def _index_mask(self, index: Index) -> int:
        mask = self._index_masks.get(index)
        if mask is None:
            mask = 0
            for name in index.axes():
                mask |= self._bits[name]
            for id in index.values():
                mask |= self._masks[id]
            self._index_masks[index] = mask
        return mask


def renumber(instruction: Instruction, ids: Mapping[int, int]) -> Instruction:
    """The same instruction on the values that `ids` gives for its operands."""
    match instruction:
        case Const():
            return instruction
        case IndexValue(index=index):
            return replace(instruction, index=_rename(index, ids))
        case Load(index=index, mask=mask):
            new_mask = None if mask is None else ids[mask]
            return replace(instruction, index=_rename(index, ids), mask=new_mask)
        case Elementwise(args=args):
            return replace(instruction, args=tuple(ids[arg] for arg in args))
        case Order(keys=keys):
            return replace(instruction, keys=tuple(ids[key] for key in keys))
        case Select(_, which, on_true, on_false):
            return Select(instruction.type, ids[which], ids[on_true], ids[on_false])
        case Cast(arg=arg) | Bitcast(arg=arg) | Reduce(arg=arg) | Running(arg=arg):
            return replace(instruction, arg=ids[arg])
        case Dot(lhs=lhs, rhs=rhs) | Conv(lhs=lhs, rhs=rhs):
            return replace(instruction, lhs=ids[lhs], rhs=ids[rhs])
        case (
            Store(index=index, value=value, mask=mask)
            | AtomicUpdate(index=index, value=value, mask=mask)
        ):
            new_mask = None if mask is None else ids[mask]
            return replace(instruction, index=_rename(index, ids), value=ids[value], mask=new_mask)


def _rename(index: Index, ids: Mapping[int, int]) -> Index:
    return ix.rename_values(index, ids) if index.values() else index
