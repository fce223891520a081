"""The extension is built where it can be, and is not missed where it cannot."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.dispatch.conftest import ROOT, load

from funcdl.config import config
from funcdl.kernels.cpu_c import prebuilt
from funcdl.runtime.toolchain import find_compiler

CALLS = """
import funcdl as fd, funcdl.numpy as fnp
from funcdl.core.dispatch import dispatch
from funcdl.runtime import cpu_memory
jitted = fd.jit(lambda x: {"a": x + 1, "b": [x.sum()]}, donate_argnums=0)
for n in range(3):
    out = jitted(fnp.ones(2000))
    assert out["a"][1999] == 2 and out["b"][0] == 2000
served = 0 if jitted._table is None else jitted._table.hits
print(dispatch.native is not None, served, type(cpu_memory.pool).__module__)
"""
TWIN = "False 0 funcdl.runtime.cpu_memory"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of a package that was installed without the extension."""
    copy = tmp_path / "funcdl"
    ignored = shutil.ignore_patterns("_native.*.so", "__pycache__")
    shutil.copytree(ROOT / "src" / "funcdl", copy, ignore=ignored)
    return copy


def run(package: Path, **environment: str) -> str:
    variables = {**os.environ, "PYTHONPATH": str(package.parent), **environment}
    result = subprocess.run(
        [sys.executable, "-c", CALLS], capture_output=True, text=True, env=variables
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_with_the_extension(package: Path, built: tuple[Path, str]) -> None:
    shutil.copy(built[0], package / "core")
    assert run(package) == "True 2 funcdl.core._native"
    assert run(package, FUNCDL_DISPATCH="python") == "True 0 funcdl.runtime.cpu_memory"


def test_without_the_extension(package: Path) -> None:
    assert run(package) == TWIN


def test_an_unusable_extension_is_left_alone(package: Path, built: tuple[Path, str]) -> None:
    (package / "core" / built[0].name).write_bytes(b"not a library")
    assert run(package) == TWIN


def test_an_extension_of_older_sources_is_left_alone(
    package: Path, built: tuple[Path, str]
) -> None:
    shutil.copy(built[0], package / "core")
    path = package / "core" / "dispatch.py"
    text = path.read_text()
    assert "\nINTERFACE = " in text
    path.write_text(text.replace("\nINTERFACE = ", "\nINTERFACE = 1000 + "))
    assert run(package) == TWIN


def test_the_compiler_has_nothing_to_say(built: tuple[Path, str]) -> None:
    assert built[1] == ""


@pytest.fixture
def builder() -> Any:
    return load("hatch_build", ROOT / "hatch_build.py")


MESSAGES: list[str] = []


class App:
    def display_warning(self, message: str) -> None:
        MESSAGES.append(message)


@pytest.mark.parametrize("version", ["standard", "editable"])
@pytest.mark.parametrize(
    ("command", "reasons"),
    [
        ("/no/such/gcc", ["no C compiler found", "no C compiler found"]),
        ("false", ["false -O2", "config.cc (FUNCDL_CC) is 'false', which is no working C"]),
    ],
)
def test_installation_goes_on_without_a_compiler(
    builder: Any, monkeypatch: pytest.MonkeyPatch, version: str, command: str, reasons: list[str]
) -> None:
    monkeypatch.setenv("CC", command)
    hook = type("Hook", (builder.NativeBuildHook,), {"app": App(), "__init__": lambda self: None})()
    data: dict[str, Any] = {"force_include": {}}
    MESSAGES.clear()
    hook.initialize(version, data)
    hook.finalize(version, data, "")
    assert data == {"force_include": {}}
    extension, prebuilt = MESSAGES
    assert "without its C extension" in extension and reasons[0] in extension
    assert "left to be compiled by programs" in prebuilt and reasons[1] in prebuilt
    assert "Traceback" not in extension + prebuilt


def test_installation_goes_on_without_headers(
    builder: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(builder.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(builder.BuildError, match=r"Python\.h"):
        builder.build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_wheels_hold_the_extension_and_what_is_prebuilt(
    builder: Any, built: tuple[Path, str]
) -> None:
    hook = type("Hook", (builder.NativeBuildHook,), {"app": App(), "__init__": lambda self: None})()
    data: dict[str, Any] = {"force_include": {}}
    MESSAGES.clear()
    hook.initialize("standard", data)
    assert not MESSAGES
    (path, place), (folder, inside) = data["force_include"].items()
    assert place == f"funcdl/core/{built[0].name}"
    assert Path(path).stat().st_size > 10_000
    assert inside == "funcdl/runtime/prebuilt"
    assert {each.name for each in Path(folder).iterdir()} == prebuilt_names(builder)
    assert (data["pure_python"], data["infer_tag"]) == (False, True)
    hook.finalize("standard", data, "")
    assert not Path(path).exists()


def prebuilt_names(builder: Any) -> set[str]:
    with config.override(cc=shlex.join(builder.compiler())):  # which FUNCDL_CC may not be
        compiler = find_compiler()
    assert compiler is not None
    return {compiler.prebuilt_name(*item) for item in prebuilt.units(compiler)}
