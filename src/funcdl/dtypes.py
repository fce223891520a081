"""Element types and their promotion, by the names of `jax.dtypes`."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.absent import getter
from funcdl.core.dtypes import (
    as_dtype,
    bfloat16,
    canonicalize,
    finfo,
    float0,
    iinfo,
    issubdtype,
)
from funcdl.core.lattice import lattice_type, promote_types, result_type

__getattr__ = getter(__name__)

__all__ = [
    "bfloat16",
    "canonicalize_dtype",
    "finfo",
    "float0",
    "iinfo",
    "issubdtype",
    "itemsize_bits",
    "promote_types",
    "result_type",
    "scalar_type_of",
]


def canonicalize_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype that arrays asked for with `dtype` have: cut to 32 bits in ``x64`` mode "off".

    Python's ``int``, ``float`` and ``complex`` stand for the default of their kind.

    See `jax.dtypes.canonicalize_dtype`.

    Raises:
      TypeError: the dtype is not supported.
    """
    return canonicalize(as_dtype(dtype))


def itemsize_bits(dtype: Any) -> int:
    """How many bits an element takes (see `jax.dtypes.itemsize_bits`).

    Raises:
      TypeError: the dtype is not supported.
    """
    return 8 * as_dtype(dtype).itemsize


def scalar_type_of(x: Any) -> type:
    """Python's type for the elements of an array or for a scalar: bool, int, float or complex.

    See `jax.dtypes.scalar_type_of`.

    Raises:
      TypeError: `x` is neither.
    """
    dtype, _ = lattice_type(x)
    kinds: dict[Any, type] = {np.bool_: bool, np.integer: int, np.complexfloating: complex}
    return next((found for kind, found in kinds.items() if issubdtype(dtype, kind)), float)
