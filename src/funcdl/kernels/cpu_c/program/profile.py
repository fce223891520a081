"""A program whose C takes the time of each kernel call (see fd_profile.h).

The text is that of the program itself, but for what stands between the kernels and their calls: a
macro with the name of each kernel, and of each call of a library, which makes the call between two
looks at the clock. (A macro's own name is not expanded again in its expansion.)
"""

from __future__ import annotations

from funcdl.kernels.cpu_c.render import ENTRY_POINT, render_program
from funcdl.kir.program import KernelProgram, all_kernels, all_library_calls

PROFILED_ENTRY_POINT = f"{ENTRY_POINT}_profiled"


def render_profiled_program(program: KernelProgram) -> str:
    """A C file with ``int64_t funcdl_run_profiled(void **slots)``; its last slot is the table.

    Kernels are numbered as in `all_kernels`, and calls of libraries after them.
    """
    names = [kernel.name for kernel, _ in all_kernels(program)]
    names += [call.name for call in all_library_calls(program)]
    macros = [
        f"#define {name}(...) FD_PROFILED({number}, {name}(__VA_ARGS__))\n"
        for number, name in enumerate(names)
    ]
    before_calls = "".join(['#include "fd_profile.h"\n\n', *macros, "\n"])
    return f"""{render_program(program, before_calls)}
__attribute__((visibility("default"))) int64_t {PROFILED_ENTRY_POINT}(void **slots);

int64_t {PROFILED_ENTRY_POINT}(void **slots) {{
  fd_profile_table = slots[{program.num_slots}];
  return {ENTRY_POINT}(slots);
}}
"""
