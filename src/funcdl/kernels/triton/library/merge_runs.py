"""Sorted runs of long rows, each two that follow each other merged into one.

One program makes LANES elements of the merge. It first finds which ones are its own: of the
elements that come before its first one, some number is from the left run and the rest from the
right run, and a bisection finds it (O. Green, R. McColl and D. Bader, "GPU Merge Path", 2012). It
then loads its part of the left run in rising and that of the right run in falling order, which is
what a network merges in log2(LANES) exchanges. Programs do not wait for each other. The text is
made for a number of keys.
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
from funcdl.kernels.triton.sorting import comes_first, names, sorting_functions
from funcdl.kernels.triton.triton_kernel import TritonKernel

__all__ = ["candidates", "estimate", "kernel"]

_LEFT_SHARE = """def left_share({keys}, left, right, lefts, rights, count):
    # How many of the first `count` elements of a merge are of the left run; of equal ones these
    # come first.
    low = tl.maximum(count - rights, 0)
    high = tl.minimum(count, lefts)
    while low < high:
        middle = (low + high) // 2
{compared}
        passed = {comes_first}({of_right}, {of_left}, False)
        high = tl.where(passed, middle, high)
        low = tl.where(passed, low, middle + 1)
    return low
"""

_MERGE = """def merge_runs(
    {keys}, places_ptr, run_ptr, {merged}, merged_places_ptr, merged_run_ptr
):
    # {rows} rows.
    LENGTH: tl.constexpr = {length}
    LANES: tl.constexpr = {lanes}
    blocks: tl.constexpr = {blocks}
    program = tl.program_id(0).to(tl.int64)
    row = program // blocks * LENGTH
    first = program % blocks * LANES
    run = tl.maximum(tl.load(run_ptr), LANES)
    start = first // (2 * run) * (2 * run)
    middle = tl.minimum(start + run, LENGTH)
    end = tl.minimum(start + 2 * run, LENGTH)
    lefts = middle - start
    rights = end - middle
    before = first - start
    after = tl.minimum(before + LANES, end - start)
    left = row + start
    right = row + middle
    left_before = left_share({keys}, left, right, lefts, rights, before)
    left_after = left_share({keys}, left, right, lefts, rights, after)
    # Rising elements of the left run from the first lane on, falling ones of the right run up to
    # the last lane, and what is left over between them.
    lane = tl.arange(0, LANES)
    back = LANES - 1 - lane
    of_left = lane < left_after - left_before
    of_right = back < after - left_after - (before - left_before)
    place = tl.where(of_left, left + left_before + lane, right + before - left_before + back)
    inside = of_left | of_right
{loads}
    at = tl.load(places_ptr + place, mask=inside, other=LENGTH)
    {values}, at = {merge}({values}, at, LANES, LENGTH)
    inside = lane < after - before
{stores}
    tl.store(merged_places_ptr + row + first + lane, at, mask=inside)
    tl.store(merged_run_ptr, 2 * run, mask=program == 0)
"""


def kernel(problem: Sort, chosen: Tiles | None = None) -> TritonKernel:
    """From keys, places and the length of runs to ``merged_key_0``, …: half as many runs."""
    count = len(problem.dtypes)
    functions = sorting_functions("merged", count, problem.descending)
    merge = list(functions)[-1]
    compared = loads("of_left", "key", problem, "left + middle")
    compared += loads("of_right", "key", problem, "right + count - 1 - middle")
    functions["left_share"] = _LEFT_SHARE.format(
        keys=pointers("key", count),
        compared=indented(compared, 2),
        comes_first=comes_first(count, problem.descending),
        of_left=names("of_left", count),
        of_right=names("of_right", count),
    )
    place = "row + first + lane"
    functions["merge_runs"] = _MERGE.format(
        merged=pointers("merged_key", count),
        loads=indented(loads("value", "key", problem, "place", "inside")),
        merge=merge,
        stores=indented(stores("value", "merged_key", problem, place, "inside")),
        **common(problem, chosen),
    )
    read = keys("key", problem) | places()
    return finish(
        problem, chosen, functions, read | keys("merged_key", problem) | places("merged_")
    )
