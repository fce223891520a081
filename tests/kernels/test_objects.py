"""Functions that units share as objects: which, and that they are the same."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.kernels.cpu_c.program import objects
from funcdl.kernels.cpu_c.program.objects import shared_objects
from funcdl.runtime import toolchain
from funcdl.runtime.disk_cache import default_cache
from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def names(*texts: str) -> list[str]:
    return [unit.name for unit in shared_objects(texts, ())]


def test_texts_name_their_objects() -> None:
    assert names() == names("fd_exp_f32(x); my_fd_gemm_f32(); fd_gemm_f16_()") == []
    assert names("fd_gemm_f32(1, 2)", "fd_gemm_ahead_f32(x)", "fd_pack_f32(y)") == ["gemm_f32"]
    assert names("fd_dots_f64(fd_pack_i32())") == ["dots_f64", "gemm_i32"]
    assert names("fd_attention_gradient_f32(at)") == ["gemm_f32"]
    assert names("fd_fft_f64(sizes)") == ["fft_f64"]


def test_all_shared_functions_are_in_an_object() -> None:
    text = "".join(path.read_text() for path in include_dir().glob("*.h"))
    shared = set(re.findall(r"^FD_SHARED .*?FD_NAME\(fd_(\w+)\)", text, re.MULTILINE))
    assert shared == set(objects._OBJECTS) - {"gemm", "fft"}  # which call gemm_ahead and fft_task


@pytest.mark.parametrize("short", ["f32", "f64", "i32", "u32", "i64", "u64"])
def test_an_object_defines_its_functions_and_no_others(short: str) -> None:
    compiler = find_compiler()
    assert compiler is not None
    names = set(objects._OBJECTS) - {"gemm", "fft", *([] if short[0] == "f" else ["fft_task"])}
    functions = {f"fd_{name}_{short}" for name in names}
    calls = [f"{function}()" for function in functions]
    units = shared_objects(calls, compile_flags(accepts=compiler.accepts))
    assert {unit.name for unit in units} == {f"{objects._OBJECTS[name]}_{short}" for name in names}
    listing = ""
    for path in [compiler.build_unit(unit, ".o") for unit in units]:
        listing += toolchain._capture(["nm", str(path)], None).stdout
    assert set(re.findall(r" T (\w+)", listing)) == functions
    assert not re.findall(r" U (fd_\w+)", listing)


RNG = np.random.default_rng(0)
X = RNG.standard_normal((70, 300)).astype(np.float32)
W = RNG.standard_normal((300, 90)).astype(np.float32)
Q = RNG.standard_normal((1, 130, 2, 16)).astype(np.float32)
PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "in place": (lambda x, w: fnp.tanh(x @ w), (X, W)),
    "packed": (lambda x, w: x @ fnp.exp(w.T).T, (X, W)),
    "along terms": (lambda x, w: fnp.tanh(x @ w[:, :3]), (X, W)),
    "doubles": (lambda x, w: x @ w, (X.astype(np.float64), W.astype(np.float64))),
    "integers": (lambda x, w: x @ w, (X.astype(np.int32), W.astype(np.int32))),
    "transforms": (lambda x: fnp.fft.irfft(fnp.fft.rfft(x)), (X,)),
    "attention": (fd.grad(lambda q: fnp.sum(fd.nn.dot_product_attention(q, q, q) ** 2)), (Q,)),
}


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toolchain, "PREBUILT", Path("nothing"))
        with fd.config.override(cache_dir=str(tmp_path_factory.mktemp("cache"))):
            yield


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", PROGRAMS)
def test_linked_units_compute_what_whole_ones_do(name: str) -> None:
    check_linked(*PROGRAMS[name])
    assert list(default_cache().root.glob("??/*.o"))


def check_linked(f: Callable[..., Any], args: tuple[Any, ...]) -> None:
    step = fd.jit(lambda *args: f(*args))  # compiled anew, whatever was called before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = np.asarray(step(*args))
        with fd.profile():  # one text with all that it calls
            whole = np.asarray(step(*args))
    assert found.tobytes() == whole.tobytes()


def test_objects_are_compiled_for_the_first_program_that_calls_them(compiled: list[str]) -> None:
    for columns in (40, 50, 60):
        fd.jit(lambda x, w, n=columns: fnp.tanh(x @ w[:, :n]))(X, W)
    assert compiled.count("gemm_f32.c") == 1
    assert "dots_f32.c" not in compiled
    fd.jit(lambda x, w: x @ w[:, :2])(X, W)
    assert (compiled.count("gemm_f32.c"), compiled.count("dots_f32.c")) == (1, 1)


def test_texts_for_people_are_whole() -> None:
    text = fd.jit(lambda x, w: x @ w).lower(X, W).as_text("c")
    assert "fd_gemm" in text and "FD_LINKED" not in text
