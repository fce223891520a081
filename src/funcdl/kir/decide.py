"""Comparisons of positions with constants, decided where the positions lie in a range.

Rolled, padded and joined arrays are selects by such comparisons: ``j < 3``. They change at few
positions of an axis. Between two of these they are constants, one branch of each select is all that
is left of it, and nothing is read under a condition.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from funcdl.kir.builder import renumber
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.ir import (
    Const,
    Effect,
    Elementwise,
    IndexValue,
    Instruction,
    Kernel,
    Load,
    Select,
    Store,
    ValueType,
    operands,
)

_COMPARISONS = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}
_LOGICAL = ("and", "or", "not")
_MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne"}


def changes(kernel: Kernel, axis: str) -> list[int]:
    """The positions along `axis`, in order, at which a condition differs from the one before.

    Conditions are what selects, loads and stores ask for, as far as they compare positions along
    `axis` alone with constants.
    """
    extent = kernel.axis(axis).extent
    found: set[int] = set()
    for id in _conditions(kernel):
        index, name, bound = _comparison(kernel.body, id) or (None, "", 0)
        if index is None or index.axes() != {axis}:
            continue
        compare, step = _COMPARISONS[name], index.coefficient(axis)
        # Where the index reaches the bound, and where it is first beyond it.
        for reached in (bound - index.offset, bound - index.offset + (1 if step > 0 else -1)):
            at = -(-reached // step)
            if 0 < at < extent:
                before, after = (index.offset + step * position for position in (at - 1, at))
                if compare(before, bound) != compare(after, bound):
                    found.add(at)
    return sorted(found)


def decide(kernel: Kernel, axis: str, position: int) -> Kernel:
    """The kernel at positions along `axis` from a change up to the next one; `position` is one.

    Values keep their ids. What does not matter there any more is still in the body.
    """
    body: list[Instruction] = []
    same = list(range(len(kernel.body)))
    for id, old in enumerate(kernel.body):
        instruction = renumber(old, dict(enumerate(same)))
        comparison = _comparison(body, id, instruction)
        if comparison is not None and comparison[0].axes() == {axis}:
            index, name, bound = comparison
            place = index.offset + index.coefficient(axis) * position
            instruction = _bool(_COMPARISONS[name](place, bound))
        match instruction:
            case Elementwise(_, "and" | "or" as name, args):
                known = [arg for arg in args if _truth(body, arg) is not None]
                for arg in known:
                    if _truth(body, arg) == (name == "or"):
                        same[id] = arg
                    else:
                        same[id] = args[0] if arg == args[1] else args[1]
                        break
            case Elementwise(_, "not", (arg,)) if _truth(body, arg) is not None:
                instruction = _bool(not _truth(body, arg))
            case Select(_, which, on_true, on_false) if _truth(body, which) is not None:
                same[id] = on_true if _truth(body, which) else on_false
            case Load(type_, _, _, int() as mask, other) if _truth(body, mask) is not None:
                if _truth(body, mask):
                    instruction = replace(instruction, mask=None)
                else:
                    instruction = Const(ValueType(type_.dtype, ()), other)
            case Store(mask=int() as mask) if _truth(body, mask):
                instruction = replace(instruction, mask=None)
        body.append(instruction)
    return replace(kernel, body=tuple(body))


def decided(kernel: Kernel, axis: str) -> frozenset[int]:
    """The values and effects that `decide` may change."""
    found: set[int] = set()
    for id, instruction in enumerate(kernel.body):
        comparison = _comparison(kernel.body, id)
        here = comparison is not None and comparison[0].axes() == {axis}
        if here or not found.isdisjoint(operands(instruction)):
            found.add(id)
    return frozenset(found)


def _bool(value: bool) -> Const:
    return Const(ValueType(np.dtype(np.bool_), ()), value)


def _truth(body: Sequence[Instruction], id: int) -> bool | None:
    """A condition that is known."""
    instruction = body[id]
    if isinstance(instruction, Const) and instruction.type.dtype == np.bool_:
        return bool(instruction.value)
    return None


def _comparison(
    body: Sequence[Instruction], id: int, instruction: Instruction | None = None
) -> tuple[Index, str, int] | None:
    """What is compared, how, and with which constant, where a position along an axis is."""
    instruction = instruction or body[id]
    if not isinstance(instruction, Elementwise) or instruction.name not in _COMPARISONS:
        return None
    name = instruction.name
    left, right = (body[arg] for arg in instruction.args)
    if isinstance(left, Const):
        left, right, name = right, left, _MIRRORED[name]
    if not isinstance(left, IndexValue) or not isinstance(right, Const):
        return None
    limits = np.iinfo(left.type.dtype)
    low, high = left.index.range()
    atoms = [atom for atom, _ in left.index.terms]
    wraps = low < limits.min or high > limits.max
    if wraps or len(atoms) != 1 or not isinstance(atoms[0], AxisAtom):
        return None
    return left.index, name, int(right.value)


def _conditions(kernel: Kernel) -> Iterator[int]:
    """What conditions are made of, themselves included, where stored values follow from them."""
    effects = [id for id, i in enumerate(kernel.body) if isinstance(i, Effect)]
    pending = [(id, False) for id in effects]
    seen: set[tuple[int, bool]] = set()
    while pending:
        id, asked = pending.pop()
        if (id, asked) in seen:
            continue
        seen.add((id, asked))
        if asked:
            yield id
        instruction = kernel.body[id]
        decisive: int | None = None
        if isinstance(instruction, Select):
            decisive = instruction.which
        elif isinstance(instruction, Load | Store):
            decisive = instruction.mask
        logical = isinstance(instruction, Elementwise) and instruction.name in _LOGICAL
        pending.extend((i, i == decisive or (asked and logical)) for i in operands(instruction))
