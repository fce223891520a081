"""Which weights dropout leaves, for the kernels of attention: functions that their text calls.

The random words are those of `ops.attention_formula.dropout`: a generator of 32 bits without
multiplications, whose two words are those of two neighbouring keys. So both are computed at once,
for blocks of half as many keys, and put side by side.
"""

from __future__ import annotations

from typing import Any

from funcdl.kernels.triton.library.language import Constant, tl

Block = Any


def random_round(x0: Block, x1: Block, BY: Constant) -> tuple[Block, Block]:
    """One round of Threefry-2x32, which rotates by BY bits."""
    x0 += x1
    return x0, ((x1 << BY) | (x1 >> (32 - BY))) ^ x0


def random_words(key0: Block, key1: Block, x0: Block, x1: Block) -> tuple[Block, Block]:
    """Threefry-2x32 with 20 rounds (see `ops.random_bits`), of uint32."""
    key2 = key0 ^ key1 ^ 0x1BD11BDA
    x0 += key0
    x1 += key1
    for group in tl.static_range(5):
        if group % 2 == 0:
            x0, x1 = random_round(x0, x1, 13)
            x0, x1 = random_round(x0, x1, 15)
            x0, x1 = random_round(x0, x1, 26)
            x0, x1 = random_round(x0, x1, 6)
        else:
            x0, x1 = random_round(x0, x1, 17)
            x0, x1 = random_round(x0, x1, 29)
            x0, x1 = random_round(x0, x1, 16)
            x0, x1 = random_round(x0, x1, 24)
        if group % 3 == 0:
            x0 += key1
            x1 += key2
        elif group % 3 == 1:
            x0 += key2
            x1 += key0
        else:
            x0 += key0
            x1 += key1
        x1 += group + 1
    return x0, x1


def kept_weights(
    key0: Block, key1: Block, rows: Block, start: Block, BS: Constant, LEAST: Constant
) -> Block:
    """Whether the weights of some rows stay, for BS keys from `start`, both even."""
    pairs = start // 2 + tl.arange(0, BS // 2)
    x0 = rows.to(tl.uint32)[:, None] + tl.zeros([1, BS // 2], tl.uint32)
    x1 = pairs.to(tl.uint32)[None, :] + tl.zeros_like(x0)
    even, odd = random_words(key0, key1, x0, x1)
    least = tl.full([1], LEAST, tl.uint32)
    return tl.interleave((even >= least).to(tl.int8), (odd >= least).to(tl.int8)) != 0


FUNCTIONS = (random_round, random_words, kept_weights)
