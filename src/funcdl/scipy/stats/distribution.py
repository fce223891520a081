"""What the functions of all distributions share."""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.errors import DtypeError
from funcdl.numpy.promotion import broadcast_shapes, convert, promote_inexact, strong
from funcdl.ops.lowering import compute_dtype
from funcdl.scipy.special import betaln
from funcdl.scipy.special.elementwise import bind

LOG_2 = math.log(2)
LOG_PI = math.log(math.pi)


def statistic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function of numbers operands of one float dtype, whose shapes broadcast.

    Integers become floats, half precision is computed in float32, and all operands may be passed by
    keyword. They are not broadcast, so that logarithms of scalar parameters are taken once. Errors
    call the function by its distribution, as in ``norm.logpdf``. Its docstring goes on with the
    module's, which says what the distribution is and what its parameters are.

    Raises:
      DtypeError: an operand is complex.
      ShapeError: the shapes do not broadcast.
    """
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
    signature = inspect.signature(function)
    count = len(signature.parameters)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != count:
            bound = bind(name, signature, args, kwargs)
            bound.apply_defaults()
            args = bound.args
        xs = promote_inexact(name, *args)
        broadcast_shapes(*(x.aval.shape for x in xs), name=name)
        dtype, weak = xs[0].aval.dtype, xs[0].aval.weak_type
        if dtypes.is_complex(dtype):
            raise DtypeError(f"{name} takes real numbers, got {', '.join(str(x.aval) for x in xs)}")
        wide = compute_dtype(dtype)
        out = convert(function(*(convert(x, wide, weak) for x in xs)), dtype, weak)
        return out if weak else strong(out)

    distribution = inspect.getdoc(sys.modules[function.__module__])
    wrapped.__doc__ = f"{inspect.getdoc(function)}\n\n{distribution}\n\n{_FACTS.format(name)}"
    return wrapped


_FACTS = """\
As `scipy.stats.{}`. A parameter `loc` moves the distribution, and `scale` stretches it.
Half precision is computed in float32.

Raises:
  LeafTypeError: an operand is no array or scalar.
  ShapeError: the shapes do not broadcast.
  DtypeError: an operand is complex."""


def is_no_count(k: Any) -> Any:
    """Whether numbers are other than 0, 1, 2, ...; false for NaN, which so becomes the result."""
    return (k < 0) | (k > fnp.floor(k)) | (k == np.inf)


def log_combinations(n: Any, k: Any) -> Any:
    """The logarithm of the number of ways to choose `k` of `n`."""
    return -fnp.log1p(n) - betaln(n - k + 1, k + 1)
