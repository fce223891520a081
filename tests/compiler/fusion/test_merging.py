"""Reductions that read what one group holds are made in one pass over it."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.compiler.fusion.test_fusion import array, compiled

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.compiler.fusion.merging import MAX_REDUCTIONS
from funcdl.compiler.pipeline import Pipeline

X, W, V = array(24, 16), array(16, 12), array(24, 12)


def reductions(pipeline: Pipeline) -> list[int]:
    """How many reductions each group has that has any."""
    groups = pipeline.grouping.groups
    counts = [sum(e.primitive.name.startswith("reduce_") for e in g.members) for g in groups]
    return [count for count in counts if count]


def test_sums_of_what_a_product_stores() -> None:
    def f(x: Any, w: Any, v: Any) -> Any:
        g = x @ w
        return g.sum(axis=0), (g * v).sum(axis=0), fnp.exp(g).max(axis=0)

    pipeline = compiled(f, X, W, V)
    assert reductions(pipeline) == [3]
    # What the product stores is what is read, and nothing else.
    product, _ = pipeline.grouping.groups
    assert len(product.outputs) == 1


def test_sums_of_an_input() -> None:
    """Of two groups that also compute something of their own."""

    def f(x: Any, v: Any) -> Any:
        return (x * v).sum(axis=0), fnp.tanh(x).sum(axis=0)

    assert reductions(compiled(f, V, V)) == [2]


def test_a_sum_that_waits_for_another() -> None:
    """The variance needs the mean, over all rows; what else is a sum of the array needs neither."""

    def f(x: Any) -> Any:
        return ((x - x.mean(axis=0)) ** 2).mean(axis=0), fnp.exp(x).sum(axis=0)

    assert sum(reductions(compiled(f, X))) == 3
    assert len(reductions(compiled(f, X))) <= 2


def test_other_loops_and_other_arrays_stay_apart() -> None:
    def f(x: Any, v: Any) -> Any:
        return x.sum(axis=0), x.sum(axis=1), v.sum(axis=0)

    assert reductions(compiled(f, V, array(24, 12))) == [1, 1, 1]


def test_no_more_sums_than_a_cache_has_room_for() -> None:
    def f(x: Any, w: Any) -> Any:
        g = x @ w
        return [(g * (i + 0.5)).sum(axis=0) for i in range(2 * MAX_REDUCTIONS)]

    assert reductions(compiled(f, X, W)) == [MAX_REDUCTIONS, MAX_REDUCTIONS]


def test_no_circle_through_a_third_group() -> None:
    """The second sum reads a product with the first one's result."""

    def f(x: Any, w: Any) -> Any:
        g = x @ w
        first = g.sum(axis=0)
        return (g * (fnp.tanh(first) @ fnp.ones((12, 12), "float32"))).sum(axis=0)

    assert reductions(compiled(f, X, W)) == [1, 1]


def test_gradients_of_a_normalised_batch_read_each_array_once() -> None:
    """Of its scale, shift, mean and deviation: one pass, from the gradient and the input."""

    def loss(w: Any, scale: Any, shift: Any, x: Any, v: Any) -> Any:
        h = x @ w
        centred = h - h.mean(axis=0)
        deviation = fnp.sqrt((centred * centred).mean(axis=0) + 1e-5)
        return fnp.sum(nn.relu(centred / deviation * scale + shift) @ v)

    args = W, array(12), array(12), X, array(12, 7)
    pipeline = compiled(fd.grad(loss, (0, 1, 2)), *args)
    large = 24 * 12
    stored = [v for g in pipeline.grouping.groups for v in g.outputs if v.aval.size == large]
    # The layer, the gradient of what relu takes in, and two terms of the layer's own.
    assert len(stored) <= 4
    assert max(reductions(pipeline)) >= 4


def test_a_masked_mean_and_its_gradient_read_the_logits_in_one_group() -> None:
    """What counts is counted apart: the gradient waits for it, but not for the sum of losses."""

    def loss(x: Any, labels: Any, mask: Any) -> Any:
        losses = -(nn.one_hot(labels, x.shape[-1]) * nn.log_softmax(x)).sum(-1)
        return (mask * losses).sum() / fnp.maximum(mask.sum(), 1.0)

    rows, size = 24, 500
    labels = np.arange(rows, dtype=np.int32) * 20
    pipeline = compiled(fd.value_and_grad(loss), array(rows, size), labels, array(rows))
    groups = pipeline.grouping.groups
    assert [g.shape for g in groups] == [(rows,), (rows, size), (rows,)]
    # The mean is divided where the losses are added up.
    assert groups[2].members[-1].primitive.name == "div"
