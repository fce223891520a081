"""Models cut into stages: every stage's part, and the losses and gradients of the whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.distributed import stages
from tests.distributed.threads import PATIENCE

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import distributed
from funcdl.distributed.partition import _cuts
from funcdl.errors import ArgumentError, DistributedError, TreeError

SIZE = 3


@pytest.fixture(scope="module")
def answers() -> Iterator[list[Any]]:
    yield distributed.launch(stages.together, SIZE, timeout=PATIENCE, limit=5 * PATIENCE)


@pytest.fixture(scope="module")
def whole() -> tuple[list[float], Any, Any]:
    """Losses, parameters and the first gradient of one process."""
    values, first, losses = stages.params(), None, []
    both = fd.jit(fd.value_and_grad(stages.whole_loss))
    for _ in range(5):
        value, gradient = both(values, *stages.batch())
        first = gradient if first is None else first
        values = fd.tree.map(lambda p, g: p - 0.1 * g, values, gradient)
        losses.append(float(value))
    return losses, values, first


def close(found: Any, wanted: Any) -> None:
    for a, b in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_losses_and_gradients_are_those_of_the_whole(
    answers: list[Any], whole: Any, micro_batches: int
) -> None:
    cut = stages.cut(SIZE, micro_batches)
    losses, values, gradient = whole
    found = [answer[0][micro_batches] for answer in answers]
    assert found[0][0] == found[1][0] == found[2][0]
    close(found[0][0], losses)
    close(cut.join([part[1] for part in found]), values)
    close(cut.join([part[2] for part in found]), gradient)


def test_stages_that_are_written(answers: list[Any]) -> None:
    own = [{"a": fnp.float32(1 + r), "b": fnp.ones(3) * r} for r in range(SIZE)]
    x = np.arange(12, dtype=np.float32).reshape(4, 3)

    def loss(own: Any) -> Any:
        out = stages.by_hand(own[0], x)
        for params in own[1:]:
            out = stages.by_hand(params, *out)
        return ((out[0] + out[1] - x) ** 2).mean()

    value, gradient = fd.value_and_grad(loss)(own)
    assert [answer[1][0] for answer in answers] == pytest.approx([float(value)] * SIZE)
    close([answer[1][1] for answer in answers], gradient)


def test_what_is_said_of_mistakes(answers: list[Any]) -> None:
    said = answers[0][3]
    assert "inputs to be a multiple of micro_batches, 3; got f32[4,3]" in said["rows"]
    assert "pipeline requires inputs in the first process, got None" in said["nothing"]


def test_what_is_left_of_a_pass_that_failed_is_no_part_of_the_next(answers: list[Any]) -> None:
    late = "DistributedTimeoutError"
    found = [answer[2] for answer in answers]
    assert found == [(late, 4.0, 8.0), (late, 4.0, 8.0), ("ShapeError", 4.0, 8.0)]


def test_a_pipeline_of_one_process() -> None:
    distributed.initialize("127.0.0.1:0", 1, 0)
    try:
        losses, _, gradient = stages.train(1, 3)
        value, wanted = fd.value_and_grad(stages.whole_loss)(stages.params(), *stages.batch())
        close((losses[0], stages.cut(1, 3).join([gradient])), (value, wanted))
        for result in (lambda y, t: y, lambda y, t: (y.sum(), y), lambda y, t: y.sum() > 0):
            both = distributed.pipeline(lambda w, x: w * x, result, 1)
            with pytest.raises(TypeError, match="pipeline requires loss to return a real scalar"):
                both(1.0, np.ones((2, 2), np.float32), np.ones(2))
    finally:
        distributed.shutdown()


def test_it_needs_a_group_and_some_micro_batches() -> None:
    with pytest.raises(DistributedError, match="pipeline requires a group of processes"):
        distributed.pipeline(stages.model, stages.loss, 2)({}, None, None)
    with pytest.raises(ArgumentError, match="micro_batches must be at least 1, got 0"):
        distributed.pipeline(stages.model, stages.loss, 0)


# Partitions


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_stages_one_after_the_other_are_the_function(count: int) -> None:
    cut = stages.cut(count, 4)
    params, inputs = stages.params(), stages.batch()[0]
    inputs = fd.tree.map(lambda x: x[:3], inputs)
    parts = cut.split(params)
    values: Any = (inputs,)
    for stage, own in zip(cut.stages, parts, strict=True):
        out = stage(own, *values)
        values = out if isinstance(out, tuple) else (out,)
    wanted = stages.model(params, inputs)
    assert fd.tree.structure(values[0]) == fd.tree.structure(wanted)
    close(values[0], wanted)
    # Each parameter belongs to one stage, and comes back to its place.
    names = [name for stage in cut.stages for name in stage.parameters]
    assert len(names) == len({*names}) == len(fd.tree.leaves(params))
    assert fd.tree.structure(cut.join(parts)) == fd.tree.structure(params)
    close(cut.join(parts), params)


def test_work_is_even_and_layers_are_not_torn() -> None:
    cut = stages.cut(2, 4)
    first, second = cut.stages
    assert max(first.operations, second.operations) < 0.65 * (first.operations + second.operations)
    # What lies between two layers: activations of 3 x 5 x 8, the table, the words.
    assert first.nbytes <= 4 * (3 * 5 * stages.WIDTH * 2 + stages.WORDS * stages.WIDTH + 3 * 5)
    assert second.nbytes == 0


@pytest.mark.parametrize(
    ("costs", "crossing", "count", "cuts"),
    [
        ([1, 1, 1, 1], [9, 1, 1, 1, 0], 2, [0, 2, 4]),
        ([5, 1, 1, 1, 1, 1], [0] * 7, 2, [0, 1, 6]),
        ([1, 1, 1, 1], [0] * 5, 4, [0, 1, 2, 3, 4]),
        ([100, 9, 1, 100], [0, 5, 5, 1, 0], 2, [0, 3, 4]),  # 110 and 100 rather than 109 and 101
        ([0, 0, 0], [0, 7, 3, 0], 2, [0, 2, 3]),
        ([3], [0, 0], 1, [0, 1]),
    ],
)
def test_cuts(costs: list[float], crossing: list[int], count: int, cuts: list[int]) -> None:
    assert _cuts(costs, crossing, count) == cuts


def test_cuts_are_the_best_there_are() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        costs = rng.integers(0, 20, size=rng.integers(3, 9)).astype(float).tolist()
        crossing = rng.integers(0, 50, size=len(costs) + 1).tolist()
        for count in range(1, len(costs) + 1):
            ways = [
                [0, *inner, len(costs)]
                for inner in itertools.combinations(range(1, len(costs)), count - 1)
            ]

            def load(way: list[int], costs: list[float] = costs) -> float:
                return max(sum(costs[a:b]) for a, b in itertools.pairwise(way))

            found = _cuts(costs, crossing, count)
            assert found in ways
            limit = 1.1 * min(map(load, ways)) + 1e-6
            assert load(found) <= limit
            allowed = [way for way in ways if load(way) <= limit - 2e-6]
            least = min((sum(crossing[i] for i in way[1:-1]) for way in allowed), default=0)
            assert not allowed or sum(crossing[i] for i in found[1:-1]) <= least


def test_mistakes_with_partitions() -> None:
    cut = stages.cut(2, 4)
    with pytest.raises(TreeError, match="split requires parameters with the structure"):
        cut.split({"other": 1.0})
    with pytest.raises(TreeError, match="join requires lists of"):
        cut.join([[], []])
    with pytest.raises(TreeError, match=r"stage requires . parameters and . values, got 0 and 1"):
        cut.stages[1]([], 1.0)
    for count in (0, -1, 5):
        with pytest.raises(
            ArgumentError, match="partition: stages must be from 1 to 2, the number"
        ):
            distributed.partition(lambda p, x: fnp.sin(p * x), count, 1.0, 2.0)


def test_calls_and_loops_are_cut_between_and_counted() -> None:
    def twice(params: Any, x: Any) -> Any:
        for w in params:
            x = fd.jit(lambda x, w: fnp.tanh(x @ w))(x, w)
        step = lambda x, w: (x @ w, None)  # noqa: E731
        return fd.lax.scan(step, x, fnp.stack(params))[0]

    params = [fnp.ones((4, 4))] * 4
    cut = distributed.partition(twice, 2, params, fnp.ones((2, 4)))
    assert cut.stages[0].operations >= 4 * 2 * 2 * 4 * 4
    assert cut.stages[1].operations >= 4 * 2 * 2 * 4 * 4
