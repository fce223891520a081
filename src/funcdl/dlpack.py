"""Arrays from other libraries without a copy, by DLPack (see `jax.dlpack`).

The other direction is the other library's: ``torch.from_dlpack(x)``, ``numpy.from_dlpack(x)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.devices import check_platform, platform_of
from funcdl.errors import ArgumentError, DtypeError

__all__ = ["from_dlpack", "is_supported_dtype"]

_CPU, _CUDA = 1, 2  # of the device types of DLPack


def from_dlpack(external_array: Any, device: Any = None, copy: bool | None = None) -> Array:
    """An array with the memory of another library's (see `jax.dlpack.from_dlpack`).

    Nobody may write to that memory as long as the array is used. It is copied if it is not in
    row-major order, or where the ``x64`` mode cuts the dtype.

    Args:
      external_array: an array with ``__dlpack__`` and ``__dlpack_device__``, in memory of the CPU
        or of a GPU; there in row-major order.
      device: where the array shall be, or None for where it is.
      copy: True to copy in any case, False never to; None where there is need to. An array on a
        GPU is never copied.

    Raises:
      ArgumentError: the memory is another device's, or a copy is needed and not allowed.
      DtypeError: the element type is not supported.
    """
    if not hasattr(external_array, "__dlpack__"):
        raise ArgumentError(
            f"from_dlpack requires an array with __dlpack__, got {type(external_array).__name__}"
        )
    kind, number = map(int, external_array.__dlpack_device__())
    if kind == _CUDA:
        array = Array(platform_of("gpu").adopt(external_array, number))
        return array if device is None else array.to_device(device)
    check_platform("from_dlpack", device)
    if kind != _CPU:
        raise ArgumentError(
            f"from_dlpack requires memory of the CPU or of a CUDA GPU, DLPack's device types 1 and "
            f"2, got type {kind}"
        )
    value = np.from_dlpack(external_array)
    try:
        wanted = dtypes.canonicalize(dtypes.as_dtype(value.dtype))
    except TypeError as error:
        raise DtypeError(f"from_dlpack: {error}") from None
    fits = value.dtype == wanted and value.flags.c_contiguous
    if copy is False and not fits:
        raise ArgumentError(
            f"from_dlpack: copy=False, but an array of {value.dtype} with strides {value.strides} "
            f"must be copied to become {wanted} in row-major order"
        )
    if copy or not fits:
        return Array(np.array(value, wanted, order="C"))
    # Read-only memory is never donated.
    value.flags.writeable = False
    return Array(value)


def is_supported_dtype(dtype: Any) -> bool:
    """Whether arrays of a dtype can be exchanged; NumPy exports no bfloat16.

    See `jax.dlpack.is_supported_dtype`.
    """
    try:
        found = dtypes.as_dtype(dtype)
    except TypeError:
        return False
    return bool(found != dtypes.bfloat16)
