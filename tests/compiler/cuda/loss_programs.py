"""Cross-entropies as users write them; run as a script, in Triton's interpreter on the stub."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn

Array = np.ndarray[Any, Any]


def integer_labels(x: Any, y: Any) -> Any:
    return nn.losses.softmax_cross_entropy_with_integer_labels(x, y)


def take_along_axis(x: Any, y: Any) -> Any:
    return -fnp.take_along_axis(nn.log_softmax(x), y[..., None], axis=-1)


def one_hot_labels(x: Any, y: Any) -> Any:
    return nn.softmax_cross_entropy(x, nn.one_hot(y, x.shape[-1]))


def one_hot_product(x: Any, y: Any) -> Any:
    return -(nn.one_hot(y, x.shape[-1]) * nn.log_softmax(x)).sum(-1)


def logsumexp_minus_logit(x: Any, y: Any) -> Any:
    return nn.logsumexp(x, axis=-1) - fnp.take_along_axis(x, y[..., None], axis=-1)[..., 0]


def two_indices(x: Any, y: Any) -> Any:
    return -nn.log_softmax(x)[fnp.arange(len(y)), y]


def of_one_example(x: Any, y: Any) -> Any:
    return fd.vmap(lambda row, label: -nn.log_softmax(row)[label])(x, y)


def maximum_stopped(x: Any, y: Any) -> Any:
    """Written out, with the largest logit as a constant."""
    shifted = x - lax.stop_gradient(x.max(-1, keepdims=True))
    logit = fnp.take_along_axis(shifted, y[..., None], axis=-1)[..., 0]
    return fnp.log(fnp.exp(shifted).sum(-1)) - logit


def smoothed(x: Any, y: Any) -> Any:
    logs = nn.log_softmax(x)
    return -0.9 * fnp.take_along_axis(logs, y[..., None], axis=-1)[..., 0] - 0.1 * logs.mean(-1)


def in_float32(x: Any, y: Any) -> Any:
    return take_along_axis(x.astype(np.float32), y)


FORMS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        integer_labels,
        take_along_axis,
        one_hot_labels,
        one_hot_product,
        logsumexp_minus_logit,
        two_indices,
        of_one_example,
        maximum_stopped,
        smoothed,
    )
}


def weighted(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss and its gradient, where each example has a weight."""

    def total(x: Any, y: Any) -> Any:
        found = loss(x, y).reshape(-1)
        return (found * np.linspace(0.5, 2, found.size).astype(np.float32)).sum()

    return fd.value_and_grad(total)


def mean(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The mean loss and its gradient."""
    return fd.value_and_grad(lambda x, y: loss(x, y).mean())


def masked(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The mean over the examples that count, and its gradient."""

    def total(x: Any, y: Any) -> Any:
        counts = y != 3
        return fnp.where(counts, loss(x, y).reshape(-1), 0).sum() / counts.sum()

    return fd.value_and_grad(total)


def ignoring(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The same, where a label that is no class stands for none."""

    def total(x: Any, y: Any) -> Any:
        counts = y != -100
        losses = loss(x, fnp.where(counts, y, 0)).reshape(-1)
        return fnp.where(counts, losses, 0).sum() / counts.sum()

    return fd.value_and_grad(total)


def by_mask(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The mean over the examples that a mask, computed from the labels, multiplies by 1."""

    def total(x: Any, y: Any) -> Any:
        mask = (y % 3 != 0).astype(np.float32)
        return (mask * loss(x, y).reshape(-1)).sum() / fnp.maximum(mask.sum(), 1.0)

    return fd.value_and_grad(total)


def of_sequences(x: Any, y: Any) -> Any:
    """The mean of means, each over what counts of a sequence, and its gradient."""

    def total(x: Any) -> Any:
        mask = (y % 2).astype(np.float32)
        losses = take_along_axis(x, y)[..., 0]
        return ((mask * losses).sum(-1) / fnp.maximum(mask.sum(-1), 1.0)).mean()

    return fd.value_and_grad(total)(x)


def in_batches(x: Any, y: Any) -> Any:
    """The gradients of parts of a batch, in a loop."""
    gradient = fd.value_and_grad(lambda x, y: take_along_axis(x, y).mean())
    parts = (x.reshape(3, -1, x.shape[-1]), y.reshape(3, -1))
    return lax.map(lambda part: gradient(*part), parts)


def inputs(*shape: int, outside: bool = False, dtype: Any = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng(shape[-1])
    logits = (rng.normal(size=shape) * 5).astype(dtype)
    labels = rng.integers(0, shape[-1], shape[:-1]).astype(np.int32)
    if outside:
        labels.flat[:4] = [-1, shape[-1], -shape[-1] - 1, 2 * shape[-1]]
    return logits, labels


def missing(*shape: int) -> tuple[Array, Array]:
    """Inputs, with -100 for some labels."""
    logits, labels = inputs(*shape)
    labels.flat[::3] = -100
    return logits, labels


Program = tuple[Callable[..., Any], tuple[Array, Array]]
PROGRAMS: dict[str, Program] = {
    **{f"{name} loss": (loss, inputs(9, 21)) for name, loss in FORMS.items()},
    **{f"{name} gradient": (weighted(loss), inputs(9, 21)) for name, loss in FORMS.items()},
    **{
        f"{name} outside": (weighted(loss), inputs(9, 21, outside=True))
        for name, loss in FORMS.items()
    },
    **{f"{name} masked": (masked(loss), inputs(9, 5)) for name, loss in FORMS.items()},
    **{f"{name} ignoring": (ignoring(loss), missing(9, 5)) for name, loss in FORMS.items()},
    **{f"{name} by mask": (by_mask(loss), inputs(9, 7)) for name, loss in FORMS.items()},
    "sequences": (of_sequences, inputs(3, 5, 6)),
    "long labels": (by_mask(two_indices), (inputs(6, 30)[0], inputs(6, 30)[1].astype("i8"))),
    "three dimensions": (weighted(take_along_axis), inputs(2, 5, 13)),
    "bf16": (weighted(in_float32), inputs(7, 19, dtype=ml_dtypes.bfloat16)),
    "small labels": (weighted(take_along_axis), (inputs(6, 30)[0], inputs(6, 30)[1].astype("i1"))),
    "loop": (in_batches, inputs(6, 11)),
}


def difference(name: str, gpu: StubGpu) -> str:
    """Where a program on a GPU differs from the eager one; "" where nowhere."""
    function, args = PROGRAMS[name]
    left = fd.tree.leaves(fd.jit(function)(*(fd.device_put(x, "gpu") for x in args)))
    right = fd.tree.leaves(function(*args))  # eagerly, by NumPy
    for a, b in zip(left, right, strict=True):
        tolerance = 0.05 if a.dtype == ml_dtypes.bfloat16 else 1e-4
        wide = (np.asarray(x).astype(np.float64) for x in (a, b))
        try:
            np.testing.assert_allclose(*wide, tolerance, tolerance)
        except AssertionError as error:
            return str(error)
    return ""


def differences(names: list[str]) -> dict[str, str]:
    """The same for programs in Triton's interpreter."""
    from funcdl.kernels.triton.interpret import interpret

    found = {}
    for name in names:
        with installed(StubGpu(run=interpret)) as gpu:
            found[name] = difference(name, gpu)
    return found


if __name__ == "__main__":
    print(json.dumps(differences(sys.argv[1:])))
