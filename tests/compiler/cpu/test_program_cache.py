"""Programs on disk: equal results without the passes, and keys that tell programs apart."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.cpu import program_cache
from funcdl.compiler.pipeline import Pipeline
from funcdl.runtime import kernel_store
from funcdl.runtime.toolchain import Compiler, find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

Fun = Callable[..., Any]
X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[Path]:
    with fd.config.override(backend="cpu", check=False, dump="", cache_dir=str(tmp_path)):
        yield tmp_path


def entries(folder: Path) -> int:
    return len(list(folder.glob("*/*.program")))


def scanned(x: Any) -> Any:
    return lax.scan(lambda c, row: (c + row, fnp.tanh(c)), x[0], x)


def captured(x: Any) -> Any:
    return x + np.arange(4, dtype=np.float32)


def gathered(x: Any) -> Any:
    return fnp.sort(x, 1)[:, ::-1], x[fnp.array([2, 0])]


def passed_through(x: Any) -> Any:
    return x, 3.5, x + 1, x + 1


def halves(x: Any) -> Any:
    return (x.astype(ml_dtypes.bfloat16) * 2).sum(0)


def branched(x: Any) -> Any:
    return lax.cond(x.sum() > 3, lambda v: v * 2, lambda v: v - 1, x)


def gradients(x: Any) -> Any:
    return fd.grad(lambda v: fnp.sum(fd.nn.softmax(v @ v.T)))(x)


@fd.jit
def nested(x: Any) -> Any:
    return x[:0] * 2, fd.jit(lambda v: v.max(1) + X[0, 1])(x)


PROGRAMS = [
    *(scanned, captured, gathered, passed_through, halves, branched, gradients, nested),
]


@pytest.mark.parametrize("fun", PROGRAMS, ids=lambda fun: fun.__name__)
def test_a_stored_program_computes_the_same(
    fun: Fun, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = fd.jit(fun)(X)
    assert entries(own_cache) == 1
    # As in a new process.
    monkeypatch.setattr(kernel_store, "_functions", {})
    monkeypatch.setattr(Pipeline, "program", property(lambda self: pytest.fail("passes ran")))
    found = fd.jit(lambda x: fun(x))(X)
    assert fd.tree.structure(found) == fd.tree.structure(wanted)
    for x, y in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
        assert (x.dtype, x.shape, x.weak_type) == (y.dtype, y.shape, y.weak_type)
        np.testing.assert_array_equal(x, y)


def test_donated_memory_is_taken_over(own_cache: Path) -> None:
    for _ in range(2):
        step: Any = fd.jit(lambda x: x + 1, donate_argnums=0)
        np.testing.assert_array_equal(step(fnp.asarray(X)), X + 1)
        (entry,) = step._entries.values()
        assert entry.executable.native_call.outputs == ((X.shape, X.dtype, 0),)
    assert entries(own_cache) == 1


def test_the_stages_of_a_stored_program_can_be_shown() -> None:
    texts = []
    for _ in range(2):
        lowered = fd.jit(lambda x: captured(x)).lower(X)
        compiled = lowered.compile()
        memory = compiled.memory_analysis()
        texts.append((lowered.as_text("c"), memory, lowered.cost_analysis()))
    assert texts[0] == texts[1]


def compiler() -> Compiler:
    found = find_compiler()
    assert found is not None
    return found


def key(fun: Fun, *args: Any, donated: tuple[bool, ...] = (False,)) -> str | None:
    return program_cache.program_key(compiler(), fd.make_jaxpr(fun)(*args), donated)


VARIANTS: list[tuple[Fun, Any]] = [
    (lambda x: x * 2, X),
    (lambda x: x * 3, X),
    (lambda x: x + 2, X),
    (lambda x: x * 2, X[:2]),
    (lambda x: x * 2, X.astype(np.int32)),
    (lambda x: x * 2, X.astype(ml_dtypes.bfloat16)),
    (lambda x: x.sum(0), X),
    (lambda x: x.sum(1), X),
    (lambda x: (x + x) * x, X),
    (lambda x: (x + x) * (x + x), X),
    (lambda x: x + np.arange(4, dtype=np.float32), X),
    (lambda x: x + np.arange(1, 5, dtype=np.float32), X),
    (lambda x: lax.fori_loop(0, 3, lambda i, v: v * 2, x), X),
    (lambda x: lax.fori_loop(0, 3, lambda i, v: v * 3, x), X),
    (lambda x: lax.fori_loop(0, 4, lambda i, v: v * 2, x), X),
    (lambda x: x * 0.0, X),
    (lambda x: x * -0.0, X),
    (lambda x: x * float("nan"), X),
]


def test_keys_tell_programs_apart() -> None:
    keys = [key(fun, x) for fun, x in VARIANTS]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert [key(lambda x, fun=fun: fun(x), x) for fun, x in VARIANTS] == keys
    assert key(*VARIANTS[0], donated=(True,)) != keys[0]
    with fd.config.override(debug_nans=True):
        assert key(*VARIANTS[0]) != keys[0]
    with fd.config.override(num_threads=1):
        assert key(*VARIANTS[0]) == keys[0]


def test_another_version_of_the_package_has_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(*VARIANTS[0])
    monkeypatch.setattr(program_cache, "package_digest", lambda: "another")
    assert key(*VARIANTS[0]) != before


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: fd.pure_callback(np.sin, fd.ShapeDtypeStruct(x.shape, x.dtype), x),
        lambda x: x + np.zeros((1 << 18) + 1, np.float32)[:, None, None],
    ],
    ids=["a callback", "large constants"],
)
def test_what_cannot_be_written_has_no_entry(fun: Fun, own_cache: Path) -> None:
    assert key(fun, X) is None
    fd.jit(fun)(X)
    assert entries(own_cache) == 0


def test_checks_and_dumps_see_the_passes(tmp_path: Path) -> None:
    with fd.config.override(check=True):
        assert key(*VARIANTS[0]) is None
    with fd.config.override(dump=str(tmp_path)):
        assert key(*VARIANTS[0]) is None


def test_a_program_whose_functions_are_gone_is_compiled_again(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = fd.jit(gradients)(X)
    monkeypatch.setattr(kernel_store, "_functions", {})
    for path in own_cache.glob("*/*.so"):
        path.unlink()
    before = kernel_store.statistics.compiled
    np.testing.assert_array_equal(fd.jit(lambda x: gradients(x))(X), wanted)
    assert kernel_store.statistics.compiled > before
    assert entries(own_cache) == 1
    # What was compiled again serves the next process.
    monkeypatch.setattr(kernel_store, "_functions", {})
    monkeypatch.setattr(Pipeline, "program", property(lambda self: pytest.fail("passes ran")))
    np.testing.assert_array_equal(fd.jit(lambda x: gradients(x))(X), wanted)


STEP = """
import sys
import funcdl as fd
import funcdl.numpy as fnp

