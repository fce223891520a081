"""Attention kernels against NumPy, in Triton's interpreter: problems, and the whole computation."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from funcdl.kernels.triton.library import (
    attention_forward,
    attention_key_gradient,
    attention_query_gradient,
)
from funcdl.kernels.triton.library.attention_problem import Attention
from funcdl.kernels.triton.library.template import tiles
from funcdl.ops import attention_formula

Array = np.ndarray[Any, Any]
F32 = np.dtype(np.float32)
BF16 = np.dtype(ml_dtypes.bfloat16)

MODULES = (attention_forward, attention_query_gradient, attention_key_gradient)

ALL = {"mask": True, "bias": True, "query_lengths": True, "key_lengths": True}


def problem(
    queries: int,
    keys: int,
    *,
    batch: int = 2,
    heads: int = 2,
    groups: int = 1,
    size: int = 8,
    dtype: np.dtype[Any] = F32,
    bias: bool = False,
    mask: bool = False,
    **options: Any,
) -> Attention:
    """A problem whose bias is one for all batches, and whose mask is one for all heads."""
    of_bias = (0, queries * keys, keys, 1) if bias else None
    of_mask = (queries * keys, 0, keys, 1) if mask else None
    return Attention(
        batch, queries, keys, heads, groups, size, dtype, 0.4, bias=of_bias, mask=of_mask, **options
    )


# Parts of one product: heads of queries, then those of keys and of values, position by position;
# and heads one after the other, as PyTorch has them. Gradients have other places.
JOINED = (
    ("query", (0, 19 * 128, 128, 16)),
    ("key", (64, 23 * 96, 96, 8)),
    ("value", (80, 23 * 104, 104, 16)),
    ("query_gradient", (3, 4 * 19 * 8, 8, 19 * 8)),
    ("key_gradient", (16, 23 * 48, 48, 8)),
    ("value_gradient", (0, 2 * 23 * 8, 8, 23 * 8)),
)

# Each with the sides BT and BS of its blocks.
QUICK: dict[str, tuple[Attention, int, int]] = {
    "plain": (problem(19, 23), 16, 16),
    "causal": (problem(37, 37, batch=1, after=0), 16, 16),
    "window": (problem(50, 50, batch=1, heads=1, before=9, after=3), 16, 16),
    "extras": (problem(21, 18, groups=2, before=6, after=2, **ALL), 16, 16),
    "lonely": (problem(40, 20, batch=1, heads=1, before=3, after=0, mask=True), 16, 16),
    "bias": (problem(20, 35, batch=1, bias=True), 16, 16),
    "bias_causal": (problem(35, 35, batch=1, heads=1, after=0, bias=True), 16, 16),
    "bf16": (problem(20, 33, batch=1, dtype=BF16, after=0), 16, 16),
    "places": (problem(19, 23, heads=4, groups=2, after=0, places=JOINED), 16, 16),
    "dropout": (problem(18, 21, heads=4, groups=2, dropout=0.25), 16, 16),
    "dropout_lonely": (
        problem(40, 19, batch=1, before=3, after=0, mask=True, dropout=0.6),
        16,
        16,
    ),
}
SLOW: dict[str, tuple[Attention, int, int]] = {
    **{
        f"tiles_{t}_{s}": (problem(70, 90, heads=4, groups=2, size=24, before=30, after=5), t, s)
        for t, s in ((16, 32), (32, 16), (64, 32))
    },
    **{
        f"extras_{t}_{s}": (problem(45, 41, heads=4, groups=2, before=4, after=20, **ALL), t, s)
        for t, s in ((16, 32), (32, 16), (32, 32))
    },
    "places_extras": (
        problem(19, 23, heads=4, groups=2, before=9, after=3, places=JOINED, **ALL),
        16,
        32,
    ),
    "places_bf16": (problem(19, 23, heads=4, groups=2, dtype=BF16, places=JOINED), 32, 16),
    "whole_blocks": (problem(64, 64, heads=4, groups=2, after=0), 16, 16),
    "whole_blocks_window": (problem(80, 96, batch=1, before=40, after=20), 16, 32),
    "whole_blocks_plain": (problem(64, 96, batch=1, heads=1), 32, 16),
    "single": (problem(1, 1, heads=1, batch=1, size=1), 16, 16),
    "one_query": (problem(1, 70, heads=8, groups=1, size=16, key_lengths=True), 16, 32),
    "future": (problem(33, 40, batch=1, before=0), 16, 16),
    "far": (problem(33, 40, batch=1, before=100, after=100), 16, 16),
    "lengths": (problem(33, 40, after=0, query_lengths=True, key_lengths=True), 16, 16),
    "bias_window": (
        problem(70, 67, heads=4, groups=2, before=20, after=3, bias=True, key_lengths=True),
        32,
        16,
    ),
    "bias_bf16": (problem(33, 40, dtype=BF16, after=0, bias=True), 16, 16),
    "dropout_bias": (problem(33, 40, heads=4, groups=2, after=0, bias=True, dropout=0.5), 16, 16),
    "dropout_causal": (problem(33, 33, heads=4, groups=2, after=0, dropout=0.5), 16, 32),
    "dropout_extras": (
        problem(45, 41, heads=4, groups=2, before=4, after=20, dropout=0.9, **ALL),
        32,
        16,
    ),
    "dropout_bf16": (problem(35, 50, batch=1, dtype=BF16, dropout=0.1), 16, 32),
}


def arrays(given: Attention) -> dict[str, Array]:
    """Inputs for a problem, and room for what the kernels write."""
    rng = np.random.default_rng(given.queries)
    query = (given.batch, given.queries, given.heads, given.size)
    key = (given.batch, given.keys, given.groups, given.size)
    found: dict[str, Array] = {
        **{name: rng.normal(size=query).astype(given.dtype) for name in ("query", "cotangent")},
        **{name: rng.normal(size=key).astype(given.dtype) for name in ("key", "value")},
        "bias": _bias(rng, (1, given.heads, given.queries, given.keys)),
        "mask": rng.random((given.batch, 1, given.queries, given.keys)) < 0.6,
        "query_lengths": rng.integers(0, given.queries + 1, given.batch).astype(np.int32),
        "key_lengths": rng.integers(0, given.keys + 1, given.batch).astype(np.int32),
        "dropout_keys": rng.integers(0, 2**32, (given.batch, given.heads, 2), np.uint32),
        **{name: np.empty(query, given.dtype) for name in ("out", "query_gradient")},
        **{name: np.empty(key, given.dtype) for name in ("key_gradient", "value_gradient")},
    }
    rows = (given.batch, given.heads, given.queries)
    statistics = ("largest", "total", "mean", "denominator")
    return found | {name: np.empty(rows, np.float32) for name in statistics}


def _bias(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Also as masks are written by numbers: of parts of rows, and of all that a query sees."""
    bias = rng.normal(size=shape).astype(np.float32)
    bias[..., 2::5, :17] = -np.inf
    bias[..., 3::5, :] = np.finfo(np.float32).min
    bias[..., 4::5, :] = -1e30
    return bias


