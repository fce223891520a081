from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.py"

pytest.importorskip("matplotlib")
pytest.importorskip("rich")
pytest.importorskip("sklearn")


def run(
    *arguments: str, cwd: Path, backend: str = "auto", code: str | None = None
) -> subprocess.CompletedProcess[str]:
    script = [str(EXAMPLE)] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *script, *arguments],
        cwd=cwd,
        env=os.environ | {"FUNCDL_BACKEND": backend, "PYTHONUTF8": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def read_accuracies(output: str) -> dict[str, float]:
    rows = re.findall(r"│ ([\w ]+?) +│[^│]+│ +(\d+\.\d+)% +│ +[\d.]+ s +│", output)
    return {name: float(percent) / 100 for name, percent in rows}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_learns_to_read_digits(tmp_path: Path, backend: str) -> None:
    result = run(cwd=tmp_path, backend=backend)
    assert result.returncode == 0, result.stderr
    found = read_accuracies(result.stdout)
    assert found["softmax regression"] >= 0.93
    assert found["MLP"] >= 0.97
    assert (tmp_path / "digits_loss.png").read_bytes().startswith(b"\x89PNG")


def test_one_epoch_and_the_code_of_its_step(tmp_path: Path) -> None:
    result = run("--epochs=1", "--show-code", "--out=curve.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = read_accuracies(result.stdout)
    assert set(found) == {"softmax regression", "MLP"}
    assert found["MLP"] > 0.7
    assert "group 0" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


@pytest.mark.parametrize("package", ["matplotlib", "rich", "sklearn"])
def test_missing_package_is_named_with_the_remedy(tmp_path: Path, package: str) -> None:
    code = f"""
import runpy, sys
sys.modules[{package!r}] = None
runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
"""
    result = run(cwd=tmp_path, code=code)
    assert result.returncode == 1
    assert f"needs the package {package}" in result.stderr
    assert "pip install -e '.[examples]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--epochs=0", "--epochs: must be at least 1, got 0"),
        ("--out=missing/curve.png", "--out: there is no folder missing"),
    ],
)
def test_bad_option(tmp_path: Path, option: str, message: str) -> None:
    result = run(option, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
