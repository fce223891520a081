"""Generated C under AddressSanitizer, UBSan and ThreadSanitizer: operations, programs, kernels.

Each test runs other tests in a process under a sanitizer, with schedules for tiny sizes, so that
the small arrays of those tests meet tiles, packed panels and threads (`plugin.py`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sanitize.sanitizer import NATIVE, Run, library, run_pytest, run_python

COMPILED = ["tests/compiler/cpu/test_convolutions.py", "tests/compiler/test_running.py"]
COMPILED += ["tests/lax/test_sorting.py", "tests/control/test_compiled.py"]
COMPILED += ["tests/kernels/test_cpu_c_render.py", "tests/robustness/test_values.py"]
COMPILED += ["tests/compiler/cpu/test_loop_parts.py", "tests/compiler/cpu/test_thin_products.py"]
COMPILED += ["tests/compiler/cpu/test_short_rows.py", "tests/compiler/test_matrices.py"]
COMPILED += ["tests/compiler/test_in_place.py", "tests/kernels/test_parted.py"]
COMPILED += ["tests/kernels/test_flat_rows.py", "tests/compiler/cpu/test_winograd.py"]
COMPILED += ["tests/compiler/test_in_place_branches.py"]
LAPACK = ["tests/compiler/test_lapack.py", "tests/runtime/test_lapack_table.py"]
# Shared among threads, no loop is small.
SMALL_LOOPS = ["tests/compiler/cpu/test_small_loops.py"]
PRODUCTS = ["tests/compiler/test_integer_products.py", "tests/compiler/test_found.py"]
PRODUCTS += ["tests/compiler/test_batch_sizes.py::test_every_size_computes_its_own"]
THREADS = ["tests/runtime/test_thread_pool.py", "tests/runtime/test_shared_object.py"]
THREADS += ["tests/runtime/test_waking.py"]
EXTENSION = ["tests/core", "tests/dispatch", "tests/robustness/test_threads.py"]
EXTENSION += ["tests/transforms/test_jit.py", "tests/transforms/test_program_cache.py"]
# Golden texts are changed by the plugin. Sanitizers keep loops from being vectorised, and long sums
# owe their accuracy to the lanes, or to blocks that are not as short as the plugin's. JAX does not
# run under AddressSanitizer.
FAST = ["-m", "not slow and not peers"]
FAST += ["-k", "not golden and not vectorised and not long_float_sums"]

# What runs: the sanitizer, the modes of the plugin, and pytest's arguments.
SUITES: dict[str, tuple[str, str, list[str]]] = {
    "operations": ("address", "small address",
                   ["tests/ops/test_jit.py", "-k", "c_agrees", "-m", "slow or not slow"]),
    "operations as scheduled": ("address", "address",
                                ["tests/ops/test_jit.py", *FAST, "-k", "c_agrees"]),
    "programs": ("address", "small address", ["tests/sanitize/programs.py"]),
    "kernels": ("address", "small address", [*COMPILED, *FAST]),
    "kernels as scheduled": ("address", "address", [*COMPILED, *SMALL_LOOPS, *FAST]),
    "LAPACK": ("address", "small address", [*LAPACK, *FAST]),
    "products and models": ("address", "small address", [*PRODUCTS, *FAST]),
    "headers": ("address", "address",
                ["tests/kernels/test_c_headers.py", "tests/kernels/test_c_math.py", *FAST]),
    "attention": ("address", "address",
                  ["tests/kernels/test_c_attention.py", "-m", "slow or not slow"]),
    "extension": ("address", "native", [*EXTENSION, *FAST]),
    "operations, threads": ("thread", "small strict",
                            ["tests/ops/test_jit.py", *FAST, "-k", "c_agrees"]),
    "programs, threads": ("thread", "small strict", ["tests/sanitize/programs.py"]),
    "kernels, threads": ("thread", "small strict", [*COMPILED, *FAST]),
    "LAPACK, threads": ("thread", "small strict", [*LAPACK, *FAST]),
    "extension, threads": ("thread", "native", [*EXTENSION[1:], *FAST]),
    "the pool": ("thread", "", [*THREADS, "tests/compiler/test_running.py", *FAST]),
}  # fmt: skip


def needs(kind: str) -> None:
    if library(kind) is None:
        pytest.skip(f"no gcc with {kind} sanitizer")


def assert_clean(run: Run) -> None:
    assert not run.findings, "\n".join(run.findings) + "\n\n" + run.log[:8000]
    assert run.status == 0, run.output[-8000:]


@pytest.mark.sanitize
@pytest.mark.parametrize("name", SUITES)
def test_clean(name: str, tmp_path: Path) -> None:
    kind, modes, arguments = SUITES[name]
    needs(kind)
    assert_clean(run_pytest(kind, modes, tmp_path, arguments))


@pytest.mark.slow
def test_some_operations_are_clean(tmp_path: Path) -> None:
    """About fifty of the ones that address memory in the oddest ways."""
    needs("address")
    names = "gather or scatter or dynamic or sort or cum or conv or dot or reduce or pad or concat"
    arguments = ["tests/ops/test_jit.py", *FAST, "-k", f"c_agrees and f32 and ({names})"]
    assert_clean(run_pytest("address", "small address", tmp_path, arguments))


FAULTY = """
import ctypes
import numpy as np
from types import SimpleNamespace
from tests.sanitize import plugin
plugin.pytest_configure()
from funcdl.core.array import Array
from funcdl.compiler.cpu import target
from funcdl.config import config
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.runtime import shared_object
from funcdl.runtime.cpu_memory import address
from funcdl.runtime.toolchain import find_compiler

