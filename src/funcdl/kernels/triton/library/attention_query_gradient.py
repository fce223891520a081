"""The gradient of attention by its queries."""

from __future__ import annotations

import numpy as np

from funcdl.kernels.triton.library.attention_dropout import kept_weights
from funcdl.kernels.triton.library.attention_problem import Attention
from funcdl.kernels.triton.library.language import Constant, Pointer, tl
from funcdl.kernels.triton.library.template import Estimate, Tiles, instantiate, tiles
from funcdl.kernels.triton.triton_kernel import TritonKernel


def attention_query_gradient(
    query_ptr: Pointer,
    key_ptr: Pointer,
    value_ptr: Pointer,
    bias_ptr: Pointer,
    mask_ptr: Pointer,
    query_lengths_ptr: Pointer,
    key_lengths_ptr: Pointer,
    dropout_keys_ptr: Pointer,
    out_ptr: Pointer,
    largest_ptr: Pointer,
    total_ptr: Pointer,
    cotangent_ptr: Pointer,
    query_gradient_ptr: Pointer,
    mean_ptr: Pointer,
    denominator_ptr: Pointer,
    QUERIES: Constant,
    KEYS: Constant,
    HEADS: Constant,
    GROUPS: Constant,
    SIZE: Constant,
    QUERY: Constant,
    KEY: Constant,
    VALUE: Constant,
    QUERY_GRADIENT: Constant,
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
    """One program: BT queries of one head, against all keys that they see, BS at a time.

    With weights P = softmax(scale Q K^T) and the result O = P V, the cotangent dO gives dP = dO V^T
    and, through the softmax, dS = P ∘ (dP - mean) where a row's mean is Σ_j P_ij dP_ij. That sum
    over keys is one over a head's elements, Σ_h dO_ih O_ih, so it is known before the first key
    (T. Dao and others, "FlashAttention", 2022, section B.2). Weights are computed again from what
    the forward kernel has left of each row: from the logarithm of their denominator, or beside a
    bias, next to which a logarithm may be lost, from the largest logit and the total. Logits that
    were rounded at such a size may differ from the largest one's, but are not larger. Then
    dQ = scale dS K.

    Memory traffic: as forwards, and the cotangent. Each program stores its rows' means and the
    logarithms (base 2) of their softmax's denominators for the kernel of keys and values, which
    runs after this one: there every block of keys would compute them anew, an eighth of its work.
    """
    LOG2_E: tl.constexpr = 1.4426950408889634
    program = tl.program_id(0)
    blocks = (QUERIES + BT - 1) // BT
    first_row = (blocks - 1 - program % blocks) * BT
    pair = program // blocks
    batch = (pair // HEADS).to(tl.int64)
    head = pair % HEADS
    wide_head = head.to(tl.int64)
    rows = first_row + tl.arange(0, BT)
    dims = tl.arange(0, BH)
    rows_in = (rows < QUERIES)[:, None]
    dims_in = dims < SIZE
    query_in = rows_in & dims_in[None, :]

    of_query = QUERY[0] + batch * QUERY[1] + wide_head * QUERY[3]
    at_query = rows[:, None] * QUERY[2] + dims[None, :]
    of_out = batch * QUERIES * HEADS * SIZE + head * SIZE
    at_out = rows[:, None] * (HEADS * SIZE) + dims[None, :]
    query = tl.load(query_ptr + of_query + at_query, mask=query_in, other=0.0)
    cotangent = tl.load(cotangent_ptr + of_out + at_out, mask=query_in, other=0.0)
    out = tl.load(out_ptr + of_out + at_out, mask=query_in, other=0.0)
    wide_group = wide_head // (HEADS // GROUPS)
    of_key = KEY[0] + batch * KEY[1] + wide_group * KEY[3]
    of_value = VALUE[0] + batch * VALUE[1] + wide_group * VALUE[3]
    at_row = pair.to(tl.int64) * QUERIES + rows
    largest = tl.load(largest_ptr + at_row, mask=rows < QUERIES, other=0.0)
    total = tl.load(total_ptr + at_row, mask=rows < QUERIES, other=1.0)
    denominator = largest * LOG2_E + tl.log2(total)
    mean = tl.sum(out.to(tl.float32) * cotangent.to(tl.float32), 1)
    tl.store(mean_ptr + at_row, mean, mask=rows < QUERIES)
    tl.store(denominator_ptr + at_row, denominator, mask=rows < QUERIES)
    if QUERY_LENGTHS:
        rows_count = rows < tl.load(query_lengths_ptr + batch)
    if KEY_LENGTHS:
        key_length = tl.load(key_lengths_ptr + batch)
    if BIAS is not None:
        of_bias = batch * BIAS[0] + wide_head * BIAS[1]
    if MASK is not None:
        of_mask = batch * MASK[0] + wide_head * MASK[1]
    if DROPOUT is not None:
        random0 = tl.load(dropout_keys_ptr + pair * 2)
        random1 = tl.load(dropout_keys_ptr + pair * 2 + 1)

    begin = 0
    end = KEYS
    inside = 0
    outside = KEYS // BS * BS
    if (BEFORE is None and AFTER is None) and KEYS % BS > 0:
        # The last keys alone would be no loop, and stand in registers beside those of the others.
        outside = 0
    if BEFORE is not None:
        begin = tl.minimum(tl.maximum(first_row - BEFORE, 0), KEYS) // BS * BS
        inside = (tl.maximum(first_row + BT - 1 - BEFORE, 0) + BS - 1) // BS * BS
    if AFTER is not None:
        end = tl.minimum(tl.maximum(first_row + BT + AFTER, 0), KEYS)
        outside = tl.minimum(tl.maximum(first_row + AFTER + 1, 0) // BS * BS, outside)
    inside = tl.minimum(tl.maximum(inside, begin), (end + BS - 1) // BS * BS)
    outside = tl.maximum(tl.minimum(outside, end), inside)

    acc = tl.zeros([BT, BH], tl.float32)
    for part in tl.static_range(3):
        low = inside
        high = outside
        if part == 0:
            low = begin
            high = inside if BEFORE is not None else begin
        if part == 2:
            low = outside
            high = end
        for start in range(low, high, BS):
            keys = start + tl.arange(0, BS)
            keys_in = keys < KEYS
            at_key = keys[None, :] * KEY[2] + dims[:, None]
            at_value = keys[None, :] * VALUE[2] + dims[:, None]
            key_in = dims_in[:, None]
            if part != 1:
                key_in = key_in & keys_in[None, :]
            key = tl.load(key_ptr + of_key + at_key, mask=key_in, other=0.0)
            value = tl.load(value_ptr + of_value + at_value, mask=key_in, other=0.0)
            logits = tl.dot(query, key, input_precision=PRECISION)
            # A hidden key has no gradient, whatever its weight is.
            if BIAS is None:
                weights = tl.exp2(logits * (SCALE * LOG2_E) - denominator[:, None])
            else:
                at_bias = rows.to(OFFSETS)[:, None] * BIAS[2]
                at_bias += keys.to(OFFSETS)[None, :] * BIAS[3]
                bias_in = rows_in & keys_in[None, :]
                bias = tl.load(bias_ptr + of_bias + at_bias, mask=bias_in, other=0.0)
                logits = (logits * SCALE + bias - largest[:, None]) * LOG2_E
                logits = tl.minimum(logits, 0.0, propagate_nan=tl.PropagateNan.ALL)
                weights = tl.exp2(logits)
            if part != 1:
                weights = tl.where(keys_in[None, :], weights, 0.0)
                if BEFORE is not None:
                    weights = tl.where(keys[None, :] + BEFORE >= rows[:, None], weights, 0.0)
                if AFTER is not None:
                    weights = tl.where(keys[None, :] <= rows[:, None] + AFTER, weights, 0.0)
            if QUERY_LENGTHS:
                weights = tl.where(rows_count[:, None], weights, 0.0)
            if KEY_LENGTHS:
                weights = tl.where((keys < key_length)[None, :], weights, 0.0)
            if MASK is not None:
                at_mask = rows.to(OFFSETS)[:, None] * MASK[2]
                at_mask += keys.to(OFFSETS)[None, :] * MASK[3]
                mask_in = rows_in & keys_in[None, :]
                seen = tl.load(mask_ptr + of_mask + at_mask, mask=mask_in, other=0)
                weights = tl.where(seen != 0, weights, 0.0)
            pulled = tl.dot(cotangent, value, input_precision=PRECISION)
            if DROPOUT is not None:
                kept = kept_weights(random0, random1, rows, start, BS, DROPOUT[0])
                pulled = tl.where(kept, pulled * DROPOUT[1], 0.0)
            pulled = weights * (pulled - mean[:, None])
            acc = tl.dot(pulled.to(key.dtype), tl.trans(key), acc, input_precision=PRECISION)

    if BIAS is not None:
        acc = acc / tl.load(total_ptr + at_row, mask=rows < QUERIES, other=1.0)[:, None]
    gradient = (acc * SCALE).to(query.dtype)
    of_gradient = QUERY_GRADIENT[0] + batch * QUERY_GRADIENT[1] + wide_head * QUERY_GRADIENT[3]
    at_gradient = rows[:, None] * QUERY_GRADIENT[2] + dims[None, :]
    tl.store(query_gradient_ptr + of_gradient + at_gradient, gradient, mask=query_in)


def candidates(problem: Attention) -> list[Tiles]:
    """What an autotuner may try, the default first."""
    size = problem.padded_size
    if problem.dropout:  # whose random bits need more than all else
        found = [(32, 32, 8, 2), (32, 32, 8, 1), (16, 32, 4, 1)]
    elif problem.dtype.itemsize == 4:
        found = [(32, 32, 4, 2), (64, 32, 4, 2), (64, 32, 8, 2), (32, 32, 8, 2)]
    elif size <= 64:
        if problem.bias is not None or problem.mask is not None or problem.size < size:
            found = [(64, 32, 4, 3), (64, 64, 4, 3), (64, 64, 8, 3), (128, 64, 8, 2)]
            found.append((32, 32, 4, 2))  # which spills nothing beside bias and mask
        else:
            found = [(64, 64, 4, 2), (64, 32, 4, 3), (64, 64, 8, 3), (128, 64, 8, 2)]
    elif size <= 128:
        if problem.bias is not None or problem.mask is not None or problem.size < size:
            found = [(64, 32, 8, 2), (64, 32, 4, 2), (64, 64, 8, 2), (128, 64, 8, 2)]
        else:
            found = [(64, 64, 4, 2), (64, 32, 4, 2), (64, 32, 8, 2), (128, 64, 8, 2)]
    else:
        found = [(32, 32, 8, 2), (32, 32, 8, 1), (16, 32, 4, 1)]
    return [tiles(warps, stages, BT=t, BS=s, BH=size) for t, s, warps, stages in found]


def kernel(problem: Attention, chosen: Tiles | None = None) -> TritonKernel:
    """The kernel for a problem; by default with the first of `candidates`."""
    chosen = candidates(problem)[0] if chosen is None else chosen
    own = {"out": problem.dtype, **problem.statistics(), "cotangent": problem.dtype}
    statistics = dict.fromkeys(("mean", "denominator"), np.dtype(np.float32))
    results = {"query_gradient": problem.dtype, **statistics}
    return instantiate(
        attention_query_gradient,
        buffers=problem.inputs() | own | results,
        constants=problem.constants("query", "key", "value", "query_gradient"),
        helpers=problem.helpers(),
        programs=problem.batch * problem.heads * -(-problem.queries // chosen["BT"]),
        chosen=chosen,
        subnormal=False,  # what so small a weight adds is lost beside the largest's
    )


def estimate(problem: Attention, chosen: Tiles) -> Estimate:
    """Three products for each pair of a query and a key that it sees."""
    itemsize = problem.dtype.itemsize
    tile = 2 * chosen["BS"] * chosen["BH"] * itemsize
    return Estimate(
        bytes=itemsize * (4 * problem.query_elements + 2 * problem.key_elements)
        + 16 * problem.rows,
        flops=6 * problem.pairs * problem.size,
        shared=2 * chosen["BT"] * chosen["BH"] * itemsize + tile * chosen.num_stages,
    )
