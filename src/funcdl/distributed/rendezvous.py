"""How processes find each other: all report to one, which tells each where the others are.

The coordinator, process 0, listens where all were told. Each other process opens a port of its own,
reports it there with its number, and is told those of all. Then each connects to those of lower
numbers. The connections that result carry everything afterwards; the ports are closed.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

from funcdl.errors import ArgumentError, DistributedError, DistributedTimeoutError

_LENGTH = struct.Struct("!4sI")
_MARK = b"fdlr"
_MAX_BYTES = 1 << 24
_GREETING = 10.0  # seconds that one who connects has to say who it is
_AGAIN = 0.05  # seconds between attempts to reach a coordinator that does not listen yet


def split_address(address: Any) -> tuple[str, int]:
    """Host and port of ``"host:port"``.

    Raises:
      ArgumentError: it is no such text.
    """
    host, colon, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not (host and colon and port.isdecimal() and int(port) < 1 << 16):
        raise ArgumentError(
            f'initialize: coordinator_address must be a text "host:port", got {address!r}'
        )
    return host.strip("[]"), int(port)


def listen(host: str, port: int) -> socket.socket:
    """A socket that others can connect to; port 0 is any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise DistributedError(
            f"initialize: cannot listen on {host}:{port} ({error}). The coordinator's address is "
            "one of the machine that process 0 runs on, with a port that nothing else uses"
        ) from None
    return listener


def meet(
    address: tuple[str, int],
    rank: int,
    size: int,
    timeout: float,
    job: str = "",
    listener: socket.socket | None = None,
) -> dict[int, socket.socket]:
    """A connected socket for each other process.

    Args:
      address: host and port of the coordinator.
      rank, size: the number of this process, and how many there are.
      timeout: seconds that all have.
      job: a text that must be the same for all.
      listener: for process 0, a socket that listens at `address`; by default it opens one.

    Raises:
      DistributedError: processes do not fit together, or the address cannot be used.
      DistributedTimeoutError: not all came in time.
    """
    end = time.monotonic() + timeout
    found: dict[int, socket.socket] = {}
    try:
        if rank == 0:
            with listener or listen(*address) as port:
                _coordinate(port, size, end, timeout, job, found)
        else:
            _join(address, rank, size, end, timeout, job, found)
    except BaseException:
        for sock in found.values():
            sock.close()
        raise
    for sock in found.values():
        sock.settimeout(None)
    return found


def _coordinate(
    port: socket.socket,
    size: int,
    end: float,
    timeout: float,
    job: str,
    found: dict[int, socket.socket],
) -> None:
    places: dict[int, tuple[str, int]] = {}
    while len(found) < size - 1:
        missing = sorted({*range(1, size)} - {*found})
        accepted = _accept(port, end)
        if accepted is None:
            problem = (
                f"of {size} processes, these did not come within {timeout:g} s: "
                f"{', '.join(map(str, missing))}"
            )
            _tell_all(found, {"error": f"process 0 gave up: {problem}"})
            raise DistributedTimeoutError(f"initialize: {problem}")
        sock, place = accepted
        hello = _receive(sock, end)
        numbers = [] if hello is None else [hello.get(key) for key in ("rank", "size", "port")]
        if hello is None or hello.get("job") != job or {*map(type, numbers)} != {int}:
            sock.close()  # a stranger
            continue
        other, problem = hello["rank"], ""
        if hello["size"] != size:
            problem = (
                f"process {other} was started with num_processes={hello['size']}, process 0 with "
                f"num_processes={size}"
            )
        elif other not in missing:
            problem = f"two processes were started with process_id={other}"
        if problem:
            _tell_all({**found, -1: sock}, {"error": problem})
            sock.close()
            raise DistributedError(f"initialize: {problem}")
        found[other], places[other] = sock, (place, hello["port"])
    _tell_all(found, {"places": places})


