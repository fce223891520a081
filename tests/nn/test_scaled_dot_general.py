"""scaled_dot_general against float64 products of operands that ml_dtypes has rounded, and JAX."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.errors import (
    ArgumentError,
    DtypeError,
    FuncdlError,
    NotDifferentiableError,
    ShapeError,
)

RNG = np.random.default_rng(0)
LARGEST = {"mxfp8": 448, "nvfp4": 6}
modes = pytest.mark.parametrize("mode", LARGEST)
MATRIX = (((1,), (1,)), ((), ()))


def configs(mode: str, *global_scales: Any) -> list[nn.BlockScaleConfig]:
    if mode == "mxfp8":
        return [nn.get_scaled_dot_general_config(mode)] * 3
    given = global_scales or (0.5, 2.0, 1.0)
    return [
        nn.get_scaled_dot_general_config(mode, np.array([scale], np.float32)) for scale in given
    ]


def operand(*shape: int) -> np.ndarray:
    """Numbers of very different sizes from block to block."""
    return (RNG.normal(size=shape) * 2.0 ** RNG.integers(-6, 7, shape)).astype(np.float32)


def dequantized(x: np.ndarray, config: nn.BlockScaleConfig) -> np.ndarray:
    """Rounded along the last dimension by casts of ml_dtypes, block by block, as float64."""
    largest = np.float32(LARGEST[config.mode])
    whole = np.float32(1 if config.global_scale is None else np.asarray(config.global_scale)[0])
    out = np.zeros(x.shape)
    for index in np.ndindex(*x.shape[:-1], x.shape[-1] // config.block_size):
        part = slice(index[-1] * config.block_size, (index[-1] + 1) * config.block_size)
        block = x[index[:-1]][part] / whole
        scale = np.abs(block).max() / largest
        if config.mode == "mxfp8":
            mantissa, exponent = np.frexp(scale)
            scale = np.ldexp(np.float32(1), exponent - (mantissa == 0.5)) if scale else 2.0**-127
        else:
            scale = np.minimum(scale, 448).astype(config.scale_type).astype(np.float32)
        if scale:
            values = np.clip(block / np.float32(scale), -largest, largest)
            rounded = values.astype(config.data_type).astype(np.float64)
            out[index[:-1]][part] = rounded * float(scale) * float(whole)
    return out


@modes
@pytest.mark.parametrize("jit", [False, True])
def test_products_of_rounded_operands(mode: str, jit: bool) -> None:
    x, y = operand(5, 64), operand(7, 64)
    x[0], x[1, :32], y[2, 32:] = 0, 1e-30, 3e4
    given = configs(mode)
    f = functools.partial(nn.scaled_dot_general, dimension_numbers=MATRIX, configs=given)
    found = (fd.jit(f) if jit else f)(x, y)
    a, b = dequantized(x, given[0]), dequantized(y, given[1])
    bound = 1e-6 * (np.abs(a) @ np.abs(b).T)
    assert found.dtype == np.float32
    assert (np.abs(np.asarray(found) - a @ b.T) <= bound).all()
    # Rounding is what the result is about: without it, it is another one.
    assert (np.abs(np.asarray(found) - x.astype(np.float64) @ y.T) > bound).mean() > 0.5


@modes
@pytest.mark.parametrize(
    ("shapes", "numbers"),
    [
        (((2, 3, 32), (2, 4, 32)), (((2,), (2,)), ((0,), (0,)))),
        (((3, 2, 32), (32, 4, 2)), (((2,), (0,)), ((1,), (2,)))),
        (((8, 3, 4), (8, 4, 5)), (((0, 2), (0, 1)), ((), ()))),
        (((8, 3, 4), (4, 8)), (((2, 0), (0, 1)), ((), ()))),
        (((2, 3, 32, 2), (3, 32, 2)), (((2,), (1,)), ((1, 0), (0, 2)))),
        (((32,), (32,)), (((0,), (0,)), ((), ()))),
    ],
)
def test_dimension_numbers(shapes: Any, numbers: Any, mode: str) -> None:
    """The same as `lax.dot_general` of operands that rounding leaves alone."""
    values = np.array([-3, 0, 1.5, 3], np.float32)
    x, y = (RNG.choice(values, shape) for shape in shapes)
    wanted = fd.lax.dot_general(x, y, numbers)
    found = nn.scaled_dot_general(x, y, numbers, configs=configs(mode, 1.0, 1.0, 1.0))
    np.testing.assert_array_equal(found, wanted)


@modes
def test_vmap_is_a_loop(mode: str) -> None:
    x, y = operand(3, 4, 32), operand(5, 32)
    f = functools.partial(nn.scaled_dot_general, dimension_numbers=MATRIX, configs=configs(mode))
    found = fd.vmap(f, (0, None))(x, y)
    np.testing.assert_allclose(found, fnp.stack([f(z, y) for z in x]), rtol=1e-5, atol=1e-3)


def test_traced_global_scales() -> None:
    x, y = operand(4, 32), operand(5, 32)

    def f(scale: Any) -> Any:
        given = [nn.get_scaled_dot_general_config("nvfp4", scale)] * 3
        return nn.scaled_dot_general(x, y, MATRIX, configs=given)

    scales = fnp.array([0.5, 1.0, 3.0])
    wanted = fnp.stack([f(s) for s in scales])
    np.testing.assert_array_equal(fd.vmap(f)(scales), wanted)
    np.testing.assert_allclose(fd.jit(fd.vmap(f))(scales), wanted, rtol=1e-5, atol=1e-3)
    assert fd.grad(lambda s: f(s).sum())(1.0) == 0


def pulled_back(mode: str, x: Any, y: Any, ct: Any, way: Any = lambda f: f) -> Any:
    given = configs(mode)
    f = functools.partial(nn.scaled_dot_general, dimension_numbers=MATRIX, configs=given)
    return way(lambda x, y, ct: fd.vjp(f, x, y)[1](ct))(x, y, ct)


@pytest.mark.parametrize("way", [lambda f: f, fd.jit])
def test_mxfp8_rounds_in_the_pullback_too(way: Any) -> None:
    x, y, ct = operand(32, 64), operand(96, 64), operand(32, 96)
    by_x, by_y = pulled_back("mxfp8", x, y, ct, way)
    config = configs("mxfp8")[0]
    wanted_x = dequantized(ct, config) @ dequantized(y.T, config).T
    wanted_y = dequantized(ct.T, config) @ dequantized(x.T, config).T
    np.testing.assert_allclose(by_x, wanted_x, rtol=1e-5, atol=1e-5 * np.abs(wanted_x).max())
    np.testing.assert_allclose(by_y, wanted_y, rtol=1e-5, atol=1e-5 * np.abs(wanted_y).max())


@pytest.mark.parametrize("way", [lambda f: f, fd.jit])
def test_nvfp4_rounds_nothing_in_the_pullback(way: Any) -> None:
    """Any sizes will do, and elements beyond the format's range get no cotangent."""
    x, y, ct = operand(3, 16), operand(5, 16), operand(3, 5)
    x[1, 2], y[0, 0] = 0.5 * 6 * 448 * 1.01, -2 * 6 * 448 * 0.99
    by_x, by_y = pulled_back("nvfp4", x, y, ct, way)
    wanted_x, wanted_y = ct @ y, ct.T @ x
    wanted_x[1, 2] = 0
    np.testing.assert_allclose(by_x, wanted_x, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(by_y, wanted_y, rtol=1e-5, atol=1e-2)
    assert by_x[1, 2] == 0 and by_y[0, 0] != 0


@modes
def test_gradients_under_vmap(mode: str) -> None:
    x, y = operand(3, 32, 32), operand(32, 32)
    f = functools.partial(nn.scaled_dot_general, dimension_numbers=MATRIX, configs=configs(mode))
    one = fd.grad(lambda x, y: (f(x, y) ** 2).sum(), (0, 1))
    found = fd.jit(fd.vmap(one, (0, None)))(x, y)
    for got, wanted in zip(found, zip(*(one(z, y) for z in x), strict=True), strict=True):
        scale = np.abs(np.stack(wanted)).max()
        np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-3, atol=1e-3 * scale)


