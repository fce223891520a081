"""scan: a loop that carries state and stacks outputs, as one primitive with a program for body."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from funcdl.control.programs import eval_compiled, rearrange, select, split, trace_body
from funcdl.core import tree
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.reference import run_reference
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import LinearInput, Zero, is_linear, is_zero
from funcdl.core.trace import current_trace
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.ops.arithmetic import add
from funcdl.ops.convert import convert_element_type
from funcdl.ops.lowering import Loop
from funcdl.ops.shape import instantiate, zeros
from funcdl.transforms.arguments import (
    as_arrays,
    describe_trees,
    function_name,
    leaf_names,
    show_tree,
)
from funcdl.transforms.batching import batch_jaxpr, place_batch
from funcdl.transforms.jvp import jvp_jaxpr
from funcdl.transforms.partial_eval import PartialEvalTrace, partial_eval_jaxpr
from funcdl.transforms.transpose import backward_pass

scan_loop = Primitive("scan", multiple_results=True)


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """Run a loop with a carried state and stacked outputs (see `jax.lax.scan`).

    Equivalent to::

        ys = []
        for x in xs:                   # along the leading axis of every leaf; backwards if reverse
            carry, y = f(carry, x)
            ys.append(y)
        return carry, stack(ys)

    Args:
      f: ``f(carry, x) -> (carry, y)``; the carry keeps its structure, shapes and dtypes.
      init: the first carry, a pytree of arrays.
      xs: a pytree of arrays with equal leading axes, or None.
      length: the number of steps; needed where `xs` has no leaves.
      reverse: run from the last step to the first; outputs keep the inputs' order.
      unroll: accepted for compatibility; the compiler decides.

    Raises:
      ArgumentError: no length is known, or lengths differ.
      TreeError, ShapeError: the carry that `f` returns differs from the one it got.
    """
    return run_scan("scan", f, init, xs, length, reverse)


def run_scan(
    what: str,
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    length: int | None,
    reverse: bool,
    owner: Any = None,
) -> tuple[Any, Any]:
    """`scan` on behalf of `what`, which calls the user's function `owner` in `f`."""
    owner = f if owner is None else owner
    name = function_name(owner)
    carry, init_tree = as_arrays("init", init, what)
    inputs = as_arrays("xs", xs, what)[0]
    count = _length(what, name, leaf_names("xs", xs), inputs, length)
    x_avals = [x.aval.update(shape=x.aval.shape[1:]) for x in inputs]
    in_tree = tree.structure((init, xs))
    while True:
        carry_avals = [x.aval for x in carry]
        body, captured, out_tree = trace_body(f, in_tree, [*carry_avals, *x_avals], what, owner)
        outs = body.out_avals
        _check_pair(what, name, out_tree, init_tree)
        promoted = settle_weak_types(carry, outs[: len(carry)])
        if promoted is None:
            break
        carry = promoted
    check_carry(what, name, init, carry_avals, outs[: len(carry)])
    results = scan_loop.bind(
        *captured,
        *carry,
        *inputs,
        jaxpr=body,
        num_consts=len(captured),
        num_carry=len(carry),
        length=count,
        reverse=bool(reverse),
    )
    final, ys = cast(tuple[Any, Any], out_tree.unflatten(results))
    return final, ys


def _length(
    what: str, name: str, paths: Sequence[str], inputs: Sequence[Any], length: int | None
) -> int:
    sizes: dict[str, int] = {}
    for path, x in zip(paths, inputs, strict=True):
        if not x.aval.shape:
            raise ShapeError(
                f"{what} of {name} requires xs with a leading axis to loop over, got {path} of "
                f"type {x.aval}; capture it in {name}, or carry it"
            )
        sizes[f"{path} of type {x.aval}"] = x.aval.shape[0]
    if length is not None:
        sizes["length"] = operator.index(length)
        if sizes["length"] < 0:
            raise ArgumentError(f"{what} of {name} requires a length of 0 or more, got {length}")
    if not sizes:
        raise ArgumentError(
            f"{what} of {name} does not know how many steps to run: xs has no arrays; pass length"
        )
    if len(set(sizes.values())) > 1:
        listing = "\n".join(f"  {source}: {size}" for source, size in sizes.items())
        raise ArgumentError(f"{what} of {name} requires one number of steps, got:\n{listing}")
    return next(iter(sizes.values()))


def _check_pair(what: str, name: str, out_tree: tree.TreeDef, init_tree: tree.TreeDef) -> None:
    children = out_tree.children()
    if out_tree.type not in (tuple, list) or len(children) != 2:
        raise TreeError(
            f"{what} requires {name} to return a pair (carry, y), got {show_tree(out_tree)}; "
            "return (carry, None) if there is no output"
        )
    if children[0] != init_tree:
        raise TreeError(
            f"{what} requires {name} to return a carry with the structure that it got:\n"
            + describe_trees(children[0], init_tree)
        )


