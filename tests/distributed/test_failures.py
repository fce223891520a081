"""Processes that die, stall or leave: errors name them, in time."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import warnings
from typing import Any

import numpy as np
import pytest
from tests.distributed.threads import PATIENCE, groups, in_parallel

from funcdl.distributed import collectives
from funcdl.distributed.group import ProcessGroup
from funcdl.distributed.transport import _DATA, _FAILED, _MARK, _PREFIX
from funcdl.errors import (
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


def until_there_is(group: ProcessGroup, rank: int, tag: str) -> None:
    """Wait for a message, and leave it there."""
    inbox = group._transport._inbox
    group._transport._wait(lambda: [] if (rank, tag) in inbox else [rank], PATIENCE, "", "")


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
    with groups(3) as (first, _, third):
        crash(third)
        (error,) = in_parallel([lambda: total(first)])
        assert isinstance(error, PeerError) and "process 2" in str(error)


def test_a_process_that_stalls_is_named_and_the_group_goes_on() -> None:
    with groups(3) as (first, second, third):
        work = second.start("total", lambda call: collectives.all_reduce(call, [X], "sum"))
        until_there_is(first, 1, "c0.0")  # only the third one is late
        first.timeout = 0.1
        with pytest.raises(DistributedTimeoutError) as late:
            total(first)
        assert isinstance(late.value, TimeoutError)
        assert str(late.value).startswith("total: process 2 sent nothing for 0.1 s")
        first.timeout = PATIENCE
        # All that the others need was sent.
        assert np.array_equal(total(third), 3 * X)
        assert np.array_equal(work.result()[0], 3 * X)
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


def frame(kind: int, tag: str, header: str, payload: bytes = b"") -> bytes:
    """A message as it is on a connection."""
    texts = tag.encode(), header.encode()
    return _PREFIX.pack(_MARK, kind, *map(len, texts), len(payload)) + b"".join(texts) + payload


def test_the_last_words_of_one_that_takes_nothing_more_are_heard() -> None:
    """Its connection is closed to what is still to be sent there, while much is to be read."""
    ours, theirs = socket.socketpair()
    group = ProcessGroup(0, 2, {1: ours}, PATIENCE)
    with group._transport._changed:  # so that nothing is read before all of it is there
        for number in range(100):
            theirs.sendall(frame(_DATA, "p0", json.dumps([["u8", [1]]]), bytes([number])))
        theirs.sendall(frame(_FAILED, "", "ValueError: no such file"))
        group.post([LARGE], 1, "p0", "send")
        theirs.close()
    found = [group.take([1], "p0", "recv")[1][0].item() for _ in range(100)]
    assert found == list(range(100))
    with pytest.raises(PeerError, match="process 1 failed: ValueError: no such file"):
        group.take([1], "p0", "recv")
    group.close("over")


def test_what_is_sent_after_a_timeout_has_the_values_that_it_had_before() -> None:
    ours, theirs = socket.socketpair()
    group = ProcessGroup(0, 2, {1: ours}, 0.1)
    x = np.zeros(1 << 20)
    with pytest.raises(DistributedTimeoutError, match="send: process 1 took nothing"):
        group.flush([group.post([x], 1, "p0", "send")], "send")
    x[:] = 1
    theirs.settimeout(PATIENCE)
    wanted, content = frame(_DATA, "p0", json.dumps([["f64", [x.size]]]), bytes(x.nbytes)), b""
    while len(content) < len(wanted):
        content += theirs.recv(len(wanted) - len(content))
    assert content == wanted
    group.close("over")
    theirs.close()


def test_a_message_of_very_many_arrays() -> None:
    ones = [np.ones((1,) * 30, np.int8)] * 12_000
    with groups(2) as (first, second):
        second.flush([second.post(ones, 0, "p0", "send")], "send")
        assert len(first.take([1], "p0", "recv")[1]) == len(ones)


def test_one_that_leaves_is_missed_by_those_that_wait_for_any() -> None:
    with groups(3) as (first, second, third):
        second.post([X], 0, "p0", "send")
        until_there_is(first, 1, "p0")
        third.close()
        assert first.take([2, 1], "p0", "serve")[0] == 1
        with pytest.raises(PeerError, match="serve: process 2 has left"):
            first.take([2, 1], "p0", "serve")


def test_a_group_that_was_left_is_of_no_use() -> None:
    with groups(2) as (first, _):
        first.close()
        with pytest.raises(DistributedError, match="total: this group was shut down"):
            total(first)


def test_nothing_is_begun_while_another_thread_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    with groups(2) as (first, _):
        check = first.check_open

        def left_meanwhile(what: str) -> None:
            check(what)
            monkeypatch.undo()
            first.close("over")

        monkeypatch.setattr(first, "check_open", left_meanwhile)
        with pytest.raises(DistributedError, match="barrier: this group was shut down"):
            first.start("barrier", collectives.barrier)


def test_a_fork_is_no_member() -> None:
    with groups(2) as (first, second):
        first._process = os.getpid() + 1  # as seen in a child of it
        with pytest.raises(DistributedError, match="was forked off"):
            total(first)
        first._process = os.getpid()
        del second


def test_a_fork_does_not_keep_connections_open() -> None:
    """Others would not see that this process ends."""
    ours, theirs = socket.socketpair()
    group = ProcessGroup(0, 2, {1: ours}, PATIENCE)
    ends, end = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12, and JAX where it is loaded, warn of threads that a child does not have.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENCE))
        os.close(end)
        os.read(ends, 1)
        os._exit(0)
    group.close()
    theirs.settimeout(PATIENCE / 2)
    try:
        while theirs.recv(1 << 10):
            pass
    finally:
        os.close(end)
        os.close(ends)
        assert os.waitpid(child, 0)[1] == 0
        theirs.close()


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n" * 9, struct.pack("!4sBIIQ", b"fdl1", 9, 0, 0, 0)]
)
def test_bytes_that_are_no_message_end_a_connection(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    group = ProcessGroup(0, 2, {1: ours}, PATIENCE)
    theirs.sendall(sent)
    with pytest.raises(PeerError, match="process 1 sent what is no message of this library"):
        total(group)
    group.close("over")
    theirs.close()
