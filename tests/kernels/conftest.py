"""What tests of compiled code share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from funcdl.config import config
from funcdl.runtime import toolchain


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The sources that the compiler meets, by name, with an empty cache and nothing prebuilt."""
    sources: list[str] = []
    capture = toolchain._capture

    def counted(command: Sequence[str], folder: Path | None) -> Any:
        sources.extend(word for word in command if word.endswith(".c"))
        return capture(command, folder)

    monkeypatch.setattr(toolchain, "_capture", counted)
    monkeypatch.setattr(toolchain, "PREBUILT", tmp_path / "prebuilt")
    with config.override(cache_dir=str(tmp_path / "cache"), backend="cpu"):
        yield sources
