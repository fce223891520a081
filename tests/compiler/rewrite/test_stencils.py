"""Convolutions of one feature with one kernel become sums of shifted arrays."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.compiler.convolutions import Case, same
from tests.compiler.run import interpret, pipeline_of

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.compiler.rewrite.stencils import MOST_TAPS

PLAIN = Case(2, 1, 1, (9, 70), (3, 3), padding=same((3, 3)))

SUMS: dict[str, Case] = {
    "3x3": PLAIN,
    "valid": Case(1, 1, 1, (9, 8), (2, 3)),
    "rows": Case(3, 1, 1, (50,), (5,), padding=((4, 0),)),
    "channels first": Case(2, 1, 1, (7, 9), (3, 4), padding=same((3, 4)), layout=1),
    "strange layout": Case(2, 1, 1, (7, 9), (3, 4), padding=same((3, 4)), layout=2),
    "dilated": Case(1, 1, 1, (12, 10), (3, 2), padding=((2, 2), (4, 0)), dilation=(2, 3)),
    "negative padding": Case(1, 1, 1, (8, 9), (3, 3), padding=((-1, -2), (-2, 1))),
    "padding beyond the image": Case(1, 1, 1, (2, 1), (3, 2), padding=((5, 4), (3, 6))),
    "volumes": Case(2, 1, 1, (5, 6, 7), (3, 2, 3), padding=((1, 1), (0, 1), (2, 0))),
    "as many taps as may be": Case(1, 1, 1, (9, 40), (2, MOST_TAPS // 2)),
}
KEPT: dict[str, Case] = {
    "two features": replace(PLAIN, features=2),
    "two kernels": replace(PLAIN, outputs=2),
    "strides": replace(PLAIN, strides=(1, 2)),
    "spread": replace(PLAIN, spread=(2, 1)),
    "groups": replace(PLAIN, feature_groups=3),
    "batch groups": replace(PLAIN, batch_groups=3),
    "one tap": replace(PLAIN, window=(1, 1), padding=()),
    "many taps": Case(1, 1, 1, (9, 40), (3, MOST_TAPS // 2)),
    "more taps than places": Case(4, 1, 1, (4, 6), (4, 4)),
    "halves": replace(PLAIN, dtype="float16"),
    "bytes": replace(PLAIN, dtype="int8"),
}


def is_sum(case: Case, *args: Any) -> bool:
    return "conv_general_dilated" not in fd.jit(case).lower(*args).as_text("simplified")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
@pytest.mark.parametrize("name", SUMS)
def test_sums_are_convolutions(name: str, dtype: str) -> None:
    case = replace(SUMS[name], dtype=dtype)
    args = tuple(
        np.abs(x) * 3 for x in replace(case, dtype="float64").operands(np.random.default_rng(1))
    )
    args = tuple(x.astype(dtype) for x in args)
    assert is_sum(case, *args)
    bound = math.prod(case.window) * np.finfo(dtype).eps if dtype.startswith("f") else 0
    expected = case.reference(*args)
    closed = fd.make_jaxpr(case)(*args)
    for out in (fd.jit(case)(*args), interpret(pipeline_of(closed), args)[0]):
        assert (out.shape, out.dtype) == (expected.shape, np.dtype(dtype))
        np.testing.assert_allclose(np.asarray(out, np.float64), expected, rtol=bound, atol=0)


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("operand", [0, 1])
def test_special_values_meet_the_padding(operand: int, special: float) -> None:
    args = PLAIN.operands(np.random.default_rng(0))
    args[operand].flat[0] = special
    out, eager = fd.jit(PLAIN)(*args), PLAIN(*map(fnp.asarray, args))
    expected = PLAIN.reference(*args)
    assert not np.isfinite(expected).all()
    for found in (out, eager):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_array_equal(np.isposinf(found), np.isposinf(expected))
        np.testing.assert_array_equal(np.isneginf(found), np.isneginf(expected))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_zeros_have_no_sign(dtype: str) -> None:
    case = replace(PLAIN, dtype=dtype, padding=())
    x, kernel = case.operands(np.random.default_rng(0))
    assert not np.signbit(fd.jit(case)(-np.zeros_like(x), np.ones_like(kernel))).any()


@pytest.mark.parametrize("name", KEPT)
def test_other_convolutions_are_kept(name: str) -> None:
    assert not is_sum(KEPT[name], *KEPT[name].operands(np.random.default_rng(0)))


def test_results_of_another_type_are_convolutions() -> None:
    case = replace(PLAIN, dtype="float16")
    lhs, rhs = case.operands(np.random.default_rng(0))
    params = {**case.params, "preferred_element_type": np.dtype(np.float32)}
    text = fd.jit(lambda x, y: fd.lax.conv_general_dilated_p.bind(x, y, **params)).lower(lhs, rhs)
    assert "conv_general_dilated" in text.as_text("simplified")


def test_padding_and_what_follows_are_one_kernel_with_the_sum() -> None:
    kernel = np.float32([[0, 1, 0], [1, -4, 1], [0, 1, 0]])

    def step(u: Any) -> Any:
        around = fnp.pad(u, 1, mode="wrap")[None, None]
        around = replace(PLAIN, padding=(), layout=1)(around, kernel[None, None])
        return u + 0.1 * around[0, 0]

    u = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    assert fd.jit(step).lower(u).as_text("kernels").count("kernel ") == 1
    rolled = [np.roll(u, by, axis) for by in (1, -1) for axis in (0, 1)]
    expected = u + 0.1 * (sum(rolled) - 4 * u)
    np.testing.assert_allclose(fd.jit(step)(u), expected, rtol=0, atol=1e-5)


def test_gradients_by_images_are_sums_as_well() -> None:
    x, kernel = map(fnp.asarray, PLAIN.operands(np.random.default_rng(0)))
    grad = fd.grad(lambda x: fnp.sum(PLAIN(x, kernel) ** 2))
    assert "conv_general_dilated" not in fd.jit(grad).lower(x).as_text("simplified")
    np.testing.assert_allclose(fd.jit(grad)(x), grad(x), rtol=1e-4, atol=1e-4)
