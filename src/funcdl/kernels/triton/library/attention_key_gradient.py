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
    denominator_ptr: Pointer,
    key_gradient_ptr: Pointer,
    value_gradient_ptr: Pointer,
    QUERIES: Constant,
    KEYS: Constant,
    HEADS: Constant,
    GROUPS: Constant,
    SIZE: Constant,
    QUERY: Constant,
    KEY: Constant,
    VALUE: Constant,
    KEY_GRADIENT: Constant,
    VALUE_GRADIENT: Constant,
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

    dV = P^T dO and dK = scale dS^T Q, with P and dS as in the kernel of queries (`mean` and
    `denominator` are from there). Both are sums over queries, and over the heads that share the
    keys: one program adds them up in registers, so that there are no atomics and results are the
    same in every run. All blocks are transposed, keys by queries, so that none has to be turned for
    the last products. Queries at the edges of the window are masked, those in its middle are not.

    Memory traffic: a program reads its keys and values once, and the queries and cotangents of its
    heads, which neighbouring programs find in the cache.
    """
    LOG2_E: tl.constexpr = 1.4426950408889634
    HIDDEN: tl.constexpr = -0.7 * 3.4028234663852886e38
    INFINITE: tl.constexpr = float("inf")
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
    wide_group = group.to(tl.int64)
    of_key = KEY[0] + batch * KEY[1] + wide_group * KEY[3]
    at_key = keys[:, None] * KEY[2] + dims[None, :]
    of_value = VALUE[0] + batch * VALUE[1] + wide_group * VALUE[3]
    at_value = keys[:, None] * VALUE[2] + dims[None, :]
    key = tl.load(key_ptr + of_key + at_key, mask=key_in, other=0.0)
    value = tl.load(value_ptr + of_value + at_value, mask=key_in, other=0.0)
    if QUERY_LENGTHS:
        query_length = tl.load(query_lengths_ptr + batch)
    if KEY_LENGTHS:
        keys_count = keys < tl.load(key_lengths_ptr + batch)

    # Queries from `begin` to before `end` at most see any of these keys, and those from `inside` to
    # before `outside`, multiples of BT, see all of them.
    HIDES: tl.constexpr = MASK is not None or QUERY_LENGTHS or KEY_LENGTHS
    WINDOWED: tl.constexpr = BEFORE is not None or AFTER is not None
    begin = 0
    end = QUERIES
    inside = 0
    outside = QUERIES // BT * BT
    if not WINDOWED and QUERIES % BT > 0:
        # The last queries alone would be no loop, and stand in registers beside the others'.
        outside = 0
    if AFTER is not None:
        begin = tl.minimum(tl.maximum(first_key - AFTER, 0), QUERIES) // BT * BT
        inside = (tl.maximum(first_key + BS - 1 - AFTER, 0) + BT - 1) // BT * BT
    if BEFORE is not None:
        end = tl.minimum(tl.maximum(first_key + BS + BEFORE, 0), QUERIES)
        outside = tl.minimum(tl.maximum(first_key + BEFORE + 1, 0) // BT * BT, outside)
    inside = tl.minimum(tl.maximum(inside, begin), (end + BT - 1) // BT * BT)
    outside = tl.maximum(tl.minimum(outside, end), inside)

    key_acc = tl.zeros([BS, BH], tl.float32)
    value_acc = tl.zeros([BS, BH], tl.float32)
    for member in range(HEADS // GROUPS):
        head = group * (HEADS // GROUPS) + member
        wide_head = head.to(tl.int64)
        of_query = QUERY[0] + batch * QUERY[1] + wide_head * QUERY[3]
        of_out = batch * QUERIES * HEADS * SIZE + head * SIZE
        of_row = (batch * HEADS + head) * QUERIES
        if BIAS is not None:
            of_bias = batch * BIAS[0] + wide_head * BIAS[1]
        if MASK is not None:
            of_mask = batch * MASK[0] + wide_head * MASK[1]
        if DROPOUT is not None:
            of_random = (batch * HEADS + head) * 2
            random0 = tl.load(dropout_keys_ptr + of_random)
            random1 = tl.load(dropout_keys_ptr + of_random + 1)
        for part in tl.static_range(3):
            low = inside
            high = outside
            if part == 0:
                low = begin
                high = inside if AFTER is not None else begin
            if part == 2:
                low = outside
                high = end
            if HIDES or BIAS is not None:
                # One loop, since registers would not do for two or three.
                low = begin if part == 2 else 0
                high = end if part == 2 else 0
            for start in range(low, high, BT):
                rows = start + tl.arange(0, BT)
                rows_in = rows < QUERIES
                at_query = rows[:, None] * QUERY[2] + dims[None, :]
                at_out = rows[:, None] * (HEADS * SIZE) + dims[None, :]
                query_in = dims_in[None, :]
                if part != 1:
                    query_in = query_in & rows_in[:, None]
                query = tl.load(query_ptr + of_query + at_query, mask=query_in, other=0.0)
                cotangent = tl.load(cotangent_ptr + of_out + at_out, mask=query_in, other=0.0)
                # Rows out of range get weights of zero.
                at_row = of_row + rows
                if part == 1:
                    mean = tl.load(mean_ptr + at_row)
                    denominator = tl.load(denominator_ptr + at_row)
                else:
                    mean = tl.load(mean_ptr + at_row, mask=rows_in, other=0.0)
                    denominator = tl.load(denominator_ptr + at_row, mask=rows_in, other=INFINITE)
                turned = tl.dot(key, tl.trans(query), input_precision=PRECISION)
                if BIAS is None:
                    weights = tl.exp2(turned * (SCALE * LOG2_E) - denominator[None, :])
                else:
                    at_bias = rows.to(OFFSETS)[None, :] * BIAS[2]
                    at_bias += keys.to(OFFSETS)[:, None] * BIAS[3]
                    bias_in = keys_in & rows_in[None, :]
                    bias = tl.load(bias_ptr + of_bias + at_bias, mask=bias_in, other=0.0)
                    largest = tl.load(largest_ptr + at_row, mask=rows_in, other=INFINITE)
                    share = 1.0 / tl.load(total_ptr + at_row, mask=rows_in, other=1.0)
                    logits = (turned * SCALE + bias - largest[None, :]) * LOG2_E
                    logits = tl.minimum(logits, 0.0, propagate_nan=tl.PropagateNan.ALL)
                    weights = tl.exp2(logits) * share[None, :]
                if HIDES or (WINDOWED and part != 1):
                    visible = tl.zeros([BS, BT], tl.int32) == 0
                    if BEFORE is not None and part != 1:
                        visible = visible & (keys[:, None] + BEFORE >= rows[None, :])
                    if AFTER is not None and part != 1:
                        visible = visible & (keys[:, None] <= rows[None, :] + AFTER)
                    if QUERY_LENGTHS:
                        visible = visible & (rows < query_length)[None, :]
                    if KEY_LENGTHS:
                        visible = visible & keys_count[:, None]
                    if MASK is not None:
                        at_mask = rows.to(OFFSETS)[None, :] * MASK[2]
                        at_mask += keys.to(OFFSETS)[:, None] * MASK[3]
                        mask_in = keys_in & rows_in[None, :]
                        seen = tl.load(mask_ptr + of_mask + at_mask, mask=mask_in, other=0)
                        visible = visible & (seen != 0)
                    hidden = 0.0
                    if LONELY or HIDES:
                        # Hidden keys have a weight only where no key that is seen has more.
                        if BIAS is None:
                            largest = tl.load(largest_ptr + at_row, mask=rows_in, other=INFINITE)
                            share = 1.0 / tl.load(total_ptr + at_row, mask=rows_in, other=1.0)
                        hidden = tl.where(largest <= HIDDEN, share, 0.0)[None, :]
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
                pulled = weights * (pulled - mean[None, :])
                if HIDES or (WINDOWED and part != 1):
                    pulled = tl.where(visible, pulled, 0.0)
                key_acc = tl.dot(pulled.to(query.dtype), query, key_acc, input_precision=PRECISION)
        if LONELY:
            # A query that averages hidden keys gives its cotangent to all their values alike.
            for start in range(0, QUERIES, BT):
                rows = start + tl.arange(0, BT)
                rows_in = (rows < QUERIES) & ((start < begin) | (start >= end))
                largest = tl.load(largest_ptr + of_row + rows, mask=rows_in, other=0.0)
                share = 1.0 / tl.load(total_ptr + of_row + rows, mask=rows_in, other=1.0)
                lonely = largest <= HIDDEN
                if tl.max(lonely.to(tl.int32), 0) > 0:
                    at_out = rows[:, None] * (HEADS * SIZE) + dims[None, :]
                    out_in = lonely[:, None] & dims_in[None, :]
                    cotangent = tl.load(cotangent_ptr + of_out + at_out, mask=out_in, other=0.0)
                    if DROPOUT is None:
                        value_acc += tl.sum(cotangent.to(tl.float32) * share[:, None], 0)[None, :]
                    else:
                        kept = kept_weights(random0, random1, rows, first_key, BS, DROPOUT[0])
                        weights = tl.trans(tl.where(kept, share[:, None], 0.0))
                        value_acc = tl.dot(
                            weights.to(cotangent.dtype),
                            cotangent,
                            value_acc,
                            input_precision=PRECISION,
                        )

    if DROPOUT is not None:
        value_acc = value_acc * DROPOUT[1]
    gradient = (key_acc * SCALE).to(key.dtype)
    of_gradient = KEY_GRADIENT[0] + batch * KEY_GRADIENT[1] + wide_group * KEY_GRADIENT[3]
    at_gradient = keys[:, None] * KEY_GRADIENT[2] + dims[None, :]
    tl.store(key_gradient_ptr + of_gradient + at_gradient, gradient, mask=key_in)
    of_gradient = VALUE_GRADIENT[0] + batch * VALUE_GRADIENT[1] + wide_group * VALUE_GRADIENT[3]
    at_gradient = keys[:, None] * VALUE_GRADIENT[2] + dims[None, :]
    gradient = value_acc.to(value.dtype)
    tl.store(value_gradient_ptr + of_gradient + at_gradient, gradient, mask=key_in)


def candidates(problem: Attention) -> list[Tiles]:
    """What an autotuner may try, the default first."""
    size = problem.padded_size
    # A bias and a mask need registers of their own.
    extra = problem.bias is not None or problem.mask is not None
    if problem.dropout:  # whose random bits need more than all else
        found = [(32, 32, 8, 2), (32, 32, 8, 1), (16, 32, 8, 2), (16, 16, 8, 1)]
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
        if problem.heads == problem.groups:  # no loop over heads, whose bounds need registers
            found = [found[1], found[0], *found[2:]]
    elif size <= 128:
        found = [(32, 64, 8, 2), (64, 64, 8, 2), (32, 64, 4, 2), (32, 128, 8, 2), (32, 32, 8, 2)]
        if problem.heads == problem.groups:
            found = [found[2], found[1], found[0], *found[3:]]
    else:
        found = [(32, 32, 8, 2), (32, 32, 8, 1), (16, 32, 8, 2), (32, 64, 8, 1)]
    return [tiles(warps, stages, BT=t, BS=s, BH=size) for t, s, warps, stages in found]


def kernel(problem: Attention, chosen: Tiles | None = None) -> TritonKernel:
    """The kernel for a problem; by default with the first of `candidates`."""
    chosen = candidates(problem)[0] if chosen is None else chosen
    statistics = dict.fromkeys(("mean", "denominator"), np.dtype(np.float32))
    own = {"cotangent": problem.dtype, **statistics}
    results = dict.fromkeys(("key_gradient", "value_gradient"), problem.dtype)
    return instantiate(
        attention_key_gradient,
        buffers=problem.inputs() | problem.statistics() | own | results,
        constants=problem.constants("query", "key", "value", "key_gradient", "value_gradient"),
        helpers=problem.helpers(),
        programs=problem.batch * problem.groups * -(-problem.keys // chosen["BS"]),
        chosen=chosen,
        subnormal=False,  # what so small a weight adds is lost beside the largest's
    )


def estimate(problem: Attention, chosen: Tiles) -> Estimate:
    """Four products for each pair of a query and a key that it sees."""
    itemsize = problem.dtype.itemsize
    tile = 2 * chosen["BT"] * chosen["BH"] * itemsize
    return Estimate(
        bytes=itemsize * (2 * problem.query_elements + 4 * problem.key_elements) + 8 * problem.rows,
        flops=8 * problem.pairs * problem.size,
        shared=2 * chosen["BS"] * chosen["BH"] * itemsize + tile * chosen.num_stages,
    )
