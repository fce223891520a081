"""Rules for values: which axes each varies over, and of which dtype it is."""

from __future__ import annotations

import numpy as np

from funcdl.core import dtypes
from funcdl.kir.check.facts import Facts
from funcdl.kir.elementwise import lookup, names
from funcdl.kir.index import Index
from funcdl.kir.ir import (
    AtomicUpdate,
    Bitcast,
    Cast,
    Const,
    Conv,
    Dot,
    Elementwise,
    IndexValue,
    Instruction,
    Load,
    Order,
    Reduce,
    Running,
    Select,
    Store,
    operands,
)
from funcdl.kir.printer import format_type
from funcdl.kir.rules import BOOL, INDEX_DTYPES, elementwise_dtype

DOT_DTYPES = frozenset(np.dtype(f"{kind}{size}") for kind in "fiu" for size in (4, 8))


def vary(facts: Facts, instruction: Instruction) -> frozenset[str]:
    """The axes that a value varies over, or those of the points at which an effect happens."""
    match instruction:
        case Const():
            return frozenset()
        case IndexValue(index=index):
            return facts.index_axes(index)
        case Load(index=index, mask=mask):
            return facts.index_axes(index) | _mask_axes(facts, mask)
        case (
            Store(index=index, value=value, mask=mask)
            | AtomicUpdate(index=index, value=value, mask=mask)
        ):
            return facts.index_axes(index) | facts.varies[value] | _mask_axes(facts, mask)
        case Reduce(arg=arg, axes=axes):
            _require_axes(facts, axes)
            return facts.varies[arg] - frozenset(axes)
        case Running(axis=axis) | Order(axis=axis):
            _require_axes(facts, (axis,))
            return frozenset({axis}).union(*(facts.varies[id] for id in operands(instruction)))
        case Dot(lhs=lhs, rhs=rhs, m=m, n=n, k=k):
            _require_axes(facts, (m, n, k))
            return (facts.varies[lhs] | facts.varies[rhs]) - {k}
        case Conv(lhs=lhs, rhs=rhs, n=n, o=o):
            _require_axes(facts, (n, o, *instruction.windows, *instruction.summed))
            several = {w for w in instruction.windows if facts.axes[w].extent != 1}
            return (facts.varies[lhs] | facts.varies[rhs] | several) - {*instruction.summed}
        case _:
            return frozenset().union(*(facts.varies[id] for id in operands(instruction)))


def _require_axes(facts: Facts, names: tuple[str, ...]) -> None:
    if unknown := [name for name in names if name not in facts.axes]:
        facts.fail(f"the kernel has no axis {', '.join(unknown)}")
    if len(set(names)) < len(names):
        facts.fail("an axis is named twice")


def _mask_axes(facts: Facts, mask: int | None) -> frozenset[str]:
    if mask is None:
        return frozenset()
    _require_bool(facts, mask, "mask")
    return facts.varies[mask]


def _require_bool(facts: Facts, id: int, what: str) -> None:
    if facts.types[id].dtype != BOOL:
        facts.fail(f"{what} must be bool, %{id} is {format_type(facts.types[id])}")


def result_dtype(facts: Facts, instruction: Instruction) -> np.dtype:
    """The type that a value must have, after a check of its arguments' types."""
    match instruction:
        case Const(type_, value):
            facts.refuse_half(type_.dtype)
            facts.require_scalar(value, type_.dtype)
            return type_.dtype
        case IndexValue(type_, index):
            _check_index_dtype(facts, index, type_.dtype)
            return type_.dtype
        case Load(buffer=buffer):
            return facts.buffer(buffer).dtype
        case Elementwise(_, name, args):
            return _elementwise(facts, name, args)
        case Select(_, which, on_true, on_false):
            _require_bool(facts, which, "the condition")
            return _common_dtype(facts, (on_true, on_false))
        case Cast(type_, _):
            return type_.dtype
        case Bitcast(type_, arg):
            source = facts.types[arg].dtype
            if source.itemsize != type_.dtype.itemsize or BOOL in (source, type_.dtype):
                facts.fail(f"bitcast must keep the width, {source} to {type_.dtype} does not")
            return type_.dtype
        case Reduce():
            return _reduce(facts, instruction)
        case Running():
            return _running(facts, instruction)
        case Order(keys=keys):
            if not keys:
                facts.fail("order takes one key at least")
            for key in keys:
                facts.refuse_half(facts.types[key].dtype)
                if dtypes.is_complex(facts.types[key].dtype):
                    facts.fail(f"order is not defined on {facts.types[key].dtype}")
            return np.dtype(np.int32)
        case Dot():
            return _dot(facts, instruction)
        case Conv():
            return _conv(facts, instruction)
        case _:
            raise AssertionError(instruction)


