"""Counts instructions, where wall time is too noisy: ``python -m benchmarks.instructions``.

All cases run in one process under valgrind's callgrind, which counts only between two marks: the
loop over the calls of one case, warmed up before. Start, imports, tracing and compiling lie outside
of it. What remains is the same from run to run to some 0.2 %: one thread, no garbage collection,
no random hashes, the least of several rounds.

Counts are compared with benchmarks/instructions.json; exit status 1 says that a case costs more
than the tolerance above its entry there. ``--update`` enters the counts. The table has a part for
each environment that changes them: kernels depend on the C compiler and the instruction set (AVX2
at most, since valgrind knows no AVX-512), what Python does depends on its version. Without an entry
for this environment nothing is compared. Without valgrind it says so, and the exit status is 0.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any
from unittest import mock

import numpy as np

from funcdl.kernels.cpu_c import isa
from funcdl.runtime.toolchain import CompilerError, find_compiler

TABLE = Path(__file__).parent / "instructions.json"
TOLERANCE = 0.03
ROUNDS = 3
PLACES = {"FUNCDL_CACHE_DIR", "FUNCDL_CC"}

# The marks. Valgrind recognises the instructions that these macros stand for; elsewhere they do
# nothing.
MARKS = """
#include <valgrind/callgrind.h>
__attribute__((visibility("default"))) void counting_begins(void) {
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_TOGGLE_COLLECT;
}
__attribute__((visibility("default"))) void counting_ends(const char *name) {
  CALLGRIND_TOGGLE_COLLECT;
  CALLGRIND_DUMP_STATS_AT(name);
}
"""


@dataclass(frozen=True)
class Case:
    """A call, how often a round repeats it, and whether compiled kernels do most of its work."""

    call: Callable[[], Any]
    repeat: int
    kernel: bool


def cases() -> dict[str, Case]:
    """What is counted, by name."""
    import funcdl as fd
    import funcdl.numpy as fnp
    from funcdl import lax, nn

    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return fnp.asarray(rng.standard_normal(shape, dtype=np.float32))

    x, square, image = normal(64, 256), normal(96, 96), normal(2, 16, 16, 16)
    window = normal(3, 3, 16, 16)
    tiny = [normal(10) for _ in range(100)]
    a, b, c = tiny[:3]

    chain = fd.jit(lambda x: fnp.tanh(x * x + 1) * nn.sigmoid(x))
    softmax = fd.jit(nn.softmax)
    slope = fd.jit(fd.grad(lambda x: (nn.softmax(x) * x).sum()))
    columns = fd.jit(lambda x: x.sum(0))
    product = fd.jit(lambda a, b: a @ b)
    convolve = fd.jit(
        lambda x, w: lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    three = fd.jit(lambda x, y, z: x * y + z)
    many = fd.jit(lambda xs: [x + 1 for x in xs])

    # New functions each time, which no cache knows.
    def trace() -> Any:
        return fd.make_jaxpr(lambda x, y: fnp.tanh(x @ y) * x + 1)(square, square)

    def trace_gradient() -> Any:
        return fd.make_jaxpr(fd.grad(lambda x: (fnp.tanh(x @ x) * x).sum()))(square)

    def to_c() -> Any:
        return fd.jit(lambda x: nn.softmax(x) * x).lower(x).as_text("c")

    return {
        "elementwise chain 64x256": Case(lambda: chain(x), 10, True),
        "softmax 64x256": Case(lambda: softmax(x), 10, True),
        "softmax's gradient 64x256": Case(lambda: slope(x), 10, True),
        "sum of columns 64x256": Case(lambda: columns(x), 20, True),
        "matmul 96x96x96": Case(lambda: product(square, square), 10, True),
        "convolution 3x3, 16 to 16": Case(lambda: convolve(image, window), 5, True),
        "cached call, 3 arrays": Case(lambda: three(a, b, c), 100, False),
        "cached call, 100 arrays": Case(lambda: many(tiny), 20, False),
        "eager a + b": Case(lambda: a + b, 100, False),
        "trace": Case(trace, 5, False),
        "trace a gradient": Case(trace_gradient, 5, False),
        "trace and lower to C": Case(to_c, 2, False),
    }


def run(only: list[str], counted: str = "") -> None:
    """Run cases in this process; between the marks of the library `counted`, if given.

    A first run without them compiles what the second finds in the cache.
    """
    # Valgrind shows programs its own processor by cpuid, but the machine's in /proc/cpuinfo.
    narrow = isa.ISAS[instruction_set()]
    marks = ctypes.CDLL(counted) if counted else None
    with mock.patch.object(isa, "host_isa", lambda: narrow):
        gc.disable()
        for name, case in cases().items():
            if only and name not in only:
                continue
            for _ in range(3):
                case.call()
            if marks is None:
                continue
            for _ in range(ROUNDS):
                _round(case, name.encode(), marks.counting_begins, marks.counting_ends)


def _round(case: Case, name: bytes, begin: Callable[..., Any], end: Callable[..., Any]) -> None:
    call, repeats = case.call, range(case.repeat)
    begin()
    for _ in repeats:
        call()
    end(name)


def instruction_set() -> str:
    """The widest here that valgrind knows."""
    host = isa.host_isa().name
    return "avx2" if host == "avx512" else host


def environments() -> dict[bool, str]:
    """Names of the table's parts: of kernels (True) and of what Python does (False)."""
    from funcdl.core.dispatch import dispatch

    compiler = find_compiler()
    version = compiler.version if compiler else ""
    major = re.search(r"(\d+)\.\d+", version)
    name = f"{version.split()[0]} {major[1]}" if major else version
    twin = "" if dispatch.native else ", no extension"
    python = f"{platform.python_implementation()} {sys.version_info[0]}.{sys.version_info[1]}"
    return {
        True: f"{name}, {instruction_set()}",
        False: f"{python}, {platform.machine()}{twin}",
    }


