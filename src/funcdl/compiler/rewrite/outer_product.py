"""Products that sum over one term, as multiplications, which fuse with everything around them.

Gradients of single examples are such: each is the outer product of a cotangent and an activation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from funcdl.core.jaxpr import Atom, Eqn
from funcdl.core.primitive import Primitive
from funcdl.ops.arithmetic import mul
from funcdl.ops.convert import convert_element_type
from funcdl.ops.dot import DotDimensions, dot_dimensions, dot_general, product_dtype
from funcdl.ops.shape import broadcast_in_dim, reshape, transpose

Emit = Callable[..., Atom]


def is_outer_product(eqn: Eqn) -> bool:
    """Whether an equation is a ``dot_general`` without a sum."""
    return eqn.primitive is dot_general and all(size == 1 for size in _dimensions(eqn).k_sizes)


def outer_product(emit: Emit, eqn: Eqn) -> Atom:
    """The output of such an equation, made by calls ``emit(primitive, invars, eqn, **params)``."""
    lhs, rhs = eqn.invars
    dims = _dimensions(eqn)
    shape, out_dtype = dims.out_shape, eqn.outvars[0].aval.dtype
    dtype = product_dtype(lhs.aval.dtype, out_dtype)

    def bind(primitive: Primitive, *invars: Atom, **params: object) -> Atom:
        return emit(primitive, invars, eqn, **params)

    def convert(x: Atom, new: np.dtype[np.generic]) -> Atom:
        return bind(convert_element_type, x, new_dtype=new, weak_type=False)

    def spread(x: Atom, order: Sequence[int], places: Sequence[int]) -> Atom:
        """An operand's batch and free dimensions in order, at their places in the output."""
        rest = tuple(d for d in range(len(x.aval.shape)) if d not in order)
        x = bind(transpose, x, permutation=(*order, *rest))
        x = bind(reshape, x, new_sizes=x.aval.shape[: len(order)])
        x = bind(broadcast_in_dim, x, shape=shape, broadcast_dimensions=tuple(places))
        return convert(x, dtype)

    batch, last = len(dims.lhs_batch), len(shape)
    middle = batch + len(dims.m)
    left = spread(lhs, (*dims.lhs_batch, *dims.m), range(middle))
    right = spread(rhs, (*dims.rhs_batch, *dims.n), (*range(batch), *range(middle, last)))
    return convert(bind(mul, left, right), out_dtype)


def _dimensions(eqn: Eqn) -> DotDimensions:
    lhs, rhs = eqn.invars
    return dot_dimensions(lhs.aval.shape, rhs.aval.shape, eqn.params["dimension_numbers"])
