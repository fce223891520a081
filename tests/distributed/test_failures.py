"""Processes that die, stall, leave or do not find each other: errors name them, in time."""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.distributed.threads import groups, in_parallel, open_port

from funcdl import distributed
from funcdl.distributed import collectives
from funcdl.distributed.group import ProcessGroup
from funcdl.distributed.rendezvous import meet, split_address
from funcdl.errors import (
    ArgumentError,
    DistributedError,
    DistributedTimeoutError,
    PeerError,
)

X = np.arange(3.0)
LARGE = np.zeros(1 << 19)


def total(group: ProcessGroup, x: Any = X) -> Any:
    return group.run("total", lambda call: collectives.all_reduce(call, [x], "sum"))[0]


def crash(group: ProcessGroup) -> None:
    """What the end of a process does to its connections."""
    for peer in group._transport._peers.values():
        peer.sock.shutdown(socket.SHUT_RDWR)


def test_a_process_that_dies_is_named_to_all_that_wait() -> None:
    with groups(3) as (first, second, third):
        crash(third)
        found = in_parallel([lambda: total(first), lambda: total(second)])
        for error in found:
            assert isinstance(error, PeerError)
            assert re.match(r"total: process 2 (ended without a word|broke)", str(error))
        # Nor can anything be sent to it.
        with pytest.raises(PeerError, match="process 2"):
            first.post([X], 2, "p0", "send(dest=2)")


def test_a_death_elsewhere_ends_the_wait_for_one_who_waits_for_it() -> None:
    with groups(3, timeout=60) as (first, _, third):
        crash(third)
        (error,) = in_parallel([lambda: total(first)])
        assert isinstance(error, PeerError) and "process 2" in str(error)


def test_a_process_that_stalls_is_named_and_the_group_goes_on() -> None:
    with groups(3, timeout=0.3) as (first, second, third):
        late = in_parallel([lambda: total(first), lambda: total(second)])
        for error in late:
            assert isinstance(error, DistributedTimeoutError)
            assert isinstance(error, TimeoutError)
            assert str(error).startswith("total: process 2 sent nothing for 0.3 s")
        for group in (first, second, third):
            group.timeout = 20.0
        assert np.array_equal(total(third), 3 * X)  # all that it needs was sent
        found = in_parallel([lambda g=g: total(g) for g in (first, second, third)])
        assert all(np.array_equal(x, 3 * X) for x in found)


def test_all_that_stall_are_named() -> None:
    with groups(3, timeout=0.2) as (first, _, _):
        with pytest.raises(DistributedTimeoutError, match="processes 1, 2 sent nothing"):
            total(first)
        with pytest.raises(
            DistributedTimeoutError, match=r"recv: process 1 sent nothing for 0.1 s"
        ):
            first.take([1], "p0", "recv", 0.1)


def test_one_that_leaves_is_missed_by_those_that_need_it() -> None:
    with groups(3) as (first, second, third):
        work = [first.start("total", lambda c: collectives.all_reduce(c, [LARGE], "sum"))]
        rest = in_parallel([lambda: total(second, LARGE), lambda: total(third, LARGE)])
        assert all(isinstance(x, np.ndarray) for x in (work[0].result()[0], *rest))
        third.close()
        for member in (first, second):
            with pytest.raises(PeerError, match="total: process 2 has left"):
                total(member)
        # Those that remain can talk to each other.
        second.flush([second.post([X], 0, "p0", "send")], "send")
        assert np.array_equal(first.take([1], "p0", "recv")[1][0], X)


def test_the_reason_of_a_failure_reaches_the_others() -> None:
    with groups(2) as (first, second):
        second.close("ValueError: no such file")
        with pytest.raises(PeerError, match="total: process 1 failed: ValueError: no such file"):
            total(first)


def test_messages_of_one_that_has_left_can_still_be_taken() -> None:
    with groups(2) as (first, second):
        second.flush([second.post([X, LARGE], 0, "p0", "send")], "send")
        second.close()
        _, found = first.take([1], "p0", "recv")
        assert np.array_equal(found[0], X) and found[1].shape == LARGE.shape
        with pytest.raises(PeerError, match="recv: process 1 has left"):
            first.take([1], "p0", "recv")


def test_a_group_that_was_left_is_of_no_use() -> None:
    with groups(2) as (first, _):
        first.close()
        with pytest.raises(DistributedError, match="total: this group was shut down"):
            total(first)


def test_a_fork_is_no_member() -> None:
    with groups(2) as (first, second):
        first._process = os.getpid() + 1  # as seen in a child of it
        with pytest.raises(DistributedError, match="was forked off"):
            total(first)
        first._process = os.getpid()
        del second


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n" * 9, struct.pack("!4sBIIQ", b"fdl1", 9, 0, 0, 0)]
)
def test_bytes_that_are_no_message_end_a_connection(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    group = ProcessGroup(0, 2, {1: ours}, 5.0)
    theirs.sendall(sent)
    with pytest.raises(PeerError, match="process 1 sent what is no message of this library"):
        total(group)
    group.close("over")
    theirs.close()


# How processes find each other


def joined(size: int, *members: tuple[int, int, str], timeout: float = 5.0) -> list[Any]:
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
    with open_port() as (_, address):
        pass  # free again
    waiting = threading.Event()

    def later(rank: int) -> Any:
        if rank == 0:
            waiting.wait()
        else:
            waiting.set()
        return meet(address, rank, 3, 20.0)

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
    found = joined(4, (0, 4, ""), (2, 4, ""), timeout=0.5)
    assert isinstance(found[0], DistributedTimeoutError)
    assert "of 4 processes, these did not come within 0.5 s: 1, 3" in str(found[0])
    assert isinstance(found[1], DistributedError)


def test_nobody_listens() -> None:
    with open_port() as (_, address):
        pass  # closed: nobody does
    with pytest.raises(
        DistributedTimeoutError, match=f"nobody listens at {address[0]}:{address[1]}"
    ):
        meet(address, 1, 2, 0.2)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(DistributedError, match=r"cannot listen on 192\.0\.2\.1:1 "):
        meet(("192.0.2.1", 1), 0, 2, 0.2)


def test_strangers_and_other_jobs_are_turned_away() -> None:
    with open_port() as (port, address):

        def stranger() -> Any:
            with socket.create_connection(address) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return sock.recv(10)

        results = in_parallel(
            [
                lambda: meet(address, 0, 2, 5.0, "ours", port),
                stranger,
                lambda: meet(address, 1, 2, 5.0, "theirs"),
                lambda: meet(address, 1, 2, 5.0, "ours"),
            ]
        )
    assert results[1] == b"" or isinstance(results[1], ConnectionError)
    assert type(results[2]) is DistributedError and "waits for another job" in str(results[2])
    for sockets in (results[0], results[3]):
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
