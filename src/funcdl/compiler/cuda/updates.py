"""Scatters as operations whose order does not matter, which is all that a GPU's programs can do.

Programs meet at an element in any order. Atomic instructions then add numbers of 32 and 64 bits,
and find extremes of such integers. Every other update is put together from these: elements that
are overwritten in `last_update`, products in `update_products`, and here what only needs other
numbers to compute with. Integers of less than 32 bits and bools are widened; sums wrap around where
they are made narrow again. Extremes of floating-point numbers are those of integers in the same
order. Half precision is float32 by now, and of complex numbers only products are left. One window
that is overwritten stays: its elements are stored, and no two of them meet.

Only sums of floating-point numbers depend on the order, in their last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcdl.compiler.cuda.last_update import overwritten
from funcdl.compiler.cuda.update_products import multiplied
from funcdl.compiler.rewrite.simplify import simplify
from funcdl.core import dtypes
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Var
from funcdl.core.primitive import Primitive
from funcdl.core.staging import trace_to_jaxpr
from funcdl.ops.convert import convert_element_type
from funcdl.ops.ordered_bits import floats_of_ordered_bits, ordered_bits
from funcdl.ops.scatter import scatter, scatter_add, scatter_max, scatter_min, scatter_mul
from funcdl.ops.shape import reshape

Update = Callable[..., Any]


def make_order_free(program: ClosedJaxpr) -> ClosedJaxpr:
    """Replace the scatters whose updates would need an order, or numbers that no atomics take."""
    found = [(eqn, _order_free(eqn)) for eqn in program.jaxpr.eqns]
    if all(update is None for _, update in found):
        return program
    eqns: list[Eqn] = []
    for eqn, update in found:
        eqns += [eqn] if update is None else _expanded(eqn, update)
    return ClosedJaxpr(program.jaxpr.replace(eqns=tuple(eqns)), program.consts)


def _order_free(eqn: Eqn) -> Update | None:
    """What computes the same; None of what may stay, and of more updates than can be numbered."""
    if eqn.primitive not in (scatter, scatter_add, scatter_mul, scatter_min, scatter_max):
        return None
    operand, _, updates = (atom.aval for atom in eqn.invars)
    dtype = operand.dtype
    if updates.size > np.iinfo(np.int32).max:
        return None
    if not operand.size or not updates.size:
        return lambda operand, *_, **params: operand
    if eqn.primitive is scatter:
        return None if _writes_one_window(eqn) else overwritten
    if eqn.primitive is scatter_mul:
        return multiplied
    if dtype.itemsize < 4:
        return _widened(eqn.primitive)
    if dtypes.is_float(dtype) and eqn.primitive is not scatter_add:
        return _as_integers(eqn.primitive)
    return None


def _writes_one_window(eqn: Eqn) -> bool:
    """Whether there is one window of the operand, or of each element of a batch: none meet."""
    batched = eqn.params["dimension_numbers"].scatter_indices_batching_dims
    *windows, _ = eqn.invars[1].aval.shape
    return all(size == 1 for d, size in enumerate(windows) if d not in batched)


def _widened(primitive: Primitive) -> Update:
    """An update of narrow integers or bools, as one of 32 bits."""

    def update(operand: Any, indices: Any, updates: Any, **params: Any) -> Any:
        wide = {"new_dtype": np.dtype(np.int32), "weak_type": False}
        x, y = (convert_element_type(z, **wide) for z in (operand, updates))
        out = primitive(x, indices, y, **params)
        return convert_element_type(out, new_dtype=operand.dtype, weak_type=False)

    return update


def _as_integers(primitive: Primitive) -> Update:
    """An extreme of floating-point numbers, as that of integers in the same order.

    NaN is beyond all others on the side that wins.
    """

    def update(operand: Any, indices: Any, updates: Any, **params: Any) -> Any:
        least = primitive is scatter_min
        x, y = (ordered_bits(z, nan_is_least=least) for z in (operand, updates))
        out = primitive(x, indices, y, **params)
        return floats_of_ordered_bits(out, dtype=operand.dtype)

    return update


def _expanded(eqn: Eqn, update: Update) -> list[Eqn]:
    """The equations of a function of the equation's operands and parameters."""
    jaxpr, consts = trace_to_jaxpr(
        lambda *operands: [update(*operands, **eqn.params)],
        [atom.aval for atom in eqn.invars],
        name=eqn.primitive.name,
    )
    inner = simplify(ClosedJaxpr(jaxpr, consts))
    assert not inner.consts  # of scalars there are literals
    program, (wanted,) = inner.jaxpr, eqn.outvars
    names: dict[Var, Atom] = dict(zip(program.invars, eqn.invars, strict=True))
    (out,) = program.outvars
    last: list[Eqn] = []
    if isinstance(out, Var) and out not in names and out.aval == wanted.aval:
        names[out] = wanted
    else:
        atom = names.get(out, out) if isinstance(out, Var) else out
        change = {"new_dtype": wanted.aval.dtype, "weak_type": wanted.aval.weak_type}
        last = [Eqn(convert_element_type, [atom], [wanted], change)]
        if atom.aval == wanted.aval:
            last = [Eqn(reshape, [atom], [wanted], {"new_sizes": wanted.aval.shape})]
    return [
        inner_eqn.replace(
            invars=tuple(names.get(a, a) if isinstance(a, Var) else a for a in inner_eqn.invars),
            outvars=tuple(wanted if names.get(v) is wanted else v for v in inner_eqn.outvars),
            source=eqn.source,
        )
        for inner_eqn in [*program.eqns, *last]
    ]
