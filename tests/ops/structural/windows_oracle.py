"""Gather and scatter element by element, straight from XLA's definition of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode

NDArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One pairing of an operand, indices and windows."""

    operand: tuple[int, ...]
    indices: NDArray
    numbers: GatherDimensionNumbers
    sizes: tuple[int, ...]
    mode: GatherScatterMode

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the windows."""
        batch = iter(self.indices.shape[:-1])
        left_out = (*self.numbers.collapsed_slice_dims, *self.numbers.operand_batching_dims)
        window = iter(s for d, s in enumerate(self.sizes) if d not in left_out)
        rank = self.indices.ndim - 1 + len(self.numbers.offset_dims)
        return tuple(
            next(window) if d in self.numbers.offset_dims else next(batch) for d in range(rank)
        )


def positions(case: Case) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], bool]]:
    """For each element of the windows in row-major order: its index, where it comes from in the
    operand after clipping, and whether its window was inside before."""
    numbers = case.numbers
    left_out = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    for index in np.ndindex(case.shape):
        batch = tuple(i for d, i in enumerate(index) if d not in numbers.offset_dims)
        window = iter(index[d] for d in numbers.offset_dims)
        source = [0 if d in left_out else next(window) for d in range(len(case.operand))]
        for d, dim in zip(
            numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True
        ):
            source[d] += batch[dim]
        inside = True
        for component, d in enumerate(numbers.start_index_map):
            start, limit = int(case.indices[(*batch, component)]), case.operand[d] - case.sizes[d]
            inside = inside and 0 <= start <= limit
            source[d] += min(max(start, 0), limit)
        yield index, tuple(source), inside


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any operand of rank up to 4, dimension numbers that fit it, and indices around it."""
    rank = draw(st.integers(0, 4))
    batching_count = draw(st.integers(0, min(rank, 2)))
    order = draw(st.permutations(range(rank)))
    batching, others = sorted(order[:batching_count]), order[batching_count:]
    operand = [draw(st.integers(1, 4)) for _ in range(rank)]
    for d in (*batching, *others):
        if draw(st.integers(0, 9)) == 0:
            operand[d] = 0
    collapsed = sorted(d for d in others if operand[d] > 0 and draw(st.integers(0, 2)) == 0)
    index_map = [d for d in others if draw(st.booleans())]
    sizes = [draw(st.integers(0 if n == 0 else 1, n)) for n in operand]
    for d in (*batching, *collapsed):
        sizes[d] = min(operand[d], 1)

    batch_rank = batching_count + draw(st.integers(0, 2))
    indices_batching = draw(st.permutations(range(batch_rank)))[:batching_count]
    batch = [draw(st.integers(0, 3)) for _ in range(batch_rank)]
    for d, dim in zip(batching, indices_batching, strict=True):
        batch[dim] = operand[d]
    kept = rank - len(collapsed) - batching_count
    offset_dims = sorted(draw(st.permutations(range(batch_rank + kept)))[:kept])

    dtype = np.dtype(draw(st.sampled_from(["i1", "u1", "i4", "u4", "i8", "u8"])))
    size = int(np.prod(batch, dtype=int)) * len(index_map)
    values = draw(st.lists(st.integers(-2, 5) | st.just(100), min_size=size, max_size=size))
    indices = np.array(values, np.int64).reshape(*batch, len(index_map)).astype(dtype)
    return Case(
        tuple(operand),
        indices,
        GatherDimensionNumbers(
            tuple(offset_dims),
            tuple(collapsed),
            tuple(index_map),
            tuple(batching),
            tuple(indices_batching),
        ),
        tuple(sizes),
        draw(st.sampled_from(GatherScatterMode)),
    )