def _check_index_dtype(facts: Facts, index: Index, dtype: np.dtype) -> None:
    if dtype not in INDEX_DTYPES:
        facts.fail(f"an index value must be i32 or i64, is {dtype}")
    low, high = index.range()
    info = np.iinfo(dtype)
    if low < info.min or high > info.max:
        facts.fail(f"index {low}..{high} does not fit into {dtype}")


def _elementwise(facts: Facts, name: str, args: tuple[int, ...]) -> np.dtype:
    if name not in names():
        facts.fail(f"kir.elementwise has no operation {name!r}")
    arity = lookup(name).arity
    if len(args) != arity:
        facts.fail(f"{name} takes {arity} arguments, got {len(args)}")
    dtype = _common_dtype(facts, args)
    facts.refuse_half(dtype)
    return elementwise_dtype(name, dtype)


def _common_dtype(facts: Facts, args: tuple[int, ...]) -> np.dtype:
    found = [facts.types[arg] for arg in args]
    if any(type_.dtype != found[0].dtype for type_ in found):
        facts.fail(f"dtypes must agree, got {', '.join(map(format_type, found))}")
    return found[0].dtype


def _reduce(facts: Facts, reduce: Reduce) -> np.dtype:
    dtype = facts.types[reduce.arg].dtype
    facts.refuse_half(dtype)
    if not reduce.axes or reduce.axes != facts.in_order(reduce.axes):
        facts.fail("reduced axes must be at least one, in the kernel's order")
    if reduce.op in ("argmax", "argmin"):
        if len(reduce.axes) != 1:
            facts.fail(f"{reduce.op} takes one axis, got {len(reduce.axes)}")
        if reduce.type.dtype not in INDEX_DTYPES:
            facts.fail(f"{reduce.op} must give i32 or i64, gives {reduce.type.dtype}")
        return reduce.type.dtype
    kind = dtypes.kind(dtype)
    accepted = {"and": "biu", "or": "biu", "sum": "iufc", "prod": "iufc"}
    if kind not in accepted.get(reduce.op, "biuf"):
        facts.fail(f"{reduce.op} is not defined on {dtype}")
    return dtype


def _running(facts: Facts, running: Running) -> np.dtype:
    dtype = facts.types[running.arg].dtype
    facts.refuse_half(dtype)
    if dtypes.kind(dtype) not in ("f" if running.op == "logsumexp" else "iuf"):
        facts.fail(f"running {running.op} is not defined on {dtype}")
    return dtype


def _dot(facts: Facts, dot: Dot) -> np.dtype:
    dtype = _common_dtype(facts, (dot.lhs, dot.rhs))
    if dtype not in DOT_DTYPES:
        facts.fail(f"dot takes numbers of 32 or 64 bits, got {dtype}")
    for operand, other in ((dot.lhs, dot.n), (dot.rhs, dot.m)):
        if other in facts.varies[operand]:
            facts.fail(f"%{operand} must not vary over {other}")
    return dtype


def _conv(facts: Facts, conv: Conv) -> np.dtype:
    dtype = _common_dtype(facts, (conv.lhs, conv.rhs))
    if dtype not in DOT_DTYPES:
        facts.fail(f"conv takes numbers of 32 or 64 bits, got {dtype}")
    for slide in conv.slides:
        if min(slide.stride, slide.spread, slide.dilation) < 1:
            facts.fail(f"stride, spread and dilation along {slide.out} must be positive")
    others = {
        conv.lhs: {conv.o, *conv.windows, *(slide.rhs for slide in conv.slides)},
        conv.rhs: {conv.n, *conv.windows, *(slide.lhs for slide in conv.slides)},
    }
    for operand, axes in others.items():
        if wrong := facts.in_order(axes & facts.varies[operand]):
            facts.fail(f"%{operand} must not vary over {', '.join(wrong)}")
    return dtype
