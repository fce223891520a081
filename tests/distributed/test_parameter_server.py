"""A server and two workers: synchronous rounds are the whole batch, stale ones stay in bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.distributed import training, workers
from tests.distributed.threads import PATIENCE
from tests.distributed.workers import STEPS

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import distributed, optim
from funcdl.errors import ArgumentError, DistributedError


@pytest.fixture(scope="module")
def answers() -> Iterator[list[Any]]:
    yield distributed.launch(workers.all_ways, 3, timeout=PATIENCE, limit=5 * PATIENCE)


def moved(rounds: list[list[int]]) -> tuple[list[Any], list[float]]:
    """Parameters after rounds of these workers' mean gradients, and the loss before each."""
    params, optimizer = training.params(), optim.adam(1e-2)
    state, losses = optimizer.init(params), []
    for members in rounds:
        losses.append(float(training.loss(params, *training.batch())))
        found = [
            fd.grad(training.loss)(params, *workers.own_batch(worker, 2)) for worker in members
        ]
        mean = fd.tree.map(lambda *xs: sum(xs) / len(xs), *found)
        updates, state = optimizer.update(mean, state, params)
        params = optim.apply_updates(params, updates)
    return [np.asarray(x) for x in fd.tree.leaves(params)], losses


def close(found: list[Any], wanted: list[Any]) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("way", "rounds", "pushes"),
    [
        ("synchronous", [[0, 1]] * STEPS, (0, STEPS, STEPS)),
        # Whoever has finished is waited for no longer.
        ("uneven", [[0, 1]] * 2 + [[0]] * (STEPS - 2), (0, STEPS, 2)),
    ],
)
def test_synchronous_rounds_are_steps_of_the_mean(
    answers: list[Any], way: str, rounds: list[list[int]], pushes: tuple[int, ...]
) -> None:
    (values, facts), *found = (answer[0][way] for answer in answers)
    wanted, losses = moved(rounds)
    close(values, wanted)
    assert facts == (len(rounds), pushes, 0)
    for count, (versions, ahead) in zip(pushes[1:], found, strict=True):
        assert versions == list(range(count))  # each sees all rounds before its own
        np.testing.assert_allclose(ahead, losses[:count], rtol=1e-4)


@pytest.mark.parametrize(("way", "staleness", "steps"), [("in step", 0, STEPS), ("stale", 2, 8)])
def test_no_worker_is_further_ahead_than_allowed(
    answers: list[Any], way: str, staleness: int, steps: int
) -> None:
    (_, facts), *found = (answer[0][way] for answer in answers)
    updates, pushes, delay = facts
    assert (updates, pushes) == (2 * steps, (0, steps, steps))
    # In between, the other may send what it is behind, and what it may be ahead.
    assert delay <= 2 * staleness + 1
    for versions, losses in found:
        assert versions == sorted(versions)
        # One that has sent n gradients sees these, and all but `staleness` of the other's n.
        assert all(
            2 * n - staleness <= version <= 2 * n + staleness + 1
            for n, version in enumerate(versions)
        )
        assert losses[-1] < losses[0]


def test_mistakes_of_workers(answers: list[Any]) -> None:
    assert answers[0][1]["staleness"] == "serve: staleness must be None or not negative, got -1"
    assert answers[0][1]["params"] == "[0.5 0.5 0.5]"
    for _, said in answers[1:]:
        assert said["tree"].startswith("TreeError: push requires a gradient with the structure")
        assert said["shape"].startswith("ShapeError: push requires gradient['w'] to have the shape")
        assert "got f16[3]" in said["dtype"]
        for name in ("pull", "push"):
            assert (
                said[name]
                == f"DistributedError: {name}: this worker has told the server that it finished"
            )
        assert "Worker: server must be the number of a process" in said["server"]


def test_a_worker_with_other_parameters() -> None:
    message = "process 1 sent what is no gradient of the parameters: 1 arrays of other shapes"
    with pytest.raises(DistributedError, match=message):
        distributed.launch(workers.another_tree, 2, timeout=PATIENCE, limit=3 * PATIENCE)


def test_it_needs_workers() -> None:
    with pytest.raises(DistributedError, match="serve requires a group of processes"):
        distributed.serve(fnp.ones(3), optim.sgd(0.1))
    distributed.initialize("127.0.0.1:0", 1, 0)
    try:
        with pytest.raises(ArgumentError, match="serve requires another process"):
            distributed.serve(fnp.ones(3), optim.sgd(0.1))
    finally:
        distributed.shutdown()
