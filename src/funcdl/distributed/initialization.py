"""Taking part: `initialize`, and the group that there is from then on."""

from __future__ import annotations

import math
import socket
from typing import Any

from funcdl.core import devices
from funcdl.core.integers import integer
from funcdl.distributed.group import ProcessGroup
from funcdl.distributed.rendezvous import meet, split_address
from funcdl.errors import ArgumentError, DistributedError

_group: ProcessGroup | None = None


def initialize(
    coordinator_address: str,
    num_processes: int,
    process_id: int,
    *,
    initialization_timeout: float = 300,
    timeout: float = 300,
    job: str = "",
) -> ProcessGroup:
    """Connect this process to all others (see `jax.distributed.initialize`).

    All of them call it, and it returns once all have. Connections are neither encrypted nor
    authenticated: use it in networks that you trust.

    Args:
      coordinator_address: ``"host:port"`` of process 0, as all others can reach it.
      num_processes: how many processes there are.
      process_id: the number of this one, from 0; each has another.
      initialization_timeout: seconds that all have to come.
      timeout: seconds that one process waits for another later; more than any pause between two
        collectives takes, with all that is compiled in it.
      job: a text that is the same in all processes; others that connect are turned away.

    Raises:
      ArgumentError: an argument is not as described.
      DistributedError: this process is initialized already, the address cannot be used, or
        processes do not fit together.
      DistributedTimeoutError: not all came in time.
    """
    size = integer("initialize: num_processes", num_processes)
    rank = integer("initialize: process_id", process_id)
    if size < 1:
        raise ArgumentError(f"initialize: num_processes must be at least 1, got {size}")
    if not 0 <= rank < size:
        raise ArgumentError(
            f"initialize: process_id must be from 0 to {size - 1}, with num_processes={size}; "
            f"got {rank}"
        )
    address = split_address(coordinator_address)
    return connect(
        address,
        rank,
        size,
        seconds("initialize: initialization_timeout", initialization_timeout),
        seconds("initialize: timeout", timeout),
        str(job),
    )


def connect(
    address: tuple[str, int],
    rank: int,
    size: int,
    initialization_timeout: float,
    timeout: float,
    job: str,
    listener: socket.socket | None = None,
) -> ProcessGroup:
    """`initialize`, with arguments that are checked; `listener` is of process 0."""
    global _group
    if _group is not None:
        raise DistributedError(
            f"initialize: this process is process {_group.rank} of {_group.size} already; call "
            "shutdown first"
        )
    sockets = meet(address, rank, size, initialization_timeout, job, listener)
    _group = ProcessGroup(rank, size, sockets, timeout)
    devices.set_processes(rank, size)
    return _group


def shutdown() -> None:
    """Leave the group of processes, if this one is in any (see `jax.distributed.shutdown`).

    Collectives that were begun end first. Takes and returns nothing; the end of a process does it,
    too. From then on `process_count()` is 1.
    """
    leave(None)


def leave(failure: str | None) -> None:
    """`shutdown`; `failure` is what the others are to be told."""
    global _group
    if _group is not None:
        group, _group = _group, None
        devices.set_processes(0, 1)
        group.close(failure)


def is_initialized() -> bool:
    """Whether this process is in a group, a bool (see `jax.distributed.is_initialized`)."""
    return _group is not None


def current_group(what: str = "current_group") -> ProcessGroup:
    """The `ProcessGroup` of this process (JAX has none: its devices are a mesh).

    Args:
      what: the function that asks, for the message.

    Raises:
      DistributedError: it is in none.
    """
    if _group is None:
        raise DistributedError(
            f"{what} requires a group of processes: call funcdl.distributed.initialize in each of "
            "them first, or start them with funcdl.distributed.launch"
        )
    _group.check_open(what)
    return _group


def seconds(what: str, value: Any) -> float:
    """A positive, finite number of seconds; raises `ArgumentError` for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentError(f"{what} must be a positive number of seconds, got {value!r}")
    return number
