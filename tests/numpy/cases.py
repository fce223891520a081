"""Calls of the functions of funcdl.numpy that the tests make, with arrays of given shapes.

A case's function takes the module (funcdl.numpy, numpy or jax.numpy) and the arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    name: str
    f: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    domain: tuple[float, float] = (-2.0, 2.0)
    differentiable: bool = True
    in_numpy: bool = True

    def arrays(self, dtype: Any = np.float64, seed: int = 0) -> list[np.ndarray]:
        """Operands without ties or whole numbers, where derivatives may not exist."""
        rng = np.random.default_rng(seed)
        return [rng.uniform(*self.domain, shape).astype(dtype) for shape in self.shapes]


M = (3, 4)


def _unary(name: str, low: float = -2.0, high: float = 2.0, diff: bool = True) -> Case:
    return Case(name, lambda m, x: getattr(m, name)(x), (M,), (low, high), diff)


def _binary(name: str, low: float = -2.0, high: float = 2.0, diff: bool = True) -> Case:
    # One operand is stretched, so that broadcasting takes part.
    return Case(name, lambda m, x, y: getattr(m, name)(x, y), (M, (4,)), (low, high), diff)


UNARY = [
    *map(_unary, ["negative", "positive", "abs", "absolute", "fabs", "square"]),
    *map(_unary, ["exp", "exp2", "expm1", "sin", "cos", "sinh", "cosh", "tanh", "arctan"]),
    *map(_unary, ["arcsinh", "deg2rad", "rad2deg", "radians", "degrees", "nan_to_num"]),
    *map(_unary, ["real", "imag", "conj", "conjugate"]),
    *(_unary(name, 0.1, 3.0) for name in ["log", "log2", "log10", "log1p", "sqrt", "cbrt"]),
    *(_unary(name, -0.9, 0.9) for name in ["tan", "arcsin", "arccos", "arctanh"]),
    _unary("arccosh", 1.1, 3.0),
    _unary("reciprocal", 0.5, 2.0),
    *(
        _unary(name, diff=False)
        for name in ["sign", "floor", "ceil", "trunc", "rint", "round", "angle", "logical_not"]
    ),
    *(
        _unary(name, diff=False)
        for name in ["isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit"]
    ),
]

BINARY = [
    *map(_binary, ["add", "subtract", "multiply", "maximum", "minimum", "fmax", "fmin"]),
    *map(_binary, ["logaddexp", "logaddexp2", "hypot", "arctan2", "heaviside", "copysign"]),
    *(_binary(name, 0.5, 2.0) for name in ["divide", "true_divide", "power", "float_power"]),
    *(_binary(name, 0.5, 2.0) for name in ["remainder", "mod", "fmod"]),
    _binary("floor_divide", diff=False),
    _binary("nextafter", diff=False),
    *(
        _binary(name, diff=False)
        for name in ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
    ),
    *(_binary(name, diff=False) for name in ["logical_and", "logical_or", "logical_xor"]),
    _binary("isclose", diff=False),
]


def case(
    name: str, f: Callable[..., Any], *shapes: tuple[int, ...], diff: bool = True, np_: bool = True
) -> Case:
    return Case(name, f, shapes or (M,), differentiable=diff, in_numpy=np_)


def _reductions() -> list[Case]:
    cases = []
    for name in ["sum", "prod", "max", "min", "mean", "var", "std", "ptp"]:
        for axis in (None, 0, -1, (0, 2)):
            for keepdims in (False, True):
                cases.append(
                    case(
                        f"{name}(axis={axis}, keepdims={keepdims})",
                        lambda m, x, n=name, a=axis, k=keepdims: getattr(m, n)(
                            x, axis=a, keepdims=k
                        ),
                        (2, 3, 4),
                    )
                )
    for name in ["all", "any"]:
        cases.append(case(name, lambda m, x, n=name: getattr(m, n)(x > 0, axis=1), diff=False))
    for name in ["argmax", "argmin"]:
        for axis in (None, 0, 1):
            cases.append(
                case(
                    f"{name}(axis={axis})",
                    lambda m, x, n=name, a=axis: getattr(m, n)(x, axis=a),
                    diff=False,
                )
            )
    for name in ["cumsum", "cumprod"]:
        for axis in (None, 0, 1):
            cases.append(
                case(f"{name}(axis={axis})", lambda m, x, n=name, a=axis: getattr(m, n)(x, axis=a))
            )
    return cases


REDUCTIONS = [
    *_reductions(),
    case("sum(where)", lambda m, x: m.sum(x, axis=0, where=x > 0, initial=1.5)),
    case("prod(where)", lambda m, x: m.prod(x, where=x > 0)),
    case("max(where)", lambda m, x: m.max(x, axis=1, where=x > 0, initial=-9.0)),
    case("min(initial)", lambda m, x: m.min(x, initial=-0.5)),
    case("mean(where)", lambda m, x: m.mean(x, axis=1, where=x > -1.9)),
    case("var(ddof)", lambda m, x: m.var(x, axis=1, ddof=1)),
    case("std(where)", lambda m, x: m.std(x, where=x > 0)),
    case("average", lambda m, x, w: m.average(x, axis=1, weights=w * w), M, (4,)),
    case("count_nonzero", lambda m, x: m.count_nonzero(x > 0, axis=0), diff=False),
]

SHAPING = [
    case("reshape", lambda m, x: m.reshape(x, (2, -1))),
    case("reshape(F)", lambda m, x: m.reshape(x, (2, 6), order="F")),
    case("ravel", lambda m, x: m.ravel(x)),
    case("ravel(F)", lambda m, x: m.ravel(x, order="F")),
    case("transpose", lambda m, x: m.transpose(x, (2, 0, -2)), (2, 3, 4)),
    case("T", lambda m, x: x.T, (2, 3, 4)),
    case("swapaxes", lambda m, x: m.swapaxes(x, 0, -1), (2, 3, 4)),
    case("moveaxis", lambda m, x: m.moveaxis(x, (0, 1), (-1, 0)), (2, 3, 4)),
    case("expand_dims", lambda m, x: m.expand_dims(x, (0, -1))),
    case("squeeze", lambda m, x: m.squeeze(x), (1, 3, 1)),
    case("squeeze(axis)", lambda m, x: m.squeeze(x, -1), (1, 3, 1)),
    case("broadcast_to", lambda m, x: m.broadcast_to(x, (2, 3, 4)), (3, 1)),
    case("broadcast_arrays", lambda m, x, y: list(m.broadcast_arrays(x, y)), (3, 1), (4,)),
    case("atleast_1d", lambda m, x: m.atleast_1d(x), ()),
    case("atleast_2d", lambda m, x: m.atleast_2d(x), (3,)),
    case("atleast_3d", lambda m, x: m.atleast_3d(x)),
    case("flip", lambda m, x: m.flip(x)),
    case("flip(axis)", lambda m, x: m.flip(x, -1)),
    case("flipud", lambda m, x: m.flipud(x)),
    case("fliplr", lambda m, x: m.fliplr(x)),
    *(case(f"rot90({k})", lambda m, x, k=k: m.rot90(x, k)) for k in (-1, 0, 1, 2)),
    case("roll", lambda m, x: m.roll(x, 5)),
    case("roll(axes)", lambda m, x: m.roll(x, (1, -2), (0, 1))),
    case("concatenate", lambda m, x, y: m.concatenate([x, y], axis=1), M, (3, 2)),
    case("concatenate(None)", lambda m, x, y: m.concatenate([x, y], axis=None), M, (2,)),
    case("stack", lambda m, x, y: m.stack([x, y], axis=-1), M, M),
    case("vstack", lambda m, x, y: m.vstack([x, y]), M, (4,)),
    case("hstack", lambda m, x, y: m.hstack([x, y]), (3,), (4,)),
    case("dstack", lambda m, x, y: m.dstack([x, y]), M, M),
    case("column_stack", lambda m, x, y: m.column_stack([x, y]), (3,), (3, 2)),
    case("append", lambda m, x, y: m.append(x, y, axis=0), M, (1, 4)),
    case("split", lambda m, x: m.split(x, 2, axis=1)),
    case("split(places)", lambda m, x: m.split(x, [1, 3], axis=1)),
    case("array_split", lambda m, x: m.array_split(x, 3, axis=1)),
    case("tile", lambda m, x: m.tile(x, (2, 1, 3))),
    case("repeat", lambda m, x: m.repeat(x, 2)),
    case("repeat(axis)", lambda m, x: m.repeat(x, np.array([1, 0, 2]), axis=0)),
    case("pad", lambda m, x: m.pad(x, ((1, 2), (0, 3)))),
    case("pad(values)", lambda m, x: m.pad(x, 1, constant_values=((1, 2), (3, 4)))),
    *(
        case(f"pad({mode})", lambda m, x, mode=mode: m.pad(x, (2, 1), mode=mode))
        for mode in ("edge", "reflect", "symmetric", "wrap")
    ),
    case("meshgrid", lambda m, x, y: list(m.meshgrid(x, y)), (3,), (4,)),
    case("meshgrid(ij)", lambda m, x, y: list(m.meshgrid(x, y, indexing="ij")), (3,), (4,)),
]

INDEXING = [
    case("where", lambda m, x, y: m.where(x > 0, x, y), M, (4,)),
    case("select", lambda m, x: m.select([x > 1, x > 0], [x, 2 * x], 5.0)),
    case("take", lambda m, x: m.take(x, np.array([[2, 0], [-1, 1]]), axis=1)),
    case("take(None)", lambda m, x: m.take(x, np.array([5, 0]))),
    case("take(wrap)", lambda m, x: m.take(x, np.array([7, -5]), axis=0, mode="wrap")),
    case("take(clip)", lambda m, x: m.take(x, np.array([7, -5]), axis=0, mode="clip")),
    case(
        "take_along_axis",
        lambda m, x: m.take_along_axis(x, np.array([[0, -1], [2, 2], [1, 3]]), axis=1),
    ),
    case(
        "take_along_axis(broadcast)",
        lambda m, x: m.take_along_axis(x, np.array([[0, 2, 1, 0]]), axis=0),
    ),
    case("x[1]", lambda m, x: x[1]),
    case("x[::-1, 1:]", lambda m, x: x[::-1, 1:]),
    case("x[..., None, 0]", lambda m, x: x[..., None, 0]),
    case("x[arrays]", lambda m, x: x[np.array([0, 2]), np.array([[1], [3]])]),
    case("x[mask]", lambda m, x: x[np.array([True, False, True])]),
]

MATRICES = [
    case("tril", lambda m, x: m.tril(x, 1), (2, 3, 4)),
    case("triu", lambda m, x: m.triu(x, -1), (2, 3, 4)),
    *(case(f"diag({k})", lambda m, x, k=k: m.diag(x, k), (3,)) for k in (-2, 0, 1)),
    case("diag(matrix)", lambda m, x: m.diag(x, 1)),
    case("diagonal", lambda m, x: m.diagonal(x, -1, 0, 2), (3, 2, 4)),
    case("trace", lambda m, x: m.trace(x)),
]

PRODUCTS = [
    *(
        case(f"matmul{shapes}", lambda m, x, y: m.matmul(x, y), *shapes)
        for shapes in [
            ((3, 4), (4, 2)),
            ((4,), (4,)),
            ((4,), (4, 2)),
            ((3, 4), (4,)),
            ((2, 3, 4), (4, 5)),
            ((3, 4), (2, 4, 5)),
            ((4,), (2, 4, 5)),
            ((2, 3, 4), (4,)),
            ((2, 3, 4), (2, 4, 5)),
            ((2, 1, 3, 4), (1, 5, 4, 2)),
            ((5, 2, 3, 4), (2, 4, 1)),
            ((1, 3, 4), (6, 4, 2)),
            ((2, 3, 0), (0, 2)),
        ]
    ),
    case("@", lambda m, x, y: x @ y, (3, 4), (4, 2)),
    *(
        case(f"dot{shapes}", lambda m, x, y: m.dot(x, y), *shapes)
        for shapes in [((), (3,)), ((3,), (3,)), ((2, 3), (3, 2)), ((2, 3), (4, 3, 5))]
    ),
    case("inner", lambda m, x, y: m.inner(x, y), (2, 3), (4, 3)),
    case("outer", lambda m, x, y: m.outer(x, y), (2, 2), (3,)),
    case("vdot", lambda m, x, y: m.vdot(x, y), (2, 3), (3, 2)),
    case("vecdot", lambda m, x, y: m.vecdot(x, y), (2, 3), (3,), np_=hasattr(np, "vecdot")),
    case("tensordot", lambda m, x, y: m.tensordot(x, y, 1), (2, 3), (3, 4)),
    case(
        "tensordot(axes)",
        lambda m, x, y: m.tensordot(x, y, ((0, 2), (1, 0))),
        (2, 3, 4),
        (4, 2, 5),
    ),
    case("kron", lambda m, x, y: m.kron(x, y), (2, 3), (2, 2)),
]

OTHERS = [
    case("clip", lambda m, x: m.clip(x, -0.5, 1.0)),
    case("clip(arrays)", lambda m, x, y: m.clip(x, y, None), M, (4,)),
    case("round(decimals)", lambda m, x: m.round(x, 2), diff=False),
    case("x ** 3", lambda m, x: x**3),
    case("x ** 0", lambda m, x: x**0),
    case("2 ** x", lambda m, x: 2.0**x),
    case("allclose", lambda m, x: m.allclose(x, x + 1e-9), diff=False),
    case("array_equal", lambda m, x, y: m.array_equal(x, y), M, M, diff=False),
    case("linspace", lambda m, x, y: m.linspace(x, y, 5), (3,), ()),
    case("linspace(axis)", lambda m, x, y: m.linspace(x, y, 4, False, axis=-1), (3,), (2, 1)),
    case("zeros_like", lambda m, x: m.zeros_like(x), diff=False),
    case("full_like", lambda m, x: m.full_like(x, 3.5), diff=False),
]

CASES: Sequence[Case] = [
    *UNARY,
    *BINARY,
    *REDUCTIONS,
    *SHAPING,
    *INDEXING,
    *MATRICES,
    *PRODUCTS,
    *OTHERS,
]
