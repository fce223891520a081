"""Starting processes on this machine: `launch`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import secrets
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from funcdl.config import config
from funcdl.core.integers import integer
from funcdl.distributed import initialization
from funcdl.distributed.rendezvous import listen
from funcdl.errors import ArgumentError, DistributedError, DistributedTimeoutError, PeerError

_HOST = "127.0.0.1"
_GRACE = 5.0  # seconds that processes have to end by themselves once one has failed


def launch(
    fun: Callable[..., Any],
    processes: int,
    args: Sequence[Any] = (),
    *,
    timeout: float = 300,
    limit: float | None = None,
) -> list[Any]:
    """Call a function in several new processes, which are a group (see `jax.distributed`).

    Each is a fresh interpreter that imports the function's module, so a script must keep what it
    does itself under ``if __name__ == "__main__":``. Cores are shared out among them, unless
    `FUNCDL_NUM_THREADS` is set.

    Args:
      fun: a function at the top level of a module; `current_group()` tells it who it is.
      processes: how many.
      args: its arguments, the same in each process; they are pickled, and so is what it returns.
      timeout: of the group, as for `initialize`.
      limit: seconds after which all are ended; by default never.

    Returns:
      A list of what the function returned in each process.

    Raises:
      ArgumentError: an argument is not as described.
      DistributedError: a process failed or died; the message has its traceback. All are ended then.
      DistributedTimeoutError: the time's limit is over.
    """
    count = integer("launch: processes", processes)
    if count < 1:
        raise ArgumentError(f"launch: processes must be at least 1, got {count}")
    wait_for = initialization.seconds("launch: timeout", timeout)
    end = None
    if limit is not None:
        end = time.monotonic() + initialization.seconds("launch: limit", limit)
    try:
        payload = pickle.dumps((fun, tuple(args)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ArgumentError(
            f"launch requires a function at the top level of a module, and arguments, that can be "
            f"pickled, since new processes import them; {error}"
        ) from None
    context = multiprocessing.get_context("spawn")
    job, threads = secrets.token_hex(8), max((os.cpu_count() or 1) // count, 1)
    started: list[Any] = []
    pipes: list[Connection] = []
    with listen(_HOST, 0) as listener:
        address = listener.getsockname()[:2]
        try:
            for rank in range(count):
                ours, theirs = context.Pipe(duplex=False)
                pipes.append(ours)
                place = (address, rank, count, wait_for, job, listener if rank == 0 else None)
                child = context.Process(
                    target=_serve,
                    args=(payload, place, threads, theirs),
                    name=f"funcdl-process-{rank}",
                    daemon=True,
                )
                with theirs:  # the end that only the child is to have
                    child.start()
                started.append(child)
            return _results(started, pipes, end, limit)
        finally:
            for child in started:
                child.join(0.0 if child.exitcode is None else None)
                if child.is_alive():
                    child.kill()
                    child.join()
            for pipe in pipes:
                pipe.close()


def _serve(
    payload: bytes,
    place: tuple[tuple[str, int], int, int, float, str, socket.socket | None],
    threads: int,
    pipe: Connection,
) -> None:
    """What a new process does."""
    address, rank, count, timeout, job, listener = place
    if "FUNCDL_NUM_THREADS" not in os.environ:
        config.num_threads = threads
    failure = None
    try:
        fun, args = pickle.loads(payload)
        initialization.connect(address, rank, count, timeout, timeout, job, listener)
        answer = pickle.dumps(("result", fun(*args), ""))
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
        # That another one ended is no news where that one says why.
        kind = "echo" if isinstance(error, PeerError) else "error"
        answer = pickle.dumps((kind, failure, traceback.format_exc()))
    # Before the others are told, so that the first to fail is the first to be heard of.
    pipe.send_bytes(answer)
    initialization.leave(failure)
    pipe.close()


def _results(
    children: Sequence[Any], pipes: Sequence[Connection], end: float | None, limit: float | None
) -> list[Any]:
    """What the processes return; raises once one has failed and the others have had their say."""
    waiting = dict(zip(pipes, range(len(pipes)), strict=True))
    results: list[Any] = [None] * len(pipes)
    errors: dict[int, tuple[str, str]] = {}
    while waiting:
        left = None if end is None else max(end - time.monotonic(), 0)
        ready = wait(list(waiting), left)
        if not ready and errors:
            break
        if not ready:
            late = ", ".join(map(str, sorted(waiting.values())))
            raise DistributedTimeoutError(
                f"launch: no answer within {limit:g} s of processes {late}; they were ended"
            )
        for pipe in ready:
            assert isinstance(pipe, Connection)
            rank = waiting.pop(pipe)
            try:
                kind, value, trace = pickle.loads(pipe.recv_bytes())
            except EOFError:
                children[rank].join()
                kind, value = "error", f"it ended without a word ({_how(children[rank].exitcode)})"
                trace = ""
            if kind == "result":
                results[rank] = value
                continue
            errors[rank] = value, trace
            if kind == "error":  # the reason for all others
                _raise(rank, value, trace)
            end = min(end or float("inf"), time.monotonic() + _GRACE)
    for rank, (value, trace) in errors.items():
        _raise(rank, value, trace)
    for child in children:
        child.join(_GRACE)
    return results


def _how(exitcode: int) -> str:
    return f"killed by signal {-exitcode}" if exitcode < 0 else f"exit status {exitcode}"


def _raise(rank: int, value: str, trace: str) -> None:
    raise DistributedError(f"launch: process {rank} failed: {value}\n{trace}".rstrip())
