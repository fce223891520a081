"""Batches against the order that they are said to have, and laws: once each, resumed, shared."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import data, random, tree

KEY = random.key(7)
# Few numbers of rows: each makes the order by a program of its own.
ROWS = st.sampled_from([0, 1, 2, 7, 12, 24])
SIZES = st.integers(1, 30)
KEYS = st.sampled_from([None, KEY, random.PRNGKey(3)])


class Example(NamedTuple):
    image: Any
    label: Any


def all_batches(*args: Any, **options: Any) -> list[np.ndarray[Any, Any]]:
    return list(data.batches(*args, **options))


@given(rows=ROWS, size=SIZES, key=KEYS, epoch=st.integers(0, 2**40), drop=st.booleans())
def test_each_epoch_has_every_row_once(
    rows: int, size: int, key: Any, epoch: int, drop: bool
) -> None:
    drop = drop and size <= rows
    found = all_batches(np.arange(rows), size, key=key, epoch=epoch, drop_last=drop)
    remaining = rows % size
    sizes = [size] * (rows // size) + ([remaining] if remaining and not drop else [])
    assert [len(batch) for batch in found] == sizes
    joined = np.concatenate([np.arange(0), *found])
    order = np.arange(rows)
    if key is not None:
        order = np.asarray(random.permutation(random.fold_in(key, epoch), rows))
    np.testing.assert_array_equal(joined, order[: len(joined)])
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))


@given(rows=ROWS, size=SIZES, key=KEYS, drop=st.booleans(), draw=st.data())
def test_resuming_gives_the_same_rest(
    rows: int, size: int, key: Any, drop: bool, draw: st.DataObject
) -> None:
    options: dict[str, Any] = {"key": key, "epoch": 5, "drop_last": drop and size <= rows}
    whole = all_batches(np.arange(rows), size, **options)
    start = draw.draw(st.integers(0, len(whole)))
    rest = all_batches(np.arange(rows), size, start=start, **options)
    assert list(map(np.ndarray.tolist, rest)) == list(map(np.ndarray.tolist, whole[start:]))


@given(rows=ROWS, part=st.integers(1, 8), count=st.integers(1, 5), key=KEYS, drop=st.booleans())
def test_shards_share_each_batch(rows: int, part: int, count: int, key: Any, drop: bool) -> None:
    size = part * count
    options: dict[str, Any] = {"key": key, "drop_last": drop and size <= rows}
    whole = all_batches(np.arange(rows), size, **options)
    shards = [all_batches(np.arange(rows), size, shard=(i, count), **options) for i in range(count)]
    assert {len(shard) for shard in shards} == {len(whole)}
    for batch, *parts in zip(whole, *shards, strict=True):
        assert np.concatenate(parts).tolist() == batch.tolist()
        lengths = set(map(len, parts))
        assert max(lengths) - min(lengths) <= 1
        assert len(batch) < size or lengths == {part}


def test_orders_differ_by_epoch_and_by_key() -> None:
    orders = {
        tuple(np.concatenate(all_batches(np.arange(24), 8, key=key, epoch=epoch)).tolist())
        for key in (KEY, random.key(8))
        for epoch in range(4)
    }
    assert len(orders) == 8


@pytest.mark.parametrize("key", [None, KEY], ids=["in order", "shuffled"])
def test_all_arrays_of_a_tree_are_in_one_order(key: Any, tmp_path: Path) -> None:
    rows, size = 12, 5
    np.save(tmp_path / "rows.npy", np.arange(rows * 6).reshape(rows, 2, 3))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    arrays = {
        "pair": Example(mapped, [fnp.arange(rows), np.arange(rows) % 2 == 0]),
        "none": None,
        "empty": np.zeros((rows, 0, 2), np.float16),
        "keys": random.split(KEY, rows),
    }
    order = np.arange(rows)
    if key is not None:
        order = np.asarray(random.permutation(random.fold_in(key, 0), rows))
    found = all_batches(arrays, size, key=key, drop_last=False)
    assert len(found) == 3
    for i, batch in enumerate(found):
        chosen = order[i * size : (i + 1) * size]
        assert tree.structure(batch) == tree.structure(arrays)
        for old, new in zip(tree.leaves(arrays), tree.leaves(batch), strict=True):
            assert new.dtype == old.dtype
            np.testing.assert_array_equal(np.asarray(new), np.asarray(old)[chosen])
        assert type(batch["pair"].image) is np.ndarray
        assert isinstance(batch["pair"].label[0], fd.Array)


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u2", "i8", "f2", ml_dtypes.bfloat16, "f4", "f8", "c8", "c16", "U3", "O"]
)
def test_any_dtype(dtype: Any) -> None:
    array = np.arange(6).reshape(3, 2).astype(dtype)
    (batch,) = data.batches(array, 3)
    assert batch.dtype == array.dtype
    np.testing.assert_array_equal(batch, array)


@pytest.mark.parametrize("order", ["C", "F"])
def test_batches_are_copies(order: Any) -> None:
    array = np.array([[1, 2], [3, 4]], order=order)
    (batch,) = data.batches(array, 2)
    batch[:] = 0
    assert array.tolist() == [[1, 2], [3, 4]]


def test_mistakes_are_raised_by_the_call_not_by_the_first_batch() -> None:
    with pytest.raises(ValueError, match="batch_size is 4"):
        data.batches(np.arange(3), 4)


def test_the_key_is_not_used_up() -> None:
    with fd.debug_key_reuse():
        key = random.key(0)
        for epoch in range(2):
            assert len(all_batches(np.arange(12), 4, key=key, epoch=epoch)) == 3
            assert len(all_batches(np.arange(12), 4, key=key, epoch=epoch, start=1)) == 2


def test_what_can_be_an_integer() -> None:
    count = np.int64(2)
    found = all_batches(fnp.arange(4), count, epoch=fnp.int32(1), shard=[0, count])
    assert [operator.index(batch[0]) for batch in found] == [0, 2]
