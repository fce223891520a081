"""launch: what processes return, and what is said of those that fail."""

from __future__ import annotations

import os

import pytest
from tests.distributed import training

from funcdl import distributed
from funcdl.errors import ArgumentError, DistributedError, DistributedTimeoutError


def test_results_come_in_the_order_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUNCDL_NUM_THREADS", raising=False)
    found = distributed.launch(training.environment, 2, (7, "word"), limit=120)
    threads = max((os.cpu_count() or 1) // 2, 1)
    assert [x[:5] for x in found] == [(r, 2, 7, "word", threads) for r in range(2)]
    assert len({os.getpid(), *(x[5] for x in found)}) == 3
    assert not distributed.is_initialized()


def test_a_process_that_is_killed() -> None:
    with pytest.raises(DistributedError, match=r"^launch: process 1 failed: .*killed by signal 9"):
        distributed.launch(training.die, 3, (1,), timeout=60, limit=120)


def test_an_error_comes_with_its_traceback() -> None:
    with pytest.raises(DistributedError) as failed:
        distributed.launch(training.raise_in, 2, (0,), timeout=60, limit=120)
    text = str(failed.value)
    assert text.startswith("launch: process 0 failed: ValueError: no such file\nTraceback")
    assert "training.py" in text


def test_a_limit_ends_processes_that_hang() -> None:
    with pytest.raises(DistributedTimeoutError, match=r"no answer within 3 s of processes 0, 1"):
        distributed.launch(training.never, 2, timeout=60, limit=3)


@pytest.mark.parametrize(
    ("processes", "options", "message"),
    [
        (0, {}, "processes must be at least 1, got 0"),
        ("2", {}, "processes must be an integer"),
        (2, {"timeout": 0}, "timeout must be a positive number of seconds"),
        (2, {"limit": -1}, "limit must be a positive number of seconds"),
    ],
)
def test_arguments_that_are_none(
    processes: object, options: dict[str, float], message: str
) -> None:
    with pytest.raises(ArgumentError, match=f"launch: {message}"):
        distributed.launch(training.never, processes, **options)  # type: ignore[arg-type]


def test_functions_that_cannot_be_imported() -> None:
    with pytest.raises(ArgumentError, match="launch requires a function at the top level"):
        distributed.launch(lambda: None, 2)
