"""Programs with one mistake each, read from mistakes.txt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_suffix(".txt")

HEADER = """\
import numpy as np
import funcdl as fd
import funcdl.numpy as fnp
x = fnp.asarray(np.array([1, 2, 3], np.float32))
m = fnp.zeros((2, 3))
"""


@dataclass(frozen=True)
class Mistake:
    """A program, of which the marked line is at fault, and the error that ends it."""

    name: str
    code: str
    error: str
    message: str

    @property
    def program(self) -> str:
        return HEADER + self.code + "\n"

    @property
    def line(self) -> int:
        """The number of the marked line."""
        lines = self.program.splitlines()
        (line,) = [number for number, text in enumerate(lines, 1) if "# <--" in text]
        return line

    @property
    def slug(self) -> str:
        return "".join(c if c.isalnum() else "_" for c in self.name)


def read() -> list[Mistake]:
    """All mistakes of the file."""
    found = []
    for block in FILE.read_text().split("\n=== ")[1:]:
        program, _, ending = block.partition("\n--- ")
        name, _, code = program.partition("\n")
        error, _, message = ending.partition("\n")
        found.append(Mistake(name, code, error, message.rstrip("\n")))
    return found


def write(mistakes: list[Mistake]) -> None:
    """Write the file anew, with these mistakes below its introduction."""
    parts = [FILE.read_text().split("\n=== ")[0]]
    parts += [f"=== {m.name}\n{m.code}\n--- {m.error}\n{m.message}\n" for m in mistakes]
    FILE.write_text("\n".join(parts))
