"""Why weights start with variance 2/n: how signals live or die with depth.

A layer of n inputs whose weights have variance c/n multiplies the mean square of what passes
through it by c for a linear layer, and by c/2 for relu, which sets half of it to zero. A deep
network does so once for each layer. So c = 1 is right for layers that are linear near zero (Glorot
and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010), and
c = 2 for relu (He et al., "Delving deep into rectifiers", 2015). The same holds for gradients on
their way back. From the root of the repository:

    python examples/initialisation.py

The script measures activations and gradients by depth for several c, and trains a network from each
c. No function here knows of several c or seeds: `vmap` runs them side by side, the trainings too.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, optim, random

DEPTH, WIDTH, BATCH_SIZE = 30, 128, 128
NUM_SEEDS = 10
GAINS = np.array([0.5, 1.0, 2.0, 4.0], np.float32)
Activation = Callable[[Any], Any]


def make_weights(key: Any, gain: Any) -> Any:
    """Weights of all layers, f32[DEPTH, WIDTH, WIDTH], of variance gain / WIDTH."""
    return random.normal(key, (DEPTH, WIDTH, WIDTH)) * fnp.sqrt(gain / WIDTH)


def activations(activation: Activation, weights: Any, nudges: Any, x: Any) -> Any:
    """What each layer puts out, f32[DEPTH, BATCH_SIZE, WIDTH].

    Nudges, broadcasting, are added to it. At zero they change nothing, and the gradient by
    them is the gradient by the activations.
    """

    def layer(x: Any, given: tuple[Any, Any]) -> tuple[Any, Any]:
        w, nudge = given
        x = activation(x @ w) + nudge
        return x, x

    return lax.scan(layer, x, (weights, nudges))[1]


def measure(activation: Activation, gain: Any, key: Any) -> tuple[Any, Any]:
    """Mean squares of the activations and of the gradients after each layer, f32[DEPTH] each.

    What comes in at either end has mean square 1.
    """
    weights_key, x_key, slope_key = random.split(key, 3)
    weights = make_weights(weights_key, gain)
    x = random.normal(x_key, (BATCH_SIZE, WIDTH))
    nudges = fnp.zeros((DEPTH, *x.shape))
    out, pull_back = fd.vjp(lambda n: activations(activation, weights, n, x), nudges)
    (slopes,) = pull_back(nudges.at[-1].set(random.normal(slope_key, x.shape)))
    return (out**2).mean(axis=(1, 2)), (slopes**2).mean(axis=(1, 2))


@functools.partial(fd.jit, static_argnums=0)
def measure_all(activation: Activation, keys: Any) -> Any:
    """For each gain, the geometric mean over seeds: f32[4, DEPTH] for each of the two."""
    one_gain = fd.vmap(functools.partial(measure, activation), (None, 0))
    found = fd.vmap(one_gain, (0, None))(GAINS, keys)
    return fd.tree.map(lambda squares: fnp.exp(fnp.log(squares).mean(axis=1)), found)


@functools.partial(fd.jit, static_argnums=(0, 2))
def train_all(activation: Activation, key: Any, num_steps: int) -> Any:
    """For each gain, the loss after training to tell the sign of the sum of the inputs."""
    weights_key, x_key, readout_key = random.split(key, 3)
    x = random.normal(x_key, (BATCH_SIZE, WIDTH))
    signs = fnp.sign(x.sum(axis=1))
    readout = random.normal(readout_key, (WIDTH,)) / math.sqrt(WIDTH)
    optimizer = optim.sgd(0.02)

    def loss(weights: Any) -> Any:
        outputs = activations(activation, weights, fnp.zeros((DEPTH, 1, 1)), x)
        return nn.softplus(-signs * (outputs[-1] @ readout)).mean()

    def train(gain: Any) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            weights, state = carry
            updates, state = optimizer.update(fd.grad(loss)(weights), state)
            return (optim.apply_updates(weights, updates), state), None

        weights = make_weights(weights_key, gain)
        start = weights, optimizer.init(weights)
        return loss(lax.scan(step, start, None, length=num_steps)[0][0])

    return fd.vmap(train)(GAINS)


def main() -> None:
    """Print a table for each activation function."""
    parser = argparse.ArgumentParser(description="How signals live or die with depth.")
    parser.add_argument("--steps", type=int, default=200, help="of gradient descent")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    key = random.key(args.seed)
    print(f"Mean squares in a network of {DEPTH} layers with weights of variance c/n")
    for name, activation in (("relu", nn.relu), ("tanh", fnp.tanh)):
        forward, back = measure_all(activation, random.split(key, NUM_SEEDS))
        losses = train_all(activation, key, args.steps)
        print(f"\n{name:6}{'activations of layer':>26}{'gradient at layer':>34}{'loss after':>16}")
        print(
            f"{'c':6}"
            + "".join(f"{d:>9}" for d in (1, 15, 30, 30, 15, 1))
            + f"{args.steps:>10} steps"
        )
        for gain, out, slopes, loss in zip(GAINS, forward, back, losses, strict=True):
            numbers = out[0], out[14], out[29], slopes[29], slopes[14], slopes[0], loss
            print(f"{gain:<6}" + "".join(f"{float(n):9.2g}" for n in numbers))


if __name__ == "__main__":
    main()