def _join(
    address: tuple[str, int],
    rank: int,
    size: int,
    end: float,
    timeout: float,
    job: str,
    found: dict[int, socket.socket],
) -> None:
    found[0] = _connect(address, end, timeout)
    # Where the coordinator reaches this machine, the others do.
    with listen(found[0].getsockname()[0], 0) as port:
        hello = {"rank": rank, "size": size, "port": port.getsockname()[1], "job": job}
        _send(found[0], hello)
        answer = _receive(found[0], end, patient=True)
        if answer is None:
            raise DistributedError(
                f"initialize: process 0 at {address[0]}:{address[1]} did not let process {rank} "
                "in: it ended, or waits for another job"
            )
        if "error" in answer:
            raise DistributedError(f"initialize: {answer['error']}")
        for other in range(1, rank):
            host, number = answer["places"][str(other)]
            found[other] = _connect((host, number), end, timeout)
            _send(found[other], {"rank": rank, "job": job})
        while len(found) < size - 1:
            accepted = _accept(port, end)
            if accepted is None:
                missing = ", ".join(str(r) for r in range(rank + 1, size) if r not in found)
                raise DistributedTimeoutError(
                    f"initialize: process {rank} was not reached by {missing} within {timeout:g} s"
                )
            greeting = _receive(accepted[0], end)
            caller = None if greeting is None else greeting.get("rank")
            later = [r for r in range(rank + 1, size) if r == caller and r not in found]
            if greeting is None or greeting.get("job") != job or not later:
                accepted[0].close()
                continue
            found[later[0]] = accepted[0]


def _accept(port: socket.socket, end: float) -> tuple[socket.socket, str] | None:
    """The next connection and where it comes from; None if time is up."""
    port.settimeout(max(end - time.monotonic(), 1e-3))
    try:
        sock, place = port.accept()
    except TimeoutError:
        return None
    return sock, place[0]


def _connect(address: tuple[str, int], end: float, timeout: float) -> socket.socket:
    """A connection to one that may not listen yet."""
    while True:
        try:
            sock = socket.create_connection(address, max(end - time.monotonic(), 1e-3))
            if not _is_of_itself(sock):
                return sock
            sock.close()
            raise ConnectionRefusedError("no other process is there")
        except socket.gaierror as error:
            raise DistributedError(
                f"initialize: there is no host {address[0]!r} ({error})"
            ) from None
        except OSError as error:
            if time.monotonic() + _AGAIN > end:
                raise DistributedTimeoutError(
                    f"initialize: nobody listens at {address[0]}:{address[1]} within "
                    f"{timeout:g} s ({error}); that is to be the address of process 0"
                ) from None
            time.sleep(_AGAIN)


def _is_of_itself(sock: socket.socket) -> bool:
    """Whether both ends are one: TCP does that where the port is also the one this end is given."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False  # over already, as whoever uses it will see


def _tell_all(found: dict[int, socket.socket], value: dict[str, Any]) -> None:
    for sock in found.values():
        try:
            _send(sock, value)
        except DistributedError:
            if "error" not in value:
                raise


def _send(sock: socket.socket, value: Any) -> None:
    data = json.dumps(value).encode()
    sock.settimeout(_GREETING)
    try:
        sock.sendall(_LENGTH.pack(_MARK, len(data)) + data)
    except OSError as error:
        raise DistributedError(f"initialize: a process ended meanwhile ({error})") from None


def _receive(sock: socket.socket, end: float, patient: bool = False) -> dict[str, Any] | None:
    """What the other side says; None if that is nothing of ours."""
    limit = end if patient else min(end, time.monotonic() + _GREETING)

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            sock.settimeout(max(limit - time.monotonic(), 1e-3))
            part = sock.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    try:
        mark, length = _LENGTH.unpack(exactly(_LENGTH.size))
        if mark != _MARK or length > _MAX_BYTES:
            return None
        value = json.loads(exactly(length))
    except (EOFError, OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
