"""Numerical checks of derivatives, for tests of functions with rules of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.core import dtypes, tree
from funcdl.core.array import Array, as_array
from funcdl.ops.convert import convert_element_type
from funcdl.transforms import jvp, vjp

__all__ = ["check_grads"]

NDArray = np.ndarray[Any, Any]
FlatFunction = Callable[..., list[Any]]

_MODES = ("fwd", "rev")
# What central differences in the dtype itself can reach, and with which step.
_STEP = {"f16": 1e-1, "bf16": 1e-1, "f32": 1e-2, "f64": 1e-5}
_TOLERANCE = {"f16": 1e-1, "bf16": 3e-1, "f32": 2e-2, "f64": 1e-5}
# What derivatives in the dtype can reach, compared with differences in double precision.
_FINE_TOLERANCE = {"f16": 2e-2, "bf16": 1e-1, "f32": 1e-3, "f64": 1e-5}


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    modes: str | Sequence[str] = _MODES,
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    *,
    seed: int = 0,
) -> None:
    """Check derivatives in random directions (see `jax.test_util.check_grads`).

    Derivatives are compared with central differences, and the derivatives of derivatives likewise
    up to `order`. Every mode is applied to every other: order 2 in both modes checks forward over
    forward, forward over reverse, reverse over forward and reverse over reverse. The differences
    are taken in double precision where ``config.x64`` allows it and `f` then returns it.

    Args:
      f: a function of pytrees of arrays, returning a pytree of arrays. It must be smooth around
        `args`. Arguments and results that are neither float nor complex are held fixed.
      args: the arguments, as a tuple or list.
      order: the highest order of derivatives to check.
      modes: ``"fwd"`` (jvp), ``"rev"`` (vjp), or both.
      atol, rtol: allowed error, the latter relative to the largest element of each array; by
        default what the narrowest dtype of arguments and results can be expected to reach.
      eps: the step of the central difference; by default it fits the dtype that they are taken in.
      seed: of the random directions.

    Raises:
      AssertionError: a derivative is off; the message says which, by how much, and both values.
      ValueError: a mode or the order is not allowed, or nothing is there to differentiate.
    """
    chosen = (modes,) if isinstance(modes, str) else tuple(modes)
    if not chosen or not set(chosen) <= set(_MODES):
        raise ValueError(f"check_grads: modes must be 'fwd', 'rev' or both, got {modes!r}")
    if order < 1:
        raise ValueError(f"check_grads: order must be at least 1, got {order}")
    if not isinstance(args, tuple | list):
        raise ValueError(
            "check_grads: args must be a tuple or list with one entry for each argument, got "
            f"{type(args).__name__}; write (x,) for a single argument"
        )
    flat, points = _flatten(f, args)
    outs = flat(*points)
    if not points or not outs:
        side = "argument" if not points else "result"
        raise ValueError(f"check_grads: no {side} is float or complex, so there is no derivative")
    narrowest = max((_real_name(x) for x in [*points, *outs]), key=_STEP.__getitem__)
    wide = config.x64 != "off" and all(
        _real_name(x) == "f64" for x in flat(*[_widen(x) for x in points])
    )
    tolerance = (_FINE_TOLERANCE if wide else _TOLERANCE)[narrowest]
    check = _Check(
        tuple(dict.fromkeys(chosen)),
        tolerance if atol is None else atol,
        tolerance if rtol is None else rtol,
        _STEP["f64" if wide else narrowest] if eps is None else eps,
        wide,
        np.random.default_rng(seed),
    )
    check.run(flat, points, order, "")


@dataclass(frozen=True)
class _Check:
    modes: tuple[str, ...]
    atol: float
    rtol: float
    eps: float
    wide: bool
    rng: np.random.Generator

    def run(self, f: FlatFunction, points: list[Any], order: int, path: str) -> None:
        """Check `f`, the derivative that `path` describes, and then its own derivatives."""
        tangents = [self._direction(x) for x in points]
        outs = f(*points)
        slopes = self._difference(f, points, tangents)
        if "fwd" in self.modes:
            name = f"jvp{path}"
            values, found = jvp(f, points, tangents)
            self._compare(values, outs, f"the value beside {name}")
            _check_types(found, values, name)
            self._compare(found, slopes, name)
            if order > 1:

                def pushed(*xs: Any) -> list[Any]:
                    out_tangents: list[Any] = jvp(f, xs, _like(tangents, xs))[1]
                    return out_tangents

                self.run(pushed, points, order - 1, f" of {name}")
        if "rev" in self.modes:
            name = f"vjp{path}"
            values, pullback = vjp(f, *points)
            self._compare(values, outs, f"the value beside {name}")
            cotangents = [self._direction(x) for x in outs]
            found = list(pullback(cotangents))
            _check_types(found, points, name)
            pairing, wanted = _pair(found, tangents), _pair(cotangents, slopes)
            self._compare([pairing], [wanted], name)
            if order > 1:

                def pulled(*xs: Any) -> list[Any]:
                    ys, back = vjp(f, *xs)
                    return list(back(_like(cotangents, ys)))

                self.run(pulled, points, order - 1, f" of {name}")

    def _direction(self, x: Any) -> Array:
        t = self.rng.standard_normal(x.shape)
        if dtypes.is_complex(x.dtype):
            t = t + 1j * self.rng.standard_normal(x.shape)
        return Array(np.asarray(t).astype(x.dtype))

    def _difference(
        self, f: FlatFunction, points: list[Any], tangents: list[Array]
    ) -> list[NDArray]:
        """The central difference along the tangents."""

        def at(step: float) -> list[Any]:
            return f(*[self._moved(x, t, step) for x, t in zip(points, tangents, strict=True)])

        pairs = zip(at(self.eps), at(-self.eps), strict=True)
        return [(_numbers(high) - _numbers(low)) / (2 * self.eps) for high, low in pairs]

    def _moved(self, x: Any, t: Array, step: float) -> Array:
        moved = _numbers(x) + step * _numbers(t)
        value = moved if dtypes.is_complex(x.dtype) else moved.real
        return Array(np.asarray(value, _wide_dtype(x.dtype) if self.wide else x.dtype))

    def _compare(self, found: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
        for a, b in zip(found, wanted, strict=True):
            x, y = _numbers(a), _numbers(b)
            error = np.abs(x - y).max(initial=0.0)
            limit = self.atol + self.rtol * np.abs(y).max(initial=0.0)
            if not error <= limit:
                raise AssertionError(
                    f"{what} is off by {error:.3g}, more than the {limit:.3g} allowed\n"
                    f"found:       {_shown(x)}\ndifferences: {_shown(y)}"
                )


def _flatten(f: Callable[..., Any], args: Sequence[Any]) -> tuple[FlatFunction, list[Any]]:
    """`f` as a function of its inexact leaves alone, which returns its inexact leaves."""
    leaves, treedef = tree.flatten(tuple(args))
    leaves = [as_array(x) for x in leaves]
    free = [i for i, x in enumerate(leaves) if dtypes.is_inexact(x.dtype)]

    def flat(*xs: Any) -> list[Any]:
        values = list(leaves)
        for i, x in zip(free, xs, strict=True):
            values[i] = x
        outs = map(as_array, tree.leaves(f(*treedef.unflatten(values))))
        return [out for out in outs if dtypes.is_inexact(out.dtype)]

    # As arrays without weak types, which those of tangents would not match.
    return flat, [Array(leaves[i].value) for i in free]


def _widen(x: Any) -> Array:
    return Array(x.value.astype(_wide_dtype(x.dtype)))


def _wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.complex128 if dtypes.is_complex(dtype) else np.float64)


def _like(values: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """Values in the dtypes of others."""
    return [
        x if x.dtype == y.dtype else convert_element_type(x, new_dtype=y.dtype, weak_type=False)
        for x, y in zip(values, others, strict=True)
    ]


def _pair(cotangents: Sequence[Any], tangents: Sequence[Any]) -> float:
    """What cotangents say of tangents: ``Re(sum(c t))``, without a conjugate, as in JAX."""
    pairs = zip(cotangents, tangents, strict=True)
    return float(sum(np.sum(_numbers(c) * _numbers(t)).real for c, t in pairs))


def _check_types(found: Sequence[Any], like: Sequence[Any], what: str) -> None:
    for a, b in zip(found, like, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise AssertionError(f"{what} has type {a.aval.strengthen()}, not {b.aval}")


def _numbers(x: Any) -> NDArray:
    return np.asarray(x).astype(np.complex128)


def _shown(x: NDArray) -> str:
    return str(x if np.any(x.imag) else x.real)


def _real_name(x: Any) -> str:
    return dtypes.short_name(dtypes.real_dtype(x.dtype))