def settle_weak_types(carry: Sequence[Any], outs: Sequence[ShapedArray]) -> list[Any] | None:
    """Weakly typed initial values converted to the dtype that the body returns, if any must be."""
    changed = False
    found = []
    for x, out in zip(carry, outs, strict=True):
        if x.aval.weak_type and (x.aval.dtype != out.dtype or not out.weak_type):
            # The result is strong, so that the second trace is the last.
            x = convert_element_type(x, new_dtype=out.dtype, weak_type=False)
            changed = True
        found.append(x)
    return found if changed else None


def check_carry(
    what: str, name: str, init: Any, avals: Sequence[ShapedArray], outs: Sequence[ShapedArray]
) -> None:
    """Raise `ShapeError` where a loop's body does not return the types that it got."""
    paths = [tree.format_path(path) for path, _ in tree.leaves_with_path(init)]
    wrong = [
        f"  carry{path}: got {found}, returned {out}"
        for path, found, out in zip(paths, avals, outs, strict=True)
        if not found.same_type(out)
    ]
    if wrong:
        raise ShapeError(
            f"{what} requires {name} to return a carry of the types that it got:\n"
            + "\n".join(wrong)
            + "\nGive init the type that the body returns, or convert the result with .astype."
        )


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
    *avals: ShapedArray, jaxpr: ClosedJaxpr, num_consts: int, num_carry: int, length: int, **_: Any
) -> list[ShapedArray]:
    carried = jaxpr.in_avals[num_consts : num_consts + num_carry]
    stacked = [a.update(shape=(length, *a.shape)) for a in jaxpr.out_avals[num_carry:]]
    return [*carried, *stacked]


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
    dots, flags = iter([*carry_dot, *ys_dot]), [*carry_nz, *ys_nz]
    out_primals = [*carry, *ys]
    return out_primals, [
        next(dots) if flag else Zero(x.aval.to_tangent())
        for x, flag in zip(out_primals, flags, strict=True)
    ]


def _interleave(primals: Sequence[int], tangents: Sequence[int]) -> list[int]:
    """Positions that bring (p1, p2, …, t1, t2, …) into the order (p1, t1, p2, t2, …)."""
    order: list[int] = []
    p, t = 0, sum(primals)
    for count, extra in zip(primals, tangents, strict=True):
        order += [*range(p, p + count), *range(t, t + extra)]
        p, t = p + count, t + extra
    return order


def _partial_eval(trace: PartialEvalTrace, args: Sequence[Any], params: dict[str, Any]) -> Any:
    body: ClosedJaxpr = params["jaxpr"]
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    loop = {"length": params["length"], "reverse": params["reverse"]}
    num_ys = len(body.out_avals) - num_carry
    consts_un, carry_un, xs_un = split(list(map(trace.owns, args)), num_consts, num_carry)
    while True:
        parts = partial_eval_jaxpr(
            body,
            (*consts_un, *carry_un, *xs_un),
            (*carry_un, *[False] * num_ys),
        )
        found = [a or b for a, b in zip(carry_un, parts.unknown_out[:num_carry], strict=True)]
        if found == carry_un:
            break
        carry_un = found
    ys_un = parts.unknown_out[num_carry:]
    consts, carry, xs = split(args, num_consts, num_carry)
    known_in = [
        select(consts, consts_un, False),
        select(carry, carry_un, False),
        select(xs, xs_un, False),
    ]
    known_counts = [len(part) for part in known_in]
    known_params = {
        "jaxpr": parts.known,
        "num_consts": known_counts[0],
        "num_carry": known_counts[1],
        **loop,
    }
    # A residual that is a carried value changes from step to step, so it is stacked as an output.
    known, residuals = _stack_carried(parts.known, parts.residuals, known_counts)
    known_params["jaxpr"] = known
    assert trace.parent is not None
    with current_trace(trace.parent):
        known_outs = scan_loop.bind(*known_in[0], *known_in[1], *known_in[2], **known_params)
    loop_consts: list[Any] = []
    stacked: list[Any] = []
    const_slots: list[int] = []
    stacked_slots: list[int] = []
    flat_known = [*known_in[0], *known_in[1], *known_in[2]]
    for slot, (kind, i) in enumerate(residuals):
        if kind == "in" and i < known_counts[0]:
            loop_consts.append(flat_known[i])
            const_slots.append(slot)
        else:
            stacked.append(flat_known[i] if kind == "in" else known_outs[i])
            stacked_slots.append(slot)
    un_consts, un_carry, un_xs = (
        select(consts, consts_un),
        select(carry, carry_un),
        select(xs, xs_un),
    )
    num_res = len(residuals)
    first_carry = num_res + len(un_consts)
    first_xs = first_carry + len(un_carry)
    order = [
        *const_slots,
        *range(num_res, first_carry),
        *range(first_carry, first_xs),
        *stacked_slots,
        *range(first_xs, first_xs + len(un_xs)),
    ]
    unknown_outs = trace.record(
        scan_loop,
        [*loop_consts, *un_consts, *un_carry, *stacked, *un_xs],
        {
            "jaxpr": rearrange(parts.unknown, order, None),
            "num_consts": len(loop_consts) + len(un_consts),
            "num_carry": len(un_carry),
            **loop,
        },
    )
    unknown_iter, known_iter = iter(unknown_outs), iter(known_outs)
    return [next(unknown_iter) if flag else next(known_iter) for flag in (*carry_un, *ys_un)]


