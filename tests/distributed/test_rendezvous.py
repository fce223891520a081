"""How processes find each other, and what is said of those that do not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.distributed.threads import PATIENCE, free_address, in_parallel, open_port

from funcdl import distributed
from funcdl.distributed.rendezvous import _receive, _send, meet, split_address
from funcdl.errors import ArgumentError, DistributedError, DistributedTimeoutError

X = np.arange(3.0)


def joined(size: int, *members: tuple[int, int, str], timeout: float = PATIENCE) -> list[Any]:
    """What comes of processes of these ranks, sizes and jobs that meet at one port."""
    with open_port() as (port, address):
        calls: list[Callable[[], Any]] = [
            lambda r=rank, s=count, j=job: meet(address, r, s, timeout, j, port if r == 0 else None)
            for rank, count, job in members
        ]
        found = in_parallel(calls)
    for sockets in found:
        for sock in sockets.values() if isinstance(sockets, dict) else ():
            sock.close()
    return found


def test_processes_meet_in_any_number() -> None:
    for size in (1, 2, 4):
        found = joined(size, *((rank, size, "") for rank in range(size)))
        assert [sorted(sockets) for sockets in found] == [
            [other for other in range(size) if other != rank] for rank in range(size)
        ]


def test_the_coordinator_may_come_last_and_opens_its_own_port() -> None:
    address = free_address()
    waiting = threading.Event()

    def later(rank: int) -> Any:
        if rank == 0:
            waiting.wait()
        else:
            waiting.set()
        return meet(address, rank, 3, PATIENCE)

    found = in_parallel([lambda r=rank: later(r) for rank in range(3)])
    assert [sorted(sockets) for sockets in found] == [[1, 2], [0, 2], [0, 1]]
    for sockets in found:
        for sock in sockets.values():
            sock.close()


def test_two_of_one_number_are_refused() -> None:
    found = joined(3, (0, 3, ""), (1, 3, ""), (1, 3, ""))
    assert all(type(error) is DistributedError for error in found)
    for error in found:
        assert "two processes were started with process_id=1" in str(error)


def test_sizes_must_agree() -> None:
    found = joined(3, (0, 3, ""), (1, 2, ""))
    for error in found:
        assert type(error) is DistributedError
        assert "process 1 was started with num_processes=2, process 0 with num_processes=3" in str(
            error
        )


def test_those_who_do_not_come_are_named() -> None:
    with open_port() as (port, address), socket.create_connection(address) as third:
        _send(third, {"rank": 2, "size": 4, "port": 1, "job": ""})
        with pytest.raises(DistributedTimeoutError) as error:
            meet(address, 0, 4, 0.5, "", port)
        missing = "of 4 processes, these did not come within 0.5 s: 1, 3"
        assert str(error.value) == f"initialize: {missing}"
        told = _receive(third, time.monotonic() + PATIENCE)
        assert told == {"error": f"process 0 gave up: {missing}"}


def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # nobody else can have this port
        host, number = sock.getsockname()
        with pytest.raises(DistributedTimeoutError, match=f"nobody listens at {host}:{number}"):
            meet((host, number), 1, 2, 0.2)


def test_a_connection_of_a_port_to_itself_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP may give one that connects to a port the same port as its own end's."""
    connect, address = socket.create_connection, free_address()
    made: list[socket.socket] = []

    def unlucky(place: tuple[str, int], timeout: float) -> socket.socket:
        if made:
            return connect(place, timeout)
        made.append(connect(place, timeout, source_address=place))
        return made[0]

    monkeypatch.setattr(socket, "create_connection", unlucky)
    with pytest.raises(DistributedTimeoutError, match="nobody listens at"):
        meet(address, 1, 2, 0.5)
    assert made[0].fileno() == -1


def test_an_address_of_another_machine() -> None:
    with pytest.raises(DistributedError, match=r"cannot listen on 192\.0\.2\.1:1 "):
        meet(("192.0.2.1", 1), 0, 2, 0.2)


def test_strangers_and_other_jobs_are_turned_away() -> None:
    with open_port() as (port, address):

        def stranger() -> Any:
            with socket.create_connection(address) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return sock.recv(10)

        def others() -> list[Any]:
            """One after the other, since the port is closed once all of this job are there."""
            calls: list[Callable[[], Any]] = [
                stranger,
                lambda: meet(address, 1, 2, PATIENCE, "theirs"),
                lambda: meet(address, 1, 2, PATIENCE, "ours"),
            ]
            return [in_parallel([call])[0] for call in calls]

        first, (nothing, refused, second) = in_parallel(
            [lambda: meet(address, 0, 2, PATIENCE, "ours", port), others]
        )
    assert nothing == b"" or isinstance(nothing, ConnectionError)
    assert type(refused) is DistributedError and "waits for another job" in str(refused)
    for sockets in (first, second):
        (sock,) = sockets.values()
        sock.close()


@pytest.mark.parametrize(
    "address", ["localhost", ":80", "host:", "host:port", "host:70000", 80, None]
)
def test_addresses_that_are_none(address: Any) -> None:
    with pytest.raises(ArgumentError, match='coordinator_address must be a text "host:port"'):
        distributed.initialize(address, 2, 0)


def test_addresses() -> None:
    assert split_address("host.name:80") == ("host.name", 80)
    assert split_address("[::1]:80") == ("::1", 80)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost:1", 0, 0), "num_processes must be at least 1, got 0"),
        (("localhost:1", 2, 2), "process_id must be from 0 to 1, with num_processes=2; got 2"),
        (("localhost:1", 2, -1), "process_id must be from 0 to 1"),
        (("localhost:1", 2.5, 0), "num_processes must be an integer"),
    ],
)
def test_numbers_that_are_none(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        distributed.initialize(*arguments)


def test_seconds_that_are_none() -> None:
    for value in (0, -1, float("nan"), float("inf"), "soon"):
        with pytest.raises(ArgumentError, match="must be a positive number of seconds"):
            distributed.initialize("localhost:1", 2, 0, timeout=value)


def test_alone_and_uninitialized() -> None:
    assert not distributed.is_initialized()
    distributed.shutdown()
    for call in (distributed.barrier, distributed.current_group, lambda: distributed.all_reduce(X)):
        with pytest.raises(DistributedError, match="requires a group of processes: call"):
            call()
    group = distributed.initialize("127.0.0.1:0", 1, 0)
    try:
        assert distributed.is_initialized() and (group.rank, group.size) == (0, 1)
        assert np.array_equal(distributed.all_reduce(X, "mean"), X)
        assert distributed.all_gather(X).shape == (1, 3)
        with pytest.raises(ArgumentError, match="send: dest must be another process"):
            distributed.send(X, 0)
    finally:
        distributed.shutdown()
    assert not distributed.is_initialized()
