"""Loads under one mask that interleave, which GCC before 12.4 and 13.3 takes from wrong lanes.

Of two loads ``x[2 * i]`` and ``x[2 * i + 1]`` under the same mask its vectoriser makes one group
and loses their order (https://gcc.gnu.org/PR114375). Loads through pointers that it knows nothing
of are not grouped. So the second of such loads has a pointer of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict

from funcdl.kir.index import AxisAtom
from funcdl.kir.ir import Effect, Kernel, Load

_NAME = re.compile(r"\b(\w+)_lane(\d+)\b")


def lanes(kernel: Kernel) -> dict[int, int]:
    """The loads that get pointers of their own, with the numbers of these."""
    groups: dict[object, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    written = {i.buffer for i in kernel.body if isinstance(i, Effect)}
    for id, load in enumerate(kernel.body):
        if not isinstance(load, Load) or load.mask is None or load.buffer in written:
            continue
        if any(isinstance(atom, AxisAtom) and abs(c) > 1 for atom, c in load.index.terms):
            groups[load.buffer, load.mask, load.index.terms][load.index.offset].append(id)
    return {
        id: number
        for offsets in groups.values()
        for number, offset in enumerate(sorted(offsets))
        if number
        for id in offsets[offset]
    }


def lane_name(buffer: str, number: int) -> str:
    """The pointer of such loads."""
    return f"{buffer}_lane{number}"


def lane_pointers(body: str, types: dict[str, str]) -> str:
    """The declarations of the pointers that a function's body uses.

    Args:
        types: of the buffers' pointers, by name.
    """
    found = sorted({match.groups() for match in _NAME.finditer(body)})
    return "".join(
        f"  {types[buffer]}{lane_name(buffer, int(number))} = {buffer};\n"
        f'  __asm__("" : "+r"({lane_name(buffer, int(number))}));\n'
        for buffer, number in found
        if buffer in types
    )
