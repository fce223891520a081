"""Pipelines: each process holds one stage of a model, and micro-batches pass through all.

The schedule is that of GPipe (Huang et al., 2019): all micro-batches go forwards, then all go
backwards, the last one first. While one stage works on a micro-batch, the others work on those
before and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, tree
from funcdl.core.array import Array
from funcdl.core.integers import integer
from funcdl.distributed.group import ProcessGroup
from funcdl.distributed.initialization import current_group
from funcdl.distributed.transport import Sent
from funcdl.errors import ArgumentError, DistributedError, NotDifferentiableError, ShapeError
from funcdl.ops.shape import zeros
from funcdl.transforms.arguments import as_arrays, check_function
from funcdl.transforms.derivatives import vjp
from funcdl.transforms.jit import jit

PyTree = Any


def pipeline(
    stage: Callable[..., Any], loss: Callable[..., Any], micro_batches: int
) -> Callable[..., tuple[Any, PyTree]]:
    """`jax.value_and_grad` of a loss whose model lies in several processes, a stage in each.

    All processes call this, and then the function that it returns, with what is theirs. The value
    is the mean over micro-batches: that of the whole batch, where the loss is a mean over examples.

    Args:
      stage: this process's part, called as ``stage(params, *values)`` with the array, or the arrays
        of the tuple, that the process before it returned; in process 0 with one micro-batch of
        `inputs`. A `Stage` of a `Partition` is one.
      loss: of the last process, called as ``loss(output, targets)`` with what its stage returned
        and a micro-batch of `targets`; a scalar. The others do not call it.
      micro_batches: into how many equal parts the first dimension of a batch is cut, an int.

    Returns:
      A function ``(params, inputs, targets)`` that returns the value, in every process, and the
      gradient by this process's own `params`. `inputs` are read in process 0 and `targets` in the
      last one; the others may pass None.

    Raises:
      ArgumentError: `micro_batches` is not positive.
      ShapeError: when called; a batch cannot be cut into equal parts.
      NotDifferentiableError: when called; the loss is no real scalar.
      DistributedError, PeerError, DistributedTimeoutError: when called, as for `all_reduce`.
    """
    parts = integer("pipeline: micro_batches", micro_batches)
    if parts < 1:
        raise ArgumentError(f"pipeline: micro_batches must be at least 1, got {parts}")
    check_function("pipeline", stage)
    check_function("pipeline", loss)

    # Compiled once: pullbacks are pytrees of what the backward pass reads.
    @jit
    def forward(params: PyTree, *values: Any) -> Any:
        return vjp(stage, params, *values)

    @jit
    def forward_to_loss(params: PyTree, targets: PyTree, *values: Any) -> Any:
        return vjp(lambda p, *xs: loss(stage(p, *xs), targets), params, *values)

    @jit
    def backward(pullback: Any, cotangent: Any, total: PyTree) -> tuple[PyTree, list[Any]]:
        gradient, *cotangents = pullback(cotangent)
        summed = gradient if total is None else tree.map(lambda a, b: a + b, total, gradient)
        return summed, cotangents

    def run(params: PyTree, inputs: PyTree = None, targets: PyTree = None) -> tuple[Any, PyTree]:
        group = current_group("pipeline")
        line = _Line(group)
        whole_inputs = _cut("inputs", inputs, parts) if line.first else []
        whole_targets = _cut("targets", targets, parts) if line.last else []
        taken: list[list[Any]] = []
        given: list[Any] = []
        pullbacks: list[Any] = []
        for part in range(parts):
            values = [whole_inputs[part]] if line.first else line.take_values()
            taken.append(values)
            if line.last:
                out, pullback = forward_to_loss(params, whole_targets[part], *values)
                _check_loss(out)
            else:
                out, pullback = forward(params, *values)
                line.send_values(out)
            given.append(out)
            pullbacks.append(pullback)
        gradient: Any = None
        for _ in range(parts):
            out, values, pullback = given.pop(), taken.pop(), pullbacks.pop()
            cotangent: Any = Array(np.asarray(1 / parts, out.dtype)) if line.last else None
            if not line.last:
                cotangent = line.take_cotangents(out)
            else:
                line.losses.append(out)
            gradient, cotangents = backward(pullback, cotangent, gradient)
            if not line.first:
                line.send_cotangents(values, cotangents)
        return line.finish(), gradient

    return run


class _Line:
    """One process's place in the line: what it takes from its neighbours, and sends them."""

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group
        self.first, self.last = group.rank == 0, group.rank == group.size - 1
        self.losses: list[Any] = []
        self._number = group.begin_pass()
        self._sent: list[Sent] = []

    def take_values(self) -> list[Any]:
        return self._take(self.group.rank - 1, "forward")

    def send_values(self, out: Any) -> None:
        self._send(self.group.rank + 1, "forward", _outputs(out))

    def take_cotangents(self, out: Any) -> Any:
        """A cotangent for each output; integers have none."""
        leaves, treedef = tree.flatten(out)
        found = iter(self._take(self.group.rank + 1, "backward"))
        wanted = sum(dtypes.is_inexact(x.dtype) for x in leaves)
        cotangents = [
            next(found, None) if dtypes.is_inexact(x.dtype) else zeros(x.aval.to_tangent())
            for x in leaves
        ]
        if any(c is None for c in cotangents) or next(found, None) is not None:
            raise DistributedError(
                f"pipeline: process {self.group.rank + 1} did not send the {wanted} cotangents of "
                f"what process {self.group.rank} gave it"
            )
        return treedef.unflatten(cotangents)

    def send_cotangents(self, values: Sequence[Any], cotangents: Sequence[Any]) -> None:
        pairs = zip(values, cotangents, strict=True)
        inexact = [ct for x, ct in pairs if dtypes.is_inexact(x.dtype)]
        self._send(self.group.rank - 1, "backward", inexact)

    def finish(self) -> Any:
        """The mean loss, in every process; all messages are on their way then."""
        others = [rank for rank in range(self.group.size) if rank != self.group.rank]
        if self.last:
            total = self.losses[-1]
            for value in self.losses[-2::-1]:  # in the order of the micro-batches
                total = total + value
            value = total / len(self.losses)
            for rank in others:
                self._send(rank, "loss", [value])
        else:
            (value,) = self._take(self.group.size - 1, "loss")
        self.group.flush(self._sent, "pipeline")
        return value

    def _take(self, rank: int, tag: str) -> list[Any]:
        found = self.group.take([rank], self._tag(tag), f"pipeline ({tag})")[1]
        return [Array(x) for x in found]

    def _send(self, rank: int, tag: str, arrays: Sequence[Any]) -> None:
        # Arrays of this pass, which nobody donates: they keep their values until they are sent.
        values = [np.ascontiguousarray(np.asarray(x)).reshape(x.shape) for x in arrays]
        sent = self.group.post(values, rank, self._tag(tag), f"pipeline ({tag})")
        self._sent.append(sent)

    def _tag(self, tag: str) -> str:
        return f"pipeline {self._number} {tag}"


