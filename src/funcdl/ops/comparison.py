"""Comparisons of two operands, with bool results. NaN is unequal to everything."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core.primitive import Primitive
from funcdl.ops import registry
from funcdl.ops.rows import NoDerivative, elementwise


def _comparison(name: str, ufunc: Any, symbol: str, accepts: tuple[str, ...]) -> Primitive:
    expression = f"{{0}} {symbol} {{1}}"
    return elementwise(
        name,
        ufunc,
        accepts=accepts,
        derivative=NoDerivative(),
        arity=2,
        out="bool",
        c=expression,
        triton=expression,
    )


_ORDERED = registry.BOOL + registry.REAL

eq = _comparison("eq", np.equal, "==", registry.ALL)
ne = _comparison("ne", np.not_equal, "!=", registry.ALL)
lt = _comparison("lt", np.less, "<", _ORDERED)
le = _comparison("le", np.less_equal, "<=", _ORDERED)
gt = _comparison("gt", np.greater, ">", _ORDERED)
ge = _comparison("ge", np.greater_equal, ">=", _ORDERED)
