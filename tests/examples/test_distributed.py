from __future__ import annotations

import re

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


@pytest.mark.parametrize(
    ("stages", "steps", "wanted"),
    [(2, 20, 0.0), pytest.param(3, 400, 0.98, marks=pytest.mark.slow)],
)
def test_stages_train_as_one_model(stages: int, steps: int, wanted: float) -> None:
    text = output("pipeline.py", "--stages", stages, "--steps", steps)
    first, alone = numbers(r"(\d\.\d{4}) in (?:stages|one process)", text.split("last tenth")[0])
    assert first == pytest.approx(alone, rel=1e-4)
    assert number(r"first tenth: (\S+)", text) < 1e-4
    rows = re.findall(r"^ +\d+ +(\d+) +(\S+) +(\d+)$", text, re.MULTILINE)
    assert len(rows) == stages and sum(int(row[0]) for row in rows) == 20
    costs = [float(row[1]) for row in rows]
    assert max(costs) < 1.3 * sum(costs) / stages
    assert number(r"sequences: (\S+)", text) >= wanted


@pytest.mark.parametrize(
    ("workers", "steps", "wanted"),
    [(2, 30, 0.7), pytest.param(3, 200, 0.88, marks=pytest.mark.slow)],
)
def test_a_server_is_one_process_or_stays_in_bounds(
    workers: int, steps: int, wanted: float
) -> None:
    pytest.importorskip("sklearn")
    text = output("parameter_server.py", "--workers", workers, "--steps", steps)
    alone, rounds, stale = numbers(r"(\S+%) of 360 right", text)
    assert alone > wanted and rounds == alone and stale > wanted - 0.05
    assert number(r"one process's parameters: (\S+)", text) < 1e-5
    assert numbers(r"(\d+) updates, of", text) == [steps, workers * steps]
    fresh, old = numbers(r"at most (\d+) updates old", text)
    assert fresh == 0 and old <= (2 * 3 + 1) * (workers - 1)
