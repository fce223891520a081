"""Attention in C, called with arrays of exactly the sizes that it may touch, beside its formula.

Arrays are copied to memory of their own first, which ends where they end: `tests/sanitize` runs
this under AddressSanitizer.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.kernels.attention_cases import words
from tests.kernels.c_harness import COMPILER, DTYPES, MARKS, NDArray, every_float, every_isa

from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.runtime.cpu_memory import address
from funcdl.runtime.shared_object import load
from funcdl.runtime.toolchain import Unit

pytestmark = MARKS

EVERYWHERE = 2**31
HIDDEN = -0.7 * float(np.finfo(np.float32).max)

# Slots: sizes, strides of bias and mask, bytes of each array, then the arrays: query, key, value,
# bias, mask, lengths of queries and of keys, cotangent, the results, and keys of dropout.
ENTRY = """
#include "fd_attention.h"
__attribute__((visibility("default"))) void test_attention(void **p) {
  const int64_t *s = p[0], *strides = p[1], *bytes = p[2];
  const uint32_t least = (uint32_t)s[9];
  fd_attention_sizes at = {.batch = s[0], .queries = s[1], .keys = s[2], .heads = s[3],
                           .groups = s[4], .size = s[5], .before = s[6], .after = s[7],
                           .chunks = s[8], .scale = 0.3, .least_kept = least,
                           .kept_scale = 1 / (1 - least / 0x1p32)};
  void *own[15];
  for (int i = 0; i < 15; i++) {
    own[i] = bytes[i] ? malloc((size_t)bytes[i]) : NULL;
    if (own[i]) memcpy(own[i], p[i + 3], (size_t)bytes[i]);
  }
  memcpy(at.bias_strides, strides, sizeof at.bias_strides);
  memcpy(at.mask_strides, strides + 4, sizeof at.mask_strides);
  const int64_t lanes = FD_VECTOR_BYTES / sizeof(TYPE);
  const int64_t rows = at.batch * at.heads * at.chunks * 2 * at.keys;
  TYPE *sums = malloc((size_t)(rows * fd_attention_up(at.size, lanes)) * sizeof(TYPE));
  fd_attention_operands_TT x = {.query = own[0], .key = own[1], .value = own[2], .bias = own[3],
                                .mask = own[4], .query_lengths = own[5], .key_lengths = own[6],
                                .dropout_keys = own[14]};
  fd_missing missing = 0;
  fd_attention_TT(at, x, own[8], own[9], own[10], &missing);
  fd_attention_gradient_TT(at, x, own[8], own[9], own[10], own[7], own[11], own[12], own[13], sums,
                           &missing);
  for (int i = 0; i < 15; i++) {
    if (i >= 8 && i < 14) memcpy(p[i + 3], own[i], (size_t)bytes[i]);
    free(own[i]);
  }
  free(sums);
}
"""


class Case(NamedTuple):
    batch: int
    queries: int
    keys: int
    heads: int
    groups: int
    size: int
    before: int = EVERYWHERE
    after: int = EVERYWHERE
    chunks: int = 1
    bias: tuple[int, ...] = ()  # dimensions that a bias or a mask varies along
    mask: tuple[int, ...] = ()
    lengths: bool = False
    dropout: float = 0.0  # in halves of halves: its scale has no error


CASES = [
    Case(1, 1, 1, 1, 1, 1),
    Case(1, 1, 5, 2, 2, 3, bias=(3,)),
    Case(2, 7, 3, 2, 1, 17, after=0),
    Case(1, 33, 31, 1, 1, 5, chunks=2, mask=(2, 3)),
    Case(1, 31, 33, 3, 3, 16, before=2, after=3, bias=(2,)),
    Case(1, 65, 193, 2, 1, 33, chunks=3, bias=(0, 1, 2, 3), mask=(3,)),
    Case(2, 32, 192, 1, 1, 64, after=0),
    Case(1, 97, 385, 1, 1, 47, before=70, after=7, chunks=2),
    Case(2, 45, 77, 4, 2, 9, bias=(1, 2, 3), mask=(0, 2, 3), lengths=True),
    Case(1, 129, 40, 1, 1, 15, after=0, chunks=4, lengths=True),
    Case(1, 40, 300, 1, 1, 31, bias=(1,), mask=(2,)),
    Case(2, 35, 41, 4, 2, 9, dropout=0.5),
    Case(1, 70, 400, 1, 1, 18, before=31, after=6, chunks=2, dropout=0.25),
    Case(2, 45, 77, 2, 1, 7, after=0, bias=(1, 2, 3), mask=(0, 3), lengths=True, dropout=0.75),
]


@cache
def entry(isa: str, t: str) -> Any:
    assert COMPILER is not None
    text = ENTRY.replace("TYPE", {"f32": "float", "f64": "double"}[t]).replace("TT", t)
    flags = compile_flags(isa, openmp=False)
    (path,) = COMPILER.build_all([Unit(text, flags, f"attention_{t}", (include_dir(),))])
    return load(path, "test_attention", 18)


def formula(
    case: Case, q: NDArray, k: NDArray, v: NDArray, bias: NDArray, mask: NDArray, d: NDArray,
    query_lengths: NDArray, key_lengths: NDArray, dropped: NDArray,
) -> list[NDArray]:  # fmt: skip
    """Result, largest logits, totals, and the cotangents, of heads that do not share keys."""
    logits = np.einsum("btnh,bsnh->bnts", q, k) * 0.3 + bias
    here, there = np.arange(case.queries)[:, None], np.arange(case.keys)
    seen = (there >= here - case.before) & (there <= here + case.after) & mask
    seen = seen & (here < query_lengths[:, None, None, None])
    seen = seen & (there < key_lengths[:, None, None, None])
    logits = np.where(seen, logits, HIDDEN)
    largest = logits.max(-1, keepdims=True)
    weights = np.exp(logits - largest)
    total = weights.sum(-1, keepdims=True)
    weights = weights / total
    pulled = np.einsum("btnh,bsnh->bnts", d, v) * dropped
    pulled = weights * (pulled - (weights * pulled).sum(-1, keepdims=True)) * seen * 0.3
    return [
        np.einsum("bnts,bsnh->btnh", weights * dropped, v),
        largest[..., 0],
        total[..., 0],
        np.einsum("bnts,bsnh->btnh", pulled, k),
        np.einsum("bnts,btnh->bsnh", pulled, q),
        np.einsum("bnts,btnh->bsnh", weights * dropped, d),
    ]


@every_isa
@every_float
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention_and_its_gradient(isa: str, t: str, case: Case) -> None:
    dtype, rng = DTYPES[t], np.random.default_rng(0)
    b, queries, keys, heads, groups, size = case[:6]

    def normal(*shape: int) -> NDArray:
        return rng.normal(size=shape).astype(dtype)

    q, d = normal(b, queries, heads, size), normal(b, queries, heads, size)
    k, v = normal(b, keys, groups, size), normal(b, keys, groups, size)
    grid = (b, heads, queries, keys)
    shapes = [tuple(n if i in dims else 1 for i, n in enumerate(grid)) for dims in case[9:11]]
    bias, mask = normal(*shapes[0]), rng.random(shapes[1]) < 0.7
    lengths = [np.full(b, n, np.int32) for n in (queries, keys)]
    if case.lengths:
        lengths = [np.maximum(n - 11 * np.arange(1, b + 1), 1).astype(np.int32) for n in lengths]
    outs = [
        np.full(shape, np.nan, dtype)
        for shape in (q.shape, grid[:3], grid[:3], q.shape, k.shape, v.shape)
    ]
    strides = [
        [s // x.itemsize if n > 1 else 0 for s, n in zip(x.strides, x.shape, strict=True)]
        for x in (bias, mask)
    ]
    random_keys = rng.integers(0, 2**32, (b, heads, 2), np.uint32)
    least = round(case.dropout * 2**32)
    arrays = [q, k, v, bias, mask, *lengths, d, *outs, random_keys]
    given = [True] * 3 + [bool(case.bias), bool(case.mask)] + [case.lengths] * 2 + [True] * 7
    given.append(bool(least))
    nbytes = np.array([x.nbytes * n for x, n in zip(arrays, given, strict=True)], np.int64)
    head = [np.array([*case[:9], least], np.int64), np.array(strides, np.int64), nbytes]
    entry(isa, t)([address(x) for x in (*head, *arrays)])

    shared = heads // groups
    own_k, own_v = k.repeat(shared, 2), v.repeat(shared, 2)
    added = bias if case.bias else np.zeros((), dtype)
    kept = mask if case.mask else np.ones((), bool)
    wide_q, wide_k, wide_v, added, wide_d = (
        x.astype(np.float64) for x in (q, own_k, own_v, added, d)
    )
    dropped = (words(random_keys, queries, keys) >= least) / (1 - case.dropout)
    wanted = formula(case, wide_q, wide_k, wide_v, added, kept, wide_d, *lengths, dropped)
    for i in (4, 5):
        wanted[i] = wanted[i].reshape(b, keys, groups, shared, size).sum(3)
    for x, y in zip(outs, wanted, strict=True):
        tolerance = 1e-5 if t == "f32" else 1e-13
        np.testing.assert_allclose(x, y, tolerance, tolerance * max(np.abs(y).max(), 1))
