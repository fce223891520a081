"""Check derivatives, and derivatives of derivatives, against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, tree
from funcdl.core.array import Array, as_array
from funcdl.transforms import jvp, vjp

NDArray = np.ndarray[Any, Any]

_TOLERANCE = {"f16": 1e-1, "bf16": 3e-1, "f32": 2e-2, "f64": 1e-5}
_STEP = {"f16": 1e-1, "bf16": 1e-1, "f32": 1e-2, "f64": 1e-5}


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    seed: int = 0,
) -> None:
    """Check the derivatives of `f` at `args` in random directions (as `jax.test_util` does).

    Every mode is applied to every other: order 2 with both modes checks forward over forward,
    forward over reverse, reverse over forward and reverse over reverse.

    Args:
      f: a function of pytrees of float or complex arrays, returning a pytree of arrays.
      args: where to check; `f` must be smooth around it.
      order: the highest order of derivatives to check.
      modes: ``"fwd"`` (jvp), ``"rev"`` (vjp), or both.
      atol, rtol: tolerances; by default what finite differences can reach in the narrowest dtype of
        the arguments and the output.
      eps: the step of the central difference; by default it fits that dtype.
      seed: of the random directions.

    Raises:
      AssertionError: a derivative is off; the message says of which order and mode.
      ValueError: a mode is unknown.
    """
    if not modes or not set(modes) <= {"fwd", "rev"}:
        raise ValueError(f"modes must be 'fwd', 'rev' or both, got {modes!r}")
    args = tuple(tree.map(as_array, arg) for arg in args)
    leaves = [*tree.leaves(args), *tree.leaves(f(*args))]
    narrowest = max((_real_name(x) for x in leaves), key=_STEP.__getitem__)
    limits = _Limits(
        _TOLERANCE[narrowest] if atol is None else atol,
        _TOLERANCE[narrowest] if rtol is None else rtol,
        _STEP[narrowest] if eps is None else eps,
    )
    _check(f, args, order, tuple(modes), limits, np.random.default_rng(seed), "")


class _Limits:
    def __init__(self, atol: float, rtol: float, eps: float) -> None:
        self.atol, self.rtol, self.eps = atol, rtol, eps

    def compare(self, found: Any, wanted: Any, what: str) -> None:
        """Compare trees leaf by leaf, each against the size of its largest element."""
        for a, b in zip(tree.leaves(found), tree.leaves(wanted), strict=True):
            x, y = _wide(a), _wide(b)
            error = np.abs(x - y).max(initial=0.0)
            limit = self.atol + self.rtol * np.abs(y).max(initial=0.0)
            if not error <= limit:
                raise AssertionError(f"{what} is off by {error:.3g} > {limit:.3g}:\n{x}\n{y}")


def _check(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    order: int,
    modes: tuple[str, ...],
    limits: _Limits,
    rng: np.random.Generator,
    path: str,
) -> None:
    tangents = tuple(_direction(arg, rng) for arg in args)
    out, numeric = _difference(f, args, tangents, limits.eps)
    if "fwd" in modes:
        name = f"jvp{path}"
        value, tangent = jvp(f, args, tangents)
        limits.compare(value, out, f"the value beside {name}")
        _check_types(tangent, value, name)
        limits.compare(tangent, numeric, name)
        if order > 1:
            _check(
                lambda *xs: jvp(f, xs, tangents)[1],
                args,
                order - 1,
                modes,
                limits,
                rng,
                f" of {name}",
            )
    if "rev" in modes:
        name = f"vjp{path}"
        value, pullback = vjp(f, *args)
        limits.compare(value, out, f"the value beside {name}")
        cotangent = _direction(out, rng)
        found = pullback(cotangent)
        _check_types(found, args, name)
        limits.compare(np.array(_pair(found, tangents)), np.array(_pair(cotangent, numeric)), name)
        if order > 1:
            _check(
                lambda *xs: vjp(f, *xs)[1](cotangent),
                args,
                order - 1,
                modes,
                limits,
                rng,
                f" of {name}",
            )


def _difference(
    f: Callable[..., Any], args: tuple[Any, ...], tangents: tuple[Any, ...], eps: float
) -> tuple[Any, Any]:
    """The value, and its central difference along the tangents."""

    def at(step: float) -> Any:
        return f(*tree.map(lambda x, t: _moved(x, t, step), args, tangents))

    def slope(high: Any, low: Any) -> NDArray:
        return (_wide(high) - _wide(low)) / (2 * eps)

    return f(*args), tree.map(slope, at(eps), at(-eps))


def _moved(x: Array, t: Array, step: float) -> Array:
    moved = _wide(x) + step * _wide(t)
    return Array(np.asarray(moved if dtypes.is_complex(x.dtype) else moved.real).astype(x.dtype))


def _direction(value: Any, rng: np.random.Generator) -> Any:
    """A random tangent of every leaf."""

    def draw(x: Any) -> Array:
        t = rng.standard_normal(x.shape)
        if dtypes.is_complex(x.dtype):
            t = t + 1j * rng.standard_normal(x.shape)
        return Array(np.asarray(t).astype(x.dtype))

    return tree.map(draw, value)


def _pair(cotangents: Any, tangents: Any) -> float:
    """What a cotangent says of a tangent: ``Re(sum(c t))``, without a conjugate, as in JAX."""
    pairs = zip(tree.leaves(cotangents), tree.leaves(tangents), strict=True)
    return float(sum(np.sum(_wide(c) * _wide(t)).real for c, t in pairs))


def _check_types(found: Any, like: Any, what: str) -> None:
    for a, b in zip(tree.leaves(found), tree.leaves(like), strict=True):
        assert a.shape == b.shape, f"{what} has shape {a.shape}, not {b.shape}"
        assert a.dtype == b.dtype, f"{what} has dtype {a.dtype}, not {b.dtype}"


def _wide(x: Any) -> NDArray:
    return np.asarray(x).astype(np.complex128)


def _real_name(x: Any) -> str:
    return dtypes.short_name(dtypes.real_dtype(x.dtype))
