"""Checks that a kernel keeps the rules of the kernel IR, on which renderers rely.

A kernel has one of five forms:

* *loops*: no `Dot`. All reductions are over the same axes, and a store varies over all of these
  axes or over none (an elementwise kernel is the case of no reduction);
* *running*: `Running`, all along one axis in one direction, with no reduction and no `Dot`;
* *order*: the same with `Order` along one axis, and no `Running`;
* *dot*: one `Dot` or `Conv` and no reduction. Nothing that is stored varies over the axes that it
  sums over;
* *updates*: `AtomicUpdate` with neither. Updated buffers are not read or stored to otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

import numpy as np

from funcdl.core import dtypes
from funcdl.kir.elementwise import lookup, names
from funcdl.kir.index import AxisAtom, DivAtom, Index, ModAtom, ValueAtom
from funcdl.kir.ir import (
    AtomicUpdate,
    Axis,
    Bitcast,
    Buffer,
    Cast,
    Const,
    Conv,
    Dot,
    Effect,
    Elementwise,
    IndexValue,
    Instruction,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Scalar,
    Select,
    Store,
    ValueType,
    operands,
)
from funcdl.kir.printer import format_index, format_instruction, format_type
from funcdl.kir.rules import BOOL, HALF_DTYPES, INDEX_DTYPES, KernelError, elementwise_dtype

__all__ = ["KernelError", "check"]

DOT_DTYPES = frozenset(np.dtype(f"{kind}{size}") for kind in "fiu" for size in (4, 8))


def check(kernel: Kernel) -> None:
    """Check every rule of the kernel IR.

    Raises:
        KernelError: a rule is broken; the message names the kernel, the instruction and the rule.
    """
    _Checker(kernel).run()


class _Checker:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.axes: dict[str, Axis] = {axis.name: axis for axis in kernel.axes}
        self.buffers: dict[str, Buffer] = {buffer.name: buffer for buffer in kernel.buffers}
        self.types: dict[int, ValueType] = {}
        # What each instruction varies over; for an effect, the points at which it happens.
        self.varies: dict[int, frozenset[str]] = {}
        self.at = -1

    def run(self) -> None:
        self.check_names()
        for id, instruction in enumerate(self.kernel.body):
            self.at = id
            self.check_operands(instruction)
            self.varies[id] = self.vary(instruction)
            if isinstance(instruction, Effect):
                self.check_effect(instruction)
                continue
            self.types[id] = instruction.type
            wanted = ValueType(self.result_dtype(instruction), self.in_order(self.varies[id]))
            if instruction.type != wanted:
                self.fail(f"type must be {format_type(wanted)}, is {format_type(instruction.type)}")
        if self.kernel.library is None:
            self.check_form()
            self.check_buffers()
            self.check_stores()
        self.check_aliases()

    def fail(self, rule: str, at: int | None = None) -> NoReturn:
        at = self.at if at is None else at
        if at < 0:
            raise KernelError(f"kernel {self.kernel.name}: {rule}")
        text = format_instruction(self.kernel.body[at])
        raise KernelError(f"kernel {self.kernel.name}: %{at} ({text}): {rule}")

    def in_order(self, axes: Iterable[str]) -> tuple[str, ...]:
        wanted = frozenset(axes)
        return tuple(name for name in self.axes if name in wanted)

    def check_names(self) -> None:
        kernel = self.kernel
        seen: set[str] = set()
        if not kernel.name.isidentifier():
            self.fail(f"kernel name must be an identifier, got {kernel.name!r}")
        named = [("buffer", buffer.name) for buffer in kernel.buffers]
        named += [("axis", axis.name) for axis in kernel.axes]
        for kind, name in named:
            if not name.isidentifier():
                self.fail(f"{kind} name must be an identifier, got {name!r}")
            if name in seen:
                self.fail(f"names of buffers and axes must be unique, {name!r} is not")
            seen.add(name)
        for axis in kernel.axes:
            if axis.extent < 0:
                self.fail(f"extent of axis {axis.name!r} must be >= 0, got {axis.extent}")
        for buffer in kernel.buffers:
            if buffer.size < 0:
                self.fail(f"size of buffer {buffer.name!r} must be >= 0, got {buffer.size}")
            if buffer.dtype not in dtypes.SUPPORTED:
                self.fail(f"buffer {buffer.name!r} has dtype {buffer.dtype}, not a supported one")

    def check_operands(self, instruction: Instruction) -> None:
        for operand in operands(instruction):
            if not 0 <= operand < self.at:
                self.fail(f"operands must come earlier in the body, %{operand} does not")
            if operand not in self.types:
                self.fail(f"operands must be values, %{operand} is an effect")

    def vary(self, instruction: Instruction) -> frozenset[str]:
        match instruction:
            case Const():
                return frozenset()
            case IndexValue(index=index):
                return self.index_axes(index)
            case Load(index=index, mask=mask):
                return self.index_axes(index) | self.mask_axes(mask)
            case (
                Store(index=index, value=value, mask=mask)
                | AtomicUpdate(index=index, value=value, mask=mask)
            ):
                return self.index_axes(index) | self.varies[value] | self.mask_axes(mask)
            case Reduce(arg=arg, axes=axes):
                self.require_axes(axes)
                return self.varies[arg] - frozenset(axes)
            case Running(axis=axis) | Order(axis=axis):
                self.require_axes((axis,))
                return frozenset({axis}).union(*(self.varies[id] for id in operands(instruction)))
            case Dot(lhs=lhs, rhs=rhs, m=m, n=n, k=k):
                self.require_axes((m, n, k))
                return (self.varies[lhs] | self.varies[rhs]) - {k}
            case Conv(lhs=lhs, rhs=rhs, n=n, o=o):
                self.require_axes((n, o, *instruction.windows, *instruction.summed))
                several = {w for w in instruction.windows if self.axes[w].extent != 1}
                return (self.varies[lhs] | self.varies[rhs] | several) - {*instruction.summed}
            case _:
                return frozenset().union(*(self.varies[id] for id in operands(instruction)))

    def require_axes(self, names: tuple[str, ...]) -> None:
        if unknown := [name for name in names if name not in self.axes]:
            self.fail(f"the kernel has no axis {', '.join(unknown)}")
        if len(set(names)) < len(names):
            self.fail("an axis is named twice")

    def index_axes(self, index: Index) -> frozenset[str]:
        axes: set[str] = set()
        for atom, _ in index.terms:
            match atom:
                case AxisAtom(name, extent):
                    if name not in self.axes:
                        self.fail(f"the kernel has no axis {name}")
                    if extent != self.axes[name].extent:
                        self.fail(
                            f"axis {name} in the index has extent {extent}, "
                            f"in the kernel {self.axes[name].extent}"
                        )
                    axes.add(name)
                case ValueAtom(id, low, high):
                    if not dtypes.is_integer(self.types[id].dtype):
                        self.fail(f"computed positions must be integers, %{id} is not")
                    if low > high:
                        self.fail(f"range of %{id} must not be empty, is {low}..{high}")
                    axes |= self.varies[id]
                case DivAtom(inner, _) | ModAtom(inner, _):
                    axes |= self.index_axes(inner)
        return frozenset(axes)

    def mask_axes(self, mask: int | None) -> frozenset[str]:
        if mask is None:
            return frozenset()
        self.require_bool(mask, "mask")
        return self.varies[mask]

    def require_bool(self, id: int, what: str) -> None:
        if self.types[id].dtype != BOOL:
            self.fail(f"{what} must be bool, %{id} is {format_type(self.types[id])}")

    def result_dtype(self, instruction: Instruction) -> np.dtype:
        """The type that a value must have, after a check of its arguments' types."""
        match instruction:
            case Const(type_, value):
                self.refuse_half(type_.dtype)
                self.require_scalar(value, type_.dtype)
                return type_.dtype
            case IndexValue(type_, index):
                self.check_index_dtype(index, type_.dtype)
                return type_.dtype
            case Load(type_, name, index, mask, other):
                buffer = self.buffer(name)
                if buffer.role == "out":
                    self.fail(f"buffer {name!r} has role out and must not be read")
                self.require_scalar(other, buffer.dtype)
                self.check_range(index, buffer, mask)
                return buffer.dtype
            case Elementwise(_, name, args):
                return self.elementwise(name, args)
            case Select(_, which, on_true, on_false):
                self.require_bool(which, "the condition")
                return self.common_dtype((on_true, on_false))
            case Cast(type_, _):
                return type_.dtype
            case Bitcast(type_, arg):
                source = self.types[arg].dtype
                if source.itemsize != type_.dtype.itemsize or BOOL in (source, type_.dtype):
                    self.fail(f"bitcast must keep the width, {source} to {type_.dtype} does not")
                return type_.dtype
            case Reduce():
                return self.reduce(instruction)
            case Running():
                return self.running(instruction)
            case Order(keys=keys):
                if not keys:
                    self.fail("order takes one key at least")
                for key in keys:
                    self.refuse_half(self.types[key].dtype)
                    if dtypes.is_complex(self.types[key].dtype):
                        self.fail(f"order is not defined on {self.types[key].dtype}")
                return np.dtype(np.int32)
            case Dot():
                return self.dot(instruction)
            case Conv():
                return self.conv(instruction)
            case _:
                raise AssertionError(instruction)

    def refuse_half(self, dtype: np.dtype) -> None:
        if dtype in HALF_DTYPES:
            self.fail(f"{dtypes.short_name(dtype)} must be cast to f32 before it is computed with")

    def require_scalar(self, value: Scalar, dtype: np.dtype) -> None:
        wanted = {"b": bool, "i": int, "u": int}.get(dtypes.kind(dtype), float)
        if type(value) is not wanted:
            self.fail(f"a {dtype} scalar must be a Python {wanted.__name__}, got {value!r}")

    def check_index_dtype(self, index: Index, dtype: np.dtype) -> None:
        if dtype not in INDEX_DTYPES:
            self.fail(f"an index value must be i32 or i64, is {dtype}")
        low, high = index.range()
        info = np.iinfo(dtype)
        if low < info.min or high > info.max:
            self.fail(f"index {low}..{high} does not fit into {dtype}")

    def buffer(self, name: str) -> Buffer:
        if name not in self.buffers:
            self.fail(f"the kernel has no buffer {name!r}")
        return self.buffers[name]

    def check_range(self, index: Index, buffer: Buffer, mask: int | None) -> None:
        # An index that varies over an empty axis is never used.
        empty = any(self.axes[name].extent == 0 for name in self.index_axes(index))
        if mask is not None or empty:
            return
        low, high = index.range()
        if low < 0 or high >= buffer.size:
            self.fail(
                f"without a mask the index must be in 0..{buffer.size - 1} of buffer "
                f"{buffer.name!r}, its range is {low}..{high}"
            )

    def elementwise(self, name: str, args: tuple[int, ...]) -> np.dtype:
        if name not in names():
            self.fail(f"kir.elementwise has no operation {name!r}")
        arity = lookup(name).arity
        if len(args) != arity:
            self.fail(f"{name} takes {arity} arguments, got {len(args)}")
        dtype = self.common_dtype(args)
        self.refuse_half(dtype)
        return elementwise_dtype(name, dtype)

    def common_dtype(self, args: tuple[int, ...]) -> np.dtype:
        found = [self.types[arg] for arg in args]
        if any(type_.dtype != found[0].dtype for type_ in found):
            self.fail(f"dtypes must agree, got {', '.join(map(format_type, found))}")
        return found[0].dtype

    def reduce(self, reduce: Reduce) -> np.dtype:
        dtype = self.types[reduce.arg].dtype
        self.refuse_half(dtype)
        if not reduce.axes or reduce.axes != self.in_order(reduce.axes):
            self.fail("reduced axes must be at least one, in the kernel's order")
        if reduce.op in ("argmax", "argmin"):
            if len(reduce.axes) != 1:
                self.fail(f"{reduce.op} takes one axis, got {len(reduce.axes)}")
            if reduce.type.dtype not in INDEX_DTYPES:
                self.fail(f"{reduce.op} must give i32 or i64, gives {reduce.type.dtype}")
            return reduce.type.dtype
        kind = dtypes.kind(dtype)
        accepted = {"and": "biu", "or": "biu", "sum": "iufc", "prod": "iufc"}
        if kind not in accepted.get(reduce.op, "biuf"):
            self.fail(f"{reduce.op} is not defined on {dtype}")
        return dtype

    def running(self, running: Running) -> np.dtype:
        dtype = self.types[running.arg].dtype
        self.refuse_half(dtype)
        if dtypes.kind(dtype) not in ("f" if running.op == "logsumexp" else "iuf"):
            self.fail(f"running {running.op} is not defined on {dtype}")
        return dtype

    def dot(self, dot: Dot) -> np.dtype:
        dtype = self.common_dtype((dot.lhs, dot.rhs))
        if dtype not in DOT_DTYPES:
            self.fail(f"dot takes numbers of 32 or 64 bits, got {dtype}")
        for operand, other in ((dot.lhs, dot.n), (dot.rhs, dot.m)):
            if other in self.varies[operand]:
                self.fail(f"%{operand} must not vary over {other}")
        return dtype

    def conv(self, conv: Conv) -> np.dtype:
        dtype = self.common_dtype((conv.lhs, conv.rhs))
        if dtype not in DOT_DTYPES:
            self.fail(f"conv takes numbers of 32 or 64 bits, got {dtype}")
        for slide in conv.slides:
            if min(slide.stride, slide.spread, slide.dilation) < 1:
                self.fail(f"stride, spread and dilation along {slide.out} must be positive")
        others = {
            conv.lhs: {conv.o, *conv.windows, *(slide.rhs for slide in conv.slides)},
            conv.rhs: {conv.n, *conv.windows, *(slide.lhs for slide in conv.slides)},
        }
        for operand, axes in others.items():
            if wrong := self.in_order(axes & self.varies[operand]):
                self.fail(f"%{operand} must not vary over {', '.join(wrong)}")
        return dtype

    def check_effect(self, effect: Effect) -> None:
        buffer = self.buffer(effect.buffer)
        if buffer.role == "in":
            self.fail(f"buffer {buffer.name!r} has role in and must not be written")
        found = self.types[effect.value].dtype
        if found != buffer.dtype:
            self.fail(f"value must be {buffer.dtype} as the buffer, is {found}")
        self.check_range(effect.index, buffer, effect.mask)
        if isinstance(effect, AtomicUpdate):
            self.check_update(effect, buffer)
        else:
            self.check_store(effect)

    def check_update(self, update: AtomicUpdate, buffer: Buffer) -> None:
        if buffer.role != "inout":
            self.fail(f"an updated buffer must have role inout, {buffer.name!r} has {buffer.role}")
        if update.op != "set":
            self.refuse_half(buffer.dtype)
            if buffer.dtype == BOOL and update.op in ("add", "mul"):
                self.fail(f"{update.op} is not defined on bool")

    def check_store(self, store: Store) -> None:
        beyond = self.varies[self.at] - self.index_axes(store.index)
        if beyond:
            names = ", ".join(self.in_order(beyond))
            self.fail(f"points along {names} would be stored to one element")
        if _may_collide(store.index):
            self.fail(f"two points may have one index {format_index(store.index)}")

    def check_form(self) -> None:
        body = self.kernel.body
        dots = [id for id, i in enumerate(body) if isinstance(i, Dot | Conv)]
        updates = [
            id for id, instruction in enumerate(body) if isinstance(instruction, AtomicUpdate)
        ]
        reduces = {id: i for id, i in enumerate(body) if isinstance(i, Reduce)}
        running = [id for id, i in enumerate(body) if isinstance(i, Running | Order)]
        if running:
            self.check_running(running, [*updates, *dots, *reduces])
        if updates and (reduces or dots):
            self.fail("a kernel with updates must have no reduce and no dot", updates[0])
        if dots and reduces:
            self.fail("a kernel with a dot must have no reduce", next(iter(reduces)))
        if len(dots) > 1:
            self.fail("a kernel must have one dot at most", dots[1])
        effects = [id for id, instruction in enumerate(body) if isinstance(instruction, Effect)]
        for dot in dots:
            self.check_no_effect_over(body[dot], effects)
        if reduces:
            first = next(iter(reduces.values())).axes
            for id, reduce in reduces.items():
                if reduce.axes != first:
                    self.fail(f"all reduces must be over the same axes, {', '.join(first)}", id)
            for id in effects:
                if 0 < len(self.varies[id] & set(first)) < len(first):
                    self.fail(f"must vary over all of the axes {', '.join(first)} or none", id)

    def check_running(self, running: list[int], others: list[int]) -> None:
        if others:
            self.fail("a running or order kernel must have no reduce, dot or update", others[0])
        first, *rest = ((id, _way(self.kernel.body[id])) for id in running)
        for id, way in rest:
            if way != first[1]:
                self.fail(
                    "running results must go along one axis in one direction, or order it", id
                )

    def check_no_effect_over(self, dot: Instruction, effects: list[int]) -> None:
        assert isinstance(dot, Dot | Conv)
        summed = (dot.k,) if isinstance(dot, Dot) else dot.summed
        for id in effects:
            for axis in summed:
                if axis in self.varies[id]:
                    self.fail(f"must not vary over {axis}, which the dot sums over", id)

    def check_buffers(self) -> None:
        self.at = -1
        body = self.kernel.body
        written = {i.buffer for i in body if isinstance(i, Effect)}
        updated = {i.buffer for i in body if isinstance(i, AtomicUpdate)}
        for buffer in self.kernel.buffers:
            if buffer.role != "in" and buffer.name not in written:
                self.fail(f"buffer {buffer.name!r} has role {buffer.role} but is never written")
        for id, instruction in enumerate(body):
            if isinstance(instruction, Load | Store) and instruction.buffer in updated:
                self.fail(f"buffer {instruction.buffer!r} takes updates and nothing else", id)

    def check_stores(self) -> None:
        """Stores to one buffer write different elements of it; those with masks are trusted."""
        written: dict[str, list[Index]] = {}
        for id, store in enumerate(self.kernel.body):
            if not isinstance(store, Store) or store.mask is not None:
                continue
            before = written.setdefault(store.buffer, [])
            for other in before:
                if _may_meet(store.index, other):
                    rule = f"an element at {format_index(other)} may be stored twice"
                    self.fail(rule, id)
            before.append(store.index)

    def check_aliases(self) -> None:
        """A read of memory that the kernel also writes must be of the element written there."""
        body = self.kernel.body
        stores = [i for i in body if isinstance(i, Store)]
        for id, load in enumerate(body):
            if not isinstance(load, Load):
                continue
            buffer = self.buffers[load.buffer]
            own = [store.index for store in stores if store.buffer == load.buffer]
            if any(index != load.index for index in own):
                self.fail(f"buffer {buffer.name!r} is written at another index", id)
            twins = [store.index for store in stores if self.may_be_same(store.buffer, buffer)]
            if buffer.may_alias and twins and load.index not in twins:
                self.fail(f"buffer {buffer.name!r} may alias, but is read at another index", id)

    def may_be_same(self, written: str, read: Buffer) -> bool:
        other = self.buffers[written]
        return (
            other.may_alias
            and other.name != read.name
            and (other.dtype, other.size) == (read.dtype, read.size)
        )


