"""Schedules for kernels whose code needs more registers or shared memory than there is."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from funcdl.compiler.cuda.candidates import candidates
from funcdl.compiler.cuda.defaults import default_knobs
from funcdl.compiler.cuda.roofline import estimate, model_of, shared_bytes
from funcdl.kernels.triton.library import kernels as library
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.dot import integer_dot_as_sum
from funcdl.kir.ir import Dot, Kernel
from funcdl.kir.schedule import Schedule

LEANER = 6
"""How many schedules are tried in place of one that spills registers."""


def leaner_schedules(
    kernel: Kernel, schedule: Schedule, capability: int, shared_limit: int
) -> list[Schedule]:
    """What to take, the best first, where there are not the registers that a schedule needs, or
    not the shared memory.

    A few schedules that give a thread fewer elements, by the estimate; of a hand-written kernel,
    its other tiles.
    """
    if kernel.library is not None:
        return [library.schedule_of(tiles) for tiles in library.candidates(kernel.library)[1:]]
    held = _elements_held(kernel, schedule)
    model = model_of(capability)
    tried = candidates(kernel, default_knobs(kernel, capability))
    found = [_with_fewer_stages(kernel, c.schedule, shared_limit) for c in tried]
    found = [s for s in dict.fromkeys(found) if _elements_held(kernel, s) < held]
    found = [s for s in found if shared_bytes(kernel, s) <= shared_limit]
    return sorted(found, key=lambda s: estimate(kernel, s, model))[:LEANER]


def _with_fewer_stages(kernel: Kernel, schedule: Schedule, shared_limit: int) -> Schedule:
    """A product's pipeline cut to what fits into shared memory, but not to less than two tiles."""
    while schedule.num_stages > 2 and shared_bytes(kernel, schedule) > shared_limit:
        schedule = replace(schedule, num_stages=schedule.num_stages - 1)
    return schedule


def _elements_held(kernel: Kernel, schedule: Schedule) -> float:
    """Elements of a block for each thread; a product's factors are in shared memory."""
    dots = {i.k for i in integer_dot_as_sum(conv_as_dot(kernel)).body if isinstance(i, Dot)}
    sizes = [s.size for s in schedule.steps if s.kind == "vector" and s.axis not in dots]
    return prod(sizes) / (32 * schedule.num_warps)
