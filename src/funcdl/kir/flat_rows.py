"""Short rows that lie one after the other, beside operands that are the same for all of them.

So it is with images whose colours are scaled, or a bias of few features: what is computed along a
row repeats. A back end that repeats it in memory can take many rows as one.
"""

from __future__ import annotations

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


@record
class FlatRows:
    """The length of a kernel's rows, how many of them a tile has, and what repeats.

    `repeated` are the values that vary along a row, and are the same in all rows.
    """

    length: int
    rows: int
    repeated: tuple[int, ...]


def flat_rows(kernel: Kernel, across: str, along: str) -> FlatRows | None:
    """The short rows of a kernel that computes each element by itself; None where it has none.

    All that varies from row to row has to vary along the row as well, and to be read and written
    as neighbours. Values of single rows would have to be spread over their elements, which costs
    more than is saved.

    Args:
        across: the axis that goes from row to row.
        along: the axis inside of it.
    """
    length = kernel.axis(along).extent
    itemsizes = [buffer.dtype.itemsize for buffer in kernel.buffers]
    width = length * max(itemsizes, default=0)
    if not 0 < width < LONG_BYTES or width % PART_BYTES == 0 or PART_BYTES % width == 0:
        return None
    repeated: set[int] = set()
    for instruction in kernel.body:
        if isinstance(instruction, Effect):
            if not isinstance(instruction, Store) or across not in instruction.index.axes():
                return None
        elif across not in instruction.type.axes:
            if along in instruction.type.axes and instruction.type.axes != (along,):
                return None
            continue
        elif along not in instruction.type.axes:
            return None
        if isinstance(instruction, IndexValue | Load | Store):
            if not _runs_on(instruction.index, across, along, length):
                return None
            if (
                not isinstance(instruction, IndexValue)
                and instruction.index.coefficient(along) != 1
            ):
                return None
        repeated.update(i for i in operands(instruction) if kernel.value_type(i).axes == (along,))
    lanes = VECTOR_BYTES // min(itemsizes)
    rows = lanes * max(1, TILE // (lanes * length))
    size = rows * length * sum(kernel.value_type(id).dtype.itemsize for id in repeated)
    if not 0 < size <= MOST_BYTES or kernel.axis(across).extent < LEAST_TILES * rows:
        return None
    return FlatRows(length, rows, tuple(sorted(repeated)))


def _runs_on(index: Index, across: str, along: str, length: int) -> bool:
    """Whether the last position of a row and the first one of the next are neighbours."""
    plain = all(
        isinstance(atom, AxisAtom) or Index(((atom, 1),)).axes().isdisjoint({across, along})
        for atom, _ in index.terms
    )
    step = index.coefficient(along)
    return plain and not index.values() and index.coefficient(across) == length * step
