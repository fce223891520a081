"""Keys of the random number generator: typed arrays of them, and how to make and split them.

The generator is Threefry-2x32 on counters; keys and bits are those of JAX (with
``jax_threefry_partitionable``, its default since version 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.core import dtypes
from funcdl.core.array import Array, ArrayOperators, shortened
from funcdl.core.avals import Shape
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.numpy.creation import asarray, shape_of
from funcdl.numpy.promotion import ArrayLike, array, convert
from funcdl.ops.bits import shift_right_logical
from funcdl.ops.convert import convert_element_type
from funcdl.ops.key_use import fresh_key, use_key
from funcdl.ops.random_bits import threefry2x32
from funcdl.ops.shape import broadcast_to, full, full_like, iota, reshape
from funcdl.ops.slicing import slice_
from funcdl.random.key_array import KeyArray, KeyType, pair

UINT32 = np.dtype(np.uint32)


def key(
    seed: int | ArrayLike, *, impl: str | None = None, dtype: KeyType | None = None
) -> KeyArray:
    """A key made of a seed (see `jax.random.key`).

    Args:
      seed: an integer; where the default integer type has 32 bits, its upper bits have no effect.
      impl: the generator: None or "threefry2x32", the only one.
      dtype: another way to name it: None or `key_dtype()`.

    Raises:
      ArgumentError: another generator.
      DtypeError, ShapeError: the seed is no integer, or no scalar.
    """
    _check_dtype(dtype)
    return KeyArray(PRNGKey(seed, impl=impl))


def PRNGKey(seed: int | ArrayLike, *, impl: str | None = None) -> Any:
    """As `key`, as raw data (see `jax.random.PRNGKey`).

    Args:
      seed: an integer of 64 bits, or an integer array without dimensions.
      impl: must be None or ``"threefry2x32"``.

    Returns:
      A uint32 array of shape ``(2,)``.

    Raises:
      ArgumentError: the seed does not fit in 64 bits, or another generator is asked for.
      ShapeError, DtypeError: the seed is no scalar, or no integer.
    """
    _check_impl(impl)
    if type(seed) is int:
        if not -(2**63) <= seed < 2**63:
            raise ArgumentError(f"seed must fit in 64 bits, got {seed}")
        wide = dtypes.default_dtype("i").itemsize == 8
        words = [seed >> 32 if wide else 0, seed]
        return fresh_key(asarray(np.array([word & 0xFFFFFFFF for word in words], UINT32)))
    return fresh_key(_seed_data(array("key", seed)))


def _seed_data(seed: Any) -> Any:
    """The upper and the lower 32 bits of an integer."""
    aval = seed.aval
    if not dtypes.is_integer(aval.dtype):
        raise DtypeError(f"seed must be an integer, got {aval}")
    if aval.shape:
        raise ShapeError(
            f"seed must be a scalar, got {aval}; for several keys, use split, or vmap over seeds"
        )
    low = convert_element_type(seed, new_dtype=UINT32, weak_type=False)
    if aval.dtype.itemsize == 8:
        upper = shift_right_logical(seed, full_like(seed, 32))
        high = convert_element_type(upper, new_dtype=UINT32, weak_type=False)
    else:
        high = full((), 0, UINT32)
    return pair(high, low)


def _check_impl(impl: str | None) -> None:
    if not is_option(impl, (None, "threefry2x32", "fry")):
        raise ArgumentError(f"impl must be 'threefry2x32' or None, got {shortened(impl)}")


def _check_dtype(dtype: Any) -> None:
    if dtype is not None and not isinstance(dtype, KeyType):
        raise ArgumentError(
            f"dtype must be None or funcdl.random.key_dtype(), got {shortened(dtype)}"
        )


def key_dtype(impl: str | None = None) -> KeyType:
    """The dtype of keys of a generator (see `jax.random.key_dtype`).

    Raises:
      ArgumentError: another generator than threefry2x32.
    """
    _check_impl(impl)
    return KeyType()


def key_data(keys: Any) -> Any:
    """The data of keys: a uint32 array with a last dimension of size 2 (see `jax.random.key_data`).

    Raises:
      DtypeError, ShapeError: `keys` are raw, and no uint32 array with a last dimension of size 2.
    """
    return keys._data if isinstance(keys, KeyArray) else _check_data("key_data", keys)


def wrap_key_data(
    key_bits_array: ArrayLike, *, impl: str | None = None, dtype: KeyType | None = None
) -> KeyArray:
    """Typed keys of their data; the inverse of `key_data` (see `jax.random.wrap_key_data`).

    `impl` and `dtype` can only name threefry2x32.

    Raises:
      DtypeError, ShapeError: the data is no uint32 array with a last dimension of size 2.
      ArgumentError: another generator is named.
    """
    _check_impl(impl)
    _check_dtype(dtype)
    return KeyArray(fresh_key(_check_data("wrap_key_data", key_bits_array)))


def key_impl(keys: Any) -> str:
    """The name of the keys' generator (see `jax.random.key_impl`).

    The text "threefry2x32". Errors are those of `key_data`.
    """
    key_data(keys)
    return "threefry2x32"


def clone(key: Any) -> Any:
    """The key itself, to say that it is used again on purpose (see `debug_key_reuse`).

    See `jax.random.clone`.
    """
    if not config.debug_key_reuse:
        return key
    data = fresh_key(key_data(key))
    return KeyArray(data) if isinstance(key, KeyArray) else data


def _check_data(name: str, data: Any) -> Any:
    data = array(name, data)
    aval = data.aval
    if aval.dtype != UINT32:
        raise DtypeError(
            f"{name}: a key is needed, made by funcdl.random.key(seed), or its data in uint32; got "
            f"{aval}"
        )
    if aval.shape[-1:] != (2,):
        raise ShapeError(f"{name}: the data of keys has a last dimension of size 2, got {aval}")
    return data


def single_key(name: str, key: Any) -> Any:
    """The data of one key, typed or raw.

    Raises:
      ShapeError: there are several.
      DtypeError: it is no key.
    """
    if not isinstance(key, KeyArray | ArrayOperators | np.ndarray):
        raise DtypeError(
            f"{name}: key must be made by funcdl.random.key(seed), got {type(key).__name__}: "
            f"{key!r}"
        )
    data = _check_data(name, key._data if isinstance(key, KeyArray) else key)
    if data.aval.ndim != 1:
        raise ShapeError(
            f"{name}: one key is needed, got an array of them of shape {data.aval.shape[:-1]}; use "
            "vmap over keys, or take one: keys[0]"
        )
    return data


def hash_counters(data: Any, high: Any, low: Any) -> tuple[Any, Any]:
    """Threefry of counters, given as upper and lower words, under one key."""
    shape = low.aval.shape
    words = [
        broadcast_to(
            reshape(
                slice_(data, start_indices=(i,), limit_indices=(i + 1,), strides=None),
                new_sizes=(),
            ),
            shape,
        )
        for i in (0, 1)
    ]
    first, second = threefry2x32(*words, high, low)
    return first, second


def hash_positions(name: str, data: Any, shape: Shape) -> tuple[Any, Any]:
    """Threefry of every position in an array of this shape, row-major, as 64-bit counters."""
    data = use_key(data)
    size = math.prod(shape)
    if size > 2**32:
        raise ArgumentError(f"{name}: shape must have at most 2**32 elements, got {shape}")
    low = reshape(iota(dtype=UINT32, shape=(size,), dimension=0), new_sizes=shape)
    return hash_counters(data, full(shape, 0, UINT32), low)


def split(key: Any, num: int | Sequence[int] = 2) -> Any:
    """New keys, independent of each other and of everything drawn from the old one.

    See `jax.random.split`.

    Args:
      key: one key, typed or raw, not to be used again.
      num: how many; or a shape.

    Returns:
      Typed keys of shape ``[num]``, or raw ones ``[num, 2]`` if the key was raw.

    Raises:
      ShapeError: there is more than one key, or a size is negative.
    """
    data = single_key("split", key)
    out = fresh_key(pair(*hash_positions("split", data, shape_of(num, "num"))))
    return KeyArray(out) if isinstance(key, KeyArray) else out


def fold_in(key: Any, data: int | ArrayLike) -> Any:
    """A new key made of a key and an integer, such as a step's number (see `jax.random.fold_in`).

    Args:
      key: one key, typed or raw.
      data: a scalar integer, of which 32 bits are used.

    Raises:
      DtypeError, ShapeError: `data` is no integer, or no scalar.
    """
    own = single_key("fold_in", key)
    if type(data) is int:
        number = Array(np.array(data & 0xFFFFFFFF, UINT32))
    else:
        number = array("fold_in", data)
        if not dtypes.is_integer(number.aval.dtype) or number.aval.shape:
            raise DtypeError(f"fold_in: data must be a scalar integer, got {number.aval}")
        number = convert(number, UINT32)
    out = fresh_key(pair(*hash_counters(own, full((), 0, UINT32), number)))
    return KeyArray(out) if isinstance(key, KeyArray) else out