def count(only: list[str]) -> dict[str, int]:
    """Instructions of one call of each case.

    Raises:
        LookupError: valgrind, its headers or a C compiler are missing.
        RuntimeError: a process failed.
    """
    compiler = find_compiler()
    if which("valgrind") is None or compiler is None:
        raise LookupError("counting needs valgrind (apt-get install valgrind) and a C compiler")
    try:
        library = compiler.build(MARKS, name="marks", extra_key="instructions")
    except CompilerError as error:
        raise LookupError("counting needs valgrind's header valgrind/callgrind.h") from error
    # No other flag of the library than those that say where to compile.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FUNCDL_") or k in PLACES}
    environment = kept | {
        "FUNCDL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    itself = [sys.executable, "-m", "benchmarks.instructions", "--run"]
    chosen = ["--only", *only] if only else []
    with tempfile.TemporaryDirectory() as folder:
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        tool += ["--instr-atstart=no", "--collect-atstart=no"]
        for command in ([*itself, "", *chosen], [*tool, *itself, str(library), *chosen]):
            result = subprocess.run(command, env=environment, capture_output=True, text=True)
            if result.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
        found = read(path.read_text() for path in Path(folder).glob("out.*"))
    with mock.patch.object(isa, "host_isa", lambda: isa.ISAS[instruction_set()]):
        return {name: found[name] // case.repeat for name, case in cases().items() if name in found}


def read(dumps: Iterable[str]) -> dict[str, int]:
    """The least count of each mark's name, from the texts that callgrind wrote."""
    found: dict[str, int] = {}
    for text in dumps:
        name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if name and total:
            found[name[1]] = min(int(total[1]), found.get(name[1], int(total[1])))
    return found


def report(
    found: dict[str, int], known: dict[str, int], tolerance: float
) -> tuple[list[str], list[str]]:
    """A line for each case, and the names of those that cost too much."""
    lines, worse = [], []
    for name, value in found.items():
        line = f"{name:28s}{value:14,d}"
        if name not in known:
            lines.append(f"{line}  no entry for this environment")
            continue
        ratio = value / known[name]
        verdict = "worse" if ratio > 1 + tolerance else "better" if ratio < 1 - tolerance else ""
        lines.append(f"{line}{known[name]:14,d}  x{ratio:.3f}  {verdict}".rstrip())
        if verdict == "worse":
            worse.append(name)
    return lines, worse


def main(arguments: list[str] | None = None) -> int:
    """Count, compare, report; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="names of cases")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("--update", action="store_true", help="enter the counts into the table")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run is not None:
        run(options.only, options.run)
        return 0
    try:
        found = count(options.only)
    except LookupError as error:
        print(f"nothing counted: {error}")
        return 0
    if unknown := [name for name in options.only if name not in found]:
        print(f"--only: no case is called {', '.join(unknown)}", file=sys.stderr)
        return 2
    table: dict[str, dict[str, int]] = json.loads(TABLE.read_text()) if TABLE.is_file() else {}
    every = cases()
    status = 0
    for kernel, environment in environments().items():
        part = {name: value for name, value in found.items() if every[name].kernel is kernel}
        lines, worse = report(part, table.get(environment, {}), options.tolerance)
        if lines:
            print(f"{environment}: instructions, expected, ratio", *lines, sep="\n")
            status |= bool(worse)
            table.setdefault(environment, {}).update(part)
    if options.update:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
