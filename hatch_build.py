"""Compiles at installation: the C extension `funcdl.core._native`, and parts of the C back end.

Both are optional. Where there is no C compiler, or no header of Python or NumPy, the installation
goes on without the extension and Python code serves instead; and what of the back end is not there
is compiled when it is first wanted. For a checkout that is used without being installed,
``python hatch_build.py`` builds both in place.
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
PREBUILT = Path("src", "funcdl", "runtime", "prebuilt")
FLAGS = ["-O2", "-std=c11", "-D_GNU_SOURCE", "-fPIC", "-shared", "-fvisibility=hidden"]
# Slots of types that are left out are zero, which is what is meant.
FLAGS += ["-Wall", "-Wextra", "-Wno-missing-field-initializers"]

# `funcdl` as a package without its __init__, which needs more than a build has installed.
PREBUILD = """
import sys, types
from pathlib import Path
package = sys.modules["funcdl"] = types.ModuleType("funcdl")
package.__path__ = [sys.argv[1]]
from funcdl.kernels.cpu_c import prebuilt
from funcdl.runtime.toolchain import CompilerError
try:
    prebuilt.build(Path(sys.argv[2]))
except CompilerError as error:
    sys.exit(str(error))
"""


class BuildError(Exception):
    """Something cannot be built here; the message says why."""


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


def prebuild(folder: Path) -> None:
    """Compile what programs of the C back end have in common (kernels/cpu_c/prebuilt.py).

    Args:
      folder: where to put it; it is made.

    Raises:
      BuildError: there is no compiler, or it failed.
    """
    command = [sys.executable, "-c", PREBUILD, str(ROOT / "src" / "funcdl"), str(folder)]
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"FUNCDL_CC": shlex.join(compiler()), "FUNCDL_CACHE_DIR": scratch}
        environment = {**os.environ, **settings}
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        raise BuildError(result.stderr)


class NativeBuildHook(BuildHookInterface):
    """Puts what is built into wheels, or beside its sources for an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it writes a wheel."""
        self.scratch = tempfile.TemporaryDirectory()
        if version == "editable":
            extension, folder = ROOT / PACKAGE, ROOT / PREBUILT
        else:
            extension, folder = Path(self.scratch.name), Path(self.scratch.name, "prebuilt")
        included: dict[str, str] = {}
        try:
            path, _ = build(extension)
            included[str(path)] = f"funcdl/core/{path.name}"
        except BuildError as error:
            self.app.display_warning(f"funcdl is installed without its C extension: {error}")
        try:
            prebuild(folder)
            included[str(folder)] = "funcdl/runtime/prebuilt"
        except BuildError as error:
            self.app.display_warning(
                f"parts of funcdl's C back end are left to be compiled by programs: {error}"
            )
        if included:
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
        if version != "editable":
            build_data["force_include"].update(included)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called by hatchling after it wrote a wheel."""
        self.scratch.cleanup()


if __name__ == "__main__":
    failures = []
    try:
        path, messages = build(ROOT / PACKAGE)
        print(messages, path, sep="", end="\n")
    except BuildError as error:
        failures.append(f"not built: {error}")
    try:
        prebuild(ROOT / PREBUILT)
    except BuildError as error:
        failures.append(f"not compiled ahead: {error}")
    if failures:
        sys.exit("\n".join(failures))
