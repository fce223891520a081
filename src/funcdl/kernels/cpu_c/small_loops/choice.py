"""Which loops are small: what their kernels do, and how a C compiler may treat each kernel."""

from __future__ import annotations

from math import prod

from funcdl.kernels.cpu_c.function import Function
from funcdl.kir.ir import Conv, Dot, Reduce, Running
from funcdl.kir.kernel_cost import kernel_cost
from funcdl.kir.program import AnyCall, Call, LibraryCall, bodies
from funcdl.kir.schedule import Schedule

# What a small kernel does at most, in points and additions: some hundreds of nanoseconds.
_MOST_WORK = 4096
# How many calls of kernels a loop has, and those in it, since each is compiled for itself.
_MOST_CALLS = 32
# What in a kernel's text adds in lanes, as many as suit the numbers that are known.
_LANES = ("reduction(", "fd_gemm_", "fd_dots_", "fd_conv_", "fd_running_")

MOST_INSTRUCTIONS = 1000
"""Of all calls of kernels in a loop."""


def has_few_calls(call: AnyCall) -> bool:
    """Whether a loop is worth looking at."""
    return _count(call) <= _MOST_CALLS


def is_small(function: Function, schedule: Schedule) -> bool:
    """Whether a call of a kernel takes little more time than the table of calls does."""
    if function.takes_memory or any(step.kind == "parallel" for step in schedule.steps):
        return False
    points = prod(axis.extent for axis in function.kernel.axes)
    return points + kernel_cost(function.kernel).operations <= _MOST_WORK


def storage(function: Function) -> str:
    """What a kernel is declared as beside its loop: apart, if a compiler that knew its numbers
    might add in another order."""
    adds = any(
        (isinstance(i, Dot | Conv | Running) or (isinstance(i, Reduce) and i.op in ("sum", "prod")))
        and i.type.dtype.kind not in "biu"
        for i in function.kernel.body
    )
    apart = adds and any(word in function.body for word in _LANES)
    return "FD_APART static" if apart else "FD_INLINE"


def _count(call: AnyCall) -> int:
    match call:
        case Call():
            return 1
        case LibraryCall():
            return _MOST_CALLS + 1
        case _:
            return sum(_count(inner) for body in bodies(call) for inner in body.program.calls)