@modes
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types(mode: str, dtype: str) -> None:
    x, y = (fnp.asarray(operand(32, 32) / 64).astype(dtype) for _ in range(2))
    f = functools.partial(
        nn.scaled_dot_general,
        dimension_numbers=MATRIX,
        configs=configs(mode),
        preferred_element_type=dtype,
    )
    wide = functools.partial(f, preferred_element_type=np.float32)
    out = f(x, y)
    assert out.dtype.name == dtype
    np.testing.assert_array_equal(out, wide(x, y).astype(dtype))
    for ct in fd.vjp(f, x, y)[1](out):
        assert ct.dtype.name == dtype and np.isfinite(np.asarray(ct, np.float32)).all()


@modes
def test_infinite_and_undefined_elements_show(mode: str) -> None:
    for value, at in itertools.product((np.inf, -np.inf, np.nan), (0, 63)):
        x = np.ones((2, 64), np.float32)
        x[0, at] = value
        out = nn.scaled_dot_general(x, np.ones((3, 64)), MATRIX, configs=configs(mode))
        # Mode nvfp4 cuts off what is too large.
        shown = np.isfinite if mode == "nvfp4" and np.isinf(value) else np.isnan
        assert shown(out[0]).all() and np.isfinite(out[1]).all()


def test_without_configs() -> None:
    x, y = operand(4, 5), operand(3, 5)
    np.testing.assert_array_equal(
        nn.scaled_dot_general(x, y, MATRIX), fd.lax.dot_general(x, y, MATRIX)
    )
    with pytest.warns(DeprecationWarning, match="has no effect"):
        nn.scaled_dot_general(x, y, MATRIX, implementation="cudnn")