def _stack_carried(
    known: ClosedJaxpr, residuals: Sequence[tuple[str, int]], counts: Sequence[int]
) -> tuple[ClosedJaxpr, list[tuple[str, int]]]:
    """Turn residuals that are known carries into outputs of the known program."""
    outvars = list(known.jaxpr.outvars)
    found: list[tuple[str, int]] = []
    for kind, i in residuals:
        if kind == "in" and counts[0] <= i < counts[0] + counts[1]:
            found.append(("out", len(outvars)))
            outvars.append(known.jaxpr.invars[i])
        else:
            found.append((kind, i))
    return ClosedJaxpr(known.jaxpr.replace(outvars=tuple(outvars)), known.consts), found


def _transpose(
    cts: Sequence[Any],
    *args: Any,
    jaxpr: ClosedJaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> list[Any]:
    consts, carry, xs = split(args, num_consts, num_carry)
    const_lin, xs_lin = list(map(is_linear, consts)), list(map(is_linear, xs))
    # Initial carries that are known values make the loop affine only in form: their cotangents
    # are computed with the others and dropped.
    residuals, stacked = select(consts, const_lin, False), select(xs, xs_lin, False)
    ct_consts = [zeros(x.aval.to_tangent()) for x in select(consts, const_lin)]
    ct_carry = [instantiate(ct) for ct in cts[:num_carry]]
    ct_ys = [instantiate(ct) for ct in cts[num_carry:]]
    body_avals = jaxpr.in_avals
    const_avals, carry_avals, x_avals = split(body_avals, num_consts, num_carry)

    def body(*inputs: Any) -> list[Any]:
        res, acc, ct_c, ct_y, res_x = split(
            inputs, len(residuals), len(ct_consts), num_carry, len(ct_ys)
        )
        operands = [
            *_operands(const_avals, const_lin, res),
            *map(LinearInput, carry_avals),
            *_operands(x_avals, xs_lin, res_x),
        ]
        found = backward_pass(jaxpr.jaxpr, jaxpr.consts, operands, [*ct_c, *ct_y])
        found_consts, found_carry, found_xs = split(found, num_consts, num_carry)
        summed = [
            a if is_zero(ct) else add(a, ct)
            for a, ct in zip(acc, select(found_consts, const_lin), strict=True)
        ]
        return [
            *summed,
            *map(instantiate, found_carry),
            *map(instantiate, select(found_xs, xs_lin)),
        ]

    avals = [
        *(x.aval for x in residuals),
        *(ct.aval for ct in ct_consts),
        *(ct.aval for ct in ct_carry),
        *(ct.aval.update(shape=ct.aval.shape[1:]) for ct in ct_ys),
        *(x.aval.update(shape=x.aval.shape[1:]) for x in stacked),
    ]
    backward, body_consts = trace_to_jaxpr(body, avals, name="transpose")
    outs = scan_loop.bind(
        *residuals,
        *ct_consts,
        *ct_carry,
        *ct_ys,
        *stacked,
        jaxpr=ClosedJaxpr(backward, body_consts),
        num_consts=len(residuals),
        num_carry=len(ct_consts) + num_carry,
        length=length,
        reverse=not reverse,
    )
    out_consts, out_carry, out_xs = split(outs, len(ct_consts), num_carry)
    const_iter, xs_iter = iter(out_consts), iter(out_xs)
    return [
        *(next(const_iter) if flag else None for flag in const_lin),
        *(ct if is_linear(x) else None for ct, x in zip(out_carry, carry, strict=True)),
        *(next(xs_iter) if flag else None for flag in xs_lin),
    ]


def _operands(
    avals: Sequence[ShapedArray], linear: Sequence[bool], residuals: Sequence[Any]
) -> list[Any]:
    """Markers for linear operands, residuals for the others."""
    given = iter(residuals)
    return [LinearInput(a) if flag else next(given) for a, flag in zip(avals, linear, strict=True)]


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


scan_loop.impl = _impl
scan_loop.eval = lambda *args, **params: eval_compiled(scan_loop, args, params)
scan_loop.shape = _shape
scan_loop.weak = own_weak
scan_loop.jvp = _jvp
scan_loop.partial_eval = _partial_eval
scan_loop.transpose = _transpose
scan_loop.batch = _batch
scan_loop.lower = Loop()
