"""Programs of single processes, for the tests of training."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import distributed, lax, nn, optim

WIDTH = 12


def params(seed: int = 0, depth: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "w": fnp.asarray(rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5),
            "b": fnp.zeros(WIDTH),
        }
        for _ in range(depth)
    ]


def batch(rows: int = 12) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    return tuple(rng.normal(size=(rows, WIDTH)).astype(np.float32) for _ in range(2))


def layer(x: Any, p: Any) -> Any:
    return nn.tanh(x @ p["w"] + p["b"]) + x


def loss(params: Any, x: Any, y: Any) -> Any:
    for p in params:
        x = layer(x, p)
    return ((x - y) ** 2).mean()


def jitted_loss(params: Any, x: Any, y: Any) -> Any:
    return fd.jit(loss)(params, x, y)


def scanned_loss(params: Any, x: Any, y: Any) -> Any:
    stacked = fd.tree.map(lambda *xs: fnp.stack(xs), *params)
    x = lax.scan(lambda x, p: (fd.checkpoint(layer)(x, p), None), x, stacked)[0]
    return ((x - y) ** 2).mean()


def with_aux(params: Any, x: Any, y: Any) -> Any:
    value = loss(params, x, y)
    return value, {"rows": x.shape[0], "first": x[0, 0]}


LOSSES = {f.__name__: f for f in (loss, jitted_loss, scanned_loss)}
# Losses, bytes of a bucket, and back ends: not all of them are compiled, which takes longest.
WAYS = [("loss", 700, "auto"), ("scanned_loss", 700, "auto"), ("jitted_loss", 700, "reference")]
WAYS += [("loss", size, "reference") for size in (1, 1 << 20, None)]


def train(value_and_grad: Any, fun: Any, x: Any, y: Any, steps: int = 6, jit: bool = True) -> Any:
    """Losses of all steps, and the parameters after the last."""
    optimizer, values = optim.adam(1e-2), params()
    state, losses = optimizer.init(values), []
    both = value_and_grad(fun)

    def step(values: Any, state: Any, x: Any, y: Any) -> Any:
        value, gradient = both(values, x, y)
        updates, state = optimizer.update(gradient, state, values)
        return value, optim.apply_updates(values, updates), state

    step = fd.jit(step) if jit else step
    for _ in range(steps):
        value, values, state = step(values, state, x, y)
        losses.append(float(value))
    return losses, fd.tree.map(np.asarray, values)


def data_parallel() -> Any:
    """Every way of the same training; the shares of the one batch are the processes'."""
    x, y = distributed.shard(batch())
    found: dict[str, Any] = {}
    for name, size, backend in WAYS:

        def both(fun: Any, size: int | None = size) -> Any:
            return distributed.value_and_grad(fun, bucket_bytes=size)

        with fd.config.override(backend=backend):
            found[f"{name} {size}"] = train(both, LOSSES[name], x, y)
    found["eager"] = train(distributed.value_and_grad, loss, x, y, jit=False)
    both = distributed.value_and_grad(with_aux, argnums=(0, 1), has_aux=True)
    (value, aux), (gradient, by_x) = both(params(), x, y)
    numbers = {k: float(v) for k, v in aux.items()}
    found["aux"] = float(value), numbers, fd.tree.map(np.asarray, gradient), np.asarray(by_x)
    text = fd.jit(distributed.value_and_grad(loss, bucket_bytes=500)).lower(params(), x, y)
    found["groups"] = text.as_text("groups")
    second = fd.grad(lambda p: distributed.value_and_grad(loss, bucket_bytes=None)(p, x, y)[0])
    found["second"] = fd.tree.map(np.asarray, second(params()))
    return found


def die(rank: int) -> None:
    """One process is killed while the others wait for it."""
    if distributed.current_group().rank == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()


def raise_in(rank: int) -> None:
    if distributed.current_group().rank == rank:
        raise ValueError("no such file")
    fd.jit(lambda x: distributed.all_reduce(x))(fnp.ones(3))


def never() -> None:
    if distributed.current_group().rank == 1:
        signal.pause()
    distributed.barrier()


def environment(number: int, word: str) -> Any:
    group = distributed.current_group()
    return group.rank, group.size, number, word, fd.config.num_threads, os.getpid()
