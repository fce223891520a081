"""Training of two processes on halves of a batch is that of one on all of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.distributed import training
from tests.distributed.threads import PATIENCE

import funcdl as fd
from funcdl import distributed
from funcdl.errors import ArgumentError, DistributedError
from funcdl.runtime.toolchain import find_compiler

WAYS = [f"{name} {size}" for name, size, _ in training.WAYS]


@pytest.fixture(scope="module")
def answers() -> Iterator[list[dict[str, Any]]]:
    yield distributed.launch(training.data_parallel, 2, timeout=PATIENCE, limit=5 * PATIENCE)


@pytest.fixture(scope="module")
def alone() -> Any:
    return training.train(fd.value_and_grad, training.loss, *training.batch())


def same_bits(a: Any, b: Any) -> bool:
    pairs = zip(fd.tree.leaves(a), fd.tree.leaves(b), strict=True)
    return all(x.tobytes() == y.tobytes() for x, y in pairs)


@pytest.mark.parametrize("way", [*WAYS, "eager"])
def test_losses_and_parameters_are_those_of_one_process(
    answers: list[dict[str, Any]], alone: Any, way: str
) -> None:
    losses, params = alone
    for found in answers:
        np.testing.assert_allclose(found[way][0], losses, rtol=1e-5)
        for x, y in zip(fd.tree.leaves(found[way][1]), fd.tree.leaves(params), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
    assert answers[0][way][0] == answers[1][way][0]
    assert same_bits(answers[0][way][1], answers[1][way][1])
    assert losses[-1] < 0.9 * losses[0]


def test_bits_do_not_depend_on_buckets(answers: list[dict[str, Any]]) -> None:
    assert same_bits(answers[0]["loss 1"][1], answers[0][f"loss {1 << 20}"][1])


def test_what_is_no_gradient_stays_each_processs_own(answers: list[dict[str, Any]]) -> None:
    x, y = training.batch()
    (value, _), (gradient, _) = fd.value_and_grad(training.with_aux, (0, 1), True)(
        training.params(), x, y
    )
    for rank, found in enumerate(answers):
        shared, aux, by_params, by_x = found["aux"]
        np.testing.assert_allclose(shared, value, rtol=1e-5)
        assert aux == {"rows": 6, "first": float(x[6 * rank, 0])}
        for a, b in zip(fd.tree.leaves(by_params), fd.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert by_x.shape == (6, training.WIDTH)


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_gradients_are_sent_while_others_are_computed(answers: list[dict[str, Any]]) -> None:
    """In the compiled program, products stand between what is begun, and all ends at the end."""
    kinds = re.findall(
        r"all_reduce_start|all_reduce_done|^group \d+ dot", answers[0]["groups"], re.M
    )
    short = "".join("s" if "start" in x else "w" if "done" in x else "." for x in kinds)
    starts = [i for i, x in enumerate(short) if x == "s"]
    assert len(starts) == 3 and short.endswith("www")
    assert all("." in short[a:b] for a, b in itertools.pairwise(starts))


def test_without_buckets_there_is_a_derivative(answers: list[dict[str, Any]]) -> None:
    """Of the sum of all processes' results: two means."""
    gradient = fd.grad(training.loss)(training.params(), *training.batch())
    for found in answers:
        leaves = zip(fd.tree.leaves(found["second"]), fd.tree.leaves(gradient), strict=True)
        for a, b in leaves:
            assert a.shape == b.shape
    totals = [x + y for x, y in zip(*(fd.tree.leaves(f["second"]) for f in answers), strict=True)]
    for a, b in zip(totals, fd.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, 2 * b, rtol=1e-3, atol=1e-5)


def test_what_it_refuses() -> None:
    for size in (0, -5):
        with pytest.raises(ArgumentError, match="bucket_bytes must be positive or None"):
            distributed.value_and_grad(training.loss, bucket_bytes=size)
    with pytest.raises(DistributedError, match="value_and_grad requires a group of processes"):
        distributed.value_and_grad(training.loss)(training.params(), *training.batch())
