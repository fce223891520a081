from __future__ import annotations

from pathlib import Path

import pytest
from tests.examples.script import number, output

pytest.importorskip("sklearn")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("steps", "wanted"), [(60, 0.85), pytest.param(300, 0.97, marks=pytest.mark.slow)]
)
def test_another_runtime_answers_alike(steps: int, wanted: float, tmp_path: Path) -> None:
    text = output("onnx_export.py", "--steps", steps, "--path", tmp_path / "digits.onnx")
    assert number(r"onnxruntime: (\S+) of 360", text) > wanted
    assert "the same answers as funcdl: 360" in text
    assert number(r"difference of probabilities: (\S+)", text) < 1e-5
    assert "2 Conv," in text
    assert (tmp_path / "digits.onnx").exists()
