"""Minibatches: the rows of some arrays, in the order of a random key, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcdl import random
from funcdl.core import tree
from funcdl.core.array import Array, ArrayOperators
from funcdl.core.integers import integer, integers
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, LeafTypeError, ShapeError
from funcdl.random.keys import single_key
from funcdl.transforms.arguments import describe


def batches(
    arrays: Any,
    batch_size: int,
    *,
    key: Any = None,
    epoch: int = 0,
    start: int = 0,
    drop_last: bool = True,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Any]:
    """The minibatches of one epoch: every row of the arrays once.

    With a key, the order is ``random.permutation(random.fold_in(key, epoch), rows)``, with the bits
    of `jax.random.permutation`; without one it is that of the arrays. Batch i of an epoch does not
    depend on those before it: a run that was cut off goes on with ``epoch`` and ``start``.

    Args:
      arrays: a pytree of NumPy arrays, also memory-mapped ones, and funcdl arrays, of any dtypes
        and of shapes ``(rows, ...)``, with as many rows in all.
      batch_size: the rows of a batch, of all shards together.
      key: one random key, the same in every epoch and process; None does not shuffle.
      epoch: the number of the epoch, from 0. It has no effect without a key.
      start: the number of the first batch that is made; those before it cost nothing.
      drop_last: whether to leave out what remains when `batch_size` does not divide the rows.
        Else it is a shorter last batch.
      shard: index and count of this process among those that share the work. It gets its part of
        each batch, so that every process makes as many batches, and their parts, joined by index,
        are the batches of one process. Parts of a shorter last batch differ by a row at most, and
        can have none.

    Returns:
      An iterator over pytrees like `arrays`, with arrays of shape ``(batch_size / count, ...)``:
      copies, NumPy arrays where they are in `arrays`, funcdl arrays where those are.

    Raises:
      LeafTypeError: a leaf is no array, or traced.
      ShapeError: a leaf has no dimension, or other rows; the key is an array of keys.
      DtypeError: the key is none.
      ArgumentError: there is no leaf; a batch size below 1, beyond the rows while the last batch is
        dropped, or no multiple of the count of shards; no such shard, epoch or batch.
    """
    leaves, treedef = tree.flatten(arrays)
    rows = _rows(tree.paths(treedef), leaves)
    batch_size = integer("batches: batch_size", batch_size)
    if batch_size < 1:
        raise ArgumentError(f"batches: batch_size must be at least 1, got {batch_size}")
    drop_last = flag("batches: drop_last", drop_last)
    if drop_last and batch_size > rows:
        raise ArgumentError(
            f"batches: batch_size is {batch_size}, and the arrays have {rows} rows, so that there "
            "would be no batch; make batch_size smaller, or pass drop_last=False"
        )
    count = rows // batch_size if drop_last else -(-rows // batch_size)
    epoch, start = integer("batches: epoch", epoch), integer("batches: start", start)
    if epoch < 0:
        raise ArgumentError(f"batches: epoch must not be negative, got {epoch}")
    if not 0 <= start <= count:
        raise ArgumentError(
            f"batches: start must be from 0 to {count}, the number of batches of an epoch, got "
            f"{start}"
        )
    index, parts = _shard(shard, batch_size)
    if key is not None:
        single_key("batches", key)
    return _parts(leaves, treedef, key, epoch, rows, batch_size, range(start, count), index, parts)


def _rows(paths: list[tuple[Any, ...]], leaves: list[Any]) -> int:
    """The size of the first dimension of all leaves."""
    if not leaves:
        raise ArgumentError("batches requires at least one array, got a pytree without leaves")
    names = [f"arrays{tree.format_path(path)}" for path in paths]
    for name, leaf in zip(names, leaves, strict=True):
        if not isinstance(leaf, np.ndarray | Array):
            traced = ", which is traced: make batches outside of jit, and pass them to it"
            raise LeafTypeError(
                f"batches requires NumPy or funcdl arrays, got {describe(leaf)} as {name}"
                + traced * isinstance(leaf, ArrayOperators)
            )
        if leaf.ndim == 0:
            raise ShapeError(f"batches requires arrays with a dimension of rows, got () as {name}")
        if leaf.shape[0] != leaves[0].shape[0]:
            raise ShapeError(
                f"batches requires arrays with as many rows in all, got {leaves[0].shape[0]} in "
                f"{names[0]} and {leaf.shape[0]} in {name}"
            )
    return int(leaves[0].shape[0])


def _shard(shard: Any, batch_size: int) -> tuple[int, int]:
    pair = integers("batches: shard", shard)
    if len(pair) != 2 or not 0 <= pair[0] < pair[1]:
        raise ArgumentError(
            f"batches: shard must be an index and a count, with 0 <= index < count, got {pair}"
        )
    if batch_size % pair[1]:
        raise ArgumentError(
            f"batches: batch_size must be a multiple of the {pair[1]} shards that each batch is "
            f"shared by, got {batch_size}"
        )
    return pair[0], pair[1]


def _parts(
    leaves: list[Any],
    treedef: tree.TreeDef,
    key: Any,
    epoch: int,
    rows: int,
    batch_size: int,
    numbers: range,
    index: int,
    parts: int,
) -> Iterator[Any]:
    """A generator of its own, so that errors are raised where `batches` is called."""
    if not numbers:
        return
    if key is None:
        order = np.arange(rows)
    else:
        order = np.asarray(random.permutation(random.fold_in(key, epoch), rows))
    for number in numbers:
        whole = order[number * batch_size : (number + 1) * batch_size]
        first, last = (len(whole) * i // parts for i in (index, index + 1))
        # Positions as data rather than a slice: one compiled gather serves every batch of an array
        # on a device, and what comes of a memory-mapped file is read here.
        chosen = whole[first:last]
        yield tree.unflatten(treedef, [leaf[chosen] for leaf in leaves])
