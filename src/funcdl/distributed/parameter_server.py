"""A parameter server: one process holds the parameters, the others pull them and push gradients.

Either all gradients of a round are averaged before the parameters move (synchronous), or each moves
them when it comes, and no worker may be more than some gradients ahead of the slowest one (Ho et
al., "More effective distributed ML via a stale synchronous parallel parameter server", 2013).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from funcdl.core import tree
from funcdl.core.array import Array
from funcdl.core.integers import integer
from funcdl.core.records import record
from funcdl.distributed.group import ProcessGroup
from funcdl.distributed.initialization import current_group
from funcdl.distributed.transport import Sent
from funcdl.errors import ArgumentError, DistributedError, ShapeError, TreeError
from funcdl.optim.base import GradientTransformation, apply_updates
from funcdl.transforms.arguments import as_arrays, describe_trees
from funcdl.transforms.jit import jit

PyTree = Any
NDArray = np.ndarray[Any, Any]
_PUSH, _PULL, _FINISH = range(3)
_TO_SERVER, _TO_WORKER = "server", "worker"


@record
class Served:
    """What a server has done (`serve` returns it; JAX has no parameter server).

    Attributes:
      updates: how often the parameters moved, an int.
      pushes: how many gradients each process sent, a tuple of ints.
      delay: the most updates that any gradient missed: those between the parameters that it was
        computed with and those that it moved, an int. 0 where rounds are synchronous.
    """

    updates: int
    pushes: tuple[int, ...]
    delay: int


def serve(
    params: PyTree, optimizer: GradientTransformation, *, staleness: int | None = None
) -> tuple[PyTree, Served]:
    """Be the parameter server, until all other processes have finished (JAX has none).

    Args:
      params: a pytree of floating-point arrays, the parameters to begin with.
      optimizer: what makes updates of gradients, as those of `funcdl.optim` (see
        `optax.GradientTransformation`).
      staleness: None for synchronous rounds: a gradient of each worker, their mean in the order of
        their numbers, one update. Else each gradient is an update of its own, and a worker gets
        parameters once it is at most so many gradients ahead of the slowest that has not finished.

    Returns:
      The parameters after all updates, and a `Served`.

    Raises:
      ArgumentError: `staleness` is negative, or there is no other process.
      DistributedError: a worker sent what is no gradient of these parameters.
      PeerError, DistributedTimeoutError: a worker died; none sent anything for too long.
    """
    group = current_group("serve")
    if staleness is not None and integer("serve: staleness", staleness) < 0:
        raise ArgumentError(f"serve: staleness must be None or not negative, got {staleness}")
    if group.size < 2:
        raise ArgumentError("serve requires another process, which is the worker; this is the only")
    server = _Server(group, params, optimizer, staleness)
    while server.active:
        server.step()
    group.flush(server.sent, "serve")
    return server.params, Served(server.version, tuple(server.pushes), server.delay)


class Worker:
    """A process that computes gradients for a server (JAX has no parameter server).

    Example::

        with distributed.Worker(params) as worker:
            for batch in batches:
                worker.push(gradient(worker.pull(), batch))

    Args:
      params: a pytree of the parameters' structure, shapes and dtypes; values do not count.
      server: the number of the process that calls `serve`.

    Attributes:
      version: how many updates the parameters have seen that were pulled last.

    Raises:
      ArgumentError: there is no such process, or it is this one.
    """

    def __init__(self, params: PyTree, server: int = 0) -> None:
        self._group = current_group("Worker")
        self._server = self._group.check_rank("Worker: server", server, other=True)
        leaves, self._treedef = as_arrays("params", params, "Worker")
        self._types = [(x.shape, x.aval.dtype) for x in leaves]
        self._paths = [tree.format_path(path) for path in tree.paths(self._treedef)]
        self._sent: list[Sent] = []
        self._finished = False
        self.version = 0

    def pull(self) -> PyTree:
        """The server's parameters, once it gives them to a worker as far ahead as this one.

        Raises:
          DistributedError: they are others than this worker was told, or it has finished.
          PeerError, DistributedTimeoutError: the server died, or does not answer.
        """
        self._tell(_PULL, (), "pull")
        _, (version, *arrays) = self._group.take([self._server], _TO_WORKER, "pull")
        if [(x.shape, x.dtype) for x in arrays] != self._types:
            raise DistributedError(
                "pull: the server has parameters of other shapes or dtypes than Worker was given"
            )
        self.version = int(version)
        return self._treedef.unflatten([Array(x) for x in arrays])

    def push(self, gradient: PyTree) -> None:
        """Send a gradient, by the parameters that were pulled last; does not wait for anything.

        Args:
          gradient: a pytree of the parameters' structure, shapes and dtypes.

        Raises:
          TreeError, ShapeError: it has another structure, shape or dtype.
          DistributedError: this worker has finished.
          PeerError: the server died.
        """
        leaves, treedef = as_arrays("gradient", gradient, "push")
        if treedef != self._treedef:
            raise TreeError(
                "push requires a gradient with the structure of the parameters:\n"
                + describe_trees(treedef, self._treedef)
            )
        for path, x, (shape, dtype) in zip(self._paths, leaves, self._types, strict=True):
            if (x.shape, x.aval.dtype) != (shape, dtype):
                raise ShapeError(
                    f"push requires gradient{path} to have the shape and dtype of its parameter, "
                    f"{shape} and {dtype}; got {x.aval}"
                )
        # Copies: a gradient may be donated while it is on its way.
        self._tell(_PUSH, [np.array(np.asarray(x), order="C") for x in leaves], "push")

    def finish(self) -> None:
        """Tell the server that this worker sends nothing more; takes and returns nothing."""
        if not self._finished:
            self._tell(_FINISH, (), "finish")
            self._group.flush(self._sent, "finish")
            self._finished = True

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Who fails has not finished: the server is to hear of it by this process's end.
        if error is None:
            self.finish()

    def _tell(self, code: int, arrays: Sequence[NDArray], what: str) -> None:
        if self._finished:
            raise DistributedError(f"{what}: this worker has told the server that it finished")
        # One gradient is on its way while the next is computed, not more.
        self._group.flush(self._sent, what)
        message = [np.asarray([code, self.version], np.int32), *arrays]
        self._sent = [self._group.post(message, self._server, _TO_SERVER, what)]


class _Server:
    """The parameters, and what workers have sent and wait for."""

    def __init__(
        self,
        group: ProcessGroup,
        params: PyTree,
        optimizer: GradientTransformation,
        staleness: int | None,
    ) -> None:
        self.group = group
        self.staleness = staleness
        leaves, self._treedef = as_arrays("params", params, "serve")
        self._types = [(x.shape, x.aval.dtype) for x in leaves]
        self.params = self._treedef.unflatten(leaves)
        self._state = optimizer.init(self.params)
        self.version = 0
        self.delay = 0
        self.pushes = [0] * group.size
        self.active = [rank for rank in range(group.size) if rank != group.rank]
        self.sent: list[Sent] = []
        self._gradients: dict[int, deque[list[NDArray]]] = {r: deque() for r in self.active}
        self._waiting: list[int] = []

        @jit
        def update(params: PyTree, state: Any, gradient: PyTree) -> tuple[PyTree, Any]:
            updates, state = optimizer.update(gradient, state, params)
            return apply_updates(params, updates), state

        @jit
        def update_by_mean(params: PyTree, state: Any, gradients: list[PyTree]) -> Any:
            total = gradients[0]
            for gradient in gradients[1:]:
                total = tree.map(lambda a, b: a + b, total, gradient)
            return update(params, state, tree.map(lambda x: x / len(gradients), total))

        self._update = update_by_mean

    def step(self) -> None:
        """Take one message, and do what it makes possible."""
        rank, (head, *arrays) = self.group.take(self.active, _TO_SERVER, "serve")
        # The next message is another's, if there is one.
        at = self.active.index(rank) + 1
        self.active = self.active[at:] + self.active[:at]
        code, version = (int(x) for x in head)
        if code == _FINISH:
            self.active.remove(rank)
        elif code == _PULL:
            self._waiting.append(rank)
        else:
            self._take(rank, arrays, version)
        if self.staleness is None:
            self._rounds()
        for waiting in [r for r in self._waiting if self._may_go_on(r)]:
            self._waiting.remove(waiting)
            self._answer(waiting)

    def _take(self, rank: int, arrays: list[NDArray], version: int) -> None:
        if [(x.shape, x.dtype) for x in arrays] != self._types:
            raise DistributedError(
                f"serve: process {rank} sent what is no gradient of the parameters: "
                f"{len(arrays)} arrays of other shapes or dtypes than the {len(self._types)} here"
            )
        self.pushes[rank] += 1
        self._gradients[rank].append(arrays)
        if self.staleness is not None:
            self.delay = max(self.delay, self.version - version)
            self._move([self._gradients[rank].popleft()])

    def _rounds(self) -> None:
        """Move the parameters as long as there is a gradient of every worker that goes on."""
        while any(self._gradients.values()) and all(self._gradients[r] for r in self.active):
            found = [queue.popleft() for _, queue in sorted(self._gradients.items()) if queue]
            self._move(found)

    def _move(self, gradients: Sequence[list[NDArray]]) -> None:
        trees = [self._treedef.unflatten([Array(x) for x in arrays]) for arrays in gradients]
        self.params, self._state = self._update(self.params, self._state, trees)
        self.version += 1

    def _may_go_on(self, rank: int) -> bool:
        if self.staleness is None:
            return not self._gradients[rank]
        slowest = min((self.pushes[r] for r in self.active), default=self.pushes[rank])
        return self.pushes[rank] - slowest <= self.staleness

    def _answer(self, rank: int) -> None:
        values = [np.asarray(x) for x in tree.leaves(self.params)]
        self.sent = [message for message in self.sent if not message.done]
        message = [np.asarray(self.version, np.int32), *values]
        self.sent.append(self.group.post(message, rank, _TO_WORKER, "serve"))
