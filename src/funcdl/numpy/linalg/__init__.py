"""Linear algebra on the last two dimensions of arrays; names and meanings follow
`jax.numpy.linalg`.

Dimensions before the last two are a batch. Integers become floats; half precision is refused, since
LAPACK has none. Nothing is raised where a result does not exist: it is NaN, or infinite for
singular systems. `funcdl.lax.linalg` has the factorizations with all of their options.
"""

from __future__ import annotations

from funcdl.numpy.linalg import decompositions, determinants, norms, products, systems
from funcdl.numpy.linalg.decompositions import *
from funcdl.numpy.linalg.determinants import *
from funcdl.numpy.linalg.norms import *
from funcdl.numpy.linalg.products import *
from funcdl.numpy.linalg.systems import *

__all__: list[str] = []
__all__ += decompositions.__all__
__all__ += determinants.__all__
__all__ += norms.__all__
__all__ += products.__all__
__all__ += systems.__all__
