"""Updates that overwrite elements at computed places: the last one wins, as in a loop.

Programs of a GPU meet in any order, and of two that write to one place nobody knows which is the
last. So updates are numbered, and the largest number that meets at each place is found, which is
the same in every order; each element is then the update of that number, or what it was.

The price is one integer for each element, written, updated and read. Rejected: *plain stores where
the caller promises that no updates meet*, which few callers do and nothing checks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.ops.comparison import lt
from funcdl.ops.gather import gather
from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode
from funcdl.ops.scatter import scatter_max
from funcdl.ops.select import select_n
from funcdl.ops.shape import full, full_like, iota, reshape

_NUMBERS = np.dtype(np.int32)


def overwritten(operand: Any, indices: Any, updates: Any, **params: Any) -> Any:
    """What `scatter` returns."""
    last = last_updates(operand, indices, updates, **params)
    return select_n(lt(last, full_like(last, 0)), fetched(updates, last), operand)


def last_updates(operand: Any, indices: Any, updates: Any, **params: Any) -> Any:
    """For each element of the operand the number of the last update that meets it, or -1.

    Updates are numbered in row-major order. The parameters are those of a scatter.
    """
    shape, size = updates.shape, updates.aval.size
    numbers = reshape(iota(dtype=_NUMBERS, shape=(size,), dimension=0), new_sizes=shape)
    return scatter_max(full(operand.shape, -1, _NUMBERS), indices, numbers, **params)


def fetched(values: Any, numbers: Any) -> Any:
    """The values of these numbers in row-major order; any for negative numbers."""
    return gather(
        reshape(values, new_sizes=(values.aval.size,)),
        reshape(numbers, new_sizes=(*numbers.shape, 1)),
        dimension_numbers=GatherDimensionNumbers((), (0,), (0,)),
        slice_sizes=(1,),
        indices_are_sorted=False,
        unique_indices=False,
        mode=GatherScatterMode.CLIP,
        fill_value=None,
    )
