"""What installation compiles ahead of all programs, so that the first one need not wait for it.

The first program on a machine wants a thread pool, what runs tables of calls, and most likely
products of matrices, which take a C compiler longer than a small program's own kernels. They do not
depend on the program, so that hatch_build.py has them compiled for each ISA of the architecture and
puts them beside `runtime.toolchain`, where every `Compiler` looks first. A file's name holds a hash
of its source, headers, flags and compiler command: what does not fit (another compiler, changed
headers, a sanitizer's flags) is compiled when it is wanted, as is all of it where nothing was
compiled at installation.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from funcdl.kernels.cpu_c.isa import flags_for, isas_of
from funcdl.kernels.cpu_c.program.objects import object_unit
from funcdl.runtime import call_table, thread_pool
from funcdl.runtime.processes import Work
from funcdl.runtime.toolchain import Compiler, CompilerError, Unit, find_compiler

# Those that many first programs call and that take longest: half a second on the average, the
# transform more than one.
_OBJECTS = [
    ("gemm", "f32"),
    ("gemm", "f64"),
    ("gemm", "i32"),
    ("dots", "f32"),
    ("dots", "f64"),
    ("fft", "f32"),
]


def units(compiler: Compiler) -> list[tuple[Unit, str]]:
    """What to compile, and to which kind of file."""
    shared = [(call_table.unit(), ".so"), (thread_pool.unit(), ".so")]
    flags = [flags_for(isa, accepts=compiler.accepts) for isa in isas_of(platform.machine())]
    return shared + [(object_unit(*each, flag), ".o") for flag in flags for each in _OBJECTS]


def build(folder: Path) -> None:
    """Compile all of it into a folder, which is made and then holds nothing else.

    Raises:
        CompilerError: there is no compiler, or it refused a unit.
    """
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError("no C compiler found", ())
    wanted = units(compiler)
    with Work() as work:
        paths = work.map(lambda item: compiler.build_unit(*item), wanted, os.cpu_count() or 1)
    folder.mkdir(parents=True, exist_ok=True)
    names = [compiler.prebuilt_name(*item) for item in wanted]
    with TemporaryDirectory(dir=folder) as scratch:
        for name, path in zip(names, paths, strict=True):
            made = shutil.copy(path, Path(scratch, name))
            os.replace(made, folder / name)  # at once: a process may look for it
    for path in folder.iterdir():
        if path.is_file() and path.name not in names:
            path.unlink()