def _outputs(out: Any) -> list[Any]:
    arrays = list(out) if type(out) in (tuple, list) else [out]
    if not all(isinstance(x, Array) for x in arrays):
        raise ArgumentError(
            "pipeline requires a stage to return an array or a tuple of arrays, but for the last "
            f"one; got {tree.show(tree.structure(out))}"
        )
    return arrays


def _cut(name: str, batch: PyTree, parts: int) -> list[PyTree]:
    leaves, treedef = as_arrays(name, batch, "pipeline")
    if not leaves:
        where = "the first process" if name == "inputs" else "the last process"
        raise ArgumentError(f"pipeline requires {name} in {where}, got {batch!r}")
    for leaf in leaves:
        if not leaf.shape or leaf.shape[0] % parts:
            raise ShapeError(
                f"pipeline requires the size of the first dimension of {name} to be a multiple of "
                f"micro_batches, {parts}; got {leaf.aval}"
            )
    rows = [leaf.shape[0] // parts for leaf in leaves]
    return [
        treedef.unflatten([x[i * n : (i + 1) * n] for x, n in zip(leaves, rows, strict=True)])
        for i in range(parts)
    ]


def _check_loss(out: Any) -> None:
    if not isinstance(out, Array) or out.shape or not dtypes.is_float(out.dtype):
        found = out.aval if isinstance(out, Array) else tree.show(tree.structure(out))
        raise NotDifferentiableError(f"pipeline requires loss to return a real scalar, got {found}")
