"""What an iterator hands out, prepared by a thread while the consumer is busy."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from funcdl.core.integers import integer
from funcdl.errors import ArgumentError
from funcdl.transforms.arguments import describe


def prefetch(iterator: Iterable[Any], size: int = 2) -> Prefetch:
    """The same values in the same order, up to `size` of them made ahead by a thread.

    It pays where making a value leaves Python's lock alone: copies of rows, reading of files,
    compiled functions. An exception of `iterator` is raised by the `next` that would have returned
    its value, and the iteration is over then. The thread ends with `iterator`, with `close`, at the
    end of a ``with`` block, and when the result is no longer referred to. It calls the `close` of
    what has one, as generators and files have. An interrupt (control-C) of a waiting `next` loses
    nothing: the next one goes on.

    Args:
      iterator: an iterable, such as `batches` or ``map(funcdl.device_put, batches(...))``, which
        nobody else goes on with. Its values can be of any type.
      size: an int, at least 1: so many values are in memory besides those in use and in the making.

    Raises:
      ArgumentError: `iterator` is none, or `size` is no positive integer.
    """
    size = integer("prefetch: size", size)
    if size < 1:
        raise ArgumentError(f"prefetch: size must be at least 1, got {size}")
    given: Any = iterator
    if not hasattr(given, "__iter__"):
        raise ArgumentError(f"prefetch requires an iterator, got {describe(given)}")
    return Prefetch(_Buffer(iter(given), size))


class _Buffer:
    """What the thread and the consumer share; it refers to neither, so that both can end."""

    def __init__(self, source: Iterator[Any], size: int) -> None:
        self.source = source
        self.size = size
        self.process = os.getpid()
        self.values: deque[Any] = deque()
        self.error: BaseException | None = None
        self.ended = False  # nothing more will come
        self.stopped = False  # nothing more is wanted
        # Reentrant: garbage collection may call `stop` in a thread that holds it.
        self.changed = threading.Condition(threading.RLock())

    def fill(self) -> None:
        """Make values until there are no more or nobody wants them: the thread's work."""
        error = None
        try:
            while self._has_room():
                value = next(self.source)
                with self.changed:
                    if not self.stopped:
                        self.values.append(value)
                        self.changed.notify_all()
                del value
        except StopIteration:
            pass
        except BaseException as raised:  # the consumer's to judge, whatever it is
            error = raised
        with self.changed:
            self.error, self.ended = None if self.stopped else error, True
            self.changed.notify_all()
        del error  # its traceback refers to this frame
        close = getattr(self.source, "close", None)
        if close is not None:
            close()

    def _has_room(self) -> bool:
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or len(self.values) < self.size)
            return not self.stopped

    def take(self) -> Any:
        """The next value, or the exception in its place."""
        if os.getpid() != self.process:
            raise ArgumentError(
                "prefetch: its thread is in the process that made it, and this is a fork of that; "
                "call prefetch in each process"
            )
        with self.changed:
            self.changed.wait_for(lambda: self.values or self.ended or self.stopped)
            if self.stopped:
                raise StopIteration
            if self.values:
                value = self.values.popleft()
                self.changed.notify_all()
                return value
            error, self.error = self.error, None
        try:
            raise error or StopIteration
        finally:
            del error

    def stop(self) -> None:
        """Let the thread end; in a fork of its process, where there is none, nothing."""
        if os.getpid() != self.process:
            return
        with self.changed:
            self.stopped = True
            self.values.clear()
            self.changed.notify_all()


class Prefetch(Iterator[Any]):
    """The iterator that `prefetch` returns, and a context that closes it."""

    def __init__(self, buffer: _Buffer) -> None:
        """Start the thread; `prefetch` checks its arguments before."""
        self._buffer = buffer
        # A daemon: a source that waits forever does not keep the interpreter from ending.
        self._thread = threading.Thread(target=buffer.fill, name="funcdl.prefetch", daemon=True)
        self._thread.start()
        # Called at the interpreter's exit as well; it does not wait, since the garbage collector
        # may run in the thread itself.
        weakref.finalize(self, buffer.stop)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._buffer.take()

    def close(self) -> None:
        """End the iteration and the thread, once the value in the making is made."""
        self._buffer.stop()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