def run(given: Attention, bt: int, bs: int) -> dict[str, Array]:
    """All three kernels, one after the other."""
    from funcdl.kernels.triton.interpret import interpret

    memory = arrays(given)
    places = {name: _room(given, name, memory[name]) for name, _ in given.places}
    chosen = tiles(4, 2, BT=bt, BS=bs, BH=given.padded_size)
    for module in MODULES:
        rendered = module.kernel(given, chosen)
        names = [parameter.removesuffix("_ptr") for parameter in rendered.signature]
        interpret(rendered, {name: places.get(name, memory[name]) for name in names})
    for name, room in places.items():
        memory[name] = _part(given, name, room, memory[name].shape).copy()
        _part(given, name, room, memory[name].shape)[...] = FILLER
        assert (room == FILLER).all(), f"{name}: another place was written to"
    return memory


FILLER = 7


def _room(given: Attention, name: str, values: Array) -> Array:
    """A buffer that holds an array at its place."""
    offset, *strides = given.place(name)
    steps = zip((*strides, 1), values.shape, strict=True)
    room = np.full(offset + 1 + sum(step * (n - 1) for step, n in steps), FILLER, values.dtype)
    _part(given, name, room, values.shape)[...] = values
    return room


def _part(given: Attention, name: str, room: Array, shape: tuple[int, ...]) -> Array:
    offset, *strides = given.place(name)
    steps = [step * room.itemsize for step in (*strides, 1)]
    part: Array = np.lib.stride_tricks.as_strided(room[offset:], shape, steps)
    return part