def _way(instruction: Instruction) -> tuple[str, bool | None]:
    """Along which axis an instruction goes and whether backwards, None for one that orders it."""
    if isinstance(instruction, Running):
        return instruction.axis, instruction.reverse
    assert isinstance(instruction, Order)
    return instruction.axis, None


def _may_collide(index: Index) -> bool:
    """Whether two points might share this index; indices that are not affine are trusted."""
    if not all(isinstance(atom, AxisAtom) for atom, _ in index.terms):
        return False
    span = 0
    for atom, coefficient in sorted(index.terms, key=lambda term: abs(term[1])):
        assert isinstance(atom, AxisAtom)
        if abs(coefficient) <= span and atom.extent > 1:
            return True
        span += abs(coefficient) * max(atom.extent - 1, 0)
    return False


def _may_meet(first: Index, second: Index) -> bool:
    """Whether two indices that differ by a constant share a value; all others are trusted."""
    if first.terms != second.terms or not all(isinstance(a, AxisAtom) for a, _ in first.terms):
        return False
    strides = [(abs(c), a.extent - 1) for a, c in first.terms if isinstance(a, AxisAtom)]
    return _is_sum(sorted(strides), first.offset - second.offset)


def _is_sum(strides: Sequence[tuple[int, int]], distance: int) -> bool:
    """Whether ``distance = Σ stride · steps``, where each has a largest number of steps."""
    if not strides:
        return distance == 0
    *rest, (stride, most) = strides
    within = sum(s * n for s, n in rest)
    low = max(-(-(distance - within) // stride), -most)
    high = min((distance + within) // stride, most)
    return any(_is_sum(rest, distance - stride * steps) for steps in range(low, high + 1))
