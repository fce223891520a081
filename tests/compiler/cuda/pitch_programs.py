"""Programs with temporaries of odd rows; run as a script, in Triton's interpreter on the stub."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn

BF16, F16, F32 = ml_dtypes.bfloat16, np.float16, np.float32


def loss(x: Any, w: Any, labels: Any) -> Any:
    """A loss of classes behind a product, and the gradients of both factors."""

    def value(x: Any, w: Any) -> Any:
        logs = nn.log_softmax((x @ w).astype(F32))
        return -fnp.take_along_axis(logs, labels[:, None], axis=-1).mean()

    return fd.value_and_grad(value, argnums=(0, 1))(x, w)


def tied(x: Any, w: Any, labels: Any) -> Any:
    return loss(x, w.T, labels)


def attended(x: Any, w: Any, _: Any) -> Any:
    """Rows of a product that are divided by their sums, and then a factor, either way round."""
    weights = nn.softmax(x @ w)
    return weights @ w.T, weights.T @ x


def reduced(x: Any, w: Any, _: Any) -> Any:
    """Reductions of each kind, along rows and columns."""
    y = x @ w
    rows = y.max(1), y.min(1), fnp.argmax(y, 1), fnp.argmin(y, 1), (y > 0).all(1), (y > 0).any(1)
    return *rows, (1 + 0.01 * y).prod(1), y.sum(1), y.sum(0), y.max(0)


def parts(x: Any, w: Any, labels: Any) -> Any:
    """Slices and single elements of rows, which a sum takes as well."""
    y = x @ w
    return y[:, 3:250].max(1), y[:, 7], y[2], fnp.take_along_axis(y, labels[:, None], 1), y.sum(1)


def joined(x: Any, w: Any, _: Any) -> Any:
    """What is far from where it was: rolled, reversed, padded, with rows repeated."""
    y = x @ w
    long = fnp.concatenate([y, 2 * y], 1)
    return fnp.roll(y, 5, 1).max(1), y[:, ::-1] @ w.T, fnp.pad(y, 3).sum(1), nn.softmax(long)


def scanned(x: Any, w: Any, _: Any) -> Any:
    """The same in a loop's body."""

    def body(x: Any, _: Any) -> Any:
        return (nn.softmax(x @ w) @ w.T).astype(x.dtype), None

    return lax.scan(body, x, None, length=3)[0]


def batched(x: Any, w: Any, labels: Any) -> Any:
    return fd.vmap(loss, in_axes=(0, None, 0))(fnp.stack([x, x + 1]), w, fnp.stack([labels] * 2))


def square(x: Any, w: Any, _: Any) -> Any:
    """Rows and columns of one length, of a product of the factor with itself."""
    y = nn.softmax(w.T @ w)
    return (y @ y.T).sum(1), y.max(0)


def running(x: Any, w: Any, _: Any) -> Any:
    y = x @ w
    return fnp.cumsum(y, 1), fnp.sort(y, 1), y.sum(1)


def elementwise(x: Any, w: Any, _: Any) -> Any:
    """A temporary that a scatter needs, and that no product or reduction takes."""
    return fnp.tanh(w).at[x[0].astype(np.int32) % 3].add(1.0)


def returned(x: Any, w: Any, _: Any) -> Any:
    y = x @ w
    return y, y.sum(1)


@dataclass(frozen=True)
class Case:
    """A program of x[rows, d], w[d, length] (or its transpose) and labels for each row."""

    function: Callable[..., Any]
    pitched: int
    turned: bool = False


# With how many temporaries that get longer rows.
PROGRAMS = {
    "loss": Case(loss, 2),
    "loss, tied": Case(tied, 2, turned=True),
    "loss, in batches": Case(batched, 2),
    "softmax between products": Case(attended, 2),
    "reductions": Case(reduced, 1),
    "parts of rows": Case(parts, 1),
    "rolled, reversed, padded, joined": Case(joined, 0),
    "in a loop": Case(scanned, 2),
    "square": Case(square, 4),
    "running": Case(running, 0),
    "elementwise": Case(elementwise, 0),
    "returned": Case(returned, 0),
}
ROWS, WIDTH = 5, 20


def arguments(name: str, length: int, dtype: Any) -> list[Any]:
    rng = np.random.default_rng(length)
    shape = (length, WIDTH) if PROGRAMS[name].turned else (WIDTH, length)
    x, w = (rng.normal(size=size).astype(dtype) for size in ((ROWS, WIDTH), shape))
    return [x, w, rng.integers(0, length, ROWS).astype(np.int32)]


def difference(name: str, length: int, dtype: Any, gpu: StubGpu) -> str:
    """Where a program on a GPU differs from the CPU's in float32; "" where nowhere."""
    function, args = PROGRAMS[name].function, arguments(name, length, dtype)
    left = fd.tree.leaves(fd.jit(function)(*(fd.device_put(x, "gpu") for x in args)))
    wide = [x if x.dtype == np.int32 else x.astype(F32) for x in args]
    with fd.config.override(backend="reference"):
        right = fd.tree.leaves(function(*wide))
    for number, (a, b) in enumerate(zip(left, right, strict=True)):
        if a.dtype.kind in "iub" and dtype != F32:
            continue  # positions and comparisons of rounded numbers
        tolerance = 1e-4 if dtype == F32 else 0.05
        found, wanted = (np.asarray(x).astype(np.float64) for x in (a, b))
        try:
            np.testing.assert_allclose(
                found, wanted, tolerance, tolerance * np.abs(wanted).max(initial=1e-3)
            )
        except AssertionError as error:
            return f"result {number}: {error}"
    return ""


def differences(names: list[str], lengths: list[int]) -> dict[str, str]:
    """The same in Triton's interpreter."""
    from funcdl.kernels.triton.interpret import interpret

    found = {}
    for name in names:
        for length in lengths:
            for dtype in (F32, BF16):
                with installed(StubGpu(run=interpret)) as gpu:
                    where = f"{name} {length} {np.dtype(dtype).name}"
                    found[where] = difference(name, length, dtype, gpu)
    return found


if __name__ == "__main__":
    print(json.dumps(differences(sys.argv[2:], [int(n) for n in sys.argv[1].split(",")])))
