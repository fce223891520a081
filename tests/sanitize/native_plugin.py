"""Loads the C extension built under a sanitizer, in place of the installed one.

A plugin of its own, since nothing may import funcdl before.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import hatch_build

NAME = "funcdl.core._native"


def sanitized_extension() -> ModuleType:
    """The extension, built by the compiler that `$CC` names."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(hatch_build.build(Path(folder))[0])
        spec = spec_from_file_location(NAME, path, loader=ExtensionFileLoader(NAME, path))
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


assert "funcdl" not in sys.modules
sys.modules[NAME] = sanitized_extension()
