"""An encoder and a decoder, both LSTMs, learn to write words backwards.

The encoder reads a word of 3 to 8 letters and hands its state to the decoder, which writes letter
by letter: while it learns, after the right letters (teacher forcing); afterwards, after its own.
Words are padded to one length; the layer is told their own, and keeps the state where a word is
over. The decoder is one cell, and each of the three is a `scan`. From the root of the repository:

    python examples/seq2seq.py

The design is that of Sutskever, Vinyals and Le, "Sequence to sequence learning with neural
networks" (2014).
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, optim, random

LETTERS = "abcdefghijklmnopqrstuvwxyz"
END, START = 26, 27
SYMBOLS = 28
LONGEST, SHORTEST = 8, 3
UNITS = 128
BATCH_SIZE = 128


def draw_words(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Random words i32[LONGEST, count], padded with END, and the same words backwards.

    The second has one row more: every word ends with END.
    """
    words = np.full((LONGEST, count), END, np.int32)
    backwards = np.full((LONGEST + 1, count), END, np.int32)
    for column, length in enumerate(rng.integers(SHORTEST, LONGEST + 1, count)):
        word = rng.integers(0, len(LETTERS), length)
        words[:length, column] = word
        backwards[:length, column] = word[::-1]
    return words, backwards


def spell(codes: Any) -> str:
    """The letters before END."""
    return "".join(LETTERS[i] if i < END else " " for i in np.asarray(codes)).split(" ")[0]


def init(key: Any) -> dict[str, Any]:
    """Parameters of the model."""
    encoder_key, decoder_key, out_key = random.split(key, 3)
    return {
        "encoder": nn.lstm_init(encoder_key, SYMBOLS, UNITS),
        "decoder": nn.lstm_cell_init(decoder_key, SYMBOLS, UNITS),
        "out": nn.linear_init(out_key, UNITS, SYMBOLS),
    }


def encode(params: Any, words: Any) -> Any:
    """The state after reading words i32[time, batch]."""
    lengths = fnp.sum(words != END, axis=0)
    (state,), _ = nn.lstm_apply(params["encoder"], nn.one_hot(words, SYMBOLS), lengths=lengths)
    return state


def decode_step(params: Any, state: Any, letters: Any) -> tuple[Any, Any]:
    """The next state, and logits of what follows `letters`."""
    inputs = nn.one_hot(letters, SYMBOLS)
    state, hidden = nn.lstm_cell_apply(params["decoder"], state, inputs)
    return state, nn.linear_apply(params["out"], hidden)


def loss(params: Any, words: Any, backwards: Any) -> Any:
    """The surprise by each letter of the answer, given the right letters before it."""
    given = fnp.concatenate([fnp.full((1, words.shape[1]), START, np.int32), backwards[:-1]])
    _, logits = lax.scan(functools.partial(decode_step, params), encode(params, words), given)
    surprise = nn.softmax_cross_entropy_with_integer_labels(logits, backwards)
    # What comes after the first END is padding: its input is END already.
    counts = given != END
    return fnp.sum(surprise * counts) / fnp.sum(counts)


@fd.jit
def write(params: Any, words: Any) -> Any:
    """The most probable letter after each that was written, i32[LONGEST + 1, batch]."""

    def next_letter(carry: Any, _: None) -> tuple[Any, Any]:
        state, letters = carry
        state, logits = decode_step(params, state, letters)
        letters = logits.argmax(axis=-1)
        return (state, letters), letters

    start = fnp.full(words.shape[1], START, np.int32)
    return lax.scan(next_letter, (encode(params, words), start), None, length=LONGEST + 1)[1]


def share_right(params: Any, words: Any, backwards: Any) -> float:
    """The share of words written without any mistake."""
    written = write(params, words)
    is_right = [spell(a) == spell(b) for a, b in zip(written.T, backwards.T, strict=True)]
    return float(np.mean(is_right))


def main() -> None:
    """Train, and write new words backwards."""
    parser = argparse.ArgumentParser(description="Learn to write words backwards.")
    parser.add_argument("--steps", type=int, default=1500, help="batches to learn from")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    def learning_rate(step: Any) -> Any:
        """Falls to 0 at the end."""
        return 5e-3 * (1 - step / args.steps)

    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adam(learning_rate))

    @functools.partial(fd.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, words: Any, backwards: Any) -> Any:
        value, slope = fd.value_and_grad(loss)(params, words, backwards)
        updates, state = optimizer.update(slope, state)
        return optim.apply_updates(params, updates), state, value

    params = init(random.key(args.seed))
    state = optimizer.init(params)
    rng = np.random.default_rng(args.seed)
    test = draw_words(np.random.default_rng(args.seed + 1), 1000)
    for i in range(args.steps):
        params, state, value = step(params, state, *draw_words(rng, BATCH_SIZE))
        if (i + 1) % max(1, args.steps // 6) == 0:
            print(f"step {i + 1:5}  loss {value:.4f}  right {share_right(params, *test):.1%}")

    words, backwards = test
    print()
    for word, answer in zip(words.T[:5], write(params, words).T[:5], strict=True):
        print(f"{spell(word):>8} -> {spell(answer)}")
    print(f"\nright words among 1000 new ones: {share_right(params, words, backwards):.1%}")


if __name__ == "__main__":
    main()
