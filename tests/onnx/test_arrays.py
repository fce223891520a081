"""Convolutions, pooling, indexing and calls in more variants than the samples have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.onnx.models import compare

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

X = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
NO_CHANGE = {"rtol": 0, "atol": 0}


def random_convolution(rng: np.random.Generator, dtype: Any) -> tuple[Callable[..., Any], Any]:
    """A convolution of any rank, layout and parameters that leave something."""
    ndim = int(rng.integers(1, 4))
    groups = int(rng.choice([1, 1, 2, 3]))
    by_batch = groups > 1 and rng.random() < 0.3
    features, outputs = int(rng.integers(1, 4)), int(rng.integers(1, 3)) * groups
    batch = int(rng.integers(1, 3)) * (groups if by_batch else 1)
    spread = rng.random() < 0.5
    params = {
        "window_strides": tuple(
            1 if spread and rng.random() < 0.8 else int(rng.integers(1, 4)) for _ in range(ndim)
        ),
        "padding": [tuple(map(int, rng.integers(-1, 5, 2))) for _ in range(ndim)],
        "lhs_dilation": tuple(int(rng.integers(1, 4)) if spread else 1 for _ in range(ndim)),
        "rhs_dilation": tuple(int(rng.integers(1, 3)) for _ in range(ndim)),
        "feature_group_count": 1 if by_batch else groups,
        "batch_group_count": groups if by_batch else 1,
    }
    spatial = "DHW"[-ndim:]
    params["dimension_numbers"] = (
        "".join(rng.permutation(list("NC" + spatial))),
        "".join(rng.permutation(list("OI" + spatial))),
        "".join(rng.permutation(list("NC" + spatial))),
    )
    sizes = {axis: int(rng.integers(5, 8)) for axis in spatial}
    lhs = {"N": batch, "C": features * (1 if by_batch else groups)} | sizes
    rhs = {"O": outputs, "I": features} | {axis: int(rng.integers(1, 4)) for axis in spatial}
    operands = [
        rng.integers(-3, 4, [sizes[axis] for axis in layout]).astype(dtype)
        for layout, sizes in zip(params["dimension_numbers"][:2], (lhs, rhs), strict=True)
    ]
    return lambda x, y: lax.conv_general_dilated(x, y, **params), operands


@pytest.mark.parametrize("dtype", ["float32", "int32", "int8"])
@pytest.mark.parametrize("seed", range(8))
def test_convolutions(dtype: str, seed: int) -> None:
    """Whole numbers, so that sums are exact in every dtype; int8 with its own sums."""
    rng = np.random.default_rng(seed)
    cases = [random_convolution(rng, dtype) for _ in range(10)]

    def run(operands: Any) -> Any:
        return [fun(*args) for (fun, _), args in zip(cases, operands, strict=True)]

    compare(run, [args for _, args in cases], **NO_CHANGE)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolutions_with_more_at_the_end(stride: int) -> None:
    """Padding behind the last window, more and less than strides and spread windows reach."""

    def run(x: Any, w: Any) -> Any:
        return [
            lax.conv_general_dilated(
                x,
                w,
                (1, 1),
                ((1, 1), (1, spread + more)),
                lhs_dilation=(2, stride),
                rhs_dilation=(1, spread),
            )
            for spread in (1, 2, 3)
            for more in range(4)
        ]

    rng = np.random.default_rng(0)
    args = [rng.integers(-3, 4, shape).astype(np.float32) for shape in ((1, 2, 4, 5), (3, 2, 2, 2))]
    compare(run, *args, **NO_CHANGE)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float16", "bfloat16"])
def test_products_with_wider_sums(dtype: str) -> None:
    wide = np.int32 if dtype == "int8" else np.uint32 if dtype == "uint8" else np.float32

    def run(x: Any, w: Any, image: Any, kernel: Any) -> Any:
        x, w, image, kernel = (v.astype(dtype) for v in (x, w, image, kernel))
        product = lax.dot_general(x, w, (((2,), (1,)), ((0,), (0,))), preferred_element_type=wide)
        return product, lax.conv_general_dilated(
            image, kernel, (1,), "SAME", preferred_element_type=wide
        )

    rng = np.random.default_rng(0)
    shapes = ((2, 3, 4), (2, 4, 5), (2, 3, 7), (4, 3, 3))
    args = [rng.integers(0, 100, shape).astype(np.float32) for shape in shapes]
    compare(run, *args, **NO_CHANGE)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 0), (0, 3))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (3, 3)])
def test_windows(padding: Any, strides: tuple[int, int]) -> None:
    def run(x: Any) -> Any:
        window, steps = (1, 3, 2), (1, *strides)
        pads = padding if isinstance(padding, str) else ((0, 0), *padding)
        return [
            lax.reduce_window(x, start, op, window, steps, pads)
            for op, start in ((lax.max, -np.inf), (lax.min, np.inf), (lax.add, 0.0))
        ]

    compare(run, X)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_windows_that_step_over_all_there_is(size: int, stride: int) -> None:
    """Their largest element is minus infinity, not the lowest finite number."""

    def run(x: Any) -> Any:
        return [
            lax.reduce_window(
                x,
                -np.inf,
                lax.max,
                (1, window, 1),
                (1, stride, 1),
                ((0, 0), pads, (0, 0)),
                window_dilation=(1, 3, 1),
            )
            for window, pads in ((2, (1, 1)), (3, (1, 2)), (3, (2, 2)))
        ]

    compare(run, np.repeat(X[:, :1, :2], size, axis=1) - 9)


def test_gradients_of_pooling_by_averages() -> None:
    def total(x: Any) -> Any:
        out = lax.reduce_window(x, 0.0, lax.add, (1, 3, 2), (1, 2, 1), "SAME")
        return (out**2).sum()

    compare(fd.grad(total), X)


INDEXING: dict[str, Callable[..., Any]] = {
    "numbers": lambda x, i: x[1, -1],
    "slices": lambda x, i: x[::-1, 1:-1:2, ::-2],
    "rows": lambda x, i: x[i],
    "columns": lambda x, i: x[:, :, i],
    "pairs": lambda x, i: x[i, i + 1],
    "apart": lambda x, i: x[i, :, i],
    "grid": lambda x, i: x[i[:, None], :, i[None]],
    "constants": lambda x, i: x[np.array([[2, 0], [1, 1]])],
    "negative": lambda x, i: x[-i],
    "clipped": lambda x, i: x.at[i + 1].get(mode="clip"),
    "filled": lambda x, i: x.at[i + 1].get(mode="fill", fill_value=-7),
    "filled by default": lambda x, i: x.at[i + 1, i].get(),
    "along": lambda x, i: fnp.take_along_axis(x, i[None, :, None] % 4, axis=1),
    "one hot": lambda x, i: i[:, None] == fnp.arange(4),
    "set": lambda x, i: x.at[i].set(x[0] * 2),
    "set a column": lambda x, i: x.at[:, i[0]].set(-1),
    "set outside": lambda x, i: x.at[i + 2].set(9, mode="drop"),
    "add": lambda x, i: x.at[:, i].add(2),
    "add twice": lambda x, i: x.at[:, i * 0].add(x[:, :3]),
    "multiply": lambda x, i: x.at[i, i].multiply(3),
    "max": lambda x, i: x.at[i * 0 + 1].max(20),
    "constant places": lambda x, i: x.at[np.array([0, 2]), :, 1].add(5),
    "dynamic slice": lambda x, i: lax.dynamic_slice(x, (i[0], i[1], i[2]), (1, 2, 3)),
    "beyond": lambda x, i: lax.dynamic_slice(x, (i[2] + 9, -i[1], i[0]), (2, 4, 1)),
    "update": lambda x, i: lax.dynamic_update_slice(x, x[:2, :1, :2] * 3, tuple(i)),
    "update all": lambda x, i: lax.dynamic_update_slice(x, x[:, :, :2] * 3, (0, 0, i[2])),
    "sorted": lambda x, i: lax.sort((x % 7, x), dimension=1, num_keys=2),
    "order": lambda x, i: fnp.argsort(-x % 11, axis=-1),
    "searched": lambda x, i: fnp.searchsorted(x[0, 0], x[0, :, 0]),
    "segments": lambda x, i: fnp.bincount(i, length=5),
    "joined": lambda x, i: fnp.stack([fnp.roll(x, i[1], 1), fnp.flip(x, 0)], axis=2),
    "triangle": lambda x, i: fnp.tril(x) + fnp.eye(4, 5),
    "padded": lambda x, i: fnp.pad(x, ((0, 1), (2, 0), (1, 1)), mode="reflect"),
}


@pytest.mark.parametrize("name", sorted(INDEXING))
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_indexing(name: str, dtype: str) -> None:
    fun = INDEXING[name]
    compare(lambda x, i: fun(x.astype(dtype), i), X, np.array([2, 0, 1], np.int32), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sorts_of_nan(dtype: str, axis: int) -> None:
    """At the end, behind infinity, and nothing else is out of order; for its places it counts as
    infinity."""
    rng = np.random.default_rng(0)
    x = rng.permutation(60).astype(np.float32).reshape(X.shape)
    x = np.where(rng.random(X.shape) < 0.3, np.nan, x)
    infinite = np.where(rng.random(X.shape) < 0.2, np.inf, x)

    def run(x: Any, infinite: Any) -> Any:
        x, infinite = x.astype(dtype), infinite.astype(dtype)
        outs = [
            fnp.sort(infinite, axis),
            fnp.nanmedian(x, axis),
            fnp.argsort(x, axis),
            *lax.top_k(fnp.moveaxis(x, axis, -1), 3),
            *lax.sort((fnp.round(x / 20), -x, infinite), dimension=axis, num_keys=2),
        ]
        return [out if out.dtype.kind in "iu" else out.astype(np.float32) for out in outs]

    compare(run, x, infinite, rtol=1e-6)


def test_gradients_of_indexing() -> None:
    def loss(table: Any, i: Any) -> Any:
        return (table[i] ** 2).sum() + (fnp.sort(table[:, 0]) * fnp.arange(3.0)[:, None]).sum()

    compare(fd.grad(loss), X, np.array([2, 2, 0], np.int32))


def test_calls_of_solvers_and_mapped_rules() -> None:
    @fd.custom_batching.custom_vmap
    def twice(x: Any) -> Any:
        return x * 2

    twice.def_vmap(lambda size, batched, x: (x + x, batched[0]))

    def run(x: Any) -> Any:
        solved = lax.custom_linear_solve(lambda v: 4 * v, x, lambda _, b: b / 4, lambda _, b: b / 4)
        return twice(solved), fd.vmap(twice)(x), lax.associative_scan(lax.add, x, axis=1)

    compare(run, X)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "logsumexp", "prod", "cumsum", "median"])
def test_reductions_of_numpy(name: str) -> None:
    fun = fd.nn.logsumexp if name == "logsumexp" else getattr(fnp, name)
    compare(lambda x: [fun(x / 30, axis=axis) for axis in (0, 1, -1)], X)


def test_empty_arrays() -> None:
    def run(x: Any, w: Any) -> Any:
        return (
            x @ w,
            w.T @ x.T,
            x.sum(0),
            x.max(1, initial=-3),
            fnp.concatenate([x, x + 1], axis=1),
            fnp.pad(x, ((1, 1), (0, 2))),
            fnp.sort(x, axis=0),
        )

    compare(run, np.zeros((0, 3), np.float32), np.ones((3, 2), np.float32))
    compare(lambda x, w: x @ w, np.zeros((2, 0), np.float32), np.ones((0, 4), np.float32))
