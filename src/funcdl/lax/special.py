"""Special functions of floats, elementwise."""

from __future__ import annotations

from typing import Any

from funcdl.core.primitive import Primitive
from funcdl.lax.operands import ArrayLike, fit
from funcdl.numpy.promotion import array
from funcdl.ops.special import bessel, beta, gamma


def _apply(name: str, primitive: Primitive, *xs: ArrayLike) -> Any:
    return primitive.bind(*fit(name, *xs))


def igamma(a: ArrayLike, x: ArrayLike) -> Any:
    """The regularized lower incomplete gamma function P(a, x) (see `jax.lax.igamma`).

    `a` and `x` have one shape and float dtype, which the result has; a Python scalar takes them.
    NaN where one is negative.

    Raises:
      ShapeError, DtypeError: shapes or dtypes differ, or the dtype is no float.
    """
    return _apply("igamma", gamma.igamma, a, x)


def igammac(a: ArrayLike, x: ArrayLike) -> Any:
    """The regularized upper incomplete gamma function, ``1 - igamma(a, x)``, exact where tiny.

    `a` and `x` have one shape and float dtype, which the result has; a Python scalar takes them.
    NaN where one is negative. See `jax.lax.igammac`.

    Raises:
      ShapeError, DtypeError: shapes or dtypes differ, or the dtype is no float.
    """
    return _apply("igammac", gamma.igammac, a, x)


def igamma_grad_a(a: ArrayLike, x: ArrayLike) -> Any:
    """The derivative of `igamma` in `a`; it can be differentiated in `x` only.

    Shapes, dtypes and errors are those of `igamma`. See `jax.lax.igamma_grad_a`.
    """
    return _apply("igamma_grad_a", gamma.igamma_grad_a, a, x)


def random_gamma_grad(a: ArrayLike, x: ArrayLike) -> Any:
    """The derivative in `a` of the gamma-distributed sample `x` that was drawn for shape `a`.

    It is that of the `x` where ``igamma(a, x)`` stays the same.

    Shapes, dtypes and errors are those of `igamma`. See `jax.lax.random_gamma_grad`.
    """
    return _apply("random_gamma_grad", gamma.random_gamma_grad, a, x)


def betainc(a: ArrayLike, b: ArrayLike, x: ArrayLike) -> Any:
    """The regularized incomplete beta function; it can be differentiated in `x` only.

    `a`, `b` and `x` have one shape and float dtype, which the result has; a Python scalar takes
    them. See `jax.lax.betainc`.

    Raises:
      ShapeError, DtypeError: shapes or dtypes differ, or the dtype is no float.
    """
    return _apply("betainc", beta.regularized_incomplete_beta, a, b, x)


def zeta(x: ArrayLike, q: ArrayLike) -> Any:
    """The sum of ``(q + n)**-x`` over n = 0, 1, …; it can be differentiated in `q` only.

    Both have one shape and float dtype, which the result has; a Python scalar takes them. See
    `jax.lax.zeta`.

    Raises:
      ShapeError, DtypeError: shapes or dtypes differ, or the dtype is no float.
    """
    return _apply("zeta", gamma.zeta, x, q)


def polygamma(m: ArrayLike, x: ArrayLike) -> Any:
    """The derivative of order `m` (whole numbers) of `digamma`, in `x` only differentiable.

    Both have one shape and float dtype, which the result has; a Python scalar takes them. See
    `jax.lax.polygamma`.

    Raises:
      ShapeError, DtypeError: shapes or dtypes differ, or the dtype is no float.
    """
    return _apply("polygamma", gamma.polygamma, m, x)


def bessel_i0e(x: ArrayLike) -> Any:
    """``exp(-|x|)`` times the modified Bessel function of the first kind and order 0.

    Shape and dtype stay. See `jax.lax.bessel_i0e`.

    Raises:
      DtypeError: `x` holds no floats.
    """
    return bessel.bessel_i0e.bind(array("bessel_i0e", x))


def bessel_i1e(x: ArrayLike) -> Any:
    """``exp(-|x|)`` times the modified Bessel function of the first kind and order 1.

    Shape and dtype stay. See `jax.lax.bessel_i1e`.

    Raises:
      DtypeError: `x` holds no floats.
    """
    return bessel.bessel_i1e.bind(array("bessel_i1e", x))
