"""The text of every stage of two small programs, and the files of `config.dump`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.golden import assert_golden

import funcdl.numpy as fnp
from funcdl import jit, make_jaxpr
from funcdl.compiler.cpu.schedule import schedule_cpu
from funcdl.compiler.pipeline import Pipeline
from funcdl.config import config
from funcdl.errors import ArgumentError
from funcdl.kernels.cpu_c.render import render_program

GOLDEN = Path(__file__).parent / "golden"
STAGES = ("simplified", "groups", "kernels", "schedule", "memory", "c")


def softmax(x: Any) -> Any:
    e = fnp.exp(x - fnp.max(x, axis=-1, keepdims=True))
    return e / fnp.sum(e, axis=-1, keepdims=True)


def step(w: Any, b: Any, x: Any, y: Any) -> Any:
    """One step of linear regression, by hand."""
    error = x @ w + b - y
    return w - 0.1 * (x.T @ error), b - 0.1 * fnp.sum(error, axis=0), fnp.mean(error * error)


def array(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


PROGRAMS: dict[str, tuple[Any, tuple[Any, ...], tuple[bool, ...]]] = {
    "softmax": (softmax, (array(4, 10),), (False,)),
    "step": (
        step,
        (array(8, 3), array(3), array(16, 8), array(16, 3)),
        (True, True, False, False),
    ),
}


def pipeline(name: str) -> Pipeline:
    f, args, donated = PROGRAMS[name]
    closed = make_jaxpr(f)(*args)
    renderer = ("c", render_program)
    return Pipeline(closed, name=name, donated=donated, scheduler=schedule_cpu, renderer=renderer)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_golden(name: str, stage: str) -> None:
    assert_golden(GOLDEN / f"{name}.{stage}.txt", pipeline(name).as_text(stage))


def test_no_golden_file_is_left_over() -> None:
    wanted = {f"{name}.{stage}.txt" for name in PROGRAMS for stage in STAGES}
    assert {path.name for path in GOLDEN.iterdir()} == wanted


def test_texts_do_not_depend_on_the_order_of_requests() -> None:
    forwards, backwards = pipeline("step"), pipeline("step")
    first = {stage: forwards.as_text(stage) for stage in STAGES}
    second = {stage: backwards.as_text(stage) for stage in reversed(STAGES)}
    assert first == second


def test_an_unknown_stage_is_an_error_that_lists_the_stages() -> None:
    with pytest.raises(ArgumentError, match=r"no stage 'fused'.*'groups'.*'c'"):
        pipeline("softmax").as_text("fused")


def test_dump(tmp_path: Path) -> None:
    with config.override(dump=str(tmp_path), backend="cpu"):
        jit(softmax)(array(2, 7))
        jit(softmax)(array(2, 8))
    names = sorted(path.name for path in tmp_path.iterdir())
    stages = ["jaxpr", "simplified", "groups", "kernels", "schedule", "memory", "c"]
    assert len(names) == 2 * len(stages)
    for at, name in enumerate(names):
        number, stage = divmod(at, len(stages))
        match = re.fullmatch(r"(\d+)_softmax\.(\d+)_(\w+)\.txt", name)
        assert match is not None, name
        assert (int(match[2]), match[3]) == (stage, stages[stage])
        assert int(match[1]) - int(names[0].split("_")[0]) == number
        head = (tmp_path / name).read_text().splitlines()[0]
        assert re.fullmatch(rf"pass {stages[stage]}  \d+\.\d+ ms", head)
    assert "exp" in (tmp_path / names[1]).read_text()
    assert "group 0 loops" in (tmp_path / names[2]).read_text()


def test_nothing_is_dumped_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline("step").as_text("c")
    assert list(tmp_path.iterdir()) == []
