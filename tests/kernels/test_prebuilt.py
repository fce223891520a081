"""What installation compiles is found instead of compiled, and only where it fits."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.kernels.cpu_c import prebuilt
from funcdl.kernels.cpu_c.isa import compile_flags, flags_for, host_isa, isas_of
from funcdl.kernels.cpu_c.program.objects import object_unit
from funcdl.runtime import call_table, thread_pool, toolchain
from funcdl.runtime.toolchain import Compiler, find_compiler

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="nothing to compile with here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("prebuilt")
    (made / "of-old-headers.o").write_bytes(b"old")
    prebuilt.build(made)
    return made


@pytest.fixture
def compiled(compiled: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same beside what installation compiles."""
    monkeypatch.setattr(toolchain, "PREBUILT", folder)
    return compiled


def compiler() -> Compiler:
    assert COMPILER is not None
    return COMPILER


def test_the_folder_holds_every_unit_and_nothing_else(folder: Path) -> None:
    wanted = {compiler().prebuilt_name(*item) for item in prebuilt.units(compiler())}
    assert {path.name for path in folder.iterdir()} == wanted
    assert len(wanted) == 2 + len(prebuilt._OBJECTS) * len(isas_of(platform.machine()))
    assert all(path.stat().st_size > 1000 for path in folder.iterdir())


def test_every_machine_is_served() -> None:
    assert [isa.name for isa in isas_of("x86_64")] == ["avx512", "avx2", "x86-64"]
    assert [isa.name for isa in isas_of("AMD64")] == ["avx512", "avx2", "x86-64"]
    assert [isa.name for isa in isas_of("aarch64")] == ["native-generic"]
    assert compile_flags(accepts=compiler().accepts) == flags_for(
        host_isa(), accepts=compiler().accepts
    )


def test_a_first_program_compiles_its_kernels_alone(compiled: list[str]) -> None:
    x = np.arange(90000, dtype=np.float32).reshape(300, 300) / 90000
    with fd.config.override(num_threads=2):
        out = fd.jit(lambda x: fnp.tanh(x @ x))(fnp.asarray(x))
    np.testing.assert_allclose(out, np.tanh(x @ x), rtol=1e-5)
    compiler().build_unit(call_table.unit())
    assert compiled
    assert not [name for name in compiled if name.startswith(("gemm", "call", "thread"))]


def test_what_does_not_fit_is_compiled(
    compiled: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other flags, a changed source, another compiler, other headers."""
    flags = compile_flags(accepts=compiler().accepts)
    unit = object_unit("dots", "f32", flags)
    compiled.clear()  # of the question about flags
    assert compiler().build_unit(unit, ".o").parent == folder
    assert not compiled
    headers = tmp_path / "include"
    headers.mkdir()
    for path in unit.include_dirs[0].iterdir():
        (headers / path.name).write_bytes(path.read_bytes() + b"\n")
    other = Compiler((*compiler().command, "-g1"), compiler().version)
    for maker, changed in [
        (compiler(), replace(unit, flags=(*flags, "-g1"))),
        (compiler(), replace(unit, source=unit.source + "\n")),
        (compiler(), replace(unit, include_dirs=(headers,))),
        (other, unit),
    ]:
        compiled.clear()
        assert maker.build_unit(changed, ".o").parent != folder
        assert compiled == ["dots_f32.c"]


def test_another_version_of_the_compiler_takes_it(compiled: list[str], folder: Path) -> None:
    newer = Compiler(compiler().command, "gcc 99.1")
    path = newer.build_unit(call_table.unit())
    assert path.parent == folder
    assert not compiled


def test_what_cannot_be_loaded_is_compiled(
    compiled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As libraries that want a newer C library than this machine has."""
    monkeypatch.setattr(toolchain, "PREBUILT", tmp_path)
    for unit in (call_table.unit(), thread_pool.unit()):
        (tmp_path / compiler().prebuilt_name(unit, ".so")).write_bytes(b"of another machine")
    runner, pool = call_table.runner.__wrapped__, thread_pool.thread_pool.__wrapped__
    assert callable(runner(compiler()))
    assert pool() is not None
    assert compiled == ["call_table.c", "thread_pool.c"]
    for path in tmp_path.glob("*.so"):
        path.unlink()
    tried: list[Path] = []

    def refuse(path: Path) -> None:
        tried.append(path)
        raise OSError("not on this machine")

    with pytest.raises(OSError, match="not on this machine"):
        compiler().load(call_table.unit(), refuse)
    assert len(tried) == 1


def test_without_a_compiler_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prebuilt, "find_compiler", lambda: None)
    with pytest.raises(toolchain.CompilerError, match="no C compiler found"):
        prebuilt.build(tmp_path / "prebuilt")
    assert not (tmp_path / "prebuilt").exists()
