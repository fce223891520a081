"""From kernels to C: one function for a kernel, one file for a program."""

from __future__ import annotations

from collections.abc import Sequence

from funcdl.kernels.cpu_c.conv.render import is_direct, render_conv
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.function import Function, pointer_type
from funcdl.kernels.cpu_c.masked_lanes import lane_pointers
from funcdl.kernels.cpu_c.parameters import Number
from funcdl.kernels.cpu_c.program.calls import (
    callees_of,
    library_headers,
    render_bodies,
    render_entry,
)
from funcdl.kernels.cpu_c.render_dot import is_blocked, render_dot
from funcdl.kernels.cpu_c.render_loops import render_loops
from funcdl.kernels.cpu_c.render_running import render_running
from funcdl.kernels.cpu_c.render_transposed import is_transposed, render_transposed
from funcdl.kernels.cpu_c.render_updates import render_updates
from funcdl.kernels.cpu_c.small_loops.loop import kernel_texts
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.copies import copied_in_place
from funcdl.kir.dot import dot_as_sum
from funcdl.kir.ir import AtomicUpdate, Effect, Kernel, Load, Order, Running
from funcdl.kir.printer import format_kernel
from funcdl.kir.program import KernelProgram, all_kernels
from funcdl.kir.schedule import Schedule

ENTRY_POINT = "funcdl_run"
_HEADERS = (
    "fd_types.h",
    "fd_math.h",
    "fd_gemm.h",
    "fd_gemm_int.h",
    "fd_conv.h",
    "fd_conv_int.h",
    "fd_winograd.h",
    "fd_running.h",
    "fd_sort.h",
    "fd_spread.h",
    "fd_memory.h",
    "fd_runtime.h",
)
# Headers that only units with a call of their functions include, by the beginning of the names.
_ON_DEMAND = {
    "fd_gemm_int.h": tuple(
        f"fd_{name}_{kind}" for name in ("gemm", "gemm_ahead", "dots") for kind in "iu"
    ),
    "fd_conv.h": ("fd_conv_",),
    "fd_conv_int.h": tuple(
        f"fd_conv_{name}_{kind}"
        for name in ("depthwise", "depthwise_outer", "few", "outer", "sums")
        for kind in "iu"
    ),
    "fd_winograd.h": ("fd_winograd_",),
    "fd_running.h": ("fd_running_",),
    "fd_sort.h": ("fd_sort_",),
    "fd_spread.h": ("fd_spread_",),
}


def render_kernel(kernel: Kernel, schedule: Schedule) -> str:
    """The text of a kernel's C function; see `render_function`."""
    return render_function(kernel, schedule).text


def render_function(kernel: Kernel, schedule: Schedule) -> Function:
    """The C function of a kernel.

    Args:
        schedule: from `schedule_cpu`, an autotuner or a test. Axes that it does not mention become
            sequential loops.
    """
    expressions = Expressions(kernel)
    body = Writer()
    with body.block(None):
        used = {i.buffer for i in kernel.body if isinstance(i, Load | Effect)}
        for buffer in kernel.buffers:
            if buffer.name not in used:
                body.line(f"(void){expressions.buffer_name(buffer.name)};")
        if copied := copied_in_place(kernel):
            target, source = map(expressions.buffer_name, copied)
            body.line(f"if ({target} == {source}) return; /* updated in place */")
        numbers = _render_body(kernel, schedule, body)
    writer = Writer()
    # The signature, the axes and the schedule; the instructions follow as C.
    header = format_kernel(kernel, schedule).splitlines()[:3]
    header += [f"  any {number.name}" for number in numbers if number.name.startswith("n_")]
    header[-1] += " */"
    writer.line("/* " + header[0])
    for line in header[1:]:
        writer.line(" * " + line)
    names = tuple(expressions.buffer_name(buffer.name) for buffer in kernel.buffers)
    types = {n: pointer_type(b) for b, n in zip(kernel.buffers, names, strict=True)}
    text = lane_pointers(body.text(), types) + body.text()
    return Function(kernel, writer.text(), text, names, numbers)


def includes(texts: Sequence[str], headers: Sequence[str] = ()) -> str:
    """The `#include` lines of a file with these functions, and others that it needs."""
    lines = [f"#include <{header}>" for header in ("stdint.h", "stdlib.h", "string.h")]
    lines.append("")
    for header in _HEADERS:
        prefixes = _ON_DEMAND.get(header)
        if prefixes is None or any(prefix in text for text in texts for prefix in prefixes):
            lines.append(f'#include "{header}"')
    lines += [f'#include "{header}"' for header in headers]
    return "".join(f"{line}\n" for line in lines)


def _render_body(kernel: Kernel, schedule: Schedule, writer: Writer) -> tuple[Number, ...]:
    if any(isinstance(i, AtomicUpdate) for i in kernel.body):
        return render_updates(kernel, schedule, writer)
    if any(isinstance(i, Running | Order) for i in kernel.body):
        render_running(kernel, schedule, writer)
        return ()
    if is_direct(kernel, schedule):
        render_conv(kernel, schedule, writer)
        return ()
    if is_blocked(kernel := conv_as_dot(kernel), schedule):
        return render_dot(kernel, schedule, writer)
    kernel = dot_as_sum(kernel)
    if is_transposed(kernel, schedule):
        return render_transposed(kernel, schedule, writer)
    return render_loops(kernel, schedule, writer)


def render_program(program: KernelProgram, before_calls: str = "") -> str:
    """A C file with the program's kernels and ``int64_t funcdl_run(void **slots)``, which runs
    them and returns 0, or ends at the first that misses memory and returns how many bytes.

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
    functions = [render_function(*entry) for entry in kernels]
    callees = callees_of(program, functions)
    texts = [text + "\n" for text in kernel_texts(functions, callees.loops, "static")]
    top = f"/* program {program.name} */\n{includes(texts, library_headers(program))}\n"
    parts = [top, *texts, before_calls]
    writer = Writer()
    for call in program.calls:
        render_bodies(call, callees, writer)
    writer.line(f'__attribute__((visibility("default"))) int64_t {ENTRY_POINT}(void **slots);')
    writer.line()
    render_entry(program, ENTRY_POINT, callees, writer)
    return "".join([*parts, writer.text()])
