"""The compiled extension, built from the sources of this checkout, serves in every test here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import funcdl as fd
from funcdl.core.dispatch import dispatch
from funcdl.runtime.toolchain import find_compiler

ROOT = Path(__file__).parent.parent.parent


def load(name: str, path: Path) -> Any:
    """Import a file under a name of its own, Python or extension."""
    loader = ExtensionFileLoader(name, str(path)) if path.suffix == ".so" else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The extension's path, and the compiler's warnings."""
    builder = load("hatch_build", ROOT / "hatch_build.py")
    try:
        return builder.build(tmp_path_factory.mktemp("native"))  # type: ignore[no-any-return]
    except builder.BuildError as error:
        pytest.skip(f"the extension cannot be built here: {error}")


@pytest.fixture(scope="session")
def native(built: tuple[Path, str]) -> ModuleType:
    if find_compiler() is None:
        pytest.skip("no C compiler for jitted functions")
    return load("funcdl.core._native", built[0])  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def serving(native: ModuleType) -> Iterator[None]:
    """Functions that a test jits are served by the extension."""
    before = dispatch.native
    dispatch.use(native)
    with fd.config.override(dispatch="auto", backend="cpu"):
        yield
    dispatch.use(before)
