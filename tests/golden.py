"""Texts that are kept in files, to show what a change does to them."""

from __future__ import annotations

import os
from pathlib import Path

UPDATE = os.environ.get("FUNCDL_UPDATE_GOLDEN") == "1"
"""Whether files are written anew; read their difference before committing it."""


def assert_golden(path: Path, text: str) -> None:
    """Compare with a file, or write it."""
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
