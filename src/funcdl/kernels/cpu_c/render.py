"""From kernels to C: one function for a kernel, one file for a program."""

from __future__ import annotations

from funcdl.kernels.cpu_c.dot_as_sum import dot_as_sum
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.render_calls import pointer_type, render_bodies, render_entry
from funcdl.kernels.cpu_c.render_conv import is_direct, render_conv
from funcdl.kernels.cpu_c.render_dot import is_blocked, render_dot
from funcdl.kernels.cpu_c.render_loops import render_loops
from funcdl.kernels.cpu_c.render_running import render_running
from funcdl.kernels.cpu_c.render_updates import render_updates
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.ir import AtomicUpdate, Buffer, Effect, Kernel, Load, Order, Running
from funcdl.kir.printer import format_kernel
from funcdl.kir.program import KernelProgram, all_kernels
from funcdl.kir.schedule import Schedule

ENTRY_POINT = "funcdl_run"
_HEADERS = (
    "fd_types.h",
    "fd_math.h",
    "fd_gemm.h",
    "fd_conv.h",
    "fd_running.h",
    "fd_sort.h",
    "fd_runtime.h",
)
# Headers that only units with a call of their functions include, by the beginning of the names.
_ON_DEMAND = {"fd_conv.h": "fd_conv_", "fd_running.h": "fd_running_", "fd_sort.h": "fd_sort_"}


def render_kernel(kernel: Kernel, schedule: Schedule) -> str:
    """One C function, ``static void <kernel's name>(<a pointer for each buffer>)``.

    Args:
        schedule: from `schedule_cpu`, an autotuner or a test. Axes that it does not mention become
            sequential loops.
    """
    writer = Writer()
    # The signature, the axes and the schedule; the instructions follow as C.
    header = format_kernel(kernel, schedule).splitlines()[:3]
    header[-1] += " */"
    writer.line("/* " + header[0])
    for line in header[1:]:
        writer.line(" * " + line)
    expressions = Expressions(kernel)
    parameters = [_parameter(buffer, expressions) for buffer in kernel.buffers] or ["void"]
    writer.call(f"static void {kernel.name}", parameters, end=" {")
    with writer.block(None):
        used = {i.buffer for i in kernel.body if isinstance(i, Load | Effect)}
        for buffer in kernel.buffers:
            if buffer.name not in used:
                writer.line(f"(void){expressions.buffer_name(buffer.name)};")
        if any(isinstance(i, AtomicUpdate) for i in kernel.body):
            render_updates(kernel, schedule, writer)
        elif any(isinstance(i, Running | Order) for i in kernel.body):
            render_running(kernel, schedule, writer)
        elif is_direct(kernel, schedule):
            render_conv(kernel, schedule, writer)
        elif is_blocked(kernel := conv_as_dot(kernel), schedule):
            render_dot(kernel, schedule, writer)
        else:
            render_loops(dot_as_sum(kernel), schedule, writer)
    return writer.text()


def render_program(program: KernelProgram, before_calls: str = "") -> str:
    """A C file with the program's kernels and ``void funcdl_run(void **slots)``, which runs them.

    The text depends on nothing but the arguments.

    Args:
        before_calls: C to stand between the kernels and their calls.

    Raises:
        ValueError: two kernels of the program have one name.
    """
    kernels = all_kernels(program)
    names = [kernel.name for kernel, _ in kernels]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"program {program.name}: two kernels are named {name!r}")
    writer = Writer()
    writer.comment(f"program {program.name}")
    for header in ("stdint.h", "stdlib.h", "string.h"):
        writer.line(f"#include <{header}>")
    writer.line()
    functions = [render_kernel(*entry) + "\n" for entry in kernels]
    for header in _HEADERS:
        prefix = _ON_DEMAND.get(header, "")
        if any(prefix in function for function in functions) or not prefix:
            writer.line(f'#include "{header}"')
    writer.line()
    parts = [writer.text(), *functions, before_calls]
    writer = Writer()
    for call in program.calls:
        render_bodies(call, writer)
    writer.line(f'__attribute__((visibility("default"))) void {ENTRY_POINT}(void **slots);')
    writer.line()
    render_entry(program, ENTRY_POINT, writer)
    return "".join([*parts, writer.text()])


def _parameter(buffer: Buffer, expressions: Expressions) -> str:
    restrict = "" if buffer.may_alias else "restrict "
    return f"{pointer_type(buffer)}{restrict}{expressions.buffer_name(buffer.name)}"
