"""Models in stages, for the tests of partitions and pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import distributed, nn, optim
from funcdl.errors import DistributedTimeoutError, ShapeError

WORDS, WIDTH = 11, 8


def params(depth: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(3)

    def normal(*shape: int) -> Any:
        return fnp.asarray((rng.normal(size=shape) / shape[-1] ** 0.5).astype(np.float32))

    return {
        "table": normal(WORDS, WIDTH),  # read first and last
        "layers": [{"w": normal(WIDTH, WIDTH), "b": normal(WIDTH)} for _ in range(depth)],
        "unread": fnp.ones(2),
    }


def batch(rows: int = 12) -> tuple[Any, Any]:
    rng = np.random.default_rng(4)
    words = rng.integers(WORDS, size=(2, rows, 5)).astype(np.int32)
    scale = rng.normal(size=(rows, 1, 1)).astype(np.float32)
    return {"words": words[0], "scale": scale}, words[1]


def model(params: Any, inputs: Any) -> Any:
    """Logits and, for nothing, what was counted: integers go through all stages."""
    x = params["table"][inputs["words"]] * inputs["scale"]
    for layer in params["layers"]:
        x = nn.relu(x @ layer["w"] + layer["b"]) + x
    return {"logits": x @ params["table"].T, "words": inputs["words"]}


def loss(output: Any, targets: Any) -> Any:
    logits = nn.softmax_cross_entropy_with_integer_labels(output["logits"], targets)
    return logits.mean() + 0.01 * (output["words"] % 2).mean()


def whole_loss(params: Any, inputs: Any, targets: Any) -> Any:
    return loss(model(params, inputs), targets)


def cut(stages: int, micro_batches: int) -> distributed.Partition:
    inputs, _ = batch()
    first = fd.tree.map(lambda x: x[: len(x) // micro_batches], inputs)
    return distributed.partition(model, stages, params(), first)


def train(steps: int = 5, micro_batches: int = 4) -> Any:
    """Losses, this process's parameters after all steps, and the gradient of the first."""
    group = distributed.current_group()
    whole = cut(group.size, micro_batches)
    own = whole.split(params())[group.rank]
    both = distributed.pipeline(whole.stages[group.rank], loss, micro_batches)
    inputs, targets = batch()
    inputs = inputs if group.rank == 0 else None
    targets = targets if group.rank == group.size - 1 else None
    optimizer = optim.sgd(0.1)
    state, losses, first = optimizer.init(own), [], None
    for _ in range(steps):
        value, gradient = both(own, inputs, targets)
        first = gradient if first is None else first
        updates, state = optimizer.update(gradient, state)
        own = optim.apply_updates(own, updates)
        losses.append(float(value))
    return losses, *([np.asarray(x) for x in part] for part in (own, first))


def by_hand(params: Any, *values: Any) -> Any:
    """A stage that is written, not cut: of a pair of arrays."""
    x, y = values if len(values) == 2 else (values[0], values[0] * 2)
    return fnp.sin(x * params["a"]), y + x * params["b"]


def written() -> Any:
    group = distributed.current_group()
    own = {"a": fnp.float32(1 + group.rank), "b": fnp.ones(3) * group.rank}
    both = distributed.pipeline(by_hand, lambda out, t: ((out[0] + out[1] - t) ** 2).mean(), 2)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    value, gradient = both(own, x, x)
    return float(value), fd.tree.map(np.asarray, gradient)


def mistakes() -> dict[str, str]:
    group = distributed.current_group()
    x = np.ones((4, 3), np.float32)
    weight = fnp.ones((3, 3))

    def stage(w: Any, x: Any) -> Any:
        return x @ w

    calls = {
        "rows": lambda: distributed.pipeline(stage, lambda y, t: y.sum(), 3)(weight, x, x),
        "nothing": lambda: distributed.pipeline(stage, lambda y, t: y.sum(), 2)(weight),
    }
    said = {}
    if group.rank == 0:
        for name, call in calls.items():
            try:
                call()
            except Exception as error:
                said[name] = f"{type(error).__name__}: {error}"
    return said


def after_a_failure() -> tuple[str, float, float]:
    """A pass that fails in the last process, so that the others give it up; then another one."""
    group = distributed.current_group()
    both = distributed.pipeline(lambda w, x: x * w, lambda y, t: ((y - t) ** 2).mean(), 2)
    x, weight, failure = np.ones((4, 3), np.float32), fnp.float32(1), ""
    patience, group.timeout = group.timeout, 0.5
    try:
        both(weight, x, np.ones((3, 3), np.float32))
    except (ShapeError, DistributedTimeoutError) as error:
        failure = type(error).__name__
    group.timeout = patience
    value, gradient = both(weight, 2 * x, 0 * x)
    return failure, float(value), float(gradient)


def together() -> Any:
    found = {4: train(micro_batches=4)}
    with fd.config.override(backend="reference"):  # the rest need not be compiled
        found[1] = train(micro_batches=1)
        made = found, written(), after_a_failure()
        return *made, mistakes()  # which one process makes by itself
