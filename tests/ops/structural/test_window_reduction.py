"""Reductions of generated windows, the elements that they select, and errors."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.structural.peer import wide_jax

from funcdl.core import dtypes
from funcdl.core.array import as_array
from funcdl.core.primitive import Primitive
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.windows.reduction import reduce_window_max, reduce_window_min, reduce_window_sum
from funcdl.ops.windows.selection import select_and_gather_add, select_and_scatter_add
from funcdl.ops.windows.sliding import dilated_size
from funcdl.transforms.derivatives import jvp, vjp

NDArray = np.ndarray[Any, Any]
Params = dict[str, Any]
Case = tuple[tuple[int, ...], Params]
BF16 = np.dtype(dtypes.bfloat16)


def plain(*window: int, **changes: Any) -> Params:
    ones = (1,) * len(window)
    defaults = {
        "window_dimensions": window,
        "window_strides": ones,
        "padding": ((0, 0),) * len(window),
        "base_dilation": ones,
        "window_dilation": ones,
    }
    return defaults | changes


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rank = draw(st.integers(0, 3))

    def numbers(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    shape, base_dilation, low = numbers(0, 4), numbers(1, 3), numbers(-1, 2)
    padding = tuple(
        (a, max(b, -(dilated_size(size, spread) + a)))
        for a, b, size, spread in zip(low, numbers(-1, 2), shape, base_dilation, strict=True)
    )
    return shape, {
        "window_dimensions": numbers(1, 3),
        "window_strides": numbers(1, 3),
        "padding": padding,
        "base_dilation": base_dilation,
        "window_dilation": numbers(1, 2),
    }


def members(shape: tuple[int, ...], params: Params) -> NDArray:
    """For each window, by its place, the positions of its elements in row-major order."""
    counts = [
        max((dilated_size(n, a) + low + high - dilated_size(w, b)) // s + 1, 0)
        for n, w, s, (low, high), a, b in zip(shape, *params.values(), strict=True)
    ]
    found = np.empty(counts, object)
    for place in np.ndindex(*counts):
        inside = []
        for k in product(*map(range, params["window_dimensions"])):
            spread = [
                i * s + j * b - low
                for i, j, s, b, (low, _) in zip(
                    place,
                    k,
                    params["window_strides"],
                    params["window_dilation"],
                    params["padding"],
                    strict=True,
                )
            ]
            where = [divmod(p, a) for p, a in zip(spread, params["base_dilation"], strict=True)]
            if all(not hole and 0 <= q < n for (q, hole), n in zip(where, shape, strict=True)):
                inside.append(tuple(q for q, _ in where))
        found[place] = inside
    return found


def few_values(shape: tuple[int, ...], seed: int = 0) -> NDArray:
    """Whole numbers, many of them equal."""
    return np.asarray(np.random.default_rng(seed).integers(-2, 3, shape).astype(float))


@given(cases())
def test_values_are_those_of_the_definition(case: Case) -> None:
    shape, params = case
    x, windows = few_values(shape), members(*case)
    for primitive, combine, identity in (
        (reduce_window_sum, math.fsum, 0.0),
        (reduce_window_max, max, -math.inf),
        (reduce_window_min, min, math.inf),
    ):
        found = primitive.impl(x, **params)
        assert found.shape == windows.shape
        for place in np.ndindex(*windows.shape):
            values = [x[i] for i in windows[place]]
            assert found[place] == (combine(values) if values else identity)


@given(cases())
def test_derivative_of_a_sum(case: Case) -> None:
    shape, params = case
    x, t = few_values(shape), few_values(shape, 1)
    out, tangent = jvp(lambda x: reduce_window_sum(x, **params), (as_array(x),), (as_array(t),))
    np.testing.assert_array_equal(tangent.value, reduce_window_sum.impl(t, **params))
    ct = few_values(out.shape, 2)
    (x_ct,) = vjp(lambda x: reduce_window_sum(x, **params), as_array(x))[1](as_array(ct))
    wanted = np.zeros(shape)
    windows = members(*case)
    for place in np.ndindex(*windows.shape):
        for i in windows[place]:
            wanted[i] += ct[place]
    np.testing.assert_array_equal(x_ct.value, wanted)


@given(cases(), st.booleans())
def test_derivative_of_an_extreme_goes_to_the_first(case: Case, lowest: bool) -> None:
    shape, params = case
    primitive, find = (reduce_window_min, min) if lowest else (reduce_window_max, max)
    x, t = few_values(shape), few_values(shape, 1)
    windows = members(*case)
    ct = few_values(windows.shape, 2)
    tangents, cotangents = np.zeros(windows.shape), np.zeros(shape)
    for place in np.ndindex(*windows.shape):
        if windows[place]:
            first = find(windows[place], key=lambda i: x[i])
            tangents[place] = t[first]
            cotangents[first] += ct[place]
    _, tangent = jvp(lambda x: primitive(x, **params), (as_array(x),), (as_array(t),))
    np.testing.assert_array_equal(tangent.value, tangents)
    (x_ct,) = vjp(lambda x: primitive(x, **params), as_array(x))[1](as_array(ct))
    np.testing.assert_array_equal(x_ct.value, cotangents)


@given(cases())
def test_selections_are_transposes_of_each_other(case: Case) -> None:
    shape, params = case
    operand, t = few_values(shape), few_values(shape, 1)
    params = params | {"select_prim": "ge"}
    gathered = select_and_gather_add.impl(t, operand, **params)
    ct = few_values(gathered.shape, 2)
    scattered = select_and_scatter_add.impl(ct, operand, **params)
    assert np.sum(ct * gathered) == np.sum(scattered * t)


@pytest.mark.parametrize("dtype", ["f4", BF16])
@pytest.mark.parametrize("primitive", [reduce_window_max, reduce_window_min])
def test_nan_and_infinities_are_selected_like_numbers(primitive: Primitive, dtype: Any) -> None:
    x = np.array([1.0, np.nan, 3.0, np.nan, -np.inf, np.inf, np.inf], dtype)
    params = plain(2, padding=((2, 2),))
    out, pull = vjp(lambda x: primitive(x, **params), as_array(x))
    assert [math.isnan(v) for v in out.tolist()] == [False, False] + [True] * 4 + [False] * 4
    (ct,) = pull(as_array(np.arange(1, 11).astype(dtype)))
    # The windows of padding alone have weights 1 and 10, and no element to give them to.
    assert ct.tolist()[:4] == [2.0, 7.0, 0.0, 11.0]
    assert sum(ct.tolist()) == sum(range(2, 10))


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_half_precision_accumulates_in_float32(dtype: Any) -> None:
    x = np.full(4097, 2.0**-12, dtype)
    x[0] = 1.0
    out = reduce_window_sum.impl(x, **plain(4097))
    assert (out.dtype, out.tolist()) == (dtype, [2.0])
    # All windows select element 0 and give it their cotangent.
    ct = np.full(4097, 2.0**-12, dtype)
    ct[0] = 1.0
    params = plain(4097, padding=((4096, 0),), select_prim="ge")
    assert select_and_scatter_add.impl(ct, x, **params)[0] == 2.0


def test_integers_and_bools() -> None:
    x = np.array([100, 100, -128], np.int8)
    assert reduce_window_sum.impl(x, **plain(2)).tolist() == [-56, -28]
    assert reduce_window_max.impl(x, **plain(2, padding=((2, 0),))).tolist() == [
        -128,
        100,
        100,
        100,
    ]
    flags = np.array([True, False, False])
    assert reduce_window_max.impl(flags, **plain(2)).tolist() == [True, False]
    assert reduce_window_min.impl(flags, **plain(2, padding=((0, 2),))).tolist() == [
        False,
        False,
        False,
        True,
    ]


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["bool", "i8", "bf16", "c64"])
def test_samples_agree_with_jax(dtype: str) -> None:
    calls = [
        (name, sample)
        for name in ("reduce_window_sum", "reduce_window_max", "reduce_window_min")
        if dtype in registry.ops()[name].dtypes
        for sample in registry.ops()[name].samples(
            np.random.default_rng(7), dtypes.from_short_name(dtype)
        )
    ]
    with wide_jax() as jax:

        def run(args: Any) -> Any:
            return [
                getattr(jax.lax, f"{name}_p").bind(*xs, **sample.params)
                for xs, (name, sample) in zip(args, calls, strict=True)
            ]

        wanted = [np.asarray(x) for x in jax.jit(run)([sample.args for _, sample in calls])]
    for (name, sample), peer in zip(calls, wanted, strict=True):
        out = registry.ops()[name].primitive.impl(*sample.args, **sample.params)
        assert (out.shape, out.dtype) == (peer.shape, peer.dtype)
        # JAX adds bfloat16 in bfloat16.
        tolerance = {"bf16": 0.1, "c64": 1e-5}.get(dtype, 0)
        np.testing.assert_allclose(
            out.astype(np.complex128), peer.astype(np.complex128), rtol=tolerance, atol=tolerance
        )


@pytest.mark.peers
def test_derivatives_of_pooling_agree_with_jax() -> None:
    x = np.random.default_rng(0).permutation(2 * 7 * 6 * 3).reshape(2, 7, 6, 3) / 8
    cases = [
        plain(1, 2, 2, 1, window_strides=(1, 2, 2, 1)),
        plain(1, 3, 2, 1, window_strides=(1, 2, 1, 1), padding=((0, 0), (1, 1), (0, 1), (0, 0))),
        plain(2, 3, 3, 2, window_strides=(1, 3, 1, 2)),
    ]
    with wide_jax() as jax:
        names = ("reduce_window_max", "reduce_window_min", "reduce_window_sum")

        def run(x: Any) -> Any:
            outs = []
            for name, params in product(names, cases):
                primitive = getattr(jax.lax, f"{name}_p")
                out, pull = jax.vjp(lambda x, p=primitive, k=params: p.bind(x, **k), x)
                outs.append(pull(jax.numpy.cos(out))[0])
            return outs

        wanted = [np.asarray(y) for y in jax.jit(run)(x)]
    for (name, params), peer in zip(product(names, cases), wanted, strict=True):
        primitive = registry.ops()[name].primitive
        out, pull = vjp(lambda x, p=primitive, k=params: p(x, **k), as_array(x))
        (ct,) = pull(as_array(np.cos(out.value)))
        np.testing.assert_allclose(ct.value, peer, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"window_dimensions": (2,)}, ArgumentError, "one positive entry for each of the operand"),
        ({"window_dimensions": (2, 0)}, ArgumentError, "Use 1 for dimensions"),
        ({"window_strides": (1,)}, ArgumentError, "window_strides must have one entry"),
        ({"window_strides": (1, 0)}, ArgumentError, "window_strides must be positive"),
        ({"base_dilation": (0, 1)}, ArgumentError, "base_dilation must be positive"),
        ({"window_dilation": (1, -1)}, ArgumentError, "window_dilation must be positive"),
        ({"padding": ((0, 0),)}, ArgumentError, "padding must have one entry"),
        (
            {"padding": ((0, 0), (-2, -2))},
            ShapeError,
            r"\(-2, -2\) removes more than the 3",
        ),
    ],
)
def test_errors(changes: Params, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reduce_window_sum.impl(np.zeros((4, 3)), **plain(2, 2) | changes)


def test_operand_errors() -> None:
    x = np.zeros((4,))
    with pytest.raises(DtypeError, match=r"reduce_window_sum does not accept bool\[4\]"):
        reduce_window_sum.impl(x.astype(bool), **plain(2))
    with pytest.raises(DtypeError, match="reduce_window_max does not accept c128"):
        reduce_window_max.impl(x.astype(complex), **plain(2))
    with pytest.raises(ArgumentError, match="'ge' or 'le', got 'gt'"):
        select_and_gather_add.impl(x, x, select_prim="gt", **plain(2))
    with pytest.raises(ShapeError, match=r"first operand to be f64\[3\]"):
        select_and_scatter_add.impl(x, x, select_prim="ge", **plain(2))
    with pytest.raises(ShapeError, match=r"first operand to be f64\[4\]"):
        select_and_gather_add.impl(x[:3], x, select_prim="ge", **plain(2))
