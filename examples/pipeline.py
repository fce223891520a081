"""A model in several processes: cut into stages, with micro-batches passing through all of them.

Where a model does not fit one machine, each process holds some of its layers. `partition` traces
the model and cuts its graph so that stages cost alike and few bytes go from one to the next;
`pipeline` sends activations forwards and their gradients backwards. From the root of the
repository:

    python examples/pipeline.py --stages 2

The task: recurring sequences of digits, of which the next one is asked. The embedding is the last
layer's matrix, too; so it travels through all stages, and its gradient comes back from both ends.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import distributed, nn, optim, random

DIGITS, WIDTH, LENGTH, DEPTH = 10, 64, 12, 6
BATCH, MICRO_BATCHES = 64, 4


def init(key: Any) -> dict[str, Any]:
    """The embedding f32[10, 64], which is also the last layer, positions, and layers in between."""
    table_key, place_key, *keys = random.split(key, 2 + DEPTH)
    return {
        "table": random.normal(table_key, (DIGITS, WIDTH)) / WIDTH**0.5,
        "places": random.normal(place_key, (LENGTH, WIDTH)) / WIDTH**0.5,
        "layers": [
            {
                "mix": random.normal(k, (LENGTH, LENGTH)) / LENGTH,
                "map": nn.linear_init(k, WIDTH, WIDTH),
            }
            for k in keys
        ],
    }


def model(params: Any, digits: Any) -> Any:
    """Logits f32[batch, 10] of the digit that follows i32[batch, 12]."""
    x = params["table"][digits] + params["places"]
    for layer in params["layers"]:
        mixed = fnp.einsum("ts,bsw->btw", layer["mix"], x)
        x = x + nn.relu(nn.linear_apply(layer["map"], mixed))
    return x[:, -1] @ params["table"].T


def loss(logits: Any, following: Any) -> Any:
    """The mean surprise by the right digits."""
    return nn.softmax_cross_entropy_with_integer_labels(logits, following).mean()


def batches(steps: int, seed: int) -> list[tuple[Any, Any]]:
    """Sequences that repeat themselves after three or four digits, and what comes next."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        period = rng.integers(3, 5, size=(BATCH, 1))
        words = rng.integers(DIGITS, size=(BATCH, 4))
        places = np.arange(LENGTH + 1)[None] % period
        digits = np.take_along_axis(words, places, axis=1).astype(np.int32)
        found.append((digits[:, :-1], digits[:, -1]))
    return found


def member(stages: int, steps: int, seed: int) -> dict[str, Any]:
    """What each process does: train the stage that is its own."""
    rank = distributed.current_group().rank
    params = init(random.key(seed))
    micro_batch = fnp.zeros((BATCH // MICRO_BATCHES, LENGTH), np.int32)
    cut = distributed.partition(model, stages, params, micro_batch)
    own = cut.split(params)[rank]
    value_and_grad = distributed.pipeline(cut.stages[rank], loss, MICRO_BATCHES)
    optimizer = optim.adam(3e-3)
    state = optimizer.init(own)

    @fd.jit
    def update(own: Any, state: Any, gradient: Any) -> Any:
        updates, state = optimizer.update(gradient, state, own)
        return optim.apply_updates(own, updates), state

    losses = []
    for digits, following in batches(steps, seed):
        value, gradient = value_and_grad(own, digits, following)
        own, state = update(own, state, gradient)
        losses.append(float(value))
    stage = cut.stages[rank]
    facts = len(stage.parameters), stage.operations, stage.nbytes
    return {"losses": losses, "own": [np.asarray(x) for x in own], "facts": facts}


def alone(steps: int, seed: int) -> list[float]:
    """The losses of one process that has all layers."""
    params = init(random.key(seed))
    optimizer = optim.adam(3e-3)
    state = optimizer.init(params)

    @fd.jit
    def step(params: Any, state: Any, digits: Any, following: Any) -> Any:
        def whole(params: Any) -> Any:
            return loss(model(params, digits), following)

        value, gradient = fd.value_and_grad(whole)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optim.apply_updates(params, updates), state, value

    losses = []
    for digits, following in batches(steps, seed):
        params, state, value = step(params, state, digits, following)
        losses.append(float(value))
    return losses


def main() -> None:
    """Train alone, then in stages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stages", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    found = distributed.launch(
        member, options.stages, (options.stages, options.steps, options.seed)
    )
    print("stage  parameters  operations  bytes sent on")
    for rank, answer in enumerate(found):
        parameters, operations, nbytes = answer["facts"]
        print(f"{rank:5d}  {parameters:10d}  {operations:10.2g}  {nbytes:13d}")
    wanted, losses = np.array(alone(options.steps, options.seed)), np.array(found[0]["losses"])
    early = max(options.steps // 10, 1)
    print(f"\nloss, first step: {losses[0]:.4f} in stages, {wanted[0]:.4f} in one process")
    print(f"loss, last tenth: {losses[-early:].mean():.4f} in stages, {wanted[-early:].mean():.4f}")
    print(f"largest difference in the first tenth: {np.abs(losses / wanted - 1)[:early].max():.1e}")

    # All parameters together are a model again, for one process.
    params = init(random.key(options.seed))
    micro = fnp.zeros((BATCH // MICRO_BATCHES, LENGTH), np.int32)
    whole = distributed.partition(model, options.stages, params, micro)
    params = whole.join([answer["own"] for answer in found])
    digits, following = batches(1, options.seed + 1)[0]
    right = model(params, digits).argmax(axis=-1) == following
    print(f"new sequences: {float(right.mean()):.1%} of {BATCH} right")


if __name__ == "__main__":
    main()
