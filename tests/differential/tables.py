"""The namespaces that are compared with JAX's, and their calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.differential import lax, linalg, nn, numpy, random, scipy, stats, top
from tests.differential.calls import Call


@dataclass(frozen=True)
class Table:
    """The calls of a namespace.

    Args:
      reasons: why functions have no call: names, separated by spaces, to a reason.
      slow: functions whose calls take JAX long to compile; the fast tests leave them out.
    """

    namespace: str
    calls: Sequence[Call]
    reasons: Mapping[str, str] = field(default_factory=dict)
    slow: frozenset[str] = frozenset()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Compared with stored numbers of JAX's in tests/random, and with SciPy's in tests/special.
_ITERATIVE = (
    "ball beta chisquare dirichlet f gamma generalized_normal loggamma multinomial poisson t"
)
_SERIES = "beta betaln comb exp1 expi gammainc gammaincc poch spence zeta"

TABLES = [
    Table("", top.CALLS, top.REASONS),
    Table("numpy", numpy.CALLS, numpy.REASONS, _names("choose intersect1d mask_indices setxor1d")),
    Table("lax", lax.CALLS, slow=_names("igamma igammac igamma_grad_a random_gamma_grad")),
    Table("nn", nn.CALLS, nn.REASONS),
    Table("nn.initializers", nn.INITIALIZERS),
    Table("random", random.CALLS, slow=_names(_ITERATIVE)),
    Table("ops", top.OPS),
    Table("numpy.fft", scipy.FFT),
    Table("scipy.special", scipy.SPECIAL, slow=_names(_SERIES)),
    Table("scipy.stats", stats.STATS),
    Table("scipy.optimize", scipy.OPTIMIZE),
    Table("scipy.fft", scipy.COSINES),
    Table("scipy.signal", scipy.SIGNAL),
    Table("scipy.ndimage", scipy.IMAGES),
    Table("scipy.integrate", scipy.INTEGRATE),
    Table("scipy.cluster.vq", scipy.CODES),
    Table("scipy.interpolate", scipy.GRIDS),
    Table("scipy.sparse.linalg", scipy.SPARSE),
    Table("lax.linalg", linalg.LAX, slow=_names("qdwh eig svd cholesky_update")),
    Table("numpy.linalg", linalg.NUMPY, slow=_names("lstsq slogdet tensorinv")),
    Table("scipy.linalg", linalg.SCIPY, slow=_names("expm expm_frechet")),
]
