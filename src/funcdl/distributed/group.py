"""The processes that work together, as one of them sees it."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.integers import integer
from funcdl.distributed import collectives
from funcdl.distributed.transport import Sent, Transport
from funcdl.errors import ArgumentError, DistributedError

NDArray = np.ndarray[Any, Any]
Work = Callable[[collectives.Call], list[NDArray]]


class Ticket:
    """A collective on its way: its results or its error, later."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._done = threading.Event()
        self._results: list[NDArray] = []
        self._error: BaseException | None = None

    def finish(self, results: list[NDArray], error: BaseException | None) -> None:
        """Say what came of it."""
        self._results, self._error = results, error
        self._done.set()

    def done(self) -> bool:
        """Whether it is over."""
        return self._done.is_set()

    def result(self) -> list[NDArray]:
        """Wait for the results; raises what went wrong."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._results


class ProcessGroup:
    """One process's view of all (see `jax.distributed`); `initialize` makes it.

    Collectives run one after the other, in the order of their calls, on a thread of their own.

    Attributes:
      rank: the number of this process.
      size: how many processes there are.
      timeout: seconds that one process waits for another.
    """

    def __init__(
        self, rank: int, size: int, sockets: Mapping[int, socket.socket], timeout: float
    ) -> None:
        self.rank = rank
        self.size = size
        self.timeout = timeout
        self._transport = Transport(rank, sockets)
        self._process = os.getpid()
        self._numbers = itertools.count()
        self._work: queue.SimpleQueue[tuple[Work, collectives.Call, Ticket] | None]
        self._work = queue.SimpleQueue()
        self._tickets: dict[int, Ticket] = {}
        self._ticket_numbers = itertools.count(1)
        self._passes = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="funcdl-collectives", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def __repr__(self) -> str:
        return f"ProcessGroup(rank={self.rank}, size={self.size})"

    def check_rank(self, what: str, rank: Any, *, other: bool = False) -> int:
        """The number of a process.

        Args:
          what: the function and argument, for the message.
          other: whether it must not be this process.

        Raises:
          ArgumentError: there is no such process.
        """
        number = integer(what, rank)
        if not 0 <= number < self.size:
            raise ArgumentError(
                f"{what} must be the number of a process, from 0 to {self.size - 1}; got {number}"
            )
        if other and number == self.rank:
            raise ArgumentError(f"{what} must be another process; {number} is this one")
        return number

    def start(self, what: str, work: Work) -> Ticket:
        """Begin a collective: `work` runs once those before it are over."""
        self.check_open(what)
        ticket = Ticket(what)
        with self._lock:  # its number is its place in the queue
            self.check_open(what)  # nothing runs behind the queue's end
            call = collectives.Call(
                self._transport, self.rank, self.size, next(self._numbers), what, self.timeout
            )
            self._work.put((work, call, ticket))
        return ticket

    def run(self, what: str, work: Work) -> list[NDArray]:
        """A collective from its begin to its results."""
        return self.start(what, work).result()

    def keep(self, ticket: Ticket) -> int:
        """A number by which a traced program can name a ticket."""
        number = next(self._ticket_numbers) % (1 << 31)
        self._tickets[number] = ticket
        return number

    def claim(self, number: int) -> Ticket:
        """The ticket of a number, once.

        Raises:
          DistributedError: it was claimed before.
        """
        ticket = self._tickets.pop(number, None)
        if ticket is None:
            raise DistributedError(
                "wait: this collective was waited for before; keep what wait returned"
            )
        return ticket

    def begin_pass(self) -> int:
        """A number for the tags of a pass through all processes, the same in each of them.

        So what is left of a pass that failed is not taken for a part of the next one.
        """
        return next(self._passes)

    def post(self, arrays: Sequence[NDArray], rank: int, tag: str, what: str) -> Sent:
        """Begin to send arrays, which must keep their values until that is done."""
        self.check_open(what)
        header = json.dumps([[dtypes.short_name(x.dtype), list(x.shape)] for x in arrays])
        return self._transport.post(rank, tag, header, arrays, what)

    def flush(self, sent: Sequence[Sent], what: str) -> None:
        """Wait until messages are sent."""
        self._transport.flush(sent, self.timeout, what)

    def take(
        self, ranks: Sequence[int], tag: str, what: str, timeout: float | None = None
    ) -> tuple[int, list[NDArray]]:
        """The next arrays that any of some processes sent with this tag, and which one did."""
        self.check_open(what)
        timeout = self.timeout if timeout is None else timeout
        rank, message = self._transport.take_any(ranks, tag, timeout, what)
        arrays, start = [], 0
        for name, shape in json.loads(message.header):
            dtype = dtypes.from_short_name(name)
            nbytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            # A copy: pieces may begin at any byte.
            piece = message.payload[start : start + nbytes].copy()
            arrays.append(piece.view(dtype).reshape(shape))
            start += nbytes
        return rank, arrays

    def check_open(self, what: str) -> None:
        """Raise `DistributedError` where this process cannot use the group (any more)."""
        if self._closed:
            raise DistributedError(
                f"{what}: this group was shut down. After another initialize, functions that "
                "were jitted for the old group must be jitted anew"
            )
        if self._process != os.getpid():
            raise DistributedError(
                f"{what}: this process was forked off one of the group, and is none of its own; "
                "start processes with funcdl.distributed.launch, or by spawning them"
            )

    def close(self, failure: str | None = None) -> None:
        """Leave the group; `failure` is why this process can no longer take part."""
        if self._closed or self._process != os.getpid():
            return
        with self._lock:
            self._closed = True
            self._work.put(None)
        atexit.unregister(self._at_exit)
        if failure is None and threading.current_thread() is not self._thread:
            self._thread.join(self.timeout)  # what was begun is to end
        self._transport.close(failure)

    def _at_exit(self) -> None:
        # Set where an error ends the process, which the others should hear of.
        error = getattr(sys, "last_value", None)
        self.close(None if error is None else f"{type(error).__name__}: {error}")

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, call, ticket = item
            try:
                ticket.finish(work(call), None)
            except BaseException as error:
                ticket.finish([], error)
            del item, work, call, ticket
