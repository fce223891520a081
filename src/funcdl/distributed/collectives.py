"""Collective operations on NumPy arrays, over the messages of a `Transport`.

In each round every process sends each other one a message, with what it was asked for in the header
and maybe no bytes. So all notice where one was asked for something else, and none waits for it.

Contributions are added in the order of the processes' numbers, wherever an element stands: the same
bits in every process, however arrays are split into buckets. Half types are added up in float32 and
rounded once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.records import record
from funcdl.distributed.transport import Message, Transport
from funcdl.errors import DistributedError

NDArray = np.ndarray[Any, Any]

# Arrays of fewer bytes, all together, are sent to all as they are: one round, not two.
_ONE_ROUND = 1 << 16
_SHOWN = 2000  # characters of a call in messages

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


@record
class Call:
    """One collective of one process.

    Attributes:
      transport: the connections.
      rank, size: the number of this process, and how many there are.
      number: how many collectives there were before.
      what: the function and its arguments, for messages; the same in all processes.
      timeout: seconds to wait for others.
    """

    transport: Transport
    rank: int
    size: int
    number: int
    what: str
    timeout: float

    def exchange(self, round_number: int, parts: Sequence[Sequence[NDArray]]) -> dict[int, NDArray]:
        """Send ``parts[rank]`` to each other process; the bytes that each of them sent.

        Raises:
          DistributedError: another process called something else.
        """
        others = [(self.rank + step) % self.size for step in range(1, self.size)]
        tag = f"c{self.number}.{round_number}"
        header = f"{_digest(self.what)} {self.what[:_SHOWN]}"
        sent = [
            self.transport.post(other, tag, header, parts[other], self.what) for other in others
        ]
        messages = self.transport.collect(others, tag, self.timeout, self.what)
        self._compare({rank: messages[rank] for rank in sorted(messages)}, header)
        self.transport.flush(sent, self.timeout, self.what)
        return {rank: message.payload for rank, message in messages.items()}

    def _compare(self, messages: dict[int, Message], header: str) -> None:
        for rank, message in messages.items():
            if message.header != header:
                theirs = message.header.partition(" ")[2]
                raise DistributedError(
                    f"processes do not agree: collective {self.number} is\n"
                    f"  {self.what[:_SHOWN]} in process {self.rank}, and\n"
                    f"  {theirs} in process {rank}.\n"
                    "All processes must call the same functions in the same order, with the same "
                    "structures, shapes and dtypes"
                )


def all_reduce(call: Call, arrays: Sequence[NDArray], op: str) -> list[NDArray]:
    """Elementwise sums (or products, ...) over all processes."""
    joined = [_Joined(arrays, dtype) for dtype in dict.fromkeys(x.dtype for x in arrays)]
    flats = [group.flat for group in joined]
    if call.size <= 2 or sum(flat.nbytes for flat in flats) <= _ONE_ROUND:
        found = call.exchange(0, [flats] * call.size)
        totals = _reduced(call, flats, found, op)
    else:
        bounds = [_bounds(flat.size, call.size) for flat in flats]

        def parts(rank: int) -> list[NDArray]:
            return [f[b[rank] : b[rank + 1]] for f, b in zip(flats, bounds, strict=True)]

        found = call.exchange(0, [parts(rank) for rank in range(call.size)])
        own = _reduced(call, parts(call.rank), found, op)
        found = call.exchange(1, [own] * call.size)
        totals = [np.empty_like(flat) for flat in flats]
        for rank in range(call.size):
            likes = parts(rank)
            pieces = own if rank == call.rank else _split(found[rank], likes)
            for total, bound, piece in zip(totals, bounds, pieces, strict=True):
                total[bound[rank] : bound[rank + 1]] = piece
    results: list[Any] = [None] * len(arrays)
    for group, total in zip(joined, totals, strict=True):
        group.put_back(total, results)
    return results


def all_gather(call: Call, arrays: Sequence[NDArray]) -> list[NDArray]:
    """For each array those of all processes, along a new first dimension."""
    found = call.exchange(0, [arrays] * call.size)
    pieces = [
        arrays if rank == call.rank else _split(found[rank], arrays) for rank in range(call.size)
    ]
    return [np.stack([piece[i] for piece in pieces]) for i in range(len(arrays))]


def reduce_scatter(call: Call, arrays: Sequence[NDArray], op: str) -> list[NDArray]:
    """Of the sums over all processes the element of this process, along the first dimension."""
    found = call.exchange(0, [[x[rank] for x in arrays] for rank in range(call.size)])
    return _reduced(call, [x[call.rank] for x in arrays], found, op)


def broadcast(call: Call, arrays: Sequence[NDArray], root: int) -> list[NDArray]:
    """The arrays of one process."""
    sends = call.rank == root
    found = call.exchange(0, [arrays if sends else ()] * call.size)
    return [x.copy() for x in arrays] if sends else _split(found[root], arrays)


def reduce(call: Call, arrays: Sequence[NDArray], root: int) -> list[NDArray]:
    """Sums over all processes in one of them, and zeros in the others."""
    found = call.exchange(0, [arrays if rank == root else () for rank in range(call.size)])
    if call.rank == root:
        return _reduced(call, arrays, found, "sum")
    return [np.zeros_like(x) for x in arrays]


def barrier(call: Call) -> list[NDArray]:
    """Nothing, once all processes have called it."""
    call.exchange(0, [()] * call.size)
    return []


class _Joined:
    """All arrays of one dtype, one after the other in one."""

    def __init__(self, arrays: Sequence[NDArray], dtype: np.dtype[Any]) -> None:
        self.members = [(i, x.shape, x.size) for i, x in enumerate(arrays) if x.dtype == dtype]
        # A copy even of a single one: compiled programs use the memory of their values again.
        self.flat = np.concatenate([arrays[i].reshape(-1) for i, _, _ in self.members])

    def put_back(self, flat: NDArray, results: list[Any]) -> None:
        start = 0
        for i, shape, size in self.members:
            results[i] = flat[start : start + size].reshape(shape)
            start += size


def _bounds(size: int, parts: int) -> list[int]:
    return [size * i // parts for i in range(parts + 1)]


def _split(data: NDArray, likes: Sequence[NDArray]) -> list[NDArray]:
    """The arrays whose bytes lie one after the other, of the types of others."""
    found, start = [], 0
    for like in likes:
        # Copied where it does not begin at a multiple of its elements' size.
        piece = data[start : start + like.nbytes]
        if start % max(like.dtype.itemsize, 1):
            piece = piece.copy()
        found.append(piece.view(like.dtype).reshape(like.shape))
        start += like.nbytes
    return found


def _reduced(
    call: Call, own: Sequence[NDArray], found: dict[int, NDArray], op: str
) -> list[NDArray]:
    """The contributions of all processes in one, in the order of their numbers."""
    pieces = [own if rank == call.rank else _split(found[rank], own) for rank in range(call.size)]
    return [_fold([piece[i] for piece in pieces], op) for i in range(len(own))]


def _fold(values: Sequence[NDArray], op: str) -> NDArray:
    dtype = values[0].dtype
    wide = dtype
    if dtypes.is_float(dtype) and dtype.itemsize < 4:
        wide = np.dtype(np.float32)
    function = REDUCTIONS[op]
    total = np.array(values[0], wide, order="C")
    with np.errstate(all="ignore"):
        for value in values[1:]:
            function(total, value.astype(wide, copy=False), out=total)
        return total.astype(dtype, copy=False)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
