"""launch: what processes return, and what is said of those that fail."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from typing import Any

import pytest
from tests.distributed import training
from tests.distributed.threads import PATIENCE, free_address

from funcdl import distributed
from funcdl.errors import ArgumentError, DistributedError, DistributedTimeoutError


def test_results_come_in_the_order_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUNCDL_NUM_THREADS", raising=False)
    found = distributed.launch(training.environment, 2, (7, "word"), limit=3 * PATIENCE)
    threads = max((os.cpu_count() or 1) // 2, 1)
    assert [x[:5] for x in found] == [(r, 2, 7, "word", threads) for r in range(2)]
    assert len({os.getpid(), *(x[5] for x in found)}) == 3
    assert not distributed.is_initialized()


def test_a_process_that_is_killed() -> None:
    with pytest.raises(DistributedError, match=r"^launch: process 1 failed: .*killed by signal 9"):
        distributed.launch(training.die, 3, (1,), timeout=PATIENCE, limit=3 * PATIENCE)


def test_an_error_comes_with_its_traceback() -> None:
    with pytest.raises(DistributedError) as failed:
        distributed.launch(training.raise_in, 2, (0,), timeout=PATIENCE, limit=3 * PATIENCE)
    text = str(failed.value)
    assert text.startswith("launch: process 0 failed: ValueError: no such file\nTraceback")
    assert "training.py" in text


def test_a_limit_ends_processes_that_hang() -> None:
    with pytest.raises(DistributedTimeoutError, match=r"no answer within 3 s of processes 0, 1"):
        distributed.launch(training.never, 2, timeout=PATIENCE, limit=3)


def test_nothing_is_left_where_a_process_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    context: Any = multiprocessing.get_context("spawn")
    pipe, start = context.Pipe, context.Process.start
    ends: list[Any] = []

    def recorded(**options: Any) -> Any:
        ends.extend(pipe(**options))
        return ends[-2:]

    def fails_later(process: Any) -> None:
        if len(ends) > 2:
            raise OSError("no more processes")
        start(process)

    monkeypatch.setattr(type(context), "Pipe", staticmethod(recorded))
    monkeypatch.setattr(context.Process, "start", fails_later)
    with pytest.raises(OSError, match="no more processes"):
        distributed.launch(training.never, 3, timeout=PATIENCE, limit=3 * PATIENCE)
    assert len(ends) == 4 and all(end.closed for end in ends)
    assert not multiprocessing.active_children()


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


SCRIPT = """
import sys
import funcdl.numpy as fnp
from funcdl import distributed

distributed.initialize(sys.argv[1], 2, int(sys.argv[2]), timeout=float(sys.argv[3]))
print(distributed.all_reduce(fnp.ones(2)), flush=True)
if sys.argv[2] == "1":
    raise ValueError("no such file")
distributed.barrier()
"""


def test_scripts_that_find_each_other_and_one_that_fails() -> None:
    host, port = free_address()
    command = [sys.executable, "-c", SCRIPT, f"{host}:{port}"]
    members: list[subprocess.Popen[str]] = []
    try:
        for rank in range(2):
            arguments = [*command, str(rank), str(PATIENCE)]
            members.append(subprocess.Popen(arguments, stdout=-1, stderr=-1, encoding="utf-8"))
        found = [member.communicate(timeout=3 * PATIENCE) for member in members]
    finally:
        for member in members:
            member.kill()  # nothing, where it has ended
            member.communicate()
    assert [out for out, _ in found] == ["[2. 2.]\n"] * 2
    assert "PeerError: barrier: process 1 failed: ValueError: no such file" in found[0][1]
    assert [member.returncode for member in members] == [1, 1]
