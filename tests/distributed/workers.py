"""Servers and workers, for the tests of the parameter server."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.distributed import training

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import distributed, optim

STEPS = 5


def own_batch(worker: int, workers: int) -> tuple[Any, Any]:
    rows = 12 // workers
    return tuple(x[worker * rows : (worker + 1) * rows] for x in training.batch())


def run(staleness: int | None, steps: tuple[int, ...]) -> Any:
    """Process 0 serves; worker i pushes ``steps[i]`` gradients of its part of the batch."""
    rank = distributed.current_group().rank
    params = training.params()
    if rank == 0:
        values, served = distributed.serve(params, optim.adam(1e-2), staleness=staleness)
        facts = served.updates, served.pushes, served.delay
        return [np.asarray(x) for x in fd.tree.leaves(values)], facts
    batch = own_batch(rank - 1, len(steps))
    gradient = fd.jit(fd.grad(training.loss))
    versions, ahead = [], []
    with distributed.Worker(params) as worker:
        for _ in range(steps[rank - 1]):
            values = worker.pull()
            versions.append(worker.version)
            ahead.append(float(training.loss(values, *training.batch())))
            worker.push(gradient(values, *batch))
    return versions, ahead


def refusals() -> dict[str, str]:
    """What a worker hears of mistakes, before it does right."""
    said: dict[str, str] = {}
    params = {"w": fnp.ones(3)}
    if distributed.current_group().rank == 0:
        try:
            distributed.serve(params, optim.sgd(0.1), staleness=-1)
        except Exception as error:
            said["staleness"] = str(error)
        values, _ = distributed.serve(params, optim.sgd(0.5))
        said["params"] = str(np.asarray(values["w"]))
        return said
    worker = distributed.Worker(params)
    wrong = {
        "tree": {"v": fnp.ones(3)},
        "shape": {"w": fnp.ones(4)},
        "dtype": {"w": fnp.ones(3, "float16")},
    }
    for name, gradient in wrong.items():
        try:
            worker.push(gradient)
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    worker.push({"w": fnp.ones(3)})
    worker.finish()
    worker.finish()
    for name, call in (("pull", worker.pull), ("push", lambda: worker.push(params))):
        try:
            call()
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    try:
        distributed.Worker(params, server=1 + distributed.current_group().size)
    except Exception as error:
        said["server"] = f"{type(error).__name__}: {error}"
    return said


def all_ways() -> Any:
    found = {"synchronous": run(None, (STEPS, STEPS))}
    with fd.config.override(backend="reference"):  # the rest need not be compiled
        found["uneven"] = run(None, (STEPS, 2))
        found["in step"] = run(0, (STEPS, STEPS))
        found["stale"] = run(2, (8, 8))
        return found, refusals()


def another_tree() -> None:
    """A worker with other parameters than the server's."""
    if distributed.current_group().rank == 0:
        distributed.serve({"w": fnp.ones(3)}, optim.sgd(0.1))
    else:
        with distributed.Worker({"w": fnp.ones(4)}) as worker:
            worker.push({"w": fnp.ones(4)})
            worker.pull()
