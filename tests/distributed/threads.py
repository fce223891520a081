"""Groups whose members are threads of one process: real connections, and no time to start."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from funcdl.distributed.group import ProcessGroup
from funcdl.distributed.rendezvous import listen, meet

PATIENCE = 120.0  # seconds for what takes none, on a machine that is busy with something else


def in_parallel(calls: list[Callable[[], Any]]) -> list[Any]:
    """What each call returns, or the exception that it raises."""

    def outcome(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(outcome, calls))


def free_address() -> tuple[str, int]:
    """An address where nobody listens, with none of the ports that the system gives by itself.

    So no connection that another test makes meanwhile has it.
    """
    for number in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", number))
            return "127.0.0.1", number
    raise RuntimeError("of 100 ports none is free")


@contextmanager
def open_port() -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    """A socket that listens, and its address."""
    with listen("127.0.0.1", 0) as port:
        yield port, port.getsockname()[:2]


@contextmanager
def groups(size: int, timeout: float = PATIENCE) -> Iterator[list[ProcessGroup]]:
    """The views of all members of a group."""
    with open_port() as (port, address):
        sockets = in_parallel(
            [
                lambda rank=rank: meet(
                    address, rank, size, PATIENCE, "", port if rank == 0 else None
                )
                for rank in range(size)
            ]
        )
    members = [ProcessGroup(rank, size, found, timeout) for rank, found in enumerate(sockets)]
    try:
        yield members
    finally:
        for member in members:
            member.close("the test is over")