def test_other_formats() -> None:
    """Any format known here may be the data type: e5m2 has fewer digits than e4m3fn."""
    x = operand(16, 64)
    errors = []
    for name in ("float8_e4m3fn", ml_dtypes.float8_e5m2, np.dtype(ml_dtypes.float4_e2m1fn)):
        given = [replace(configs("mxfp8")[0], data_type=name)] * 3
        out = nn.scaled_dot_general(x, np.eye(64, dtype=np.float32), MATRIX, configs=given)
        errors.append(float(np.abs(out - x).mean()))
    assert errors[0] < errors[1] < errors[2]


def config(**changes: Any) -> list[nn.BlockScaleConfig]:
    return [replace(nn.get_scaled_dot_general_config("mxfp8"), **changes)] * 3


X = np.ones((32, 32), np.float32)
MISTAKES: dict[str, tuple[Any, type[FuncdlError], str]] = {
    "mode": (
        lambda: nn.get_scaled_dot_general_config("fp8"),
        ArgumentError,
        "get_scaled_dot_general_config requires mode to be one of 'nvfp4', 'mxfp8'; got 'fp8'",
    ),
    "number": (
        lambda: nn.scaled_dot_general(X, X, MATRIX, configs=config()[:2]),
        ArgumentError,
        "scaled_dot_general requires configs to be a list of three: for lhs, for rhs and for",
    ),
    "kind": (
        lambda: nn.scaled_dot_general(X, X, MATRIX, configs=["mxfp8"] * 3),  # type: ignore[list-item]  # the mistake
        ArgumentError,
        "configs[0] of scaled_dot_general requires a BlockScaleConfig, got 'mxfp8'; "
        "get_scaled_dot_general_config makes one",
    ),
    "several modes": (
        lambda: nn.scaled_dot_general(
            X, X, MATRIX, configs=[*configs("mxfp8")[:2], configs("nvfp4")[0]]
        ),
        ArgumentError,
        "scaled_dot_general requires configs of one mode, got mxfp8, mxfp8, nvfp4",
    ),
    "block size": (
        lambda: nn.scaled_dot_general(X, X, MATRIX, configs=config(block_size=0)),
        ArgumentError,
        "configs[0] of scaled_dot_general requires block_size from 1 on, got 0",
    ),
    "data type": (
        lambda: nn.scaled_dot_general(X, X, MATRIX, configs=config(data_type="float16")),
        DtypeError,
        "data_type of configs[0] of scaled_dot_general must be one of float4_e2m1fn, ",
    ),
    "scale type": (
        lambda: nn.scaled_dot_general(X, X, MATRIX, configs=config(scale_type="float8_e4m3fn")),
        DtypeError,
        "configs[0] of scaled_dot_general requires scale_type float8_e8m0fnu in mode mxfp8; got "
        "float8_e4m3fn",
    ),
    "global scale": (
        lambda: nn.scaled_dot_general(X, X, MATRIX, configs=config(global_scale=1.0)),
        ArgumentError,
        "configs[0] of scaled_dot_general requires None as global_scale in mode mxfp8, got 1.0",
    ),
    "global scales": (
        lambda: nn.scaled_dot_general(X, X, MATRIX, configs=configs("nvfp4", [1.0, 2.0], 1, 1)),
        ShapeError,
        "scaled_dot_general requires a global_scale of one element, got f32[1,2]",
    ),
    "no multiple": (
        lambda: nn.scaled_dot_general(X[:, :30], X[:, :30], MATRIX, configs=config()),
        ShapeError,
        "scaled_dot_general requires the size that is contracted to be a multiple of the block "
        "size of 32, and not 0; got 30. Pad it with zeros",
    ),
    "no multiple in the pullback": (
        lambda: fd.grad(lambda x: nn.scaled_dot_general(x, X[:5], MATRIX, configs=config()).sum())(
            X
        ),
        ShapeError,
        "the derivative of scaled_dot_general by lhs requires the size that is contracted to be a "
        "multiple of the block size of 32, and not 0; got 5",
    ),
    "sizes": (
        lambda: nn.scaled_dot_general(X, X[:, :5], MATRIX, configs=config()),
        ShapeError,
        "scaled_dot_general requires dimensions (1,) of lhs and (1,) of rhs to have the same "
        "sizes; got lhs f32[32,32] and rhs f32[32,5]",
    ),
    "a dimension twice": (
        lambda: nn.scaled_dot_general(X, X, (((1,), (1,)), ((1,), (0,))), configs=config()),
        ArgumentError,
        "scaled_dot_general requires each dimension of lhs once in dimension_numbers; got ",
    ),
    "dimension numbers": (
        lambda: nn.scaled_dot_general(X, X, ((1,), (1,)), configs=config()),
        ArgumentError,
        "scaled_dot_general requires dimension_numbers ((lhs_contracting, rhs_contracting), ",
    ),
    "output": (
        lambda: nn.scaled_dot_general(X, X, MATRIX, "int32", configs=config()),
        DtypeError,
        "scaled_dot_general requires preferred_element_type to be one of float32, bfloat16, "
        "float16; got int32",
    ),
    "complex": (
        lambda: nn.scaled_dot_general(X + 1j, X, MATRIX, configs=config()),
        DtypeError,
        "scaled_dot_general requires real operands, got lhs of type c64[32,32]",
    ),
    "forward mode": (
        lambda: fd.jvp(lambda x: nn.scaled_dot_general(x, X, MATRIX, configs=config()), (X,), (X,)),
        NotDifferentiableError,
        "forward-mode differentiation (jvp, jacfwd, linearize) of ",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    call, kind, message = MISTAKES[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(message), str(caught.value)


@pytest.mark.peers
@modes
def test_jax_with_its_product_of_rounded_matrices_replaced(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX has `scaled_matmul` on GPUs only; everything around it runs anywhere."""
    jax = pytest.importorskip("jax")
    inside = pytest.importorskip("jax._src.cudnn.scaled_matmul_stablehlo")

    def matmul(a: Any, b: Any, s: Any, t: Any, preferred_element_type: Any = np.float32) -> Any:
        wide = [
            x.astype(np.float32)
            * jax.numpy.repeat(y.astype(np.float32), x.shape[2] // y.shape[2], 2)
            for x, y in ((a, s), (b, t))
        ]
        return jax.numpy.einsum("bmk,bnk->bmn", *wide).astype(preferred_element_type)

    monkeypatch.setattr(inside, "scaled_matmul_wrapper", matmul)
    x, y, ct = operand(2, 32, 64), operand(64, 2, 96), operand(2, 32, 96)
    numbers = (((2,), (0,)), ((0,), (1,)))
    results = []
    for library, module, make in (
        (jax, jax.nn, jax.nn.get_scaled_dot_general_config),
        (fd, nn, nn.get_scaled_dot_general_config),
    ):
        array = (jax.numpy if library is jax else fnp).asarray
        given = [make(mode)] * 3
        if mode == "nvfp4":
            given = [make(mode, array([s], dtype=np.float32)) for s in (0.5, 2.0, 1.0)]
        f = functools.partial(module.scaled_dot_general, dimension_numbers=numbers, configs=given)

        def run(x: Any, y: Any, ct: Any, f: Any = f, library: Any = library) -> Any:
            out, pull = library.vjp(f, x, y)
            return out, *pull(ct)

        results.append(library.jit(run)(x, y, ct))
    for wanted, found in zip(*results, strict=True):
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        scale = np.abs(np.asarray(wanted)).max()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * scale)
