"""lax.scaled_dot against its definition in float64, and JAX."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
from funcdl import lax
from funcdl.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(0)
CASES: dict[str, tuple[tuple[Any, Any, Any, Any], Any]] = {
    "matrices": (((4, 64), (64, 3), (4, 2), (4, 3)), None),
    "a batch": (((2, 4, 64), (2, 64, 3), (2, 4, 1), (2, 32, 3)), None),
    "one scale": (((4, 64), (64, 3), (4, 2), None), None),
    "no scale": (((4, 64), (64, 3), None, None), None),
    "two contracted": (
        ((2, 8, 6, 4), (4, 8, 2, 5), (2, 2, 6, 1), (2, 4, 2, 5)),
        (((1, 3), (1, 0)), ((0,), (2,))),
    ),
}


def operands(name: str) -> tuple[list[Any], Any]:
    """Numbers that bfloat16 has, as have their products with the scales, which are powers of 2."""
    shapes, numbers = CASES[name]
    values = [
        None if shape is None else RNG.normal(size=shape).astype(ml_dtypes.bfloat16)
        for shape in shapes[:2]
    ]
    scales = [None if s is None else 2.0 ** RNG.integers(-3, 4, s) for s in shapes[2:]]
    return [x if x is None else np.asarray(x, np.float32) for x in (*values, *scales)], numbers


def run(module: Any, args: Any, numbers: Any, dtype: Any = np.float32) -> Any:
    x, y, s, t = args
    return module.scaled_dot(
        x, y, lhs_scale=s, rhs_scale=t, dimension_numbers=numbers, preferred_element_type=dtype
    )


def whole(x: Any, scale: Any) -> Any:
    """The scale of each element, times it, as float64."""
    if scale is None:
        return x.astype(np.float64)
    for d, (size, count) in enumerate(zip(x.shape, scale.shape, strict=True)):
        scale = np.repeat(scale, size // count, d)
    return x.astype(np.float64) * scale


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_definition(name: str, jit: bool) -> None:
    args, numbers = operands(name)
    x, y, s, t = args
    a, b = whole(x, s), whole(y, t)
    wanted = np.einsum("bkml,lkbn->bmn", a, b) if numbers else a @ b

    def f(args: Any) -> Any:
        return run(lax, args, numbers)

    found = (fd.jit(f) if jit else f)(args)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    assert run(lax, args, numbers, None).dtype.name == "bfloat16"


def test_vmap_and_derivatives() -> None:
    (x, y, s, t), _ = operands("matrices")
    xs = np.stack([x, 2 * x, -x])
    found = fd.vmap(lambda x: run(lax, (x, y, s, t), None))(xs)
    np.testing.assert_allclose(found, [run(lax, (x, y, s, t), None) for x in xs], rtol=1e-5)
    by_x, by_s = fd.grad(lambda x, s: run(lax, (x, y, s, t), None).sum(), (0, 1))(x, s)
    ones = np.broadcast_to(whole(y, t).sum(1), x.shape)
    np.testing.assert_allclose(by_x, whole(ones, s), rtol=2e-2)
    np.testing.assert_allclose(by_s, (ones * x).reshape(4, 2, 32).sum(-1), rtol=2e-2, atol=0.3)


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_jax_agrees(name: str) -> None:
    jax = pytest.importorskip("jax")
    args, numbers = operands(name)
    wanted = run(jax.lax, [None if x is None else jax.numpy.asarray(x) for x in args], numbers)
    np.testing.assert_allclose(run(lax, args, numbers), wanted, rtol=1e-5, atol=1e-4)


def test_mistakes() -> None:
    (x, y, s, t), _ = operands("matrices")
    with pytest.raises(ShapeError) as caught:
        run(lax, (x, y, s[:, :1].repeat(64, 1), t), None)
    assert str(caught.value) == (
        "scaled_dot requires lhs_scale to have the sizes of lhs, and along contracted dimensions "
        "(here (1,)) a divisor of at most half; got lhs f32[4,64] and lhs_scale bf16[4,64]"
    )
    with pytest.raises(ArgumentError) as caught_numbers:
        run(lax, (x[0], y, None, None), None)
    assert str(caught_numbers.value) == (
        "scaled_dot requires dimension_numbers, or operands of one number of dimensions, at least "
        "2; got lhs f32[64] and rhs f32[64,3]"
    )
