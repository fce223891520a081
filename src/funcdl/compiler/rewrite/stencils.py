"""Convolutions of one feature with one kernel, as sums of shifted arrays.

Filters, finite differences and cellular automata are such. A convolution is made of products of
matrices, features by features, and one feature fills one lane of a vector. As a sum of slices times
weights it is elementwise: loops run along the rows, fuse with everything around them, and read
rolled and padded arrays where these lie.

The sum begins with zero and takes the window's elements in order, padding among them: its value is
the primitive's on arrays, also where there are NaN and infinities, but for the roundings of floats.

It is done for windows of up to `MOST_TAPS` elements, each of which is five equations. Rejected: a
kernel of its own for one feature, which would fuse with nothing; and the same for each feature of
a depthwise convolution, whose features fill the lanes of a vector as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.jaxpr import Atom, Eqn, Literal
from funcdl.core.primitive import Primitive
from funcdl.ops.arithmetic import add, mul
from funcdl.ops.shape import broadcast_in_dim, reshape, transpose
from funcdl.ops.slicing import pad, slice_
from funcdl.ops.windows.convolution import convolution_of

Emit = Callable[..., Atom]

MOST_TAPS = 32


def is_stencil(eqn: Eqn) -> bool:
    """Whether a ``conv_general_dilated`` is worth a sum of shifted arrays."""
    lhs, rhs = (atom.aval for atom in eqn.invars)
    dtype = lhs.dtype
    if dtype != eqn.outvars[0].aval.dtype or dtype.itemsize < 4 or dtypes.is_complex(dtype):
        return False
    windows = convolution_of(lhs, rhs, eqn.params).windows
    _, rhs_spec, _ = eqn.params["dimension_numbers"]
    single = lhs.shape[eqn.params["dimension_numbers"][0][1]] == 1 == rhs.shape[rhs_spec[0]]
    dense = set(windows.strides) | set(windows.base_dilation) <= {1}
    taps = math.prod(windows.window)
    return single and dense and 1 < taps <= min(MOST_TAPS, math.prod(windows.counts))


def stencil(emit: Emit, eqn: Eqn) -> Atom:
    """The output of such an equation, made by calls ``emit(primitive, invars, eqn, **params)``."""

    def bind(primitive: Primitive, *invars: Atom, **params: object) -> Atom:
        return emit(primitive, invars, eqn, **params)

    lhs, rhs = eqn.invars
    windows = convolution_of(lhs.aval, rhs.aval, eqn.params).windows
    lhs_spec, rhs_spec, out_spec = eqn.params["dimension_numbers"]
    shape = eqn.outvars[0].aval.shape
    places = dict(zip(out_spec, lhs_spec, strict=True))
    x = bind(transpose, lhs, permutation=tuple(places[d] for d in range(len(shape))))
    config = [(0, 0, 0)] * len(shape)
    for d, (low, high) in zip(out_spec[2:], windows.padding, strict=True):
        config[d] = (low, high, 0)
    zero = Literal(Array(np.zeros((), x.aval.dtype)))
    x = bind(pad, x, zero, padding_config=tuple(config))

    def tap(position: tuple[int, ...]) -> Atom:
        starts, corner = [0] * len(shape), [0] * len(shape)
        for i, k in enumerate(position):
            starts[out_spec[2 + i]] = k * windows.window_dilation[i]
            corner[rhs_spec[2 + i]] = k
        part = bind(
            slice_,
            x,
            start_indices=tuple(starts),
            limit_indices=tuple(s + n for s, n in zip(starts, shape, strict=True)),
            strides=None,
        )
        weight = bind(
            slice_,
            rhs,
            start_indices=tuple(corner),
            limit_indices=tuple(c + 1 for c in corner),
            strides=None,
        )
        weight = bind(reshape, weight, new_sizes=())
        weight = bind(broadcast_in_dim, weight, shape=shape, broadcast_dimensions=())
        return bind(mul, part, weight)

    total = bind(broadcast_in_dim, zero, shape=shape, broadcast_dimensions=())
    for position in itertools.product(*map(range, windows.window)):
        total = bind(add, total, tap(position))
    return total
