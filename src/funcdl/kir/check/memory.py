"""Rules for memory: every access is in range, and every element is stored at most once.

Indices that are not affine in the axes, and those with a mask, are trusted.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcdl.kir.check.facts import Facts
from funcdl.kir.distinct import may_collide
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.ir import AtomicUpdate, Buffer, Effect, Load, Store
from funcdl.kir.printer import format_index
from funcdl.kir.rules import BOOL


def check_load(facts: Facts, load: Load) -> None:
    """Check what a load reads, and what it gives where its mask is false."""
    buffer = facts.buffer(load.buffer)
    if buffer.role == "out":
        facts.fail(f"buffer {buffer.name!r} has role out and must not be read")
    facts.require_scalar(load.other, buffer.dtype)
    _check_range(facts, load.index, buffer, load.mask)


def check_effect(facts: Facts, effect: Effect) -> None:
    """Check what a store or an update writes."""
    buffer = facts.buffer(effect.buffer)
    if buffer.role == "in":
        facts.fail(f"buffer {buffer.name!r} has role in and must not be written")
    found = facts.types[effect.value].dtype
    if found != buffer.dtype:
        facts.fail(f"value must be {buffer.dtype} as the buffer, is {found}")
    _check_range(facts, effect.index, buffer, effect.mask)
    if isinstance(effect, AtomicUpdate):
        _check_update(facts, effect, buffer)
    else:
        _check_store(facts, effect)


def _check_update(facts: Facts, update: AtomicUpdate, buffer: Buffer) -> None:
    if buffer.role != "inout":
        facts.fail(f"an updated buffer must have role inout, {buffer.name!r} has {buffer.role}")
    if update.op != "set":
        facts.refuse_half(buffer.dtype)
        if buffer.dtype == BOOL and update.op in ("add", "mul"):
            facts.fail(f"{update.op} is not defined on bool")


def _check_store(facts: Facts, store: Store) -> None:
    beyond = facts.varies[facts.at] - facts.index_axes(store.index)
    if beyond:
        names = ", ".join(facts.in_order(beyond))
        facts.fail(f"points along {names} would be stored to one element")
    if store.mask is None and may_collide(store.index):
        facts.fail(f"two points may have one index {format_index(store.index)}")


def _check_range(facts: Facts, index: Index, buffer: Buffer, mask: int | None) -> None:
    # An index that varies over an empty axis is never used.
    empty = any(facts.axes[name].extent == 0 for name in facts.index_axes(index))
    if mask is not None or empty:
        return
    low, high = index.range()
    if low < 0 or high >= buffer.size:
        facts.fail(
            f"without a mask the index must be in 0..{buffer.size - 1} of buffer "
            f"{buffer.name!r}, its range is {low}..{high}"
        )


def check_buffers(facts: Facts) -> None:
    """Every result is written, and what takes updates is not accessed otherwise."""
    facts.at = -1
    body = facts.kernel.body
    written = {i.buffer for i in body if isinstance(i, Effect)}
    updated = {i.buffer for i in body if isinstance(i, AtomicUpdate)}
    for buffer in facts.kernel.buffers:
        if buffer.role != "in" and buffer.name not in written:
            facts.fail(f"buffer {buffer.name!r} has role {buffer.role} but is never written")
    for id, instruction in enumerate(body):
        if isinstance(instruction, Load | Store) and instruction.buffer in updated:
            facts.fail(f"buffer {instruction.buffer!r} takes updates and nothing else", id)


def check_stores(facts: Facts) -> None:
    """Stores to one buffer write different elements of it; those with masks are trusted."""
    written: dict[str, list[Index]] = {}
    for id, store in enumerate(facts.kernel.body):
        if not isinstance(store, Store) or store.mask is not None:
            continue
        before = written.setdefault(store.buffer, [])
        for other in before:
            if _may_meet(store.index, other):
                rule = f"an element at {format_index(other)} may be stored twice"
                facts.fail(rule, id)
        before.append(store.index)


def check_aliases(facts: Facts) -> None:
    """A read of memory that the kernel also writes must be of the element written there."""
    body = facts.kernel.body
    stores = [i for i in body if isinstance(i, Store)]
    for id, load in enumerate(body):
        if not isinstance(load, Load):
            continue
        buffer = facts.buffers[load.buffer]
        own = [store.index for store in stores if store.buffer == load.buffer]
        if any(index != load.index for index in own):
            facts.fail(f"buffer {buffer.name!r} is written at another index", id)
        twins = [store.index for store in stores if _may_be_same(facts, store.buffer, buffer)]
        if buffer.may_alias and twins and load.index not in twins:
            facts.fail(f"buffer {buffer.name!r} may alias, but is read at another index", id)


def _may_be_same(facts: Facts, written: str, read: Buffer) -> bool:
    other = facts.buffers[written]
    return (
        other.may_alias
        and other.name != read.name
        and (other.dtype, other.size) == (read.dtype, read.size)
    )


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
