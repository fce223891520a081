"""What processes do together, on pytrees of arrays: eagerly, and in programs of every transform.

All processes call the same functions in the same order, with the same structures, shapes and
dtypes; what does not fit is an error in each of them. `all_reduce`, `all_gather`, `reduce_scatter`,
`broadcast` and `shard` are differentiated and batched as other functions are.

Raises (all of them):
  DistributedError: this process is in no group, or processes do not agree on what is called.
  PeerError: another process ended.
  DistributedTimeoutError: another process let this one wait for longer than the group's `timeout`.
  LeafTypeError: a leaf is no array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, tree
from funcdl.core.avals import ShapedArray
from funcdl.core.integers import integer
from funcdl.core.options import is_option
from funcdl.distributed import primitives
from funcdl.distributed.collectives import REDUCTIONS
from funcdl.distributed.group import ProcessGroup
from funcdl.distributed.initialization import current_group
from funcdl.errors import ArgumentError, DtypeError, LeafTypeError, ShapeError
from funcdl.ops.convert import convert_element_type
from funcdl.transforms.arguments import as_arrays

PyTree = Any
_OPS = (*REDUCTIONS, "mean")


def all_reduce(x: PyTree, op: str = "sum") -> PyTree:
    """Sums over all processes, elementwise, the same bits in each (see `jax.lax.psum`).

    Contributions are added in the order of the processes' numbers; half types in float32. Bools
    count as int32, but for "max" and "min". The derivative of a sum or mean is one; other
    reductions have none.

    Args:
      x: a pytree of arrays, whose shapes stay.
      op: "sum", "mean", "prod", "max" or "min". Means of integers and bools are floats.

    Raises:
      ArgumentError: there is no such `op`.
      DtypeError: the largest or smallest complex number is asked, or a leaf is float0.
    """
    leaves, treedef, paths, group = _operands("all_reduce", x)
    return treedef.unflatten(_reduced("all_reduce", leaves, paths, group, op))


class Pending:
    """A reduction that goes on while the program does (see `all_reduce_start`).

    JAX leaves this to its compiler. It is no pytree: wait for it where it was begun.
    """

    def __init__(self, finish: Callable[[], PyTree]) -> None:
        self._finish = finish

    def wait(self) -> PyTree:
        """The results; to be called once, in every process in the same order."""
        return self._finish()


def all_reduce_start(x: PyTree, op: str = "sum") -> Pending:
    """Begin an `all_reduce`, which another thread carries on (JAX leaves this to its compiler).

    Whatever is computed before the result's `wait()` is computed meanwhile, also in a jitted
    function.

    Args:
      x, op: as for `all_reduce`.

    Returns:
      A `Pending`, whose ``wait()`` returns what `all_reduce` does.

    Raises:
      ArgumentError, DtypeError: as `all_reduce`.
      NotDifferentiableError, MissingRuleError: under `grad` or `vmap`; `all_reduce` has both rules.
    """
    leaves, treedef, paths, group = _operands("all_reduce_start", x)
    leaves, finish = _prepared("all_reduce_start", leaves, group, op)
    (ticket,) = primitives.all_reduce_start.bind(
        *leaves, group=group, op=_sum_of_mean(op), paths=paths
    )
    out_avals = tuple(ShapedArray(leaf.shape, leaf.aval.dtype) for leaf in leaves)

    def wait() -> PyTree:
        outs = primitives.all_reduce_done.bind(ticket, group=group, out_avals=out_avals)
        return treedef.unflatten(finish(outs))

    return Pending(wait)


def all_gather(x: PyTree, *, tiled: bool = False) -> PyTree:
    """The arrays of all processes, the same in each (see `jax.lax.all_gather`).

    Args:
      x: a pytree of arrays.
      tiled: whether they lie one after the other along the first dimension, which then must be
        there; by default along a new first dimension.

    Raises:
      ShapeError: `tiled`, and a leaf has no dimension.
      DtypeError: a leaf is float0.
    """
    leaves, treedef, paths, group = _operands("all_gather", x)
    if tiled:
        _require_dimension("all_gather with tiled=True", leaves)
    outs = primitives.all_gather.bind(*leaves, group=group, paths=paths)
    if tiled:
        outs = [
            out.reshape(group.size * leaf.shape[0], *leaf.shape[1:])
            for out, leaf in zip(outs, leaves, strict=True)
        ]
    return treedef.unflatten(outs)


def reduce_scatter(x: PyTree, *, tiled: bool = False) -> PyTree:
    """Sums over all processes, of which each gets its part (see `jax.lax.psum_scatter`).

    Args:
      x: a pytree of arrays, with an element for each process along the first dimension.
      tiled: whether each gets a block of that dimension, whose size is a multiple of the
        processes' number; by default it gets one element, without the dimension.

    Raises:
      ShapeError: the first dimension's size is not as described.
      DtypeError: a leaf is float0.
    """
    leaves, treedef, paths, group = _operands("reduce_scatter", x)
    leaves = [_countable(leaf) for leaf in leaves]
    if tiled:
        _require_dimension("reduce_scatter with tiled=True", leaves)
        for leaf in leaves:
            if leaf.shape[0] % group.size:
                raise ShapeError(
                    "reduce_scatter with tiled=True requires the size of the first dimension to be "
                    f"a multiple of the number of processes, {group.size}; got {leaf.aval}"
                )
        leaves = [
            leaf.reshape(group.size, leaf.shape[0] // group.size, *leaf.shape[1:])
            for leaf in leaves
        ]
    primitives.check_members([leaf.aval for leaf in leaves], group.size)
    return treedef.unflatten(primitives.reduce_scatter.bind(*leaves, group=group, paths=paths))


def broadcast(x: PyTree, root: int = 0) -> PyTree:
    """The arrays of one process, in all of them (see `jax.lax.pbroadcast`).

    Args:
      x: a pytree of arrays, of the same structure, shapes and dtypes in every process; values count
        in one of them.
      root: the number of that process.

    Raises:
      ArgumentError: there is no such process.
      DtypeError: a leaf is float0.
    """
    leaves, treedef, paths, group = _operands("broadcast", x)
    root = group.check_rank("broadcast: root", root)
    outs = primitives.broadcast.bind(*leaves, group=group, root=root, paths=paths)
    return treedef.unflatten(outs)


def send(x: PyTree, dest: int, *, tag: int = 0) -> None:
    """Send arrays to one process, which asks for them by `recv` (compare `jax.lax.ppermute`).

    It waits for the bytes to be on their way, not for the other process to ask.

    Args:
      x: a pytree of arrays.
      dest: the number of the other process.
      tag: messages of one sender and tag arrive in their order.

    Raises:
      ArgumentError: there is no such process, or it is this one.
      DtypeError: a leaf is float0.
    """
    leaves, _, paths, group = _operands("send", x)
    dest = group.check_rank("send: dest", dest, other=True)
    primitives.send.bind(
        *leaves, group=group, rank=dest, tag=integer("send: tag", tag), paths=paths
    )


def recv(like: PyTree, source: int, *, tag: int = 0) -> PyTree:
    """The arrays that one process sent to this one (compare `jax.lax.ppermute`).

    Args:
      like: a pytree of arrays or `ShapeDtypeStruct`s, of the structure, shapes and dtypes of what
        is sent.
      source: the number of the other process.
      tag: which of its messages.

    Raises:
      ArgumentError: there is no such process, or it is this one.
      DistributedError: it sent other shapes or dtypes.
      LeafTypeError: a leaf of `like` has no shape or dtype.
    """
    group = current_group("recv")
    source = group.check_rank("recv: source", source, other=True)
    leaves, treedef = tree.flatten(like)
    paths = tuple(tree.format_path(path) for path in tree.paths(treedef))
    avals = tuple(_type_of(path, leaf) for path, leaf in zip(paths, leaves, strict=True))
    outs = primitives.recv.bind(
        group=group, rank=source, tag=integer("recv: tag", tag), out_avals=avals, paths=paths
    )
    return treedef.unflatten(outs)


def barrier() -> None:
    """Wait until all processes are here (JAX: `jax.effects_barrier` is of one process).

    Takes and returns nothing; may be called in a jitted function.
    """
    primitives.barrier.bind(group=current_group("barrier"))


def shard(x: PyTree) -> PyTree:
    """This process's part of a batch: a block of rows (see `jax.lax.axis_index`).

    Args:
      x: a pytree of arrays, whose first dimension is a multiple of the processes' number.

    Raises:
      ShapeError: the first dimension cannot be cut into equal parts.
      DtypeError: a leaf is float0.
    """
    leaves, treedef, _, group = _operands("shard", x)
    _require_dimension("shard", leaves)
    parts = []
    for leaf in leaves:
        rows, rest = divmod(leaf.shape[0], group.size)
        if rest:
            raise ShapeError(
                "shard requires the size of the first dimension to be a multiple of the number of "
                f"processes, {group.size}, so that all parts weigh the same; got {leaf.aval}. Drop "
                "or repeat some rows"
            )
        parts.append(leaf[group.rank * rows : (group.rank + 1) * rows])
    return treedef.unflatten(parts)


def _operands(
    what: str, x: PyTree
) -> tuple[list[Any], tree.TreeDef, tuple[str, ...], ProcessGroup]:
    group = current_group(what)
    leaves, treedef = as_arrays("x", x, what)
    for leaf in leaves:
        if leaf.aval.dtype == dtypes.float0:
            raise DtypeError(f"{what} does not accept {leaf.aval}: float0 has no values")
    paths = tuple(tree.format_path(path) for path in tree.paths(treedef))
    return leaves, treedef, paths, group


def _reduced(
    what: str, leaves: Sequence[Any], paths: tuple[str, ...], group: ProcessGroup, op: str
) -> list[Any]:
    leaves, finish = _prepared(what, leaves, group, op)
    outs = primitives.all_reduce.bind(*leaves, group=group, op=_sum_of_mean(op), paths=paths)
    return finish(outs)


def _prepared(
    what: str, leaves: Sequence[Any], group: ProcessGroup, op: Any
) -> tuple[list[Any], Callable[[Sequence[Any]], list[Any]]]:
    """Operands as they are reduced, and what makes results of the reductions."""
    if not is_option(op, _OPS):
        raise ArgumentError(f"{what}: op must be one of {', '.join(map(repr, _OPS))}; got {op!r}")
    for leaf in leaves:
        if op in ("max", "min") and dtypes.is_complex(leaf.aval.dtype):
            raise DtypeError(f"{what}: complex numbers have no {op}, got {leaf.aval}")
    if op in ("max", "min"):
        return list(leaves), list
    if op == "mean":
        return [_inexact(leaf) for leaf in leaves], lambda outs: [x / group.size for x in outs]
    return [_countable(leaf) for leaf in leaves], list


def _sum_of_mean(op: str) -> str:
    return "sum" if op == "mean" else op


def _countable(x: Any) -> Any:
    if dtypes.is_bool(x.aval.dtype):
        return convert_element_type(x, new_dtype=np.dtype(np.int32), weak_type=False)
    return x


def _inexact(x: Any) -> Any:
    dtype = dtypes.to_inexact(x.aval.dtype)
    return x if dtype == x.aval.dtype else convert_element_type(x, new_dtype=dtype, weak_type=False)


def _require_dimension(what: str, leaves: Sequence[Any]) -> None:
    for leaf in leaves:
        if not leaf.shape:
            raise ShapeError(f"{what} requires arrays with a dimension, got {leaf.aval}")


def _type_of(path: str, x: Any) -> ShapedArray:
    try:
        return ShapedArray(tuple(map(int, x.shape)), dtypes.canonicalize(dtypes.as_dtype(x.dtype)))
    except (AttributeError, TypeError):
        raise LeafTypeError(
            f"recv requires like{path} to have a shape and a dtype, got {type(x).__name__}: {x!r}; "
            "pass ShapeDtypeStruct(shape, dtype)"
        ) from None
