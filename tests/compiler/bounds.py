"""The reference results of a program, and how far from them a compiled one may be.

Every value comes with a bound on its error, found by running error analysis: sums in another order,
functions that are a few units in the last place off, and half precision that is kept in float32
within a kernel. All other operations must agree bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.dtypes import HALF
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Literal, Var

NDArray = np.ndarray[Any, Any]

ULPS = 8  # of a transcendental function

VIEWS = frozenset(
    [
        "reshape",
        "transpose",
        "broadcast_in_dim",
        "rev",
        "slice",
        "pad",
        "concatenate",
        "gather",
        "dynamic_slice",
        "dynamic_update_slice",
        "copy",
        "stop_gradient",
        "iota",
    ]
)
INCREASING = frozenset(["exp", "expm1", "log1p", "tanh", "logistic", "sqrt", "cbrt", "erf"])
LIPSCHITZ = frozenset(["sin", "cos", "abs", "max", "min", "neg", "real", "imag", "conj"])
EXACT_ON_HALVES = frozenset(
    ["max", "min", "neg", "abs", "sign", "floor", "ceil", "convert_element_type"]
)


@dataclass
class Bounded:
    """A value, and a bound on the error of each of its elements."""

    value: NDArray
    error: NDArray


def exactly(value: Any) -> Bounded:
    value = np.asarray(value)
    return Bounded(value, np.zeros(value.shape))


def unit(dtype: np.dtype[Any]) -> float:
    """Half the distance from 1 to the next number; 0 for integers."""
    return float(dtypes.finfo(dtype).eps) if dtypes.is_inexact(dtype) else 0.0


def evaluate(closed: ClosedJaxpr, args: Sequence[NDArray]) -> list[Bounded]:
    """The program's outputs by the primitives' NumPy implementations, with bounds."""
    return _run(closed, [exactly(x) for x in args])


def _run(closed: ClosedJaxpr, args: Sequence[Bounded]) -> list[Bounded]:
    env: dict[Var, Bounded] = dict(zip(closed.jaxpr.invars, args, strict=True))
    env.update(
        (var, exactly(const.value))
        for var, const in zip(closed.jaxpr.constvars, closed.consts, strict=True)
    )

    def read(atom: Atom) -> Bounded:
        return exactly(atom.value.value) if isinstance(atom, Literal) else env[atom]

    for eqn in closed.jaxpr.eqns:
        with np.errstate(all="ignore"):
            outs = _apply(eqn, [read(atom) for atom in eqn.invars])
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _apply(eqn: Eqn, args: Sequence[Bounded]) -> list[Bounded]:
    if eqn.primitive.name == "jit":
        return _run(eqn.params["jaxpr"], args)
    impl = eqn.primitive.impl
    assert impl is not None
    out = impl(*(x.value for x in args), **eqn.params)
    if eqn.primitive.multiple_results:
        return list(map(exactly, out))
    out = np.asarray(out)
    if not dtypes.is_inexact(out.dtype):
        exact = all(not np.any(x.error > 0) for x in args)
        assert exact, f"{eqn.primitive.name} of operands with errors is not continuous"
        return [exactly(out)]
    error = _error(eqn, impl, args, out)
    return [Bounded(out, np.asarray(error, np.float64))]


def _error(eqn: Eqn, impl: Callable[..., Any], args: Sequence[Bounded], out: NDArray) -> Any:
    name, params = eqn.primitive.name, eqn.params
    errors = [x.error for x in args]
    sizes = [_size(x.value) for x in args]
    u = unit(out.dtype)
    rounding = u * _size(out) + (float(dtypes.finfo(out.dtype).tiny) if u else 0.0)
    if name in VIEWS:
        return _view_error(name, impl, args, params)
    if name == "select_n":
        return impl(args[0].value, *errors[1:])
    if name in ("reduce_max", "reduce_min"):
        return np.max(errors[0], axis=params["axes"], initial=0)
    if name in ("reduce_sum", "reduce_prod", "dot_general"):
        return _reordered(name, impl, errors, sizes, params, rounding, out)
    if name == "scatter_add":
        wide = np.float64(len(sizes[2].ravel()) + 1) * max(u, 2.0**-23)
        total = impl(sizes[0], args[1].value, sizes[2], **params)
        return impl(errors[0], args[1].value, errors[2], **params) + wide * total + rounding
    if name in ("scatter", "scatter_max", "scatter_min"):
        if name == "scatter":
            return impl(errors[0], args[1].value, errors[2], **params)
        most = np.max(errors[2], initial=0)
        return np.maximum(errors[0], most)
    # What is left is elementwise.
    result = _elementwise_error(name, impl, args, params, errors, sizes, out)
    if name in INCREASING or name in ("sin", "cos", "log", "integer_pow", "square"):
        result = result + ULPS * rounding
    elif out.dtype in HALF and name not in EXACT_ON_HALVES:
        result = result + rounding
    return np.where(result > 0, result + rounding, result)


def _elementwise_error(
    name: str,
    impl: Callable[..., Any],
    args: Sequence[Bounded],
    params: dict[str, Any],
    errors: Sequence[NDArray],
    sizes: Sequence[NDArray],
    out: NDArray,
) -> Any:
    if not any(np.any(e != 0) for e in errors):
        return np.zeros(out.shape)
    match name:
        case "add" | "sub" | "complex":
            return errors[0] + errors[1]
        case "mul":
            return sizes[0] * errors[1] + sizes[1] * errors[0] + errors[0] * errors[1]
        case "div":
            least = np.where(sizes[1] > errors[1], sizes[1] - errors[1], 0.0)
            return (errors[0] + _size(out) * errors[1]) / least
        case "square" | "integer_pow":
            power = params.get("y", 2)
            return (sizes[0] + errors[0]) ** power - sizes[0] ** power
        case "convert_element_type":
            return errors[0]
    if name in LIPSCHITZ:
        return np.maximum.reduce(errors)
    assert name in INCREASING, name
    x = args[0].value.astype(np.float64)
    lowest = 0.0 if name == "sqrt" else -math.inf
    below = impl(np.maximum(x - errors[0], lowest), **params)
    above = impl(x + errors[0], **params)
    return above - below


def _view_error(
    name: str, impl: Callable[..., Any], args: Sequence[Bounded], params: dict[str, Any]
) -> Any:
    moved = {"dynamic_slice": 1, "gather": 1, "dynamic_update_slice": 2}.get(name, len(args))
    operands = [x.error for x in args[:moved]] + [x.value for x in args[moved:]]
    if not operands:
        return np.zeros(params["shape"])
    if name == "gather":
        params = {**params, "fill_value": 0.0}
    return impl(*operands, **params)


def _reordered(
    name: str,
    impl: Callable[..., Any],
    errors: Sequence[NDArray],
    sizes: Sequence[NDArray],
    params: dict[str, Any],
    rounding: Any,
    out: NDArray,
) -> Any:
    params = {k: v for k, v in params.items() if k != "preferred_element_type"}
    axes = params["axes"] if "axes" in params else params["dimension_numbers"][0][0]
    shape = sizes[0].shape
    terms = math.prod(shape[d] for d in axes) + 2
    wide = terms * max(unit(out.dtype) if out.dtype not in HALF else 0.0, _f32_or(out.dtype))
    if name == "reduce_sum":
        return impl(errors[0], **params) + wide * impl(sizes[0], **params) + rounding
    if name == "reduce_prod":
        most = impl(sizes[0] + errors[0], **params)
        return most - impl(sizes[0], **params) + wide * most + rounding
    lhs, rhs = sizes
    spread = impl(lhs, errors[1], **params) + impl(errors[0], rhs, **params)
    spread = spread + impl(errors[0], errors[1], **params)
    return spread + wide * impl(lhs, rhs, **params) + rounding


def _f32_or(dtype: np.dtype[Any]) -> float:
    return 2.0**-52 if dtype in (np.float64, np.complex128) else 2.0**-23


def _size(x: NDArray) -> NDArray:
    wide = x.astype(np.complex128 if dtypes.is_complex(x.dtype) else np.float64)
    return np.asarray(np.abs(wide))


def assert_within(found: NDArray, wanted: Bounded, what: str) -> None:
    """Check an output against the reference; where the bound is infinite anything goes."""
    value, error = wanted.value, wanted.error
    assert found.shape == value.shape, f"{what}: shape {found.shape}, wanted {value.shape}"
    assert found.dtype == value.dtype, f"{what}: dtype {found.dtype}, wanted {value.dtype}"
    with np.errstate(all="ignore"):
        if dtypes.is_inexact(value.dtype):
            kind = np.complex128 if dtypes.is_complex(value.dtype) else np.float64
            a, b = found.astype(kind), value.astype(kind)
            same = (a == b) | (np.isnan(a) & np.isnan(b)) | ~np.isfinite(error)
            largest = float(dtypes.finfo(value.dtype).max)
            # Next to the largest number an error may decide between it and infinity.
            same |= (np.abs(b) + error > largest) & (np.abs(a) + error > largest) & (error > 0)
            right = same | (np.abs(a - b) <= error)
        else:
            right = np.asarray(found == value)
    assert right.all(), (
        f"{what}: {np.count_nonzero(~right)} of {right.size} elements are wrong\n"
        f"found  {found[~right][:8]}\nwanted {value[~right][:8]}\nbounds {error[~right][:8]}"
    )
