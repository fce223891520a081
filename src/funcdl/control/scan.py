"""scan: a loop that carries state and stacks outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from funcdl.config import config
from funcdl.control.scan_primitive import scan_loop
from funcdl.core import tree
from funcdl.core.avals import ShapedArray
from funcdl.core.integers import integer
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.ops.convert import convert_element_type
from funcdl.ops.shape import reshape
from funcdl.ops.slicing import concatenate, slice_
from funcdl.transforms.arguments import (
    as_arrays,
    describe_trees,
    flatten_output,
    function_name,
    leaf_names,
    show_tree,
)
from funcdl.transforms.programs import trace_body


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
    check_unroll("scan", unroll)
    return run_scan("scan", f, init, xs, length, flag("scan: reverse", reverse))


def check_unroll(what: str, unroll: Any) -> None:
    """Raise `ArgumentError` for an `unroll` that is no number of steps, though none is needed."""
    if not isinstance(unroll, bool) and integer(f"{what}: unroll", unroll) < 0:
        raise ArgumentError(f"{what}: unroll must be True, False or at least 0, got {unroll}")


def run_scan(
    what: str,
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    length: int | None,
    reverse: bool,
    owner: Any = None,
    own: int = 0,
) -> tuple[Any, Any]:
    """`scan` on behalf of `what`, which calls the user's function `owner` in `f`.

    The first `own` parts of `init` are the loop's; errors speak of the part after them.
    """
    owner = f if owner is None else owner
    name = function_name(owner)
    carry, init_tree = as_arrays("init", init, what)
    inputs = as_arrays("xs", xs, what)[0]
    count = steps_of(what, name, xs, inputs, length)
    if config.disable_jit and count:
        return _run_python(what, name, f, init_tree.unflatten(carry), xs, count, reverse)
    x_avals = [x.aval.update(shape=x.aval.shape[1:]) for x in inputs]
    in_tree = tree.structure((init, xs))
    while True:
        carry_avals = [x.aval for x in carry]
        body, captured, out_tree = trace_body(f, in_tree, [*carry_avals, *x_avals], what, owner)
        outs = body.out_avals
        _check_pair(what, name, out_tree, init_tree, own)
        promoted = settle_weak_types(carry, outs[: len(carry)])
        if promoted is None:
            break
        carry = promoted
    check_carry(what, name, init, carry_avals, outs[: len(carry)], own)
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


def _run_python(
    what: str,
    name: str,
    f: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any,
    count: int,
    reverse: bool,
) -> tuple[Any, Any]:
    """The loop as one in Python, where every step can be looked at."""
    inputs, in_tree = as_arrays("xs", xs, what)
    steps = []
    for i in range(count - 1, -1, -1) if reverse else range(count):
        carry, y = f(carry, in_tree.unflatten(_row(x, i) for x in inputs))
        leaves, out_tree = flatten_output(y, what, name)
        steps.append(leaves)
    if reverse:
        steps.reverse()
    stacked = [
        concatenate(*(reshape(y, new_sizes=(1, *y.shape)) for y in column), dimension=0)
        for column in zip(*steps, strict=True)
    ]
    return carry, out_tree.unflatten(stacked)


def _row(x: Any, i: int) -> Any:
    starts, stops = (i, *[0] * (x.ndim - 1)), (i + 1, *x.shape[1:])
    row = slice_(x, start_indices=starts, limit_indices=stops, strides=None)
    return reshape(row, new_sizes=x.shape[1:])


def steps_of(what: str, name: str, xs: Any, inputs: Sequence[Any], length: int | None) -> int:
    """The number of steps of a loop over `xs`, whose leaves are the arrays `inputs`."""
    paths = leaf_names("xs", xs)
    sizes: dict[str, int] = {}
    for path, x in zip(paths, inputs, strict=True):
        if not x.aval.shape:
            raise ShapeError(
                f"{what} of {name} requires xs with a leading axis to loop over, got {path} of "
                f"type {x.aval}; capture it in {name}, or carry it"
            )
        sizes[f"{path} of type {x.aval}"] = x.aval.shape[0]
    if length is not None:
        sizes["length"] = integer(f"{what}: length", length)
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


def _check_pair(
    what: str, name: str, out_tree: tree.TreeDef, init_tree: tree.TreeDef, own: int
) -> None:
    children = out_tree.children()
    if out_tree.type not in (tuple, list) or len(children) != 2:
        raise TreeError(
            f"{what} requires {name} to return a pair (carry, y), got {show_tree(out_tree)}; "
            "return (carry, None) if there is no output"
        )
    if children[0] != init_tree:
        found, wanted = users_part(children[0], own), users_part(init_tree, own)
        raise TreeError(
            f"{what} requires {name} to return a carry with the structure that it got:\n"
            + describe_trees(found, wanted)
            + forgotten_return(name, found)
        )


def forgotten_return(name: str, found: tree.TreeDef) -> str:
    """The advice for a function that returned None; nothing for others."""
    return f"\nDoes {name} end without return?" if found == tree.structure(None) else ""


def users_part(treedef: tree.TreeDef, own: int) -> tree.TreeDef:
    """The structure after the first `own` parts; all of it where there are none."""
    return treedef.children()[own] if own else treedef


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
    what: str,
    name: str,
    init: Any,
    avals: Sequence[ShapedArray],
    outs: Sequence[ShapedArray],
    own: int = 0,
) -> None:
    """Raise `ShapeError` where a loop's body does not return the types that it got."""
    paths = [path[1:] if own else path for path, _ in tree.leaves_with_path(init)]
    wrong = [
        f"  carry{tree.format_path(path)}: got {found}, returned {out}"
        for path, found, out in zip(paths, avals, outs, strict=True)
        if not found.same_type(out)
    ]
    if wrong:
        raise ShapeError(
            f"{what} requires {name} to return a carry of the types that it got:\n"
            + "\n".join(wrong)
            + "\nGive init the type that the body returns, or convert the result with .astype."
        )
