"""Messages between processes: a connection for each pair, and one thread that moves the bytes.

A message is sent and received in the background, whatever the process computes meanwhile. It is
kept, by sender and tag, until somebody asks for it, so no order of calls in two processes can block
both. Headers are text and payloads are bytes of arrays: nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from funcdl.core.records import record
from funcdl.errors import DistributedError, DistributedTimeoutError, PeerError

NDArray = np.ndarray[Any, Any]

# What a message begins with: a mark, its kind, bytes of tag, header and payload.
_PREFIX = struct.Struct("!4sBIIQ")
_MARK = b"fdl1"
_DATA, _LEFT, _FAILED = range(3)
_MAX_TEXT = 1 << 26  # longer tags and headers come from no process of ours
_AT_ONCE = 16  # reads of one connection before the others have their turn
_SMALL = 1 << 16  # payloads up to this size are sent together with their header
_LAST_WORDS = 2.0  # seconds that a process which ends gives its last messages


@record
class Message:
    """What one process sent another: a text, and bytes."""

    header: str
    payload: NDArray


class Sent:
    """A message on its way to a process; `done` when the operating system has all of it."""

    __slots__ = ("done", "rank")

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.done = False


class _Peer:
    """One connection: what is still to be sent, and the message that is being received."""

    def __init__(self, rank: int, sock: socket.socket) -> None:
        self.rank = rank
        self.sock = sock
        self.outgoing: deque[tuple[memoryview, Sent | None]] = deque()
        self.ended: str | None = None  # how, once nothing more will come
        self.crashed = False
        self.begin()

    def begin(self) -> None:
        self.prefix: tuple[int, int, int, int] | None = None
        self.texts: NDArray | None = None
        self.expect(np.empty(_PREFIX.size, np.uint8))

    def expect(self, buffer: NDArray) -> None:
        self.buffer = buffer
        self.missing = buffer.data


class Transport:
    """The connections of one process to all others.

    Args:
      rank: the number of this process.
      sockets: a connected socket for each other process.
    """

    def __init__(self, rank: int, sockets: Mapping[int, socket.socket]) -> None:
        self.rank = rank
        self._peers = {other: _Peer(other, sock) for other, sock in sockets.items()}
        self._inbox: dict[tuple[int, str], deque[Message]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        for sock in (self._wake, self._woken):
            sock.setblocking(False)
        for peer in self._peers.values():
            peer.sock.setblocking(False)
            with contextlib.suppress(OSError):  # not of every kind of socket
                peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._selector.register(peer.sock, selectors.EVENT_READ, peer)
        self._thread = threading.Thread(target=self._run, name="funcdl-transport", daemon=True)
        self._thread.start()
        _open.add(self)

    # Called by any thread.

    def post(self, rank: int, tag: str, header: str, buffers: Sequence[NDArray], what: str) -> Sent:
        """Begin to send; the buffers, contiguous arrays, must keep their values until it is done.

        Raises:
          PeerError: that process has ended.
        """
        return self._post(self._peers[rank], _DATA, tag, header, buffers, what)

    def flush(self, sent: Sequence[Sent], timeout: float, what: str) -> None:
        """Wait until messages are sent; raises as `collect` does."""
        try:
            self._wait(
                lambda: [message.rank for message in sent if not message.done],
                timeout,
                what,
                "took nothing",
            )
        except BaseException:
            self._copy_unsent()
            raise

    def collect(
        self, ranks: Sequence[int], tag: str, timeout: float, what: str
    ) -> dict[int, Message]:
        """A message of each of some processes, which all must have sent one with this tag.

        Raises:
          PeerError: one of them ended before, or any process crashed.
          DistributedTimeoutError: time is up; the message names those that are missing.
        """
        keys = {rank: (rank, tag) for rank in ranks}
        self._wait(
            lambda: [rank for rank, key in keys.items() if key not in self._inbox],
            timeout,
            what,
            "sent nothing",
            crashes_of=self._peers,
        )
        with self._changed:
            return {rank: self._take(key) for rank, key in keys.items()}

    def take_any(
        self, ranks: Sequence[int], tag: str, timeout: float, what: str
    ) -> tuple[int, Message]:
        """The first message with this tag of any of some processes.

        Raises:
          PeerError: one of them ended before.
          DistributedTimeoutError: time is up.
        """

        def missing() -> list[int]:
            found = any((rank, tag) in self._inbox for rank in ranks)
            return [] if found else list(ranks)

        self._wait(missing, timeout, what, "sent nothing")
        with self._changed:
            rank = next(rank for rank in ranks if (rank, tag) in self._inbox)
            return rank, self._take((rank, tag))

    def close(self, failure: str | None = None) -> None:
        """Say goodbye, or why this process fails, and end all connections."""
        with self._changed:
            if self._closed:
                return
        for peer in self._peers.values():
            with contextlib.suppress(PeerError):
                kind = _LEFT if failure is None else _FAILED
                self._post(peer, kind, "", (failure or "")[:10_000], (), "close")
        end = time.monotonic() + _LAST_WORDS
        with self._changed:
            while any(p.outgoing and p.ended is None for p in self._peers.values()):
                if not self._changed.wait(max(end - time.monotonic(), 0)):
                    break
            self._closed = True
            self._changed.notify_all()
        self._nudge()
        self._thread.join(_LAST_WORDS)

    def _post(
        self, peer: _Peer, kind: int, tag: str, header: str, buffers: Sequence[NDArray], what: str
    ) -> Sent:
        sent = Sent(peer.rank)
        texts = tag.encode(), header.encode()
        views = [b.reshape(-1).view(np.uint8).data for b in buffers if b.nbytes]
        nbytes = sum(view.nbytes for view in views)
        head = _PREFIX.pack(_MARK, kind, *map(len, texts), nbytes) + b"".join(texts)
        if nbytes <= _SMALL:
            views = [memoryview(b"".join([head, *views]))]
        else:
            views.insert(0, memoryview(head))
        with self._changed:
            self._check_open(what)
            self._check_peer(peer.rank, what)
            peer.outgoing.extend((view, None) for view in views[:-1])
            peer.outgoing.append((views[-1], sent))
        self._nudge()
        return sent

    def _take(self, key: tuple[int, str]) -> Message:
        box = self._inbox[key]
        message = box.popleft()
        if not box:
            del self._inbox[key]
        return message

    def _wait(
        self,
        missing: Callable[[], list[int]],
        timeout: float,
        what: str,
        fault: str,
        crashes_of: Iterable[int] = (),
    ) -> None:
        """Wait until `missing` names no process; raises once one that it names has ended."""
        end = time.monotonic() + timeout
        with self._changed:
            while waited_for := missing():
                self._check_open(what)
                for rank in waited_for:
                    self._check_peer(rank, what)
                for rank in crashes_of:
                    if self._peers[rank].crashed:
                        self._check_peer(rank, what)
                if not self._changed.wait(max(end - time.monotonic(), 0)) and missing():
                    raise DistributedTimeoutError(
                        f"{what}: {_processes(missing())} {fault} for {timeout:g} s. A process "
                        "that stalls, or does something else, keeps all others waiting; where "
                        "one may take longer, raise `timeout`"
                    )

    def _copy_unsent(self) -> None:
        """Let go of buffers: who no longer waits for a message to be sent may change them."""
        with self._changed:
            for peer in self._peers.values():
                for i in range(len(peer.outgoing)):
                    view, sent = peer.outgoing[i]
                    peer.outgoing[i] = memoryview(view.tobytes()), sent

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise DistributedError(f"{what}: this process has left its group (shutdown)")

    def _check_peer(self, rank: int, what: str) -> None:
        how = self._peers[rank].ended
        if how is not None:
            raise PeerError(f"{what}: process {rank} {how}")

    def _nudge(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # awake already, or gone
            self._wake.send(b"\0")

    # Called by the transport's own thread.

    def _run(self) -> None:
        while not self._closed:
            for peer in self._peers.values():
                if peer.ended is None:
                    wanted = selectors.EVENT_READ
                    wanted |= selectors.EVENT_WRITE if peer.outgoing else 0
                    self._selector.modify(peer.sock, wanted, peer)
            for key, events in self._selector.select():
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self._woken.recv(1 << 12)
                    continue
                try:
                    # First, since the last words of a process can be read but not answered.
                    if events & selectors.EVENT_READ:
                        self._read(key.data)
                    if events & selectors.EVENT_WRITE and key.data.ended is None:
                        self._write(key.data)
                except (OSError, MemoryError, ValueError) as error:
                    self._end(key.data, f"broke its connection ({error})", crashed=True)
        self._release()

    def _release(self) -> None:
        for peer in self._peers.values():
            peer.sock.close()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _write(self, peer: _Peer) -> None:
        for _ in range(_AT_ONCE):
            if not peer.outgoing:
                return
            try:
                with self._changed:  # others may replace what is to be sent
                    view, sent = peer.outgoing[0]
                    count = peer.sock.send(view)
                    if count < view.nbytes:
                        peer.outgoing[0] = view[count:], sent
                        continue
                    peer.outgoing.popleft()
                    if sent is not None:
                        sent.done = True
                        self._changed.notify_all()
            except BlockingIOError:
                return
            except OSError:
                # What it sent before its end, and why it ended, can be read still.
                while self._read(peer):
                    pass
                if peer.ended is None:
                    raise
                return

    def _read(self, peer: _Peer) -> bool:
        """Take what has arrived, for a while; whether more may be there."""
        for _ in range(_AT_ONCE):
            if peer.missing.nbytes:
                try:
                    count = peer.sock.recv_into(peer.missing)
                except BlockingIOError:
                    return False
                if not count:
                    self._end(
                        peer,
                        "ended without a word: its connection closed, as where it is killed",
                        crashed=True,
                    )
                    return False
                peer.missing = peer.missing[count:]
            if not peer.missing.nbytes and not self._advance(peer):
                return False
        return True

    def _advance(self, peer: _Peer) -> bool:
        """Go on after a part of a message that is complete; whether more may come."""
        if peer.prefix is None:
            mark, kind, tag, header, payload = _PREFIX.unpack(peer.buffer.tobytes())
            if mark != _MARK or kind > _FAILED or max(tag, header) > _MAX_TEXT:
                self._end(peer, "sent what is no message of this library", crashed=True)
                return False
            peer.prefix = kind, tag, header, payload
            peer.expect(np.empty(tag + header, np.uint8))
            return True
        kind, tag, _, payload = peer.prefix
        if peer.texts is None:
            peer.texts = peer.buffer
            peer.expect(np.empty(payload, np.uint8))
            if payload:
                return True
        texts = peer.texts.tobytes()
        header = texts[tag:].decode(errors="replace")
        if kind == _LEFT:
            self._end(peer, "has left: it called shutdown, or ended", crashed=False)
            return False
        if kind == _FAILED:
            self._end(peer, f"failed: {header}", crashed=True)
            return False
        with self._changed:
            label = texts[:tag].decode(errors="replace")
            box = self._inbox.setdefault((peer.rank, label), deque())
            box.append(Message(header, peer.buffer))
            self._changed.notify_all()
        peer.begin()
        return True

    def _end(self, peer: _Peer, how: str, *, crashed: bool) -> None:
        self._selector.unregister(peer.sock)
        with self._changed:
            peer.ended, peer.crashed = how, crashed
            peer.outgoing.clear()
            self._changed.notify_all()


_open: weakref.WeakSet[Transport] = weakref.WeakSet()


def _release_in_child() -> None:
    """A fork's copies would keep connections open after this process, whose end others see so."""
    for transport in _open:
        transport._release()


os.register_at_fork(after_in_child=_release_in_child)


def _processes(ranks: Sequence[int]) -> str:
    names = ", ".join(map(str, ranks))
    return f"process {names}" if len(ranks) == 1 else f"processes {names}"
