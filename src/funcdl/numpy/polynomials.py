"""Polynomials as vectors of coefficients, that of the highest power first."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.control import scan
from funcdl.core import dtypes
from funcdl.core.integers import integer
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.creation import asarray, ones, zeros
from funcdl.numpy.functions import sqrt
from funcdl.numpy.joining import concatenate, stack
from funcdl.numpy.matrices import diag
from funcdl.numpy.padding import pad
from funcdl.numpy.products import dot
from funcdl.numpy.promotion import ArrayLike, array, promote_dtypes, promote_inexact
from funcdl.numpy.ranges import arange
from funcdl.numpy.reductions import sum
from funcdl.numpy.searching import mask_of, refuse_traced
from funcdl.numpy.shaping import atleast_1d, broadcast_to
from funcdl.numpy.signals import convolve
from funcdl.ops.shape import full_like

__all__ = [
    "poly",
    "polyadd",
    "polyder",
    "polydiv",
    "polyfit",
    "polyint",
    "polymul",
    "polysub",
    "polyval",
    "roots",
    "vander",
]


def polyval(p: ArrayLike, x: ArrayLike, *, unroll: int = 16) -> Any:
    """The values of a polynomial, by Horner's rule (see `jax.numpy.polyval`).

    Args:
      p: the coefficients, in the first dimension; further dimensions broadcast with `x`.
      x: where to evaluate.
      unroll: up to how many coefficients the loop is written out.

    Returns:
      An array in the dtype to which both promote.
    """
    p, x = promote_dtypes("polyval", p, x)
    count = p.aval.shape[0] if p.aval.ndim else 0
    start = full_like(x, 0) + (p[0] * 0 if p.aval.ndim > 1 else 0)
    if count <= max(integer("polyval: unroll", unroll), 1):
        for i in range(count):
            start = start * x + p[i]
        return start
    return scan(lambda value, c: (value * x + c, None), start, p)[0]


def _same_length(name: str, a1: ArrayLike, a2: ArrayLike) -> tuple[Any, Any]:
    first, second = (atleast_1d(z) for z in promote_dtypes(name, a1, a2))
    size = max(first.aval.shape[0], second.aval.shape[0])
    first, second = (pad(z, (size - z.aval.shape[0], 0)) for z in (first, second))
    return first, second


def polyadd(a1: ArrayLike, a2: ArrayLike) -> Any:
    """The sum of two polynomials (see `numpy.polyadd`).

    `a1` and `a2` are vectors of coefficients, the highest power first; the result is as long as the
    longer one, in the dtype to which they promote.

    Raises:
      LeafTypeError: an operand is no array or scalar.
    """
    first, second = _same_length("polyadd", a1, a2)
    return first + second


def polysub(a1: ArrayLike, a2: ArrayLike) -> Any:
    """The difference of two polynomials (see `numpy.polysub`).

    `a1` and `a2` are vectors of coefficients, the highest power first; the result is as long as the
    longer one, in the dtype to which they promote.

    Raises:
      LeafTypeError: an operand is no array or scalar.
    """
    first, second = _same_length("polysub", a1, a2)
    return first - second


def polymul(a1: ArrayLike, a2: ArrayLike, *, trim_leading_zeros: bool = False) -> Any:
    """The product of two polynomials (see `jax.numpy.polymul`).

    Args:
      a1, a2: the coefficients.
      trim_leading_zeros: whether to leave out zeros at the front of both, which must be known.

    Returns:
      A vector in the dtype to which both promote.

    Raises:
      ConcretizationError: zeros are left out, and the operands traced.
    """
    trim_leading_zeros = flag("polymul: trim_leading_zeros", trim_leading_zeros)
    first, second = (atleast_1d(z) for z in promote_dtypes("polymul", a1, a2))
    if trim_leading_zeros:
        first, second = (_trimmed("polymul", z) for z in (first, second))
    return convolve(first, second)


def _trimmed(name: str, p: Any) -> Any:
    """Coefficients from the first that differs from zero; one at least."""
    mask = mask_of(name, p)
    refuse_traced(name, "the coefficients", p, mask)
    used = np.flatnonzero(mask.value)
    return p[int(used[0]) if used.size else -1 :]


def polydiv(u: ArrayLike, v: ArrayLike, *, trim_leading_zeros: bool = False) -> tuple[Any, Any]:
    """Quotient and remainder of two polynomials (see `jax.numpy.polydiv`).

    Args:
      u, v: the coefficients.
      trim_leading_zeros: whether to leave out zeros at the front of the remainder, which must be
        known.

    Returns:
      Two vectors of floats or complex numbers.

    Raises:
      ConcretizationError: zeros are left out, and the operands traced.
    """
    trim_leading_zeros = flag("polydiv: trim_leading_zeros", trim_leading_zeros)
    u, v = (atleast_1d(z) for z in promote_inexact("polydiv", u, v))
    size = v.aval.shape[0]
    steps = max(u.aval.shape[0] - size + 1, 1)
    quotient = []
    rest = u
    if u.aval.shape[0] < size:
        return zeros(1, u.aval.dtype), u
    for i in range(steps):
        factor = rest[i] / v[0]
        quotient.append(factor)
        rest = rest.at[i : i + size].add(-factor * v)
    if trim_leading_zeros:
        rest = _trimmed("polydiv", rest)
    return stack(quotient), rest


def _check_vector(name: str, p: Any) -> None:
    if p.aval.ndim == 0:
        raise ShapeError(
            f"{name}: p must be a vector of coefficients, the highest power first, got {p.aval}"
        )


def polyder(p: ArrayLike, m: int = 1) -> Any:
    """The m-th derivative of a polynomial (see `numpy.polyder`).

    `p` has the coefficients, the highest power first; the result is a vector of floats or complex
    numbers.

    Raises:
      ArgumentError: `m` is negative.
      ShapeError: `p` is a scalar.
    """
    (p,) = promote_inexact("polyder", p)
    _check_vector("polyder", p)
    m = integer("polyder: m", m)
    if m < 0:
        raise ArgumentError(f"polyder: m must not be negative, got {m}")
    if m == 0:
        return p
    powers = arange(p.aval.shape[0])[::-1][:-m, None] - arange(m)
    return p[:-m] * cumulated(powers).astype(p.aval.dtype)


def cumulated(factors: Any) -> Any:
    """Products along the last axis."""
    out = factors[:, 0]
    for i in range(1, factors.aval.shape[1]):
        out = out * factors[:, i]
    return out


def polyint(p: ArrayLike, m: int = 1, k: ArrayLike | None = None) -> Any:
    """The m-th integral of a polynomial (see `numpy.polyint`).

    Args:
      p: the coefficients.
      m: how many times to integrate.
      k: the constants, one or m of them, by default zeros.

    Returns:
      A vector of floats or complex numbers, with `m` elements more.

    Raises:
      ArgumentError: `m` is negative, or `k` has another number of constants.
      ShapeError: `p` is a scalar.
    """
    m = integer("polyint: m", m)
    if m < 0:
        raise ArgumentError(f"polyint: m must not be negative, got {m}")
    p, constants = promote_inexact("polyint", p, 0 if k is None else asarray(k))
    _check_vector("polyint", p)
    constants = atleast_1d(constants)
    if constants.aval.shape not in ((1,), (m,)):
        raise ArgumentError(f"polyint: k must have one constant, or m = {m}, got {constants.aval}")
    if m == 0:
        return p
    constants = broadcast_to(constants, (m,))
    for i in range(m):
        powers = arange(p.aval.shape[0], 0, -1).astype(p.aval.dtype)
        p = concatenate([p / powers, constants[i : i + 1]])
    return p


def poly(seq_of_zeros: ArrayLike) -> Any:
    """The coefficients of the polynomial with these zeros, or a matrix's characteristic one.

    A vector of floats or complex numbers, the highest power first. See `numpy.poly`.

    Raises:
      ShapeError: neither a vector nor a square matrix.
    """
    (zeros_,) = promote_inexact("poly", seq_of_zeros)
    zeros_ = atleast_1d(zeros_)
    shape = zeros_.aval.shape
    if zeros_.aval.ndim == 2 and shape[0] == shape[1] and shape[0]:
        from funcdl.numpy import linalg

        zeros_ = linalg.eigvals(zeros_)
    if zeros_.aval.ndim != 1:
        raise ShapeError(f"poly: a vector or a square matrix is needed, got {zeros_.aval}")
    out = ones(1, zeros_.aval.dtype)
    for i in range(zeros_.aval.shape[0]):
        out = concatenate([out, zeros(1, out.aval.dtype)]).at[1:].add(-zeros_[i] * out)
    return out


def roots(p: ArrayLike, *, strip_zeros: bool = True) -> Any:
    """The zeros of a polynomial: the eigenvalues of its companion matrix (see `jax.numpy.roots`).

    Args:
      p: the coefficients, a vector.
      strip_zeros: whether to leave out zeros at the front, which must be known then; otherwise
        they make NaN. Zeros at the end give zeros.

    Raises:
      ConcretizationError: `p` is traced, and `strip_zeros` true.
      ShapeError: `p` is no vector.
    """
    strip_zeros = flag("roots: strip_zeros", strip_zeros)
    from funcdl.numpy import linalg

    (p,) = promote_inexact("roots", p)
    p = atleast_1d(p)
    if p.aval.ndim != 1:
        raise ShapeError(f"roots: p must be a vector, got {p.aval}")
    at_zero = 0
    if strip_zeros:
        mask = mask_of("roots", p)
        refuse_traced("roots (with strip_zeros)", "the coefficients", p, mask)
        used = np.flatnonzero(mask.value)
        if used.size == 0:
            return zeros(0, dtypes.complex_dtype(p.aval.dtype))
        at_zero = p.aval.size - 1 - int(used[-1])
        p = p[int(used[0]) : int(used[-1]) + 1]
    size = p.aval.shape[0]
    kind = dtypes.complex_dtype(p.aval.dtype)
    if size < 2:
        return zeros(at_zero, kind)
    companion = diag(ones(size - 2, p.aval.dtype), -1).at[0, :].set(-p[1:] / p[0])
    found = linalg.eigvals(companion).astype(kind)
    return concatenate([found, zeros(at_zero, kind)])


def vander(x: ArrayLike, N: int | None = None, increasing: bool = False) -> Any:
    """The matrix of powers of a vector's elements, one row for each (see `numpy.vander`).

    Args:
      x: the vector.
      N: how many powers, by default as many as elements.
      increasing: whether the power 0 comes first, rather than last.

    Raises:
      ShapeError: `x` is no vector.
      ArgumentError: `N` is negative.
    """
    increasing = flag("vander: increasing", increasing)
    x = array("vander", x)
    if x.aval.ndim != 1:
        raise ShapeError(f"vander: x must be a vector, got {x.aval}")
    count = x.aval.shape[0] if N is None else integer("N", N)
    if count < 0:
        raise ArgumentError(f"vander: N must not be negative, got {N}")
    powers = range(count) if increasing else range(count - 1, -1, -1)
    columns = [x**k for k in powers]
    return stack(columns, axis=1) if columns else zeros((x.aval.shape[0], 0), x.aval.dtype)


def polyfit(
    x: ArrayLike,
    y: ArrayLike,
    deg: int,
    rcond: float | None = None,
    full: bool = False,
    w: ArrayLike | None = None,
    cov: bool | str = False,
) -> Any:
    """The polynomial that fits points best, by least squares (see `jax.numpy.polyfit`).

    Args:
      x, y: the points, vectors; `y` may have a column for each of several sets.
      deg: the degree.
      rcond: singular values below this part of the largest count as zero.
      full: whether to return as well residuals, rank, singular values and `rcond`.
      w: the weight of each point's distance.
      cov: whether to return as well the matrix of covariances, scaled by the residuals;
        "unscaled": not scaled.

    Raises:
      ShapeError: the arrays do not fit.
      ArgumentError: `deg` is negative.
    """
    full = flag("polyfit: full", full)
    cov = cov if isinstance(cov, str) else flag("polyfit: cov", cov)
    from funcdl.numpy import linalg

    deg = integer("polyfit: deg", deg)
    if deg < 0:
        raise ArgumentError(f"polyfit: deg must not be negative, got {deg}")
    x, y = promote_inexact("polyfit", x, y)
    if x.aval.ndim != 1 or y.aval.ndim not in (1, 2) or x.aval.shape[0] != y.aval.shape[0]:
        raise ShapeError(f"polyfit: x must be a vector, y fit it, got {x.aval} and {y.aval}")
    count = x.aval.shape[0]
    if rcond is None:
        rcond = count * float(dtypes.finfo(x.aval.dtype).eps)
    matrix, wanted = vander(x, deg + 1), y
    if w is not None:
        (weights,) = promote_inexact("polyfit", w)
        if weights.aval.shape != (count,):
            raise ShapeError(f"polyfit: w must have shape ({count},), got {weights.aval}")
        matrix = matrix * weights[:, None]
        wanted = wanted * (weights[:, None] if wanted.aval.ndim == 2 else weights)
    # Columns of length 1 make the least-squares problem better behaved.
    scale = sqrt(sum(matrix * matrix, axis=0))
    scaled = matrix / scale
    c, residuals, rank, s = linalg.lstsq(scaled, wanted, rcond)
    c = (c.T / scale).T
    if full:
        return c, residuals, rank, s, rcond
    if not cov:
        return c
    base = linalg.inv(dot(scaled.T, scaled)) / (scale[:, None] * scale)
    if cov == "unscaled":
        factor: Any = 1
    else:
        if count <= deg + 1:
            raise ArgumentError(
                f"polyfit: {count} points are too few to scale the covariances of degree {deg}; "
                "pass cov='unscaled'"
            )
        factor = residuals / (count - deg - 1)
    if y.aval.ndim == 1:
        return c, base * factor
    return c, base[:, :, None] * factor
