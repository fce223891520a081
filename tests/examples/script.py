"""Running an example as a user does, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def output(name: str, *arguments: object) -> str:
    """What the example prints; it must end well."""
    result = subprocess.run(
        [sys.executable, "-X", "utf8", str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=1800,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def numbers(pattern: str, text: str) -> list[float]:
    """All numbers that the pattern's only group finds, percentages as shares of 1."""
    found = re.findall(pattern, text)
    assert found, f"{pattern!r} is not in\n{text}"
    return [float(x.rstrip("%")) / (100 if x.endswith("%") else 1) for x in found]


def number(pattern: str, text: str) -> float:
    """The only number that the pattern's only group finds."""
    (found,) = numbers(pattern, text)
    return found
