from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from tests.examples.script import number, numbers, output

pytest.importorskip("sklearn")


@pytest.mark.skipif(
    not shutil.which("make") or not shutil.which("gcc"), reason="the library cannot be built"
)
@pytest.mark.parametrize(
    ("steps", "wanted"), [(150, 0.9), pytest.param(1500, 0.975, marks=pytest.mark.slow)]
)
def test_whole_numbers_answer_alike_and_so_does_the_library(
    steps: int, wanted: float, tmp_path: Path
) -> None:
    text = output("deployment.py", "--steps", steps, "--folder", tmp_path / "library")
    exact, rounded = numbers(r"(\S+) right", text)
    assert exact > wanted
    assert rounded == pytest.approx(exact, abs=0.01)
    assert number(r"the same answer: (\S+)", text) > 0.98
    large, small = (int(x.replace(",", "")) for x in re.findall(r"([\d,]+) bytes", text))
    assert small < 0.3 * large
    assert "answers as Python: 360 of 360" in text
    assert (tmp_path / "library" / "libread_digits.so").exists()
    # Products of whole numbers, with the rounding of what follows inside.
    source = (tmp_path / "library" / "read_digits.c").read_text()
    assert "fd_gemm_i32(" in source
    assert len(re.findall(r"^FD_APART$", source, re.MULTILINE)) == 4
