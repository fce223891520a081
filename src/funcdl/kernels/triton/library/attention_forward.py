"""Attention that never stores its matrix of weights, forwards."""

from __future__ import annotations

from funcdl.kernels.triton.library.attention_dropout import kept_weights
from funcdl.kernels.triton.library.attention_problem import Attention
from funcdl.kernels.triton.library.language import Constant, Pointer, tl
from funcdl.kernels.triton.library.template import Estimate, Tiles, instantiate, tiles
from funcdl.kernels.triton.triton_kernel import TritonKernel


def attention_forward(
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
    QUERIES: Constant,
    KEYS: Constant,
    HEADS: Constant,
    GROUPS: Constant,
    SIZE: Constant,
    QUERY: Constant,
    KEY: Constant,
    VALUE: Constant,
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

    The softmax of a row needs its largest logit before the first weight. "Online" softmax takes the
    largest of the keys seen so far; when a larger one comes, what was added up is scaled down by
    ``exp(old - new)`` (M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax",
    2018; T. Dao and others, "FlashAttention", 2022; T. Dao, "FlashAttention-2", 2023). So a tile of
    logits lives in registers for as long as its keys and values are in shared memory.

    Memory traffic: each program reads its queries once and all keys and values that it sees, which
    neighbouring programs (of the same head) find in the cache; it writes results and two numbers
    for each row, the largest logit and the total of the weights relative to it.

    Exponentials are of base 2, which is what the hardware has; the scale takes up the factor. So a
    weight relative to the largest has an error that grows with its exponent (docs/accuracy.md): it
    is small, and counts less. A bias may be as large as numbers are, and -inf, so that the factor
    comes after the difference. Keys at the edges of the window are masked, those in its middle are
    not looked at one by one.
    """
    LOG2_E: tl.constexpr = 1.4426950408889634
    HIDDEN: tl.constexpr = -0.7 * 3.4028234663852886e38
    # Whether logits inside of the window are products and nothing else, the largest ones too.
    PLAIN: tl.constexpr = (
        BIAS is None and MASK is None and not QUERY_LENGTHS and not KEY_LENGTHS and SCALE > 0
    )
    program = tl.program_id(0)
    blocks = (QUERIES + BT - 1) // BT
    # The last queries of a head first: where attention is causal they have the most keys.
    first_row = (blocks - 1 - program % blocks) * BT
    pair = program // blocks
    batch = (pair // HEADS).to(tl.int64)
    head = pair % HEADS
    wide_head = head.to(tl.int64)
    rows = first_row + tl.arange(0, BT)
    dims = tl.arange(0, BH)
    rows_in = (rows < QUERIES)[:, None]
    dims_in = dims < SIZE

    # Positions of a sequence count from its first element, and fit into 32 bits: blocks of longer
    # ones would take twice the registers.
    of_query = QUERY[0] + batch * QUERY[1] + wide_head * QUERY[3]
    at_query = rows[:, None] * QUERY[2] + dims[None, :]
    query = tl.load(query_ptr + of_query + at_query, mask=rows_in & dims_in[None, :], other=0.0)
    wide_group = wide_head // (HEADS // GROUPS)
    of_key = KEY[0] + batch * KEY[1] + wide_group * KEY[3]
    of_value = VALUE[0] + batch * VALUE[1] + wide_group * VALUE[3]

    largest = tl.full([BT], float("-inf"), tl.float32)
    total = tl.zeros([BT], tl.float32)
    acc = tl.zeros([BT, BH], tl.float32)
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

    # All rows see keys from `begin` to before `end` at most, and all of them see those from
    # `inside` to before `outside`: multiples of BS, but for the end of all keys.
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
            key_in = dims_in[:, None]
            if part != 1:
                key_in = key_in & keys_in[None, :]
            key = tl.load(key_ptr + of_key + at_key, mask=key_in, other=0.0)
            logits = tl.dot(query, key, input_precision=PRECISION)
            factor = SCALE * LOG2_E
            if BIAS is not None:
                at_bias = rows.to(OFFSETS)[:, None] * BIAS[2]
                at_bias += keys.to(OFFSETS)[None, :] * BIAS[3]
                bias_in = rows_in & keys_in[None, :]
                bias = tl.load(bias_ptr + of_bias + at_bias, mask=bias_in, other=0.0)
                logits = logits * SCALE + bias
            elif part != 1 or not PLAIN:
                logits = logits * factor
                factor = 1.0
            if part != 1:
                if BEFORE is not None:
                    logits = tl.where(keys[None, :] + BEFORE >= rows[:, None], logits, HIDDEN)
                if AFTER is not None:
                    logits = tl.where(keys[None, :] <= rows[:, None] + AFTER, logits, HIDDEN)
            if QUERY_LENGTHS:
                logits = tl.where(rows_count[:, None], logits, HIDDEN)
            if KEY_LENGTHS:
                logits = tl.where((keys < key_length)[None, :], logits, HIDDEN)
            if MASK is not None:
                at_mask = rows.to(OFFSETS)[:, None] * MASK[2]
                at_mask += keys.to(OFFSETS)[None, :] * MASK[3]
                mask_in = rows_in & keys_in[None, :]
                seen = tl.load(mask_ptr + of_mask + at_mask, mask=mask_in, other=0)
                logits = tl.where(seen != 0, logits, HIDDEN)
            if part != 1:
                logits = tl.where(keys_in[None, :], logits, float("-inf"))

            if BIAS is None:
                # One instruction scales a logit and subtracts the largest.
                new = tl.maximum(largest, tl.max(logits, 1) * factor)
                weights = tl.exp2(logits * factor - new[:, None])
                shrink = tl.exp2(largest - new)
            else:
                new = tl.maximum(largest, tl.max(logits, 1))
                finite = tl.where(new == float("-inf"), 0.0, new)
                weights = tl.exp2((logits - finite[:, None]) * LOG2_E)
                shrink = tl.exp2((largest - finite) * LOG2_E)
            total = total * shrink + tl.sum(weights, 1)
            if DROPOUT is not None:
                kept = kept_weights(random0, random1, rows, start, BS, DROPOUT[0])
                weights = tl.where(kept, weights, 0.0)
            at_value = keys[:, None] * VALUE[2] + dims[None, :]
            value_in = dims_in[None, :]
            if part != 1:
                value_in = value_in & keys_in[:, None]
            value = tl.load(value_ptr + of_value + at_value, mask=value_in, other=0.0)
            acc = acc * shrink[:, None]
            acc = tl.dot(weights.to(value.dtype), value, acc, input_precision=PRECISION)
            largest = new

    if LONELY:
        # No key that a lonely query was compared with weighs more than a hidden one, as all others
        # are: it averages hidden ones, also those outside of its window.
        lonely = largest <= HIDDEN
        others = KEYS - tl.maximum(tl.minimum((end + BS - 1) // BS * BS, KEYS) - begin, 0)
        if others * tl.max(lonely.to(tl.int32), 0) > 0:
            mean = tl.zeros([1 if DROPOUT is None else BT, BH], tl.float32)
            for start in range(0, KEYS, BS):
                keys = start + tl.arange(0, BS)
                at_value = keys[:, None] * VALUE[2] + dims[None, :]
                other = (keys < KEYS) & ((start < begin) | (start >= end))
                value_in = dims_in[None, :] & other[:, None]
                value = tl.load(value_ptr + of_value + at_value, mask=value_in, other=0.0)
                if DROPOUT is None:
                    mean += tl.sum(value.to(tl.float32), 0)[None, :]
                else:
                    kept = kept_weights(random0, random1, rows, start, BS, DROPOUT[0])
                    weights = kept.to(value.dtype)
                    mean += tl.dot(weights, value, input_precision=PRECISION)
            shrink = tl.exp2((largest - HIDDEN) * (1.0 if BIAS is None else LOG2_E))
            acc = tl.where(lonely[:, None], acc * shrink[:, None] + mean, acc)
            total = tl.where(lonely, total * shrink + others, total)
            largest = tl.where(lonely, HIDDEN, largest)

    out = acc / total[:, None]
    if DROPOUT is not None:
        out = out * DROPOUT[1]
    of_out = batch * QUERIES * HEADS * SIZE + head * SIZE
    at_out = rows[:, None] * (HEADS * SIZE) + dims[None, :]
    tl.store(out_ptr + of_out + at_out, out.to(query.dtype), mask=rows_in & dims_in[None, :])
    at_row = pair.to(tl.int64) * QUERIES + rows
    if BIAS is None:
        largest = tl.where(largest <= HIDDEN, HIDDEN, largest / LOG2_E)
    tl.store(largest_ptr + at_row, largest, mask=rows < QUERIES)
    tl.store(total_ptr + at_row, total, mask=rows < QUERIES)


def candidates(problem: Attention) -> list[Tiles]:
    """What an autotuner may try, the default first."""
    size = problem.padded_size
    if problem.dropout:  # whose random bits need more than all else
        found = [(32, 32, 8, 2), (64, 32, 8, 2), (32, 32, 8, 1)]
    elif problem.bias is not None or problem.mask is not None:  # which need registers of their own
        if problem.dtype.itemsize == 4:
            found = [(32, 32, 4, 2), (64, 32, 4, 2), (32, 32, 8, 2)]
        elif size <= 64:
            found = [(64, 64, 4, 2), (64, 32, 4, 2), (128, 64, 8, 2)]
        else:
            found = [(64, 32, 8, 2), (32, 32, 8, 2), (64, 32, 4, 2), (64, 64, 8, 2)]
    elif problem.dtype.itemsize == 4:
        found = [(64, 32, 4, 2), (64, 64, 4, 2), (128, 32, 8, 2), (32, 32, 4, 2)]
    elif size <= 64:
        found = [(128, 64, 8, 3), (128, 64, 4, 3), (128, 128, 8, 3), (64, 64, 4, 3)]
    elif size <= 128:
        found = [(128, 64, 8, 3), (128, 128, 8, 2), (64, 64, 4, 3), (64, 64, 4, 2)]
    else:
        found = [(64, 32, 8, 2), (64, 64, 8, 2), (32, 32, 4, 2)]
    return [tiles(warps, stages, BT=t, BS=s, BH=size) for t, s, warps, stages in found]


def kernel(problem: Attention, chosen: Tiles | None = None) -> TritonKernel:
    """The forward kernel for a problem; by default with the first of `candidates`."""
    chosen = candidates(problem)[0] if chosen is None else chosen
    return instantiate(
        attention_forward,
        buffers=problem.inputs() | {"out": problem.dtype} | problem.statistics(),
        constants=problem.constants("query", "key", "value"),
        helpers=problem.helpers(),
        programs=problem.batch * problem.heads * -(-problem.queries // chosen["BT"]),
        chosen=chosen,
        subnormal=False,  # what so small a weight adds is lost beside the largest's
    )


def estimate(problem: Attention, chosen: Tiles) -> Estimate:
    """Two products for each pair of a query and a key that it sees."""
    itemsize = problem.dtype.itemsize
    tile = 2 * chosen["BS"] * chosen["BH"] * itemsize
    return Estimate(
        bytes=itemsize * (2 * problem.query_elements + 2 * problem.key_elements) + 8 * problem.rows,
        flops=4 * problem.pairs * problem.size,
        shared=chosen["BT"] * chosen["BH"] * itemsize + tile * chosen.num_stages,
    )
