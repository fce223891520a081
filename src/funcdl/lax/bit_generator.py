"""Random bits from a state, without keys: `rng_bit_generator`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.lax.elementwise import bitcast_convert_type
from funcdl.lax.operands import ArrayLike
from funcdl.lax.options import RandomAlgorithm
from funcdl.numpy.creation import DTypeLike, ShapeLike, canonical, shape_of
from funcdl.numpy.promotion import array
from funcdl.ops.random_bits import threefry2x32


def rng_bit_generator(
    key: ArrayLike,
    shape: ShapeLike,
    dtype: DTypeLike = np.uint32,
    algorithm: int = RandomAlgorithm.RNG_DEFAULT,
) -> tuple[Any, Any]:
    """Random bits and the state after them (see `jax.lax.rng_bit_generator`).

    The generator is Threefry-2x32 for every algorithm but Philox, which there is not: the first
    half of the state is its key, the second a counter. The bits are not those of JAX, which leaves
    them to its back ends.

    Args:
      key: the state, four numbers of uint32 or two of uint64.
      shape: of the bits.
      dtype: an unsigned integer type for the bits.
      algorithm: ``RNG_DEFAULT`` or ``RNG_THREE_FRY``.

    Returns:
      The new state, like `key`, and the bits.

    Raises:
      ArgumentError: the algorithm is Philox, or none.
      ShapeError, DtypeError: the key or the dtype of the bits is not as above.
    """
    known = (RandomAlgorithm.RNG_DEFAULT, RandomAlgorithm.RNG_THREE_FRY)
    if not is_option(algorithm, known):
        raise ArgumentError(
            f"rng_bit_generator: algorithm must be RNG_DEFAULT or RNG_THREE_FRY, "
            f"got {shortened(algorithm)}"
        )
    state = array("rng_bit_generator", key)
    sizes = {np.dtype(np.uint32): (4,), np.dtype(np.uint64): (2,)}
    if sizes.get(state.dtype) != state.shape:
        raise ShapeError(
            "rng_bit_generator: key must be u32[4] or u64[2], got "
            f"{state.aval}.\nKeys of funcdl.random are for funcdl.random.bits."
        )
    wanted = canonical(dtype)
    if not dtypes.is_unsigned(wanted):
        raise DtypeError(
            f"rng_bit_generator: dtype must be an unsigned integer type, got {wanted.name}"
        )
    words = _words(state)
    out_shape = shape_of(shape)
    count = math.prod(out_shape)
    number = -(-count * max(wanted.itemsize, 4) // 8)  # of pairs of words
    steps = fnp.arange(number, dtype=np.uint32)
    low = words[2] + steps
    high = words[3] + (low < words[2]).astype(np.uint32)
    pairs = threefry2x32(fnp.full((number,), words[0]), fnp.full((number,), words[1]), low, high)
    bits = fnp.stack(pairs, axis=1).reshape(-1)
    if wanted.itemsize == 8:
        pair = bits.reshape(-1, 2).astype(np.uint64)
        bits = pair[:, 0] | (pair[:, 1] << np.uint64(32))
    next_low = words[2] + np.uint32(number)
    carry = (next_low < words[2]).astype(np.uint32)
    new = fnp.stack([words[0], words[1], next_low, words[3] + carry])
    return _like(new, state.dtype), bits[:count].astype(wanted).reshape(out_shape)


def _words(state: Any) -> Any:
    if state.dtype == np.uint32:
        return state
    low = state.astype(np.uint32)
    return fnp.stack([low, (state >> np.uint64(32)).astype(np.uint32)], axis=1).reshape(4)


def _like(words: Any, dtype: np.dtype[Any]) -> Any:
    if dtype == np.uint32:
        return words
    pairs = words.reshape(2, 2).astype(np.uint64)
    return bitcast_convert_type(pairs[:, 0] | (pairs[:, 1] << np.uint64(32)), dtype)
