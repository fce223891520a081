from __future__ import annotations

import pytest
from tests.examples.script import number, numbers, output


@pytest.mark.parametrize(
    ("processes", "steps", "wanted"),
    [(2, 60, 0.85), pytest.param(3, 300, 0.92, marks=pytest.mark.slow)],
)
def test_several_processes_train_as_one(processes: int, steps: int, wanted: float) -> None:
    pytest.importorskip("sklearn")
    text = output("data_parallel.py", "--processes", processes, "--steps", steps)
    alone, *together = numbers(r"(\S+%) of 360 right", text)
    assert alone > wanted
    assert together == pytest.approx([alone] * 2, abs=0.02)
    assert max(numbers(r"differ by (\S+) from", text)) < 1e-4
    assert text.count("the same bits in all processes: True") == 2
    order = text.split("products and calls: ")[1].split("\n")[0].split()
    assert order.index("send") < len(order) - 1 - order[::-1].index(".")
    assert order[-1] == "wait" and "." not in order[order.index("wait") :]
    assert number(r"buckets:\n.*\n.*\n.*\n  median step: (\S+) ms", text) > 0
