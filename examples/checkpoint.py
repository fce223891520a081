"""Train a deep network in little memory: checkpoints and donation.

The gradient needs two activations of every layer, so memory grows with the depth N. A checkpoint
around every √N layers keeps only what enters each of these segments, and computes the rest again
when it is needed: √N inputs of segments, and the activations of one segment at a time, for one more
forward pass (Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost", 2016).
From the root of the repository:

    python examples/checkpoint.py

What a compiled step needs is known before it runs: the numbers come from `memory_analysis`.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, random

WIDTH, BATCH_SIZE = 64, 4096
ACTIVATION = 4 * WIDTH * BATCH_SIZE  # bytes


def init(key: Any, depth: int) -> Any:
    """Parameters of `depth` layers, stacked: every leaf has the layers as its first axis."""
    keys = random.split(key, depth)
    return fd.vmap(lambda k: nn.linear_init(k, WIDTH, WIDTH))(keys)


def layer(x: Any, params: Any) -> tuple[Any, None]:
    """One layer, as `scan` wants it. Its gradient needs what went in and what came out."""
    return fnp.tanh(nn.linear_apply(params, x)), None


def plain(params: Any, x: Any) -> Any:
    """All layers, one after the other."""
    return lax.scan(layer, x, params)[0]


def checkpointed(params: Any, x: Any) -> Any:
    """The same layers as √N segments of √N; between forward and backward, segments forget."""
    depth = len(params["b"])
    size = math.isqrt(depth)
    segments = fd.tree.map(lambda p: p.reshape(depth // size, size, *p.shape[1:]), params)

    @fd.checkpoint
    def segment(x: Any, params: Any) -> tuple[Any, None]:
        return lax.scan(layer, x, params)

    return lax.scan(segment, x, segments)[0]


def make_step(apply: Any) -> Any:
    """A step of gradient descent towards outputs equal to inputs moved by one place."""

    def loss(params: Any, x: Any) -> Any:
        return nn.mse(apply(params, x), fnp.roll(x, 1, axis=-1)).mean()

    def step(params: Any, x: Any) -> Any:
        value, slope = fd.value_and_grad(loss)(params, x)
        return fd.tree.map(lambda p, g: p - 0.1 * g, params, slope), value

    return step


def main() -> None:
    """Print the memory of steps, and show that they compute the same."""
    parser = argparse.ArgumentParser(description="Memory with and without checkpoints.")
    parser.add_argument("--steps", type=int, default=5, help="to train, for the comparison")
    args = parser.parse_args()

    print(f"Temporary memory of a step, in activations of {ACTIVATION // 1024} KiB\n")
    print(f"{'layers':>6}  {'plain':>7}  {'2N':>4}  {'checkpointed':>12}  {'3√N':>4}")
    for depth in (16, 64, 256):
        shapes = fd.eval_shape(lambda depth=depth: init(random.key(0), depth))
        x = fd.ShapeDtypeStruct((BATCH_SIZE, WIDTH), np.float32)
        needed = []
        for apply in (plain, checkpointed):
            compiled = fd.jit(make_step(apply)).lower(shapes, x).compile()
            needed.append(compiled.memory_analysis().temp_size_in_bytes / ACTIVATION)
        expected = 2 * depth, 3 * math.isqrt(depth)
        print(f"{depth:6}  {needed[0]:7.1f}  {expected[0]:4}  {needed[1]:12.1f}  {expected[1]:4}")

    x = random.normal(random.key(1), (BATCH_SIZE, WIDTH))
    start = init(random.key(0), 64)
    print(f"\nThe loss after {args.steps} steps of 64 layers")
    for apply in (plain, checkpointed):
        params, step = start, fd.jit(make_step(apply))
        for _ in range(args.steps):
            params, value = step(params, x)
        print(f"{apply.__name__:>12}  {value:.6f}")

    print("\nResults of a step in KiB, and how much of them takes memory of arguments")
    for donated in ((), (0,)):
        step = fd.jit(make_step(checkpointed), donate_argnums=donated)
        memory = step.lower(start, x).compile().memory_analysis()
        sizes = memory.output_size_in_bytes, memory.alias_size_in_bytes
        print(f"{'donating' if donated else 'keeping':>12}", *(f"{n / 1024:6.1f}" for n in sizes))


if __name__ == "__main__":
    main()