source = '''
#include "fd_types.h"
#include "fd_runtime.h"
__attribute__((visibility("default"))) void fault(void **slots) {
  float *x = slots[0];
  int64_t n = *(int64_t *)slots[1];
  FAULT
}
'''.replace("FAULT", '''STATEMENT''')
path = find_compiler().build(source, flags=compile_flags(), include_dirs=[include_dir()])
x, n = np.zeros(40, np.float32), np.array(40)
shared_object.load(path, "fault", 2)([address(x), address(n)])
print("done")
"""

FAULTS = {
    "beyond an array": ("address", "x[n] = 1;", "heap-buffer-overflow"),
    "before an array": ("address", "x[0] = x[-n / 40];", "heap-buffer-overflow"),
    "a wide shift": ("address", "x[0] = (float)(1 << n);", "shift exponent 40 is too large"),
    "division by zero": ("address", "x[0] = (float)(n / (n - 40));", "division by zero"),
    "a float out of range": ("address", "x[1] = (float)(int)(1e30f * n);", "outside the range"),
    "a misaligned read": (
        "address", "x[0] = *(float *)((char *)x + n / 40);", "misaligned address",
    ),
    "a race": (
        "thread",
        "\n#pragma omp parallel for num_threads(2)\nfor (int i = 0; i < 40; ++i) x[i / 39] += 1;",
        "data race",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(name: str, tmp_path: Path) -> None:
    kind, statement, message = FAULTS[name]
    needs(kind)
    program = FAULTY.replace("STATEMENT", statement)
    mode = {"address": "address", "thread": "strict"}[kind]
    run = run_python(kind, tmp_path, ["-c", program], FUNCDL_TEST_SANITIZER=mode)
    assert any(message in finding for finding in run.findings), run.log


EXTENSION_FAULT = """
import shutil, sys
from pathlib import Path
import hatch_build

folder = Path(sys.argv[1])
copy = shutil.copytree(hatch_build.ROOT / hatch_build.PACKAGE / "native", folder / "native")
path = copy / sys.argv[2]
text = path.read_text()
assert text.count(sys.argv[3]) == 1
path.write_text(text.replace(*sys.argv[3:]))
hatch_build.ROOT, hatch_build.PACKAGE = folder, Path()
from tests.sanitize import native_plugin
import funcdl as fd, funcdl.numpy as fnp

jitted = fd.jit(lambda x: x + 1)
for n in range(3):
    jitted(fnp.ones(4))
assert jitted._table.hits == 2
print("done")
"""

EXTENSION_FAULTS = {
    "an entry too short": (
        "table.c", "PyMem_Malloc(sizeof *entry + words + objects)",
        "PyMem_Malloc(sizeof *entry + words)", "heap-buffer-overflow",
    ),
    "a wide shift": (
        "signature.c", "hash ^= hash >> 32;", "hash ^= hash >> a->num_words * 64;",
        "shift exponent",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTENSION_FAULTS)
def test_faults_of_the_extension_are_found(name: str, tmp_path: Path) -> None:
    needs("address")
    *change, message = EXTENSION_FAULTS[name]
    run = run_python("address", tmp_path, ["-c", EXTENSION_FAULT, str(tmp_path), *change], **NATIVE)
    assert run.output.endswith("done\n"), run.output
    assert any(message in finding for finding in run.findings), run.log


ARENA = """
from dataclasses import replace
from tests.sanitize import plugin
plugin.pytest_configure()
import funcdl as fd, funcdl.numpy as fnp
from funcdl.compiler import program

def too_short(lifetimes):
    return plan([replace(item, nbytes=item.nbytes - 4) for item in lifetimes])

plan, program.plan_arena = program.plan_arena, too_short
fd.config.backend = "cpu"
fd.jit(lambda x: fnp.flip(fnp.cumsum(fnp.sort(x)) * 2).sum())(fnp.ones(37))
print("done")
"""


@pytest.mark.slow
def test_a_write_behind_a_temporary_is_found(tmp_path: Path) -> None:
    needs("address")
    run = run_python("address", tmp_path, ["-c", ARENA], FUNCDL_TEST_SANITIZER="address")
    assert run.output.endswith("done\n")
    assert any("AddressSanitizer" in finding for finding in run.findings), run.log
