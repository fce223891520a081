"""Run the GPU tests of hand-written kernels under NVIDIA's compute-sanitizer.

``python -m tests.gpu.sanitize [tool ...] [-k expression]`` with the tools memcheck, racecheck,
initcheck and synccheck; all of them by default. Ends with an error where a tool finds something.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
PLACES = ("/usr/local/cuda/bin/compute-sanitizer", "/opt/cuda/bin/compute-sanitizer")
FOUND = 86
"""The status that the tool is told to end with where it has found something."""


def find_sanitizer() -> str | None:
    """The tool, on the path or where CUDA is usually installed."""
    found = shutil.which("compute-sanitizer")
    return found or next((place for place in PLACES if os.access(place, os.X_OK)), None)


def command(sanitizer: str, tool: str, expression: str) -> list[str]:
    """What runs the tests marked `compute_sanitizer` under a tool.

    Memory comes from the driver's pool in stream order, of which memcheck knows each allocation.
    """
    options = [f"--tool={tool}", f"--error-exitcode={FOUND}", "--target-processes=all"]
    options += ["--track-stream-ordered-races=all"] if tool == "memcheck" else []
    options += ["--leak-check=no"] if tool == "memcheck" else []
    tests = ["-m", "pytest", "-p", "no:xdist", "-q", "-m", "gpu and compute_sanitizer", "tests/gpu"]
    return [
        sanitizer,
        *options,
        sys.executable,
        *tests,
        *(["-k", expression] if expression else []),
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the tools one after the other; the status of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools", nargs="*", metavar="tool")
    parser.add_argument("-k", default="", dest="expression")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.tools) - set(TOOLS))
    if unknown:
        parser.error(f"there is no tool {unknown[0]}; choose from {', '.join(TOOLS)}")
    sanitizer = find_sanitizer()
    if sanitizer is None:
        print("compute-sanitizer was not found; it comes with NVIDIA's CUDA toolkit")
        return 2
    failed = []
    for tool in options.tools or TOOLS:
        done = subprocess.run(command(sanitizer, tool, options.expression), cwd=ROOT)
        print(f"{tool}: {'clean' if done.returncode == 0 else f'status {done.returncode}'}")
        failed += [tool] if done.returncode else []
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
