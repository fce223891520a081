"""A small causal transformer learns to add.

A line is "137+868=5001": three digits, three digits, and the sum with its digits from right to
left, in which order a person adds too. The model learns to say the next character, of the answer
only, and is tested on sums that it has never seen. Attention, layer norm and the block are plain
functions of their parameters. From the root of the repository:

    python examples/transformer.py

The block is that of Vaswani et al., "Attention is all you need" (2017), with the norms in front
(Xiong et al., "On layer normalization in the transformer architecture", 2020), and so are the
positions and the rate that first rises and then falls.
"""

from __future__ import annotations

import argparse
import functools
import math
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, optim, random

DIGITS = 3
ALPHABET = "0123456789+="
QUESTION = 2 * DIGITS + 2  # characters up to "="
LENGTH = QUESTION + DIGITS + 1
WIDTH, HEADS, BLOCKS = 64, 4, 2
BATCH_SIZE = 128
IS_FOR_TEST = np.random.default_rng(0).random((10**DIGITS, 10**DIGITS)) < 0.1


def draw_sums(rng: np.random.Generator, count: int, for_test: bool) -> np.ndarray[Any, Any]:
    """Lines i32[count, LENGTH] of sums, of which one in ten is set aside for the test."""
    a, b = rng.integers(0, 10**DIGITS, (2, 20 * count))
    chosen = IS_FOR_TEST[a, b] == for_test
    a, b = a[chosen][:count], b[chosen][:count]

    def digits(number: Any, places: int) -> Any:
        return number[:, None] // 10 ** np.arange(places) % 10

    plus, equals = np.full((2, len(a), 1), [[[10]], [[11]]])
    numbers = [digits(a, DIGITS)[:, ::-1], plus, digits(b, DIGITS)[:, ::-1], equals]
    return np.concatenate([*numbers, digits(a + b, DIGITS + 1)], axis=1).astype(np.int32)


def positions() -> np.ndarray[Any, Any]:
    """Sines and cosines of many wavelengths, f32[LENGTH, WIDTH]: what tells places apart."""
    rates = 10_000 ** (-np.arange(0, WIDTH, 2) / WIDTH)
    angles = np.arange(LENGTH)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def init(key: Any) -> dict[str, Any]:
    """Parameters of the model."""
    keys = iter(random.split(key, 2 + 4 * BLOCKS))

    def norm() -> dict[str, Any]:
        return {"scale": fnp.ones(WIDTH), "shift": fnp.zeros(WIDTH)}

    return {
        "embedding": random.normal(next(keys), (len(ALPHABET), WIDTH)),
        "blocks": [
            {
                "norm1": norm(),
                "qkv": nn.linear_init(next(keys), WIDTH, 3 * WIDTH),
                "mix": nn.linear_init(next(keys), WIDTH, WIDTH),
                "norm2": norm(),
                "mlp": nn.mlp_init(next(keys), [WIDTH, 4 * WIDTH, WIDTH]),
            }
            for _ in range(BLOCKS)
        ],
        "norm": norm(),
        "out": nn.linear_init(next(keys), WIDTH, len(ALPHABET)),
    }


def layer_norm(params: Any, x: Any) -> Any:
    """Each vector with mean 0 and variance 1, then scaled and shifted."""
    return nn.standardize(x) * params["scale"] + params["shift"]


def attend(params: Any, x: Any) -> Any:
    """Each place takes a weighted mean of what it and earlier places hold, once for each head."""
    batch, length, width = x.shape
    heads = nn.linear_apply(params["qkv"], x).reshape(batch, length, 3, HEADS, width // HEADS)
    query, key, value = (heads[:, :, i] for i in range(3))
    weights = nn.softmax(
        fnp.where(
            fnp.tril(fnp.ones((length, length), bool)),
            fnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(width // HEADS),
            -fnp.inf,
        )
    )
    mixed = fnp.einsum("bhqk,bkhd->bqhd", weights, value)
    return nn.linear_apply(params["mix"], mixed.reshape(x.shape))


def block(params: Any, x: Any) -> Any:
    """Look around, then think; both only add to what is there."""
    x = x + attend(params, layer_norm(params["norm1"], x))
    return x + nn.mlp_apply(params["mlp"], layer_norm(params["norm2"], x), nn.gelu)


def apply(params: Any, codes: Any) -> Any:
    """Logits of the character after each of i32[batch, length]."""
    x = params["embedding"][codes] + positions()[: codes.shape[1]]
    for block_params in params["blocks"]:
        x = block(block_params, x)
    return nn.linear_apply(params["out"], layer_norm(params["norm"], x))


def loss(params: Any, lines: Any) -> Any:
    """The surprise by each digit of the answer."""
    logits = apply(params, lines[:, :-1])[:, QUESTION - 1 :]
    return nn.softmax_cross_entropy_with_integer_labels(logits, lines[:, QUESTION:]).mean()


@fd.jit
def answer(params: Any, lines: Any) -> Any:
    """The lines with answers written digit by digit, each after those before it."""

    def write(i: Any, lines: Any) -> Any:
        logits = apply(params, lines)  # what stands at later places cannot be seen from here
        return lines.at[:, i].set(logits[:, i - 1].argmax(axis=-1))

    blank = lines.at[:, QUESTION:].set(0)
    return lax.fori_loop(QUESTION, LENGTH, write, blank)


def main() -> None:
    """Train, and ask for sums that were set aside."""
    parser = argparse.ArgumentParser(description="Learn to add.")
    parser.add_argument("--steps", type=int, default=1000, help="batches to learn from")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    def learning_rate(step: Any) -> Any:
        """Rises for a tenth of the steps, then falls to 0."""
        part = (step + 1) / args.steps
        return 4e-3 * fnp.minimum(part / 0.1, (1 - part) / 0.9)

    optimizer = optim.adamw(learning_rate, weight_decay=0.01)

    @functools.partial(fd.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, lines: Any) -> Any:
        value, slope = fd.value_and_grad(loss)(params, lines)
        updates, state = optimizer.update(slope, state, params)
        return optim.apply_updates(params, updates), state, value

    params = init(random.key(args.seed))
    state = optimizer.init(params)
    rng = np.random.default_rng(args.seed)
    test = draw_sums(np.random.default_rng(args.seed + 1), 1000, for_test=True)
    for i in range(args.steps):
        params, state, value = step(params, state, draw_sums(rng, BATCH_SIZE, for_test=False))
        if (i + 1) % max(1, args.steps // 6) == 0:
            right = (answer(params, test) == test).all(axis=1).mean()
            print(f"step {i + 1:5}  loss {value:.4f}  right {right:.1%}")

    answers = answer(params, test)
    print()
    for line, wanted in zip(answers[:5], test[:5], strict=True):
        text = "".join(ALPHABET[i] for i in np.asarray(line))
        print(
            text[:QUESTION] + text[: QUESTION - 1 : -1],
            *([] if (line == wanted).all() else ["wrong"]),
        )
    print(f"\nright sums among 1000 new ones: {(answers == test).all(axis=1).mean():.1%}")


if __name__ == "__main__":
    main()
