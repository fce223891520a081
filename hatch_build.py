"""Builds the C extension `funcdl.core._native` at installation.

It is optional: where there is no C compiler, or no header of Python or NumPy, the installation goes
on without it and Python code serves instead. For a checkout that is used without being installed,
``python hatch_build.py`` builds it in place.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # not run by hatchling
    BuildHookInterface = object

ROOT = Path(__file__).parent
PACKAGE = Path("src", "funcdl", "core")
FLAGS = ["-O2", "-std=c11", "-D_GNU_SOURCE", "-fPIC", "-shared", "-fvisibility=hidden"]
# Slots of types that are left out are zero, which is what is meant.
FLAGS += ["-Wall", "-Wextra", "-Wno-missing-field-initializers"]


class BuildError(Exception):
    """The extension cannot be built here; the message says why."""


def compiler() -> list[str]:
    """The command of the C compiler: $CC, or the first that is installed.

    Raises:
      BuildError: there is none.
    """
    candidates = [shlex.split(os.environ["CC"])] if os.environ.get("CC") else []
    candidates += [] if candidates else [["gcc"], ["clang"], ["cc"]]
    for command in candidates:
        if shutil.which(command[0]):
            return command
    raise BuildError(f"no C compiler found (tried: {', '.join(c[0] for c in candidates)})")


def build(folder: Path) -> tuple[Path, str]:
    """Build the extension for the running Python.

    Args:
      folder: where to put it.

    Returns:
      Its path, and what the compiler had to say.

    Raises:
      BuildError: there is no compiler, or it failed, for want of headers for example.
    """
    try:
        import numpy
    except ImportError:
        raise BuildError("NumPy, whose headers are needed, is not installed") from None
    target = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = sorted(map(str, (ROOT / PACKAGE / "native").glob("*.c")))
    headers = [sysconfig.get_paths()["include"], numpy.get_include()]
    includes = [word for header in headers for word in ("-isystem", header)]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch, target.name)
        command = [*compiler(), *FLAGS, *includes, *sources, "-o", str(made)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise BuildError(f"{shlex.join(command)}\n{result.stderr}")
        made.replace(target)  # at once: a process may have the old one loaded
    return target, result.stderr


class NativeBuildHook(BuildHookInterface):
    """Puts the extension into wheels, or beside its sources for an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it writes a wheel."""
        in_place = version == "editable"
        self.scratch = tempfile.TemporaryDirectory()
        try:
            path, _ = build(ROOT / PACKAGE if in_place else Path(self.scratch.name))
        except BuildError as error:
            self.app.display_warning(f"funcdl is installed without its C extension: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if not in_place:
            build_data["force_include"][str(path)] = f"funcdl/core/{path.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called by hatchling after it wrote a wheel."""
        self.scratch.cleanup()


if __name__ == "__main__":
    try:
        path, messages = build(ROOT / PACKAGE)
    except BuildError as error:
        sys.exit(f"not built: {error}")
    print(messages, path, sep="", end="\n")
