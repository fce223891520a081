"""The primitive `scan`: a loop as one equation with a program for its body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.control.programs import eval_compiled, rearrange, select, split
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, Eqn
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.pruning import pruned, with_inputs
from funcdl.core.reference import run_reference
from funcdl.core.symbolic_zero import is_zero
from funcdl.ops.lowering import Loop
from funcdl.ops.shape import instantiate
from funcdl.transforms.batching import batch_jaxpr, place_batch
from funcdl.transforms.jvp import jvp_jaxpr, with_tangents

scan_loop = Primitive("scan", multiple_results=True)


def _impl(
    *args: np.ndarray[Any, Any],
    jaxpr: ClosedJaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> list[np.ndarray[Any, Any]]:
    consts, carry, xs = split(args, num_consts, num_carry)
    y_avals = jaxpr.out_avals[num_carry:]
    ys = [np.zeros((length, *aval.shape), aval.dtype) for aval in y_avals]
    for step in range(length - 1, -1, -1) if reverse else range(length):
        outs = run_reference(jaxpr, [*consts, *carry, *(x[step] for x in xs)])
        carry = outs[:num_carry]
        for y, value in zip(ys, outs[num_carry:], strict=True):
            y[step] = value
    return [*carry, *ys]


def _shape(
    *avals: ShapedArray, jaxpr: ClosedJaxpr, num_carry: int, length: int, **_: Any
) -> list[ShapedArray]:
    outs = jaxpr.out_avals
    return [*outs[:num_carry], *(a.update(shape=(length, *a.shape)) for a in outs[num_carry:])]


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    jaxpr: ClosedJaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> tuple[list[Any], list[Any]]:
    nonzero = [not is_zero(t) for t in tangents]
    consts_nz, carry_nz, xs_nz = split(nonzero, num_consts, num_carry)
    num_ys = len(jaxpr.out_avals) - num_carry
    while True:
        program, nonzero_out = jvp_jaxpr(
            jaxpr,
            (*consts_nz, *carry_nz, *xs_nz),
            (*carry_nz, *[False] * num_ys),
        )
        found = [a or b for a, b in zip(carry_nz, nonzero_out[:num_carry], strict=True)]
        if found == carry_nz:
            break
        carry_nz = found
    ys_nz = nonzero_out[num_carry:]
    counts = [sum(consts_nz), sum(carry_nz)]
    total = len(primals)
    order_in = _interleave(
        [num_consts, num_carry, total - num_consts - num_carry], [*counts, sum(xs_nz)]
    )
    order_out = _interleave([num_carry, num_ys], [counts[1], sum(ys_nz)])
    const_p, carry_p, xs_p = split(primals, num_consts, num_carry)
    const_t, carry_t, xs_t = split(tangents, num_consts, num_carry)
    carry_given = [instantiate(t) for t in select(carry_t, carry_nz)]
    outs = scan_loop.bind(
        *const_p,
        *select(const_t, consts_nz),
        *carry_p,
        *carry_given,
        *xs_p,
        *select(xs_t, xs_nz),
        jaxpr=rearrange(program, order_in, order_out),
        num_consts=num_consts + counts[0],
        num_carry=num_carry + counts[1],
        length=length,
        reverse=reverse,
    )
    carry, carry_dot, ys, ys_dot = split(outs, num_carry, counts[1], num_ys)
    return with_tangents([*carry, *ys, *carry_dot, *ys_dot], [*carry_nz, *ys_nz])


def _interleave(primals: Sequence[int], tangents: Sequence[int]) -> tuple[int, ...]:
    """Positions that bring (p1, p2, …, t1, t2, …) into the order (p1, t1, p2, t2, …)."""
    order: list[int] = []
    p, t = 0, sum(primals)
    for count, extra in zip(primals, tangents, strict=True):
        order += [*range(p, p + count), *range(t, t + extra)]
        p, t = p + count, t + extra
    return tuple(order)


def _batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    jaxpr: ClosedJaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> tuple[list[Any], list[int | None]]:
    num_ys = len(jaxpr.out_avals) - num_carry
    consts_b, carry_b, xs_b = split([d is not None for d in dims], num_consts, num_carry)
    while True:
        program, flags = batch_jaxpr(
            jaxpr,
            axis_size,
            (*consts_b, *carry_b, *xs_b),
            (*carry_b, *[False] * num_ys),
        )
        found = [a or b for a, b in zip(carry_b, flags[:num_carry], strict=True)]
        if found == carry_b:
            break
        carry_b = found
    targets = [0] * num_consts + [0] * num_carry + [1] * len(xs_b)
    wanted = [*consts_b, *carry_b, *xs_b]
    inputs = [
        place_batch(x, d, target, axis_size) if flag else x
        for x, d, target, flag in zip(args, dims, targets, wanted, strict=True)
    ]
    outs = scan_loop.bind(
        *inputs,
        jaxpr=program,
        num_consts=num_consts,
        num_carry=num_carry,
        length=length,
        reverse=reverse,
    )
    out_dims = [0 if flag else None for flag in carry_b]
    return outs, out_dims + [1 if flag else None for flag in flags[num_carry:]]


def _prune(eqn: Eqn, read: Sequence[bool]) -> Eqn:
    params = eqn.params
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    carry_read, ys_read = split(read, num_carry)
    while True:
        program, used = pruned(params["jaxpr"], (*carry_read, *ys_read))
        consts_used, carry_used, xs_used = split(used, num_consts, num_carry)
        found = [a or b for a, b in zip(carry_read, carry_used, strict=True)]
        if found == carry_read:
            break
        carry_read = found
    keep = (*consts_used, *carry_read, *xs_used)
    if all(keep) and all(read) and program is params["jaxpr"]:
        return eqn
    return eqn.replace(
        invars=select(eqn.invars, keep),
        outvars=select(eqn.outvars, (*carry_read, *ys_read)),
        params={
            **params,
            "jaxpr": with_inputs(program, keep),
            "num_consts": sum(consts_used),
            "num_carry": sum(carry_read),
        },
    )


scan_loop.impl = _impl
scan_loop.eval = lambda *args, **params: eval_compiled(scan_loop, args, params)
scan_loop.shape = _shape
scan_loop.weak = own_weak
scan_loop.jvp = _jvp
scan_loop.batch = _batch
scan_loop.prune = _prune
scan_loop.lower = Loop()
