"""The blocks of long rows, each sorted for itself.

One program sorts LANES elements of a row by a network of exchanges in registers. The text is made
for a number of keys.
"""

from __future__ import annotations

from funcdl.kernels.triton.library.sort_problem import (
    Sort,
    candidates,
    common,
    estimate,
    finish,
    indented,
    keys,
    loads,
    places,
    pointers,
    stores,
)
from funcdl.kernels.triton.library.template import Tiles
from funcdl.kernels.triton.sorting import sorting_functions
from funcdl.kernels.triton.triton_kernel import TritonKernel

__all__ = ["candidates", "estimate", "kernel"]

_BLOCKS = """def sort_blocks({given}, {keys}, places_ptr, run_ptr):
    # {rows} rows.
    LENGTH: tl.constexpr = {length}
    LANES: tl.constexpr = {lanes}
    blocks: tl.constexpr = {blocks}
    program = tl.program_id(0).to(tl.int64)
    row = program // blocks * LENGTH
    first = program % blocks * LANES
    lane = tl.arange(0, LANES)
    inside = first + lane < LENGTH
{loads}
    count = tl.minimum(LENGTH - first, LANES)
    {values}, at = {sorted}({values}, lane, LANES, count)
{stores}
    tl.store(places_ptr + row + first + lane, (first + at).to(tl.int32), mask=inside)
    tl.store(run_ptr, LANES, mask=program == 0)
"""


def kernel(problem: Sort, chosen: Tiles | None = None) -> TritonKernel:
    """From ``given_0``, … to keys, places and the length of runs: every block of a row sorted."""
    functions = sorting_functions("sorted", len(problem.dtypes), problem.descending)
    place = "row + first + lane"
    functions["sort_blocks"] = _BLOCKS.format(
        given=pointers("given", len(problem.dtypes)),
        loads=indented(loads("value", "given", problem, place, "inside")),
        sorted=list(functions)[-1],
        stores=indented(stores("value", "key", problem, place, "inside")),
        **common(problem, chosen),
    )
    buffers = keys("given", problem) | keys("key", problem) | places()
    return finish(problem, chosen, functions, buffers)
