"""The processes that compile kernels: started when they are needed, and kept for the next program.

Importing Triton takes longer than compiling a kernel, so that a worker outlives the program that it
was started for; it ends when nobody has asked it for some minutes. Workers are neither forked,
since the parent may have a CUDA context, which a child cannot use, nor spawned by
`multiprocessing`, which would run the user's main module again.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

KEPT = 4
"""How many workers may wait for more work."""

_SHOWN = 2000  # characters of what a worker that failed has written


class WorkerError(Exception):
    """A worker ended, or said what is no answer."""


class Worker:
    """One process, which compiles a kernel at a time."""

    def __init__(self) -> None:
        self.environment = _environment()
        self._start()

    def _start(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `forget` closes it
        self._process = start_process(self._errors, self.environment)
        self._kept = False

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request (see `compile_server.answer`).

        Raises:
          WorkerError: there is none.
        """
        try:
            return self._exchange(request)
        except (OSError, ValueError) as error:
            if self._kept:  # it may have ended while it waited
                self.end()
                self._start()
                return self.ask(request)
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip()[-_SHOWN:]
            message = f"the process that compiles kernels failed ({error}):\n{last}"
            raise WorkerError(message) from None

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        self._kept = False
        return answer

    def keep(self) -> None:
        """Take note that it waits from here on."""
        self._kept = True

    def end(self) -> None:
        """End the process, which has nothing to lose, and wait for its end."""
        self._process.kill()
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close this process's side."""
        for file in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(OSError):
                if file is not None:
                    file.close()


_waiting: list[Worker] = []
_lock = threading.Lock()


@contextmanager
def borrowed_worker() -> Iterator[Worker]:
    """A worker for one thread; it is kept afterwards unless it failed, or enough of them wait."""
    environment = _environment()
    worker = None
    with _lock:
        while _waiting and worker is None:
            worker = _waiting.pop()
            if worker.environment != environment:  # what is compiled may depend on it
                worker.end()
                worker = None
    worker = worker or Worker()
    try:
        yield worker
    except BaseException:
        worker.end()
        raise
    with _lock:
        keep = len(_waiting) < KEPT
        if keep:
            worker.keep()
            _waiting.append(worker)
    if not keep:
        worker.end()


def start_process(errors: IO[bytes], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a worker that writes to `errors` what is no answer."""
    return subprocess.Popen(
        [sys.executable, "-m", "funcdl.kernels.triton.compile_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
    )


def end_workers() -> None:
    """End the workers that wait."""
    with _lock:
        while _waiting:
            _waiting.pop().end()


def _forget_workers() -> None:
    """In a forked process, whose parent goes on using them."""
    global _lock
    _lock = threading.Lock()
    while _waiting:
        worker = _waiting.pop()
        worker._process.returncode = 0  # it is no child of this process
        worker.forget()


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop("TRITON_INTERPRET", None)
    # The same modules as here, however they were found.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return environment


atexit.register(end_workers)
os.register_at_fork(after_in_child=_forget_workers)
