"""A parameter server: one process keeps the parameters, the others compute gradients for it.

In synchronous rounds the server waits for all workers, and averages. With a staleness it moves the
parameters at every gradient, and lets no worker be further ahead of the slowest than that; then
gradients may be of older parameters. From the root of the repository:

    python examples/parameter_server.py --workers 2

The last of the workers here is slow: it computes each gradient several times over.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import distributed, nn, optim

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit(
        "This example needs scikit-learn; install what all examples need with\n"
        "    pip install -e '.[examples]'"
    ) from None

BATCH = 96
UNSEEN = 360
SLOW = 4


def load_data() -> tuple[Any, Any]:
    """Images f32[1797, 64] and digits i32[1797]."""
    images, digits = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), digits.astype(np.int32)


def init() -> dict[str, Any]:
    """Softmax regression begins at zero."""
    return {"w": fnp.zeros((64, 10)), "b": fnp.zeros(10)}


def loss(params: Any, images: Any, digits: Any) -> Any:
    """The mean surprise by the right digits."""
    logits = images @ params["w"] + params["b"]
    return nn.softmax_cross_entropy_with_integer_labels(logits, digits).mean()


def batches(steps: int, seed: int) -> list[tuple[Any, Any]]:
    """The same for all; each worker takes its part of every one."""
    images, digits = load_data()
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(len(images) - UNSEEN, BATCH, replace=False) for _ in range(steps)]
    return [(images[rows], digits[rows]) for rows in chosen]


def member(steps: int, seed: int, staleness: int | None) -> Any:
    """Process 0 serves; the others are workers."""
    group = distributed.current_group()
    if group.rank == 0:
        params, served = distributed.serve(
            init(), optim.sgd(0.5, momentum=0.5), staleness=staleness
        )
        return fd.tree.map(np.asarray, params), served
    gradient = fd.jit(fd.grad(loss))
    number, count = group.rank - 1, group.size - 1
    rows = slice(number * BATCH // count, (number + 1) * BATCH // count)
    gradient(init(), *(x[rows] for x in batches(1, seed)[0]))  # compiled before time is taken
    begin = time.perf_counter()
    with distributed.Worker(init()) as worker:
        for images, digits in batches(steps, seed):
            params = worker.pull()
            for _ in range(SLOW if number == count - 1 else 1):
                found = gradient(params, images[rows], digits[rows])
            worker.push(found)
    return time.perf_counter() - begin


def alone(steps: int, seed: int) -> Any:
    """The parameters of one process that sees whole batches."""
    params, optimizer = init(), optim.sgd(0.5, momentum=0.5)
    state = optimizer.init(params)

    @fd.jit
    def step(params: Any, state: Any, images: Any, digits: Any) -> Any:
        updates, state = optimizer.update(fd.grad(loss)(params, images, digits), state)
        return optim.apply_updates(params, updates), state

    for batch in batches(steps, seed):
        params, state = step(params, state, *batch)
    return params


def accuracy(params: Any) -> float:
    """The share of unseen digits that are read."""
    images, digits = (x[-UNSEEN:] for x in load_data())
    right = (images @ params["w"] + params["b"]).argmax(axis=1) == digits
    return float(right.mean())


def main() -> None:
    """Train alone, then with a server in both ways."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--staleness", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.workers < 1 or BATCH % options.workers:
        parser.error(f"--workers: must divide the batch of {BATCH} examples")

    wanted = alone(options.steps, options.seed)
    print(f"one process: {accuracy(wanted):.1%} of {UNSEEN} right")
    for staleness in (None, options.staleness):
        found = distributed.launch(
            member, options.workers + 1, (options.steps, options.seed, staleness)
        )
        params, served = found[0]
        title = "synchronous" if staleness is None else f"staleness {staleness}"
        print(f"{title}: {accuracy(params):.1%} of {UNSEEN} right")
        print(f"  {served.updates} updates, of gradients at most {served.delay} updates old")
        if staleness is None:
            difference = max(float(abs(params[k] - wanted[k]).max()) for k in params)
            print(f"  largest difference from one process's parameters: {difference:.1e}")
        times = ", ".join(f"{seconds:.2f}" for seconds in found[1:])
        print(f"  seconds of the workers, the slow one last: {times}")


if __name__ == "__main__":
    main()
