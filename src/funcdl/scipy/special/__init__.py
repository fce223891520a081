"""Special functions, with the names and meanings of `jax.scipy.special`.

All are elementwise but for `logsumexp`, `softmax` and `log_softmax`: they promote and broadcast
their operands, and compute half precision in float32. Left out are the Bessel functions of the
first kind, Fresnel's and the trigonometric integrals, hypergeometric functions, spherical
harmonics, Owen's T, Faddeeva's function, and the exponential integrals of other orders than 1.
"""

from __future__ import annotations

from typing import Any

from funcdl.absent import getter
from funcdl.scipy.special import normalized
from funcdl.scipy.special.bessel import i0, i0e, i1, i1e
from funcdl.scipy.special.entropy import (
    boxcox,
    boxcox1p,
    entr,
    expit,
    kl_div,
    logit,
    rel_entr,
    xlog1py,
    xlogy,
)
from funcdl.scipy.special.gamma import (
    bernoulli,
    beta,
    betainc,
    betaln,
    comb,
    digamma,
    factorial,
    gamma,
    gammainc,
    gammaincc,
    gammaln,
    gammasgn,
    loggamma,
    multigammaln,
    poch,
    polygamma,
    zeta,
)
from funcdl.scipy.special.integrals import exp1, expi, spence
from funcdl.scipy.special.normal import (
    dawsn,
    erf,
    erfc,
    erfcx,
    erfinv,
    log_ndtr,
    ndtr,
    ndtri,
)
from funcdl.scipy.special.normalized import logsumexp

__getattr__ = getter(__name__)

__all__ = [
    "bernoulli",
    "beta",
    "betainc",
    "betaln",
    "boxcox",
    "boxcox1p",
    "comb",
    "dawsn",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "exp1",
    "expi",
    "expit",
    "factorial",
    "gamma",
    "gammainc",
    "gammaincc",
    "gammaln",
    "gammasgn",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "kl_div",
    "log_ndtr",
    "log_softmax",
    "loggamma",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "ndtri",
    "poch",
    "polygamma",
    "rel_entr",
    "softmax",
    "spence",
    "xlog1py",
    "xlogy",
    "zeta",
]


def softmax(x: Any, /, *, axis: int | tuple[int, ...] | None = None) -> Any:
    """``exp(x) / sum(exp(x))`` along an axis, several, or (None) all.

    See `jax.scipy.special.softmax`.

    Args:
      x: an array.
      axis: the axis or axes.

    Returns:
      An array of the shape of `x`; integers and bools become floats.

    Raises:
      ArgumentError: there is no such axis.
    """
    return normalized.softmax(x, axis)


def log_softmax(x: Any, /, *, axis: int | tuple[int, ...] | None = None) -> Any:
    """The logarithm of `softmax` (see `jax.scipy.special.log_softmax`).

    Args:
      x: an array.
      axis: the axis or axes.

    Returns:
      An array of the shape of `x`; integers and bools become floats.

    Raises:
      ArgumentError: there is no such axis.
    """
    return normalized.log_softmax(x, axis)
