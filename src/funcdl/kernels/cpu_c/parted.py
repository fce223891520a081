"""Loops in parts, between the positions at which conditions change (index set splitting).

``j < 3 ? a[j + 997] : a[j - 3]`` is two copies, of three elements and of the rest. As one vector
loop it computes masks, and reads both under them. A vector that has no wanted lane and lies beside
memory that is not mapped costs 200 ns, what a thousand elements do. So the innermost loop is
written once for each part, and inside of an outer one ``if`` chooses what is true there. What is
left of the kernel in a part comes from kir/decide.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from funcdl.kernels.cpu_c.loops import Loop, Nest
from funcdl.kernels.cpu_c.whole_vectors import in_whole_vectors
from funcdl.kir.decide import changes, decide, decided
from funcdl.kir.ir import Const, Effect, Kernel, Store, operands

# The innermost axis has parts if their mean length is at least this, in bytes of the narrowest
# element that is stored. Other axes have them if so many elements follow each `if`.
PART_BYTES = 64
BRANCH_LENGTH = 8
# The most instructions that the parts of a kernel have together.
MOST_INSTRUCTIONS = 1500
# A last part of fewer positions is worth code of its own for each extent.
SHORT_PART = 16
# A part of fewer positions is no loop of vectors.
LEAST_VECTOR = 4


def parted_axes(kernel: Kernel, loops: Sequence[Loop]) -> frozenset[str]:
    """The axes that are worth parts.

    Args:
        loops: all loops of the kernel, which has no reductions.
    """
    if not loops or loops[-1].kind != "vector":
        return frozenset()
    axes = [a for a in kernel.axes if any(a.name == loop.axis for loop in loops)]
    for instruction in kernel.body:
        if isinstance(instruction, Effect) and (
            not isinstance(instruction, Store)
            or not instruction.index.axes().issuperset(a.name for a in axes)
        ):
            return frozenset()
    narrowest = min((b.dtype.itemsize for b in kernel.buffers if b.role != "in"), default=1)
    found: set[str] = set()
    instructions, inside = len(kernel.body), 1
    for axis in reversed(axes):
        count = len(changes(kernel, axis.name)) + 1
        if axis.name == loops[-1].axis:
            pays = axis.extent * narrowest >= PART_BYTES * count
        else:
            pays = inside >= BRANCH_LENGTH
        if count > 1 and pays and instructions * count <= MOST_INSTRUCTIONS:
            found.add(axis.name)
            instructions *= count
        inside *= axis.extent
    return frozenset(found)


def ends_short(kernel: Kernel, axis: str) -> bool:
    """Whether the last part of `axis` is short: its length is worth more than any extent.

    Where it begins depends on the extent, as a rule, and so does the text of the kernel.
    """
    starts = changes(kernel, axis)
    return bool(starts) and kernel.axis(axis).extent - starts[-1] < SHORT_PART


def write_parts(nest: Nest, loops: Sequence[Loop], axes: Collection[str]) -> None:
    """The loops, those along `axes` in parts, and in them all that the nest's kernel computes."""
    kernel = nest.kernel
    parted = [loop.whole and loop.axis in axes and changes(kernel, loop.axis) for loop in loops]
    if not any(parted):
        stores = [i for i in kernel.body if isinstance(i, Store)]
        effects = [nest.effect(store) for store in stores]
        nest.write(in_whole_vectors(kernel, loops), nest.needed(_roots(kernel)), effects)
        return
    at = next(n for n, starts in enumerate(parted) if starts)
    if at == len(loops) - 1:
        outer, here = loops[:at], loops[at:]

        def inside() -> None:
            for part, loop in _parts(kernel, loops[at]):
                with nest.part(part):
                    write_parts(nest, [loop], ())
    else:
        # Code cannot stand between collapsed loops.
        at = next(n for n in range(at, len(loops)) if not loops[n].joined) + 1
        outer = loops[:at]
        here = [loop for loop in outer if loop.whole and loop.axis in axes]

        def inside() -> None:
            _branches(nest, here, lambda: write_parts(nest, loops[at:], axes))

    nest.write(outer, _shared(nest, outer, [loop.axis for loop in here]), inside=inside)


def _branches(nest: Nest, loops: Sequence[Loop], inside: Callable[[], None]) -> None:
    """What is `inside`, once for each combination of parts along the axes of `loops`."""
    if not loops:
        inside()
        return
    loop, *others = loops
    starts = changes(nest.kernel, loop.axis)
    if not starts:
        _branches(nest, others, inside)
        return
    closes = [f"}} else if ({loop.variable} < {start}) {{" for start in starts[1:]]
    nest.writer.line(f"if ({loop.variable} < {starts[0]}) {{")
    for begin, close in zip([0, *starts], [*closes, "} else {", "}"], strict=True):
        part = decide(nest.kernel, loop.axis, begin)
        with nest.writer.block(None, close), nest.part(part), nest.expressions.scope():
            _branches(nest, others, inside)


def _parts(kernel: Kernel, loop: Loop) -> Iterator[tuple[Kernel, Loop]]:
    """The loop between changes, and what the kernel is there."""
    starts = changes(kernel, loop.axis)
    ends = [*starts, kernel.axis(loop.axis).extent]
    for begin, end in zip([0, *starts], ends, strict=True):
        last = loop.end if end == ends[-1] else _sooner(loop, end)
        part = replace(loop, begin=_later(loop.begin, begin), end=last)
        if loop.begin == "0" and end - begin < LEAST_VECTOR:
            part = replace(part, pragma="")
        yield decide(kernel, loop.axis, begin), part


def _later(begin: str, position: int) -> str:
    if position == 0:
        return begin
    return str(position) if begin == "0" else f"fd_max_i64({begin}, {position})"


def _sooner(loop: Loop, position: int) -> str:
    return str(position) if loop.begin == "0" else f"fd_min_i64({loop.end}, {position})"


def _shared(nest: Nest, loops: Sequence[Loop], axes: Sequence[str]) -> list[int]:
    """The values that are the same in all parts along `axes`, and known inside of `loops`."""
    kernel = nest.kernel
    parts = [kernel]
    for axis in axes:
        parts = [decide(part, axis, at) for part in parts for at in (0, *changes(part, axis))]
    found: set[int] = set()
    for part in parts:
        with nest.part(part):
            found.update(nest.needed(_roots(part)))
    for axis in axes:
        found -= decided(kernel, axis)
    known = {loop.axis for loop in (*nest.enclosing, *loops) if loop.whole}
    return sorted(
        id
        for id in found
        if known.issuperset(kernel.value_type(id).axes) and not isinstance(kernel.body[id], Const)
    )


def _roots(kernel: Kernel) -> list[int]:
    return [id for i in kernel.body if isinstance(i, Store) for id in operands(i)]
