from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "autodiff.py"


def test_shows_programs_and_numbers_worked_out_by_hand() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    parts = re.split(r"^## (.*)\n", result.stdout, flags=re.MULTILINE)[1:]
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    numbers = {
        title: [float(x) for x in re.findall(r"(?<![\w.])-?\d+\.\d+", text)]
        for title, text in sections.items()
    }

    def close(found: list[float], wanted: list[float]) -> bool:
        return len(found) == len(wanted) and all(
            math.isclose(a, b, rel_tol=1e-6) for a, b in zip(found, wanted, strict=True)
        )

    value = math.log(2) + 10 - math.sin(5)
    gradient = [1 / 2 + 5, 2 - math.cos(5)]
    assert close(numbers["Eager: the value and the gradient"], [value, *gradient])
    for title in ("Along x1, then along x2", "Backwards", "Compiled: the gradient", "By hand"):
        assert close(numbers[title], gradient), title
    names = re.findall(r"= (\w+) ", sections["Traced: the program"])
    assert names == ["log", "mul", "add", "sin", "sub"]
    linear = re.findall(r"= (\w+) ", sections["The linear program at (2, 5)"])
    assert not {"log", "sin", "cos"} & set(linear)
