"""Data parallel training: several processes, each with a part of every batch, as if they were one.

Every process has all parameters, computes the gradient of its own examples, and the mean of all
gradients moves the parameters of all alike. From the root of the repository:

    python examples/data_parallel.py --processes 2

`value_and_grad` of `funcdl.distributed` sends gradients in buckets, each as soon as it is computed.
The compiled step shows it: calls of the network stand between products. On several machines each
process calls `funcdl.distributed.initialize` with the address of the first one, in place of
`launch`.
"""

from __future__ import annotations

import argparse
import functools
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import funcdl as fd
from funcdl import distributed, nn, optim, random

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit(
        "This example needs scikit-learn; install what all examples need with\n"
        "    pip install -e '.[examples]'"
    ) from None

SIZES = (64, 256, 256, 256, 10)
BATCH = 240
UNSEEN = 360


def loss(params: Any, images: Any, digits: Any) -> Any:
    """The mean surprise by the right digits."""
    logits = nn.mlp_apply(params, images)
    return nn.softmax_cross_entropy_with_integer_labels(logits, digits).mean()


def load_data() -> tuple[Any, Any]:
    """Images f32[1797, 64] and digits i32[1797]."""
    images, digits = load_digits(return_X_y=True)
    return (images / 8 - 1).astype(np.float32), digits.astype(np.int32)


def train(
    value_and_grad: Callable[..., Any],
    part: Callable[[Any], Any],
    steps: int,
    seed: int,
) -> dict[str, Any]:
    """A training as any process sees it: with its own gradients, of its own part of each batch."""
    images, digits = load_data()
    optimizer = optim.adam(1e-3)
    params = nn.mlp_init(random.key(seed), SIZES)
    state = optimizer.init(params)

    @fd.jit
    def step(params: Any, state: Any, images: Any, digits: Any) -> Any:
        value, gradient = value_and_grad(loss)(params, images, digits)
        updates, state = optimizer.update(gradient, state, params)
        return optim.apply_updates(params, updates), state, value

    rng = np.random.default_rng(seed)
    losses, times, batch = [], [], None
    for _ in range(steps):
        chosen = rng.choice(len(images) - UNSEEN, BATCH, replace=False)  # the same everywhere
        batch = part((images[chosen], digits[chosen]))
        begin = time.perf_counter()
        params, state, value = step(params, state, *batch)
        losses.append(float(value))
        times.append(time.perf_counter() - begin)
    right = nn.mlp_apply(params, images[-UNSEEN:]).argmax(axis=1) == digits[-UNSEEN:]
    text = step.lower(params, state, *batch).as_text("groups")
    return {
        "losses": np.array(losses),
        "accuracy": float(right.mean()),
        "params": [np.asarray(x) for x in fd.tree.leaves(params)],
        "milliseconds": 1e3 * float(np.median(times)),
        "order": re.findall(r"(?m)^group \d+ (dot|conv)|all_reduce_(start|done)", text),
    }


def member(steps: int, seed: int, bucket_bytes: int | None) -> dict[str, Any]:
    """What each process does; `launch` calls it in all of them."""
    value_and_grad = functools.partial(distributed.value_and_grad, bucket_bytes=bucket_bytes)
    return train(value_and_grad, distributed.shard, steps, seed)


def main() -> None:
    """Train alone, then together."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.processes < 1 or BATCH % options.processes:
        parser.error(f"--processes: must divide the batch of {BATCH} examples")

    alone = train(fd.value_and_grad, lambda batch: batch, options.steps, options.seed)
    print(f"One process: loss {alone['losses'][-1]:.4f}, {alone['accuracy']:.1%} of {UNSEEN} right")
    for title, bucket_bytes in (("buckets", 128 << 10), ("all at the end", None)):
        found = distributed.launch(
            member, options.processes, (options.steps, options.seed, bucket_bytes)
        )
        first = found[0]
        print(f"\n{options.processes} processes, gradients in {title}:")
        print(f"  loss {first['losses'][-1]:.4f}, {first['accuracy']:.1%} of {UNSEEN} right")
        difference = np.abs(first["losses"] / alone["losses"] - 1)[: len(alone["losses"]) // 10]
        print(f"  losses of the first tenth differ by {difference.max():.1e} from one process's")
        same = all(
            np.array_equal(x, y)
            for other in found[1:]
            for x, y in zip(first["params"], other["params"], strict=True)
        )
        print(f"  parameters have the same bits in all processes: {same}")
        print(f"  median step: {first['milliseconds']:.1f} ms")
        if bucket_bytes:
            names = {"start": "send", "done": "wait"}
            order = [product or names[call] for product, call in first["order"]]
            print("  the step's products and calls:", *(x.replace("dot", ".") for x in order))


if __name__ == "__main__":
    main()
