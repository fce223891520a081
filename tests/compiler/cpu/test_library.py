from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compiler.cpu.libraries import CASES, Case, call
from tests.ops.table import OPS, cases, outputs, samples

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.errors import ArgumentError
from funcdl.runtime.toolchain import find_compiler

COMPILER = find_compiler()
CROSS_COMPILER = "aarch64-linux-gnu-gcc"
needs_tools = pytest.mark.skipif(
    COMPILER is None or not shutil.which("make") or not shutil.which("objcopy"),
    reason="no C compiler, make or binutils",
)


def build(folder: Path, *arguments: str) -> None:
    assert COMPILER is not None
    command = ["make", "-s", "-j2", f"CC={' '.join(COMPILER.command)}", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # clang also warns of loops that it does not vectorise.
    assert "warning" not in done.stderr or "clang" in COMPILER.version


def expected(case: Case) -> list[np.ndarray[Any, Any]]:
    copies = fd.tree.map(lambda x: np.array(x), case.args)
    return [np.asarray(x) for x in fd.tree.leaves(fd.jit(case.function)(*copies))]


@needs_tools
@pytest.mark.parametrize("name", CASES)
def test_library_returns_what_the_jitted_function_does(name: str, tmp_path: Path) -> None:
    case = CASES[name]()
    lowered = fd.jit(case.function, donate_argnums=case.donate).lower(*case.args)
    assert lowered.write_library(tmp_path / name, name) == tmp_path / name
    build(tmp_path / name, "EXTRA=-Wall -Wextra")
    header = (tmp_path / name / f"{name}.h").read_text()
    (size,) = re.findall(r"_WORKSPACE_BYTES (\d+)", header)
    wanted = expected(case)
    results = call(tmp_path / name, name, int(size), case, wanted)
    program = [str(tmp_path / name / f"{name}_main"), "2"]
    with (tmp_path / name / "arguments").open("rb") as arguments:
        done = subprocess.run(program, stdin=arguments, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for result in [*results, done.stdout]:
        position = 0
        for at, array in enumerate(wanted):
            found = result[position : position + array.nbytes]
            assert found == array.tobytes(), f"result {at}"
            position += array.nbytes
        assert position == len(result)


@needs_tools
def test_two_libraries_and_openmp_go_into_one_program(tmp_path: Path) -> None:
    """What they use inside has the same names in both, and some of them are OpenMP's."""
    for name, factor in (("first", 2), ("second", 3)):
        function = fd.jit(lambda x, factor=factor: fnp.sort(x * factor))
        function.lower(np.zeros(4, np.float32)).write_library(tmp_path, name)
        build(tmp_path, f"lib{name}.a", f"lib{name}.so")
    (tmp_path / "both.cpp").write_text("""
        #include "first.h"
        #include "second.h"
        #include <cstdio>
        int main() {
          float x[] = {3, 1, 4, 2}, a[4], b[4];
          int threads[8] = {0};
          first_set_num_threads(2);
        #pragma omp parallel num_threads(8)
          {
        #pragma omp atomic
            ++threads[0];
        #pragma omp barrier
        #pragma omp single
            threads[1] = threads[0];
          }
          first_inputs in = {x};
          first_outputs out = {a};
          second_inputs other_in = {x};
          second_outputs other_out = {b};
          if (first_run(&in, &out, nullptr) || second_run(&other_in, &other_out, nullptr)) return 1;
          for (int i = 0; i < 4; ++i) std::printf("%g %g ", a[i], b[i]);
          std::printf("%d", threads[1]);
        }
    """)
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    libraries = {"static": ["libfirst.a", "libsecond.a"], "shared": ["libfirst.so", "libsecond.so"]}
    for kind, files in libraries.items():
        command = [compiler, "-Wall", "-Wextra", "-fopenmp", "both.cpp", *files, "-pthread"]
        run_path = "-Wl,-rpath,$ORIGIN"
        subprocess.run([*command, run_path, "-o", kind], cwd=tmp_path, check=True, timeout=120)
        printed = subprocess.run([tmp_path / kind], capture_output=True, text=True, timeout=60)
        assert printed.stdout == "2 3 4 6 6 9 8 12 8"


@needs_tools
@pytest.mark.slow
@pytest.mark.parametrize("name", ["orders", "lstm", "types"])
@pytest.mark.parametrize(
    "options",
    ["EXTRA=-fsanitize=address,undefined -fno-sanitize-recover=all", "ISA=x86-64 THREADS=no"],
)
def test_library_is_sound_however_it_is_built(name: str, options: str, tmp_path: Path) -> None:
    case = CASES[name]()
    fd.jit(case.function).lower(*case.args).write_library(tmp_path, name)
    build(tmp_path, *(options.split() if options.startswith("ISA") else [options]), f"{name}_main")
    inputs = b"".join(np.asarray(x).tobytes() for x in fd.tree.leaves(case.args))
    done = subprocess.run([tmp_path / f"{name}_main", "2"], input=inputs, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    position = 0
    for array in expected(case):
        found = np.frombuffer(done.stdout, array.dtype, array.size, position).reshape(array.shape)
        np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-4)
        position += array.nbytes


@pytest.mark.skipif(not shutil.which(CROSS_COMPILER), reason="no compiler for 64-bit Arm")
def test_library_builds_for_another_processor(tmp_path: Path) -> None:
    case = CASES["types"]()
    fd.jit(case.function).lower(*case.args).write_library(tmp_path, "other")
    command = ["make", "-s", f"CC={CROSS_COMPILER}", "ISA=native-generic"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in ("libother.so", "other_main"):
        assert (tmp_path / name).read_bytes()[18:20] == b"\xb7\0"  # EM_AARCH64


@needs_tools
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bool", "i32", "u8", "bf16", "f32", "c64"])
def test_every_primitive_is_refused_or_has_the_bits(dtype: str, tmp_path: Path) -> None:
    calls = {name: list(samples(name, d)) for name, d in cases() if d == dtype}
    operands = {name: [s.args for s in found] for name, found in calls.items()}

    def program(operands: dict[str, Any]) -> dict[str, Any]:
        return {
            name: [
                outputs(OPS[name].primitive(*map(fnp.asarray, args), **sample.params))
                for args, sample in zip(values, calls[name], strict=True)
            ]
            for name, values in operands.items()
        }

    refused: set[str] = set()
    for _ in calls:
        try:
            fd.jit(program).lower(operands).write_library(tmp_path, "all")
            break
        except ArgumentError as error:
            found = set(re.findall(r"^  (\w+), at", str(error), re.MULTILINE))
            refused |= found
            operands = {name: operands[name] for name in operands.keys() - found}
    assert len(operands) > len(refused)
    build(tmp_path, "all_main")
    inputs = b"".join(np.asarray(x).tobytes() for x in fd.tree.leaves(operands))
    done = subprocess.run([tmp_path / "all_main", "2"], input=inputs, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    results = fd.jit(program)(operands)
    position = 0
    for path, result in fd.tree.leaves_with_path(results):
        wanted = np.asarray(result).tobytes()
        assert done.stdout[position : position + len(wanted)] == wanted, path
        position += len(wanted)
    assert position == len(done.stdout)


def test_header_names_every_leaf(tmp_path: Path) -> None:
    def function(new: Any, tree: Any, int: Any) -> Any:
        return {"a b": tree["class"] + int, "a_b": new, "linux": [int * 2]}

    args = (
        np.zeros((2, 3), bool),
        {"class": np.zeros((), np.int8), "0": 1.0},
        np.ones(5, np.float16),
    )
    lowered = fd.jit(function, donate_argnums=2).lower(*args)
    header = (lowered.compile().write_library(tmp_path) / "function.h").read_text()
    found = re.findall(r"^  (.*;) /\* (.*) \*/$", header, re.MULTILINE)
    assert found == [
        ("const uint8_t *new_;", "new: bool[2,3], one byte each, 0 or 1"),
        ("const float *tree_0;", "tree['0']: f32[]"),
        ("const int8_t *tree_class;", "tree['class']: i8[]"),
        ("const uint16_t *int_;", "int: f16[5], the bits of IEEE binary16"),
        (
            "uint16_t *out_a_b;",
            "out['a b']: f16[5], the bits of IEEE binary16; may be the memory of int_",
        ),
        ("uint8_t *out_a_b_2;", "out['a_b']: bool[2,3], one byte each, 0 or 1"),
        ("uint16_t *out_linux_0;", "out['linux'][0]: f16[5], the bits of IEEE binary16"),
    ]


def test_text_does_not_depend_on_the_process(tmp_path: Path) -> None:
    case = CASES["orders"]()
    texts = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        fd.jit(lambda *args: case.function(*args)).lower(*case.args).write_library(folder, "orders")
        texts.append({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert texts[0] == texts[1]


def _svd(x: Any) -> Any:
    return fnp.linalg.svd(x)[1]  # line: svd


def _loop(x: Any) -> Any:
    def body(i: Any, x: Any) -> Any:
        fd.debug.print("{}", i)  # line: print
        return x + 1

    return lax.fori_loop(0, 3, body, x)


@pytest.mark.parametrize(
    ("function", "primitive", "line"),
    [(_svd, "svd", "# line: svd"), (_loop, "callback", "# line: print")],
)
def test_steps_of_the_host_are_refused_by_name_and_line(
    function: Any, primitive: str, line: str, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="cannot be a C library") as caught:
        fd.jit(function).lower(np.ones((30, 30), np.float32)).write_library(tmp_path / "library")
    text = str(caught.value)
    assert re.search(rf"^  {primitive}, at .*test_library.py:\d+ .*{line}$", text, re.MULTILINE)
    assert not (tmp_path / "library").exists()


@pytest.mark.parametrize("name", ["", "a b", "9", "naïve", "x.h", "_"])
def test_name_must_be_one_in_c(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="names in C"):
        fd.jit(fnp.sin).lower(1.0).write_library(tmp_path, name)


@pytest.mark.parametrize("backend", ["reference", "gpu"])
def test_other_back_ends_write_none(backend: str, tmp_path: Path) -> None:
    with fd.config.override(backend=backend):
        lowered = fd.jit(fnp.sin).lower(1.0)
    with pytest.raises(ArgumentError, match="backend = 'cpu'"):
        lowered.write_library(tmp_path)


def test_traced_values_cannot_be_held(tmp_path: Path) -> None:
    def outer(y: Any) -> Any:
        fd.jit(lambda x: x * y).lower(1.0).write_library(tmp_path)
        return y

    with pytest.raises(ArgumentError, match="Pass them as arguments"):
        fd.grad(outer)(2.0)
