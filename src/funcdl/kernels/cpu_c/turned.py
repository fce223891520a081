"""Rows in lanes: tiles of what is read or written across rows, transposed in an array.

Where lanes go from row to row, a vector of them is spread over as many cache lines. The transposed
tile is read and written in whole vectors, and the array in whole rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcdl.core.records import record
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import Loop
from funcdl.kernels.cpu_c.memory import stack_array
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.ir import Kernel, Load, Store

# What fd_transpose.h has functions for.
ITEM_SIZES = (1, 2, 4, 8, 16)
# Blocks are transposed in registers of this size: shorter rows would be moved one by one.
BLOCK_BYTES = 16
# The most that a tile takes on the stack: it is to stay in the first-level cache.
MOST_BYTES = 16 * 1024


@record
class Turned:
    """A load or store as it is in the transposed tile, as C text.

    `element` is the one at the present position. `function` transposes between the tile and the
    rows, with the arguments `to_lanes` or `to_rows`.
    """

    access: Load | Store
    declaration: str
    element: str
    function: str
    to_lanes: tuple[str, ...]
    to_rows: tuple[str, ...]


def turned(
    expressions: Expressions,
    id: int,
    axes: Sequence[str],
    lane: str,
    lanes: Loop,
    width: int,
) -> Turned | None:
    """The transposed form of a load or store of rows along `axes`; None where there is none.

    Args:
        axes: in the order of the kernel's.
        lane: the axis that goes from row to row.
        lanes: the loop over the lanes of a tile.
        width: the most lanes that a tile has.
    """
    kernel = expressions.kernel
    access = kernel.body[id]
    if not isinstance(access, Load | Store) or access.mask is not None:
        return None
    index, dtype = access.index, kernel.buffer(access.buffer).dtype
    # What is stored once for several positions of a row does not fill the tile.
    if isinstance(access, Store) and not index.axes().issuperset(axes):
        return None
    length = row_length(kernel, index, axes, lane)
    if dtype.itemsize not in ITEM_SIZES or length * dtype.itemsize < BLOCK_BYTES:
        return None
    if length * width * dtype.itemsize > MOST_BYTES:
        return None
    name = f"turned{id}"
    outer = Index(
        tuple((atom, c) for atom, c in index.terms if not {*axes} & Index(((atom, 1),)).axes()),
        index.offset,
    )
    inner = Index(tuple((atom, c) for atom, c in index.terms if (atom, c) not in outer.terms))
    place = text.factor(expressions.index(inner, narrow=False))
    first = expressions.index(outer, narrow=False, at={lane: lanes.begin})
    rows = (f"&{expressions.buffer_name(access.buffer)}[{first}]", str(index.coefficient(lane)))
    count = text.difference(lanes.end, lanes.begin)
    position = text.difference(lanes.variable, lanes.begin)
    return Turned(
        access,
        stack_array(text.type_name(dtype), name, f"{length} * {width}"),
        f"{name}[{place} * {width} + {position}]",
        f"fd_turn_{dtype.itemsize}",
        (name, str(width), *rows, count, str(length)),
        (*rows, name, str(width), str(length), count),
    )


def row_length(kernel: Kernel, index: Index, axes: Sequence[str], lane: str) -> int:
    """How many neighbours `axes` address in a row, if `lane` goes from row to row; 0 if not so.

    Axes that the index does not depend on do not count.
    """
    if index.values() or abs(index.coefficient(lane)) <= 1:
        return 0
    for atom, _ in index.terms:
        if not isinstance(atom, AxisAtom) and {lane, *axes} & Index(((atom, 1),)).axes():
            return 0
    length = 1
    for axis in reversed(axes):
        if axis in index.axes():
            if index.coefficient(axis) != length:
                return 0
            length *= kernel.axis(axis).extent
    return length
