"""A language model of characters: an LSTM learns to count in words.

The text is "one two three ... ninety-nine one two ...". It is cut into short pieces; the gradient
stops at the start of a piece, but what the LSTM remembers is carried on into the next one:
truncated back-propagation through time. The layer is a pure function of its parameters, its input
and its state, so that truncation needs no more than that the state is an argument of the training
step. From the root of the repository:

    python examples/characters.py

At the end the model counts on by itself. Without what was carried over, it cannot know how a piece
begins. The LSTM is that of Hochreiter and Schmidhuber (1997), with the forget gate of Gers,
Schmidhuber and Cummins (2000).
"""

from __future__ import annotations

import argparse
import functools
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, optim, random

UNITS = 128
BATCH_SIZE = 32
PIECE = 25  # characters between two cuts

ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FOUR_TO_NINE = ["four", "fif", "six", "seven", "eigh", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", *(part + "teen" for part in FOUR_TO_NINE)]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBERS = [*ONES, *TEENS, *(a + b for a in TENS for b in ("", *("-" + one for one in ONES)))]
ROUND = " ".join(NUMBERS) + " "
ALPHABET = sorted(set(ROUND))


def encode(text: str) -> np.ndarray[Any, Any]:
    """The number of each character."""
    return np.array([ALPHABET.index(c) for c in text], np.int32)


def decode(codes: Any) -> str:
    """The text of numbers."""
    return "".join(ALPHABET[i] for i in np.asarray(codes))


def init(key: Any) -> dict[str, Any]:
    """Parameters of the model."""
    lstm_key, out_key = random.split(key)
    return {
        "lstm": nn.lstm_init(lstm_key, len(ALPHABET), UNITS),
        "out": nn.linear_init(out_key, UNITS, len(ALPHABET)),
    }


def zero_state(batch_size: int) -> Any:
    """Nothing remembered."""
    zero = fnp.zeros((batch_size, UNITS))
    return [(zero, zero)]


def apply(params: Any, state: Any, codes: Any) -> tuple[Any, Any]:
    """The state after the characters i32[time, batch], and logits of the one after each."""
    inputs = nn.one_hot(codes, len(ALPHABET))
    state, hidden = nn.lstm_apply(params["lstm"], inputs, state)
    return state, nn.linear_apply(params["out"], hidden)


def loss(params: Any, state: Any, codes: Any, following: Any) -> tuple[Any, Any]:
    """The surprise by each character in nats, and the state to carry on."""
    state, logits = apply(params, state, codes)
    return nn.softmax_cross_entropy_with_integer_labels(logits, following).mean(), state


optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adam(3e-3))


@functools.partial(fd.jit, donate_argnums=(0, 1, 2))
def step(params: Any, optimizer_state: Any, state: Any, codes: Any, following: Any) -> Any:
    """One training step on one piece.

    `state` is not differentiated: here, and only here, is back-propagation through time cut off.
    """
    (value, state), slope = fd.value_and_grad(loss, has_aux=True)(params, state, codes, following)
    updates, optimizer_state = optimizer.update(slope, optimizer_state)
    return optim.apply_updates(params, updates), optimizer_state, state, value


@functools.partial(fd.jit, static_argnums=2)
def continue_text(params: Any, codes: Any, count: int) -> Any:
    """The `count` characters that the model takes for most probable after `codes`."""
    state, logits = apply(params, zero_state(1), codes[:, None])

    def next_character(carry: Any, _: None) -> tuple[Any, Any]:
        state, code = carry
        state, logits = apply(params, state, code[None])
        return (state, logits[-1].argmax(axis=-1)), code[0]

    first = logits[-1].argmax(axis=-1)
    return lax.scan(next_character, (state, first), None, length=count)[1]


def pieces(count: int) -> Iterator[np.ndarray[Any, Any]]:
    """Pieces i32[PIECE + 1, BATCH_SIZE] in turn: every column goes on in the next piece."""
    text = encode(ROUND)
    starts = np.arange(BATCH_SIZE) * len(text) // BATCH_SIZE
    for i in range(count):
        yield text[(starts + i * PIECE + np.arange(PIECE + 1)[:, None]) % len(text)]


def main() -> None:
    """Train, measure what the carried state is worth, and count."""
    parser = argparse.ArgumentParser(description="Learn to count in words.")
    parser.add_argument("--steps", type=int, default=1000, help="pieces to learn from")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    params = init(random.key(args.seed))
    optimizer_state, state = optimizer.init(params), zero_state(BATCH_SIZE)
    *train, last = pieces(args.steps + 1)
    for i, piece in enumerate(train):
        params, optimizer_state, state, value = step(
            params, optimizer_state, state, piece[:-1], piece[1:]
        )
        if (i + 1) % max(1, args.steps // 5) == 0:
            print(f"step {i + 1:5}  {value:.4f} nats a character")

    print("\nthe next piece")
    for name, memory in (("carried on", state), ("empty", zero_state(BATCH_SIZE))):
        print(f"with a state {name}: {loss(params, memory, last[:-1], last[1:])[0]:.4f} nats")

    prompt = ROUND[ROUND.index("eighty-four") : ROUND.index("ninety")]
    truth = ROUND[ROUND.index(prompt) + len(prompt) :] + ROUND
    text = decode(continue_text(params, encode(prompt), 400))
    right = next((i for i, (a, b) in enumerate(zip(text, truth, strict=False)) if a != b), 400)
    print(f"\n{prompt}...\n{textwrap.fill(text, 100, break_on_hyphens=False)}\n")
    print(f"right characters: {right} of 400")


if __name__ == "__main__":
    main()
