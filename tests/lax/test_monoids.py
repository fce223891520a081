"""`reduce` and `reduce_window` with any computation, against loops in Python and JAX."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core import dtypes
from funcdl.errors import ArgumentError, DtypeError, ShapeError, TreeError

# Products of matrices [[a, b], [0, 1]], affine maps: associative, and do not commute.
Affine = tuple[Any, Any]


def compose(left: Affine, right: Affine) -> Affine:
    return left[0] * right[0], left[0] * right[1] + left[1]


def later_of(left: Any, right: Any) -> Any:
    return right


RNG = np.random.default_rng(0)
A = RNG.uniform(0.5, 1.5, (3, 4, 5)).astype(np.float32)
B = RNG.uniform(-1, 1, (3, 4, 5)).astype(np.float32)
AXES = [(0,), (1,), (2,), (0, 2), (2, 0), (0, 1, 2), ()]


@pytest.mark.parametrize("axes", AXES)
def test_an_operation_that_does_not_commute(axes: tuple[int, ...]) -> None:
    found = lax.reduce((A, B), (np.float32(1), np.float32(0)), compose, axes)
    axes = tuple(sorted(axes))  # whatever order they are given in
    kept = [d for d in range(3) if d not in axes]
    for place in np.ndindex(*(A.shape[d] for d in kept)):
        value: Affine = (1.0, 0.0)
        for inner in itertools.product(*(range(A.shape[d]) for d in axes)):
            at = dict(zip(kept, place, strict=True)) | dict(zip(axes, inner, strict=True))
            index = tuple(at[d] for d in range(3))
            value = compose(value, (float(A[index]), float(B[index])))
        np.testing.assert_allclose([x[place] for x in found], value, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 31])
def test_any_number_of_elements_in_order(count: int) -> None:
    x = np.arange(count, dtype=np.int32)
    assert int(lax.reduce(x, -1, later_of, (0,))) == (count - 1 if count else -1)
    total = lax.reduce(x, 100, lambda a, b: a + b + 0, (0,))
    assert int(total) == 100 + count * (count - 1) // 2


KNOWN: list[tuple[str, Callable[[Any, Any], Any], float, list[str]]] = [
    ("reduce_sum", lax.add, 0, ["int32", "float16", "float32", "complex64"]),
    ("reduce_sum", lambda a, b: b + a, 0, ["int8", "bfloat16", "float32"]),
    ("reduce_sum", operator.add, 3, ["float32"]),
    ("reduce_prod", fnp.multiply, 1, ["int32", "float32"]),
    ("reduce_max", lambda a, b: fnp.maximum(a, b), -np.inf, ["float32", "float64"]),
    ("reduce_max", lax.max, 0, ["int32", "float32"]),
    ("reduce_min", fnp.minimum, np.inf, ["float32"]),
    ("reduce_and", lax.bitwise_and, -1, ["int32"]),
    ("reduce_or", operator.or_, 0, ["uint8", "bool"]),
]


@pytest.mark.parametrize(("name", "computation", "init", "kinds"), KNOWN)
def test_known_operations_become_their_primitive(
    name: str, computation: Callable[[Any, Any], Any], init: float, kinds: list[str]
) -> None:
    for kind in kinds:
        dtype = dtypes.as_dtype(kind)
        x = fnp.asarray(RNG.integers(0, 2 if kind == "bool" else 5, (3, 4)), dtype)
        start = np.asarray(init).astype(dtype)
        call = functools.partial(
            lax.reduce, init_values=start, computation=computation, dimensions=(1,)
        )
        used = [eqn.primitive.name for eqn in fd.make_jaxpr(call)(x).jaxpr.eqns]
        assert used[0] == name
        assert len(used) <= 4
        found = call(x)
        assert found.dtype == dtype and found.shape == (3,)
        with np.errstate(over="ignore"):
            wanted = [
                np.asarray(functools.reduce(computation, [fnp.asarray(start), *row])) for row in x
            ]
        np.testing.assert_allclose(
            np.asarray(found).astype(complex), np.asarray(wanted).astype(complex), rtol=1e-2
        )


def test_closures_over_traced_values_and_every_transform() -> None:
    def total(scale: Any, x: Any) -> Any:
        return lax.reduce(x, np.float32(0), lambda a, b: a + b + scale * a * b, (0,))

    def wanted(scale: float, xs: Any) -> Any:
        # 1 + scale * (a * b) of this law is a product.
        return (np.prod(1 + scale * xs, axis=0) - 1) / scale

    x = A[:, 0]
    np.testing.assert_allclose(total(0.5, x), wanted(0.5, x), rtol=1e-5)
    np.testing.assert_allclose(fd.jit(total)(0.5, x), wanted(0.5, x), rtol=1e-5)
    slope = fd.grad(lambda x: total(0.5, x).sum())(x)
    np.testing.assert_allclose(slope, np.prod(1 + 0.5 * x, axis=0) / (1 + 0.5 * x), rtol=1e-5)
    np.testing.assert_allclose(
        fd.vmap(total, (0, 1))(np.array([0.5, 1, 2, 3], np.float32), A[:, :, 0]),
        [wanted(s, A[:, i, 0]) for i, s in enumerate([0.5, 1, 2, 3])],
        rtol=1e-5,
    )


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8"])
def test_reduce_xor(dtype: str) -> None:
    x = fnp.asarray(RNG.integers(0, 200, (5, 7)) % (2 if dtype == "bool" else 200), dtype)
    for axes in ((0,), (1,), (0, 1), ()):
        wanted = np.bitwise_xor.reduce(np.asarray(x), axes) if axes else np.asarray(x)
        found = lax.reduce_xor(x, axes)
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(found, wanted)


WINDOWS: list[dict[str, Any]] = [
    {"window_dimensions": (1, 3)},
    {"window_dimensions": (2, 2), "window_strides": (1, 2), "padding": "SAME"},
    {"window_dimensions": (2, 3), "padding": ((1, 0), (2, -1)), "base_dilation": (2, 1)},
    {"window_dimensions": (2, 2), "window_dilation": (2, 3), "window_strides": (2, 1)},
    {"window_dimensions": (1, 9)},
]


@pytest.mark.parametrize("params", WINDOWS)
def test_windows_of_any_computation(params: dict[str, Any]) -> None:
    x = RNG.uniform(0.5, 1.5, (5, 7)).astype(np.float32)
    # The law of a + b by another name, so that the primitive is an oracle for the general way.
    wanted = lax.reduce_window(x, np.float32(0), lax.add, **params)
    found = lax.reduce_window(x, np.float32(0), lambda a, b: (a + b) * 1, **params)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    ones = np.ones_like(x)
    pair = lax.reduce_window(
        {"x": x, "n": ones},
        {"x": np.float32(0), "n": np.float32(0)},
        lambda a, b: {"x": a["x"] + b["x"], "n": a["n"] + b["n"]},
        **params,
    )
    np.testing.assert_allclose(pair["x"], wanted, rtol=1e-5)
    np.testing.assert_allclose(pair["n"], lax.reduce_window(ones, 0, lax.add, **params))
    weights = np.cos(np.arange(wanted.size, dtype=np.float32)).reshape(wanted.shape)

    def weighted(f: Any) -> Any:
        return fd.grad(lambda x: (lax.reduce_window(x, 0, f, **params) * weights).sum())(x)

    np.testing.assert_allclose(weighted(lambda a, b: a * 1 + b), weighted(lax.add), rtol=1e-5)


PEER_CALLS = [
    "m.reduce(A, f32(0), lambda a, b: a + b + a * b, (0, 2))",
    "m.reduce((A, B), (f32(1), f32(0)), compose, (1,))",
    "m.reduce(A, f32(2), m.mul, (1,))",
    "m.reduce_window(A, f32(1), m.mul, (1, 2, 3), (1, 1, 1), 'SAME')",
    "m.reduce_window(A, f32(1), m.add, (1, 2, 3), (1, 2, 1), 'SAME')",
    "m.reduce_window((A, B), (f32(1), f32(0)), compose, (1, 2, 3), (1, 1, 1), 'VALID')",
    "m.reduce_xor(K, (1,))",
    "m.reduce(K, 0.0, m.add, (0,))",
    "m.reduce(K, f32(1), m.mul, (0,))",
    "m.reduce_window(K, 0.0, m.add, (1, 2), (1, 1), 'VALID')",
]


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: lax.reduce((), (), compose, (0,)),
        ArgumentError,
        "reduce: at least one operand is needed",
    ),
    (
        lambda: lax.reduce((A, A[0]), (0, 0), compose, (0,)),
        ShapeError,
        "reduce: operands must have one shape, got f32[3,4,5], f32[4,5]",
    ),
    (
        lambda: lax.reduce((A, B), 0, compose, (0,)),
        TreeError,
        "reduce: init_values must have the structure of the operands, PyTreeSpec((*, *)), "
        "got PyTreeSpec(*)",
    ),
    (
        lambda: lax.reduce(A, B, lax.add, (0,)),
        ShapeError,
        "reduce: init_values must be scalars, got f32[3,4,5]",
    ),
    (
        lambda: lax.reduce(np.arange(3, dtype=np.int32), 0.5, lax.add, (0,)),
        DtypeError,
        "reduce: an initial value must fit the dtype of the array beside it, int32, got 0.5; "
        "convert one of them with .astype",
    ),
    (
        lambda: lax.reduce(A, 0, lambda a, b: a < b, (0,)),
        ShapeError,
        "reduce: the computation must return what it gets, f32[]; got bool[]",
    ),
    (
        lambda: lax.reduce((A, B), (0, 0), lambda a, b: a[0] + b[0], (0,)),
        ShapeError,
        "reduce: the computation must return what it gets, ('f32[]', 'f32[]'); got f32[]",
    ),
]


@pytest.mark.parametrize("dtype", ["int32", "uint8", "complex64"])
@pytest.mark.parametrize(("combine", "start"), [("max", -np.inf), ("min", np.inf)])
def test_extremes_of_windows_start_from_infinity(combine: str, start: float, dtype: str) -> None:
    """The nearest integer stands for it."""
    x = (np.arange(12).reshape(3, 4) * 7 % 9).astype(dtype)
    pairs = np.lib.stride_tricks.sliding_window_view(x, 2, 1)
    for value in (start, np.float32(start)):
        found = lax.reduce_window(x, value, getattr(lax, combine), (1, 2))
        np.testing.assert_array_equal(found, getattr(pairs, combine)(-1))
        padded = lax.reduce_window(x, value, getattr(lax, combine), (1, 4), padding="SAME")
        assert padded.dtype == dtype and bool(fnp.isin(padded, x).all())


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
