"""The hand-written kernels by name, for kernels of the IR that stand for one (`kir.ir.Library`)."""

from __future__ import annotations

from types import ModuleType

from funcdl.kernels.triton.library import (
    attention_forward,
    attention_key_gradient,
    attention_query_gradient,
    merge_runs,
    row_sums,
    sort_blocks,
)
from funcdl.kernels.triton.library.attention_problem import Attention
from funcdl.kernels.triton.library.sort_problem import Sort
from funcdl.kernels.triton.library.template import Estimate, Tiles
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.ir import Library
from funcdl.kir.row_sums import ROW_SUMS, RowSums
from funcdl.kir.schedule import Schedule, Step

_MODULES: dict[str, ModuleType] = {
    "attention_forward": attention_forward,
    "attention_query_gradient": attention_query_gradient,
    "attention_key_gradient": attention_key_gradient,
    ROW_SUMS: row_sums,
    "sort_blocks": sort_blocks,
    "merge_runs": merge_runs,
}


def candidates(library: Library) -> list[Tiles]:
    """What an autotuner may try, the default first."""
    found: list[Tiles] = _MODULES[library.function].candidates(_problem(library))
    return found


def kernel(library: Library, chosen: Tiles | None = None) -> TritonKernel:
    """Source and launch record, by default with the first of `candidates`."""
    found: TritonKernel = _MODULES[library.function].kernel(_problem(library), chosen)
    return found


def estimate(library: Library, chosen: Tiles) -> Estimate:
    """Bytes, operations and shared memory."""
    found: Estimate = _MODULES[library.function].estimate(_problem(library), chosen)
    return found


def schedule_of(chosen: Tiles) -> Schedule:
    """Tiles as a schedule: a record for each side of a block."""
    steps = tuple(Step(name, "tile", size) for name, size in chosen.blocks)
    return Schedule(steps, chosen.num_warps, chosen.num_stages)


def tiles_of(schedule: Schedule) -> Tiles | None:
    """The tiles that a schedule stands for; None, which is the default, for an empty one."""
    if not schedule.steps:
        return None
    blocks = tuple((step.axis, step.size) for step in schedule.steps)
    return Tiles(blocks, schedule.num_warps, schedule.num_stages)


def _problem(library: Library) -> Attention | Sort | RowSums:
    fields = dict(library.problem)
    if library.function == ROW_SUMS:
        rows: RowSums = fields["rows"]
        return rows
    return Attention(**fields) if library.function.startswith("attention") else Sort(**fields)
