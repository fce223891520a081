"""Programs over long rows; run as a script, in Triton's interpreter on the stub."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from tests.compiler.cuda.loss_programs import by_mask, integer_labels, smoothed, take_along_axis
from tests.compiler.cuda.norm_programs import layer_norm, rms_norm
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
from funcdl import nn

BF16 = ml_dtypes.bfloat16


def softmax_gradient(y: Any, cotangent: Any) -> Any:
    return y * (cotangent - (cotangent * y).sum(1, keepdims=True))


def of_input(norm: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient of a norm's input alone."""

    def run(cotangent: Any, x: Any, *weights: Any) -> Any:
        return fd.vjp(lambda x: norm(x, *weights), x)[1](cotangent)

    return run


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that computes wider than what it is given and returns."""

    def run(*args: Any) -> Any:
        wide = [x.astype(np.float32) if x.dtype == BF16 else x for x in args]
        return fd.tree.map(lambda x: x.astype(args[0].dtype) if x.ndim == 2 else x, function(*wide))

    return run


# By how many matrices and vectors a program takes; then labels, if any.
FORMS: dict[str, tuple[Callable[..., Any], int, int, bool]] = {
    "softmax": (nn.softmax, 1, 0, False),
    "log-softmax": (nn.log_softmax, 1, 0, False),
    "softmax, gradient": (softmax_gradient, 2, 0, False),
    "layer norm": (layer_norm, 1, 2, False),
    "layer norm, gradient": (of_input(layer_norm), 2, 2, False),
    "RMS norm": (rms_norm, 1, 1, False),
    "RMS norm, gradient": (of_input(rms_norm), 2, 1, False),
    "cross-entropy": (by_mask(take_along_axis), 1, 0, True),
    "cross-entropy of labels": (by_mask(integer_labels), 1, 0, True),
    "smoothed": (by_mask(smoothed), 1, 0, True),
}


def shapes(name: str, rows: int, size: int, dtype: Any) -> list[fd.ShapeDtypeStruct]:
    """What a program takes."""
    _, matrices, vectors, labels = FORMS[name]
    found = [fd.ShapeDtypeStruct((rows, size), dtype)] * matrices
    found += [fd.ShapeDtypeStruct((size,), dtype)] * vectors
    return found + [fd.ShapeDtypeStruct((rows,), np.int32)] * labels


def difference(name: str, size: int, dtype: Any, gpu: StubGpu) -> str:
    """Where a program on a GPU differs from the eager one; "" where nowhere."""
    rng = np.random.default_rng(size)
    args = [
        (rng.integers(0, size, x.shape) if x.dtype == np.int32 else 3 * rng.normal(size=x.shape))
        .astype(x.dtype)
        for x in shapes(name, 3, size, dtype)
    ]  # fmt: skip
    function = in_float32(FORMS[name][0])
    left = fd.tree.leaves(fd.jit(function)(*(fd.device_put(x, "gpu") for x in args)))
    right = fd.tree.leaves(function(*args))  # eagerly, by NumPy
    for a, b in zip(left, right, strict=True):
        tolerance = 0.02 if a.dtype == BF16 else 1e-4
        wide = [np.asarray(x).astype(np.float64) for x in (a, b)]
        scale = np.abs(wide[1]).max()
        try:
            np.testing.assert_allclose(*wide, tolerance, tolerance * scale)
        except AssertionError as error:
            return str(error)
    return ""


def differences(sizes: list[int]) -> dict[str, str]:
    """The same for all programs in Triton's interpreter."""
    from funcdl.kernels.triton.interpret import interpret

    found = {}
    for size in sizes:
        for name in FORMS:
            for dtype in (np.float32, BF16):
                with installed(StubGpu(run=interpret)) as gpu:
                    where = f"{name} {size} {np.dtype(dtype).name}"
                    found[where] = difference(name, size, dtype, gpu)
    return found


if __name__ == "__main__":
    print(json.dumps(differences([int(size) for size in sys.argv[1:]])))