@fd.jit
def step(w, x):
    return w - 0.1 * fd.grad(lambda w: fnp.mean(fnp.tanh(x @ w) ** 2))(w)

step(fnp.ones((4, 2)), fnp.ones((3, 4))).block_until_ready()
print(*sys.modules)
"""


def test_a_new_process_with_a_full_cache_imports_no_compiler(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FUNCDL_")}
    environment |= {"FUNCDL_BACKEND": "cpu", "FUNCDL_CACHE_DIR": str(tmp_path)}
    loaded = []
    for _ in range(2):
        command = [sys.executable, "-c", STEP]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        loaded.append(set(result.stdout.split()))
    cold, warm = loaded
    compiler = {"funcdl.compiler.cpu.build", "funcdl.compiler.pipeline", "funcdl.kir.ir"}
    assert compiler < cold
    allowed = {"compiler", "compiler.cpu", "compiler.naming", "kernels", "kernels.cpu_c"}
    allowed |= {f"compiler.cpu.{name}" for name in ("target", "executable", "program_cache")}
    allowed |= {"kernels.cpu_c.isa"}
    of_compiler = {name for name in warm if name.startswith(("funcdl.compiler", "funcdl.kernels"))}
    assert of_compiler == {f"funcdl.{name}" for name in allowed}
    assert warm.isdisjoint({*compiler, "logging", "scipy", "subprocess", "tempfile"})
