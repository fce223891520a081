"""Short rows that lie one after the other, beside operands that are the same for all of them.

So it is with images whose colours are scaled, or a bias of few features: what is computed along a
row repeats. A back end that repeats it in memory can take many rows as one. Values of single rows,
such as a label beside the classes it is compared with, have to be spread over the elements of
their rows: a vector of them holds what several vectors of elements need.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from funcdl.core import dtypes
from funcdl.core.records import record
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.ir import Effect, IndexValue, Kernel, Load, Store, operands

# Rows of at least so many bytes make good vectors by themselves, and so do whole numbers of the
# second; a tile has whole vectors of the third.
LONG_BYTES = 256
PART_BYTES = 32
VECTOR_BYTES = 64
# About how many elements a tile has, and the fewest tiles that are worth the arrays.
TILE = 128
LEAST_TILES = 16
# The most that the arrays take: they are to stay in the first-level cache.
MOST_BYTES = 16 * 1024
# The sizes of values that vectors are shuffled by, and the fewest tiles in a run of rows and in all
# that are worth what comes before them, where values are spread.
SPREAD_ITEMSIZES = (4, 8)
LEAST_SPREAD_TILES = 4


@record
class FlatRows:
    """The length of a kernel's rows, how many of them a tile has, what repeats and what is spread.

    `repeated` are the values that vary along a row, and are the same in all rows; where they vary
    over other axes, `within` is true, in all rows of one run. `spread` are values of single rows,
    of `itemsize` bytes each: a tile has as many rows as at most fill a vector.
    """

    length: int
    rows: int
    repeated: tuple[int, ...]
    spread: tuple[int, ...] = ()
    itemsize: int = 0
    within: bool = False


def flat_rows(kernel: Kernel, across: str, along: str) -> FlatRows | None:
    """The short rows of a kernel that computes each element by itself; None where it has none.

    All that varies along a row and from row to row is read and written as neighbours.

    Args:
        across: the axis that goes from row to row.
        along: the axis inside of it.
    """
    length = kernel.axis(along).extent
    itemsizes = [buffer.dtype.itemsize for buffer in kernel.buffers]
    width = length * max(itemsizes, default=0)
    if not 0 < width < LONG_BYTES or width % PART_BYTES == 0:
        return None
    repeated: set[int] = set()
    spread: set[int] = set()
    for instruction in kernel.body:
        if isinstance(instruction, Effect):
            if not isinstance(instruction, Store) or across not in instruction.index.axes():
                return None
        elif not {across, along} <= set(instruction.type.axes):
            continue
        if isinstance(instruction, IndexValue | Load | Store):
            if not _runs_on(instruction.index, across, along, length):
                return None
            if (
                not isinstance(instruction, IndexValue)
                and instruction.index.coefficient(along) != 1
            ):
                return None
        for id in operands(instruction):
            axes = kernel.value_type(id).axes
            if along in axes and across not in axes:
                repeated.add(id)
            elif across in axes and along not in axes:
                spread.add(id)
    within = any(kernel.value_type(id).axes != (along,) for id in repeated)
    found = FlatRows(length, 0, tuple(sorted(repeated)), tuple(sorted(spread)), within=within)
    return _spread(kernel, across, found) if spread else _repeated(kernel, across, found)


def _repeated(kernel: Kernel, across: str, flat: FlatRows) -> FlatRows | None:
    """With the rows of a tile, where nothing is spread."""
    itemsizes = [buffer.dtype.itemsize for buffer in kernel.buffers]
    if flat.within or PART_BYTES % (flat.length * max(itemsizes)) == 0:
        return None
    lanes = VECTOR_BYTES // min(itemsizes)
    rows = lanes * max(1, TILE // (lanes * flat.length))
    if not 0 < rows * _row_bytes(kernel, flat) <= MOST_BYTES:
        return None
    worth = kernel.axis(across).extent >= LEAST_TILES * rows
    return replace(flat, rows=rows) if worth else None


def _spread(kernel: Kernel, across: str, flat: FlatRows) -> FlatRows | None:
    """With the rows of a tile, where something is spread."""
    types = [kernel.value_type(id).dtype for id in flat.spread]
    sizes = {dtype.itemsize for dtype in types if not dtypes.is_bool(dtype)} or {4}
    itemsize = max(sizes)
    if len(sizes) > 1 or itemsize not in SPREAD_ITEMSIZES or any(map(dtypes.is_complex, types)):
        return None
    rows = VECTOR_BYTES // itemsize
    runs = kernel.axis(across).extent
    total = prod(axis.extent for axis in kernel.axes) // flat.length
    worth = runs >= LEAST_SPREAD_TILES * rows and total >= LEAST_TILES * rows
    if not worth or rows * (_row_bytes(kernel, flat) + flat.length * itemsize) > MOST_BYTES:
        return None
    return replace(flat, rows=rows, itemsize=itemsize)


def _row_bytes(kernel: Kernel, flat: FlatRows) -> int:
    """The size of what repeats, for one row."""
    return flat.length * sum(kernel.value_type(id).dtype.itemsize for id in flat.repeated)


def _runs_on(index: Index, across: str, along: str, length: int) -> bool:
    """Whether the last position of a row and the first one of the next are neighbours."""
    plain = all(
        isinstance(atom, AxisAtom) or Index(((atom, 1),)).axes().isdisjoint({across, along})
        for atom, _ in index.terms
    )
    step = index.coefficient(along)
    return plain and not index.values() and index.coefficient(across) == length * step
