"""Running compilers: for a limited time, and ended with all that they started.

Each runs in a process group of its own, so that all of it can be killed, also what a driver such as
gcc has started; and so that Ctrl-C in a terminal reaches Python alone, which then ends them.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from funcdl.core.forks import held_off
from funcdl.core.records import record

if TYPE_CHECKING:
    import subprocess

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@record
class Result:
    """How a command ended, with its stderr in `stdout`; killed where it took too long."""

    returncode: int
    stdout: str
    took_too_long: bool = False


class StoppedError(Exception):
    """The work that a command was part of is no longer wanted."""


class Work:
    """Threads, and the commands that they run, which end together.

    Where the block of its ``with`` raises (Ctrl-C, for one), the commands are killed; in any case
    it waits for the threads. `concurrent.futures` would wait for the commands; it also takes 10 ms
    to import, and registers what must not be registered while another thread forks.
    """

    def __init__(self) -> None:
        # Not the threads: one whose `join` was interrupted counts as ended in Python 3.11.
        self._ended: list[threading.Event] = []
        self.stopped = False

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.stop()
        self.join()

    def start(self, function: Callable[[], object], name: str | None = None) -> None:
        """Call a function on a thread of its own; what it raises is dropped."""

        ended = threading.Event()

        def run() -> None:
            _thread.work = self
            with suppress(Exception):
                function()
            ended.set()

        # The interpreter need not wait for it: `_kill_all` ends what it runs.
        threading.Thread(target=run, name=name, daemon=True).start()
        self._ended.append(ended)

    def map(
        self, function: Callable[[_Item], _Found], items: Sequence[_Item], threads: int
    ) -> list[_Found]:
        """Call a function with each item, and return the results in order.

        Raises:
            Exception: what the function raised for the first of the items for which it did. None
                is begun afterwards.
        """
        left = deque(enumerate(items))
        found: dict[int, _Found] = {}
        errors: dict[int, Exception] = {}

        def serve() -> None:
            with suppress(IndexError):
                while True:
                    number, item = left.popleft()
                    try:
                        found[number] = function(item)
                    except Exception as error:
                        errors[number] = error
                        left.clear()

        for _ in range(min(threads, len(items))):
            self.start(serve)
        self.join()
        if errors:
            raise errors[min(errors)]
        return [found[number] for number in range(len(items))]

    def join(self) -> None:
        """Wait until all is done; forever in a child that was forked meanwhile."""
        for ended in self._ended:
            ended.wait()

    def stop(self) -> None:
        """Kill the commands; those that begin later raise `StoppedError` at once."""
        self.stopped = True
        for process, work in list(_running.items()):
            if work is self:
                _kill(process)


class _Thread(threading.local):
    work: Work | None = None


_thread = _Thread()
_running: dict[subprocess.Popen[str], Work | None] = {}
# A child must not end what its parent runs.
os.register_at_fork(after_in_child=_running.clear)


def run(command: Sequence[str], folder: Path | None, limit: float) -> Result:
    """Run a command in a folder, for at most `limit` seconds; 0 is as long as it takes.

    Raises:
        OSError: it cannot be started.
        StoppedError: the work that it belongs to was stopped.
    """
    # Imported here, since it takes 3 ms, and a process with a full cache runs no compiler.
    with held_off():
        import subprocess

    work = _thread.work
    # Messages in English and plain ASCII quotes, whatever the user's locale.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    )
    try:
        _running[process] = work
        if work is not None and work.stopped:
            raise StoppedError
        output, _ = process.communicate(timeout=limit or None)
    except subprocess.TimeoutExpired as error:
        printed = error.output or b""  # bytes, whatever `text` is
        return Result(-signal.SIGKILL, printed.decode(errors="replace"), took_too_long=True)
    finally:
        # Also after an interrupt, which may come anywhere above.
        if process.returncode is None:
            _kill(process)
        _running.pop(process, None)
        if process.stdout is not None:
            process.stdout.close()
    if work is not None and work.stopped:
        raise StoppedError
    return Result(process.returncode, output)


def _kill(process: subprocess.Popen[str]) -> None:
    # A group lives as long as one of its members; its number may be another one's afterwards.
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@atexit.register
def _kill_all() -> None:
    """What threads still run that the interpreter does not wait for."""
    for process in list(_running):
        _kill(process)