def wanted(given: Attention) -> dict[str, Array]:
    """The same in NumPy and float64, from the formula."""
    memory = arrays(given)
    share = given.heads // given.groups
    query, cotangent = (memory[name].astype(np.float64) for name in ("query", "cotangent"))
    key, value = (np.repeat(memory[name].astype(np.float64), share, 2) for name in ("key", "value"))
    logits = np.einsum("btnh,bsnh->bnts", query, key) * given.scale
    row, column = np.arange(given.queries)[:, None], np.arange(given.keys)[None, :]
    seen = np.ones(logits.shape, bool)
    if given.bias:
        logits = logits + memory["bias"]
    if given.mask:
        seen &= memory["mask"]
    if given.before is not None:
        seen &= column + given.before >= row
    if given.after is not None:
        seen &= column <= row + given.after
    for name, place in (("query_lengths", row), ("key_lengths", column)):
        if getattr(given, name):
            seen &= place < memory[name][:, None, None, None]
    hidden = float(np.float32(attention_formula.HIDDEN))
    logits = np.where(seen, logits, hidden)
    largest = logits.max(-1)
    weights = np.exp(logits - largest[..., None])
    total = weights.sum(-1)
    weights /= total[..., None]
    scaled = np.ones(weights.shape)
    if given.dropout:
        kept = words(memory["dropout_keys"], *weights.shape[2:]) >= given.dropout * 2**32
        scaled = kept / (1 - given.dropout)
    memory["out"] = np.einsum("bnts,bsnh->btnh", weights * scaled, value)
    pulled = np.einsum("btnh,bsnh->bnts", cotangent, value) * scaled
    mean = (weights * pulled).sum(-1)
    logits = np.where(seen, weights * (pulled - mean[..., None]), 0) * given.scale

    def grouped(x: Array) -> Array:
        return x.reshape(*x.shape[:2], given.groups, share, -1).sum(3)

    return memory | {
        "largest": largest,
        "total": total,
        "query_gradient": np.einsum("bnts,bsnh->btnh", logits, key),
        "key_gradient": grouped(np.einsum("bnts,btnh->bsnh", logits, query)),
        "value_gradient": grouped(np.einsum("bnts,btnh->bsnh", weights * scaled, cotangent)),
    }


def words(keys: Array, rows: int, columns: int) -> Array:
    """The random words of the weights of heads with these keys, [..., 2].

    Threefry-2x32 with 20 rounds (J. Salmon and others, "Parallel random numbers: as easy as 1, 2,
    3", 2011) of the row and half the column.
    """
    key = [keys[..., None, None, i].astype(np.uint64) for i in (0, 1)]
    key = [*key, key[0] ^ key[1] ^ np.uint64(0x1BD11BDA)]
    low = np.uint64(0xFFFFFFFF)
    x0, x1 = (x.astype(np.uint64) for x in np.ogrid[:rows, : (columns + 1) // 2])
    x0, x1 = (x0 + key[0]) & low, (x1 + key[1]) & low
    for step in range(20):
        by = np.uint64((13, 15, 26, 6, 17, 29, 16, 24)[step % 8])
        x0 = (x0 + x1) & low
        x1 = ((x1 << by) & low | x1 >> (np.uint64(32) - by)) ^ x0
        if step % 4 == 3:
            turn = step // 4 + 1
            x0 = (x0 + key[turn % 3]) & low
            x1 = (x1 + key[(turn + 1) % 3] + np.uint64(turn)) & low
    both = np.stack(np.broadcast_arrays(x0, x1), -1)
    return both.reshape(*both.shape[:-2], -1)[..., :columns]


def differences(names: list[str]) -> dict[str, str]:
    """Where kernels and NumPy disagree, by problem; "" where they do not."""
    found = {}
    for name in names:
        given, bt, bs = (QUICK | SLOW)[name]
        tolerance = 4e-2 if given.dtype == BF16 else 2e-5
        text = ""
        left, right = run(given, bt, bs), wanted(given)
        for result in (
            *("out", "largest", "total"),
            *("query_gradient", "key_gradient", "value_gradient"),
        ):
            values = left[result].astype(np.float64)
            try:
                np.testing.assert_allclose(values, right[result], rtol=tolerance, atol=tolerance)
            except AssertionError as error:
                text += f"{result}: {error}\n"
        found[name] = text
    return found


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(differences(sys.argv[1:])))
