"""The gradient of attention by its keys and values."""

from __future__ import annotations

import numpy as np

from funcdl.kernels.triton.library.attention_dropout import kept_weights
from funcdl.kernels.triton.library.attention_problem import Attention
from funcdl.kernels.triton.library.language import Constant, Pointer, tl
from funcdl.kernels.triton.library.template import Estimate, Tiles, instantiate, tiles
from funcdl.kernels.triton.triton_kernel import TritonKernel


def attention_key_gradient(
    query_ptr: Pointer,
    key_ptr: Pointer,
    value_ptr: Pointer,
    bias_ptr: Pointer,
    mask_ptr: Pointer,
    query_lengths_ptr: Pointer,
    key_lengths_ptr: Pointer,
    dropout_keys_ptr: Pointer,
    largest_ptr: Pointer,
    total_ptr: Pointer,
    cotangent_ptr: Pointer,
    mean_ptr: Pointer,
    key_gradient_ptr: Pointer,
    value_gradient_ptr: Pointer,
    QUERIES: Constant,
    KEYS: Constant,
    HEADS: Constant,
    GROUPS: Constant,
    SIZE: Constant,
    SCALE: Constant,
    BEFORE: Constant,
    AFTER: Constant,
    BIAS: Constant,
    MASK: Constant,
    QUERY_LENGTHS: Constant,
    KEY_LENGTHS: Constant,
    DROPOUT: Constant,
    LONELY: Constant,
    PRECISION: Constant,
    OFFSETS: Constant,
    BT: Constant,
    BS: Constant,
    BH: Constant,
) -> None:
    """One program: BS keys of one group, against all queries of its heads that see them.

    dV = P^T dO and dK = scale dS^T Q, with P and dS as in the kernel of queries (`mean` is from
    there). Both are sums over queries, and over the heads that share the keys: one program adds
    them up in registers, so that there are no atomics and results are the same in every run. All
    blocks are transposed, keys by queries, so that none has to be turned for the last products.

    Memory traffic: a program reads its keys and values once, and the queries and cotangents of its
    heads, which neighbouring programs find in the cache.
    """
    LOG2_E: tl.constexpr = 1.4426950408889634
    HIDDEN: tl.constexpr = -0.7 * 3.4028234663852886e38
    program = tl.program_id(0)
    blocks = (KEYS + BS - 1) // BS
    # The first keys first: where attention is causal the most queries see them.
    first_key = program % blocks * BS
    batch = (program // blocks // GROUPS).to(tl.int64)
    group = program // blocks % GROUPS
    keys = first_key + tl.arange(0, BS)
    dims = tl.arange(0, BH)
    keys_in = (keys < KEYS)[:, None]
    dims_in = dims < SIZE
    key_in = keys_in & dims_in[None, :]
    of_key = batch * KEYS * GROUPS * SIZE + group * SIZE
    at_key = keys[:, None] * (GROUPS * SIZE) + dims[None, :]
    key = tl.load(key_ptr + of_key + at_key, mask=key_in, other=0.0)
    value = tl.load(value_ptr + of_key + at_key, mask=key_in, other=0.0)
    if QUERY_LENGTHS:
        query_length = tl.load(query_lengths_ptr + batch)
    if KEY_LENGTHS:
        keys_count = keys < tl.load(key_lengths_ptr + batch)

    # Queries that see any of these keys are from `begin` to before `end`.
    begin = 0
    end = QUERIES
    if AFTER is not None:
        begin = tl.minimum(tl.maximum(first_key - AFTER, 0), QUERIES) // BT * BT
    if BEFORE is not None:
        end = tl.minimum(first_key + BS + BEFORE, QUERIES)

    key_acc = tl.zeros([BS, BH], tl.float32)
    value_acc = tl.zeros([BS, BH], tl.float32)
    for member in range(HEADS // GROUPS):
        head = group * (HEADS // GROUPS) + member
        wide_head = head.to(tl.int64)
        of_query = batch * QUERIES * HEADS * SIZE + head * SIZE
        of_row = (batch * HEADS + head) * QUERIES
        if BIAS is not None:
            of_bias = batch * BIAS[0] + wide_head * BIAS[1]
        if MASK is not None:
            of_mask = batch * MASK[0] + wide_head * MASK[1]
        if DROPOUT is not None:
            of_random = (batch * HEADS + head) * 2
            random0 = tl.load(dropout_keys_ptr + of_random)
            random1 = tl.load(dropout_keys_ptr + of_random + 1)
        for start in range(begin, end, BT):
            rows = start + tl.arange(0, BT)
            rows_in = rows < QUERIES
            at_query = rows[:, None] * (HEADS * SIZE) + dims[None, :]
            query_in = rows_in[:, None] & dims_in[None, :]
            query = tl.load(query_ptr + of_query + at_query, mask=query_in, other=0.0)
            cotangent = tl.load(cotangent_ptr + of_query + at_query, mask=query_in, other=0.0)
            # Rows out of range get weights of zero.
            largest = tl.load(largest_ptr + of_row + rows, mask=rows_in, other=0.0)
            total = tl.load(total_ptr + of_row + rows, mask=rows_in, other=float("inf"))
            mean = tl.load(mean_ptr + of_row + rows, mask=rows_in, other=0.0)
            turned = tl.dot(key, tl.trans(query), input_precision=PRECISION)
            logits = turned * (SCALE * LOG2_E)
            if BIAS is not None:
                at_bias = rows.to(OFFSETS)[None, :] * BIAS[2]
                at_bias += keys.to(OFFSETS)[:, None] * BIAS[3]
                bias_in = keys_in & rows_in[None, :]
                logits += tl.load(bias_ptr + of_bias + at_bias, mask=bias_in, other=0.0) * LOG2_E
            denominator = largest * LOG2_E + tl.log2(total)
            weights = tl.exp2(logits - denominator[None, :])
            # Hidden keys have a weight only where a query sees none at all.
            hidden = tl.where(largest <= HIDDEN, 1.0 / total, 0.0)[None, :]
            visible = tl.zeros([BS, BT], tl.int32) == 0
            if BEFORE is not None:
                visible = visible & (keys[:, None] + BEFORE >= rows[None, :])
            if AFTER is not None:
                visible = visible & (keys[:, None] <= rows[None, :] + AFTER)
            if QUERY_LENGTHS:
                visible = visible & (rows < query_length)[None, :]
            if KEY_LENGTHS:
                visible = visible & keys_count[:, None]
            if MASK is not None:
                at_mask = rows.to(OFFSETS)[None, :] * MASK[2]
                at_mask += keys.to(OFFSETS)[:, None] * MASK[3]
                mask_in = keys_in & rows_in[None, :]
                visible = visible & (
                    tl.load(mask_ptr + of_mask + at_mask, mask=mask_in, other=0) != 0
                )
            weights = tl.where(visible, weights, hidden)
            pulled = tl.dot(value, tl.trans(cotangent), input_precision=PRECISION)
            dropped = weights
            if DROPOUT is not None:
                kept = tl.trans(kept_weights(random0, random1, rows, first_key, BS, DROPOUT[0]))
                dropped = tl.where(kept, weights, 0.0)
                pulled = tl.where(kept, pulled * DROPOUT[1], 0.0)
            value_acc = tl.dot(
                dropped.to(cotangent.dtype), cotangent, value_acc, input_precision=PRECISION
            )
            pulled = tl.where(visible, weights * (pulled - mean[None, :]), 0.0)
            key_acc = tl.dot(pulled.to(query.dtype), query, key_acc, input_precision=PRECISION)
        if LONELY:
            # A query that sees no key gives its cotangent to all values alike.
            for start in range(0, QUERIES, BT):
                rows = start + tl.arange(0, BT)
                rows_in = (rows < QUERIES) & ((start < begin) | (start >= end))
                largest = tl.load(largest_ptr + of_row + rows, mask=rows_in, other=0.0)
                lonely = largest <= HIDDEN
                if tl.max(lonely.to(tl.int32), 0) > 0:
                    at_query = rows[:, None] * (HEADS * SIZE) + dims[None, :]
                    query_in = lonely[:, None] & dims_in[None, :]
                    cotangent = tl.load(
                        cotangent_ptr + of_query + at_query, mask=query_in, other=0.0
                    )
                    if DROPOUT is None:
                        value_acc += tl.sum(cotangent.to(tl.float32), 0)[None, :] / KEYS
                    else:
                        kept = kept_weights(random0, random1, rows, first_key, BS, DROPOUT[0])
                        weights = tl.trans(kept).to(cotangent.dtype)
                        dropped = tl.dot(weights, cotangent, input_precision=PRECISION)
                        value_acc += dropped / KEYS

    if DROPOUT is not None:
        value_acc = value_acc * DROPOUT[1]
    gradient = (key_acc * SCALE).to(key.dtype)
    tl.store(key_gradient_ptr + of_key + at_key, gradient, mask=key_in)
    tl.store(value_gradient_ptr + of_key + at_key, value_acc.to(value.dtype), mask=key_in)


def candidates(problem: Attention) -> list[Tiles]:
    """What an autotuner may try, the default first."""
    size = problem.padded_size
    extra = (
        problem.bias is not None or problem.mask is not None
    )  # which need registers of their own
    if problem.dropout:  # whose random bits need more than all else
        found = [(32, 32, 8, 2), (32, 32, 8, 1), (16, 32, 8, 2)]
    elif extra and problem.dtype.itemsize == 4:
        found = [(32, 32, 8, 1), (32, 32, 8, 2), (16, 32, 4, 1), (32, 32, 4, 1)]
    elif extra and size <= 64:
        found = [(32, 64, 8, 2), (32, 32, 4, 2), (32, 64, 4, 2), (64, 64, 8, 2)]
    elif extra and size <= 128:
        found = [(32, 32, 4, 2), (32, 32, 8, 2), (32, 64, 8, 2)]
    elif problem.dtype.itemsize == 4:
        found = [(32, 32, 4, 1), (32, 64, 4, 1), (32, 64, 8, 1)]
    elif size <= 64 and problem.size < size:
        found = [(32, 32, 4, 2), (32, 64, 8, 2), (64, 64, 8, 2)]
    elif size <= 64:
        found = [(32, 64, 4, 2), (64, 64, 4, 2), (64, 64, 8, 2), (64, 128, 8, 2)]
    elif size <= 128:
        found = [(32, 64, 8, 2), (64, 64, 8, 2), (32, 64, 4, 2), (32, 128, 8, 2)]
    else:
        found = [(32, 32, 8, 2), (32, 32, 8, 1), (32, 64, 8, 1)]
    return [tiles(warps, stages, BT=t, BS=s, BH=size) for t, s, warps, stages in found]


def kernel(problem: Attention, chosen: Tiles | None = None) -> TritonKernel:
    """The kernel for a problem; by default with the first of `candidates`."""
    chosen = candidates(problem)[0] if chosen is None else chosen
    own = {"cotangent": problem.dtype, "mean": np.dtype(np.float32)}
    results = dict.fromkeys(("key_gradient", "value_gradient"), problem.dtype)
    return instantiate(
        attention_key_gradient,
        buffers=problem.inputs() | problem.statistics() | own | results,
        constants=problem.constants(),
        helpers=problem.helpers(),
        programs=problem.batch * problem.groups * -(-problem.keys // chosen["BS"]),
        chosen=chosen,
    )


def estimate(problem: Attention, chosen: Tiles) -> Estimate:
    """Four products for each pair of a query and a key that it sees."""
    itemsize = problem.dtype.itemsize
    tile = 2 * chosen["BT"] * chosen["BH"] * itemsize
    return Estimate(
        bytes=itemsize * (2 * problem.query_elements + 4 * problem.key_elements)
        + 12 * problem.rows,
        flops=8 * problem.pairs * problem.size,
        shared=2 * chosen["BS"] * chosen["BH"] * itemsize + tile * chosen.num_stages,
    )
