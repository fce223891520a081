"""Programs as values: tracing the functions that primitives hold, running and pruning them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from funcdl.config import config
from funcdl.core import tree
from funcdl.core.avals import ShapedArray
from funcdl.core.axes import axes_in_scope
from funcdl.core.jaxpr import ClosedJaxpr, Var, eval_jaxpr
from funcdl.core.pruning import pruned
from funcdl.core.reference import run_reference
from funcdl.core.staging import hoist_consts, trace_to_jaxpr
from funcdl.transforms.arguments import check_function, flatten_output, function_name
from funcdl.transforms.weak_cache import cached_on_first


def trace_body(
    fun: Callable[..., Any],
    in_tree: tree.TreeDef,
    avals: Sequence[ShapedArray],
    what: str,
    owner: Any = None,
) -> tuple[ClosedJaxpr, list[Any], tree.TreeDef]:
    """Trace a function of a pytree's leaves.

    Returns its program, the outer values that it captured (to be passed as leading inputs), and
    the structure of its output.

    A program without captured values is kept as long as `owner`, the user's function behind `fun`
    (by default `fun` itself), so that an eager loop over `scan` traces its body once.
    """
    owner = fun if owner is None else owner
    check_function(what, owner)
    key = (what, in_tree, tuple(avals), config.x64, axes_in_scope())
    kept = _traced_by(owner)
    found = kept.get(key)
    if found is not None:
        return found[0], [], found[1]
    out_tree: tree.TreeDef | None = None

    def flat(*xs: Any) -> list[Any]:
        nonlocal out_tree
        outs, out_tree = flatten_output(fun(*in_tree.unflatten(xs)), what, function_name(owner))
        return outs

    jaxpr, consts = trace_to_jaxpr(flat, avals, name=f"{what} of {function_name(owner)}")
    program, captured = hoist_consts(jaxpr, consts)
    assert out_tree is not None
    if not consts:
        kept[key] = program, out_tree
    return program, captured, out_tree


_Traced = dict[Any, tuple[ClosedJaxpr, tree.TreeDef]]
_traced: weakref.WeakKeyDictionary[Any, _Traced] = weakref.WeakKeyDictionary()


def _traced_by(owner: Any) -> _Traced:
    try:
        return _traced.setdefault(owner, {})
    except TypeError:  # an object that cannot be hashed or weakly referenced
        return {}


def program_types(*avals: ShapedArray, jaxpr: ClosedJaxpr, **_: Any) -> list[ShapedArray]:
    """The `shape` of a primitive that calls the program `jaxpr`."""
    return jaxpr.out_avals


def run_program(*args: Any, jaxpr: ClosedJaxpr, **_: Any) -> list[Any]:
    """The `impl` of such a primitive: on NumPy arrays."""
    return run_reference(jaxpr, args)


def eval_program(*args: Any, jaxpr: ClosedJaxpr, **_: Any) -> list[Any]:
    """The `eval` of such a primitive: each equation by itself."""
    return eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, args)


def without_unused(program: ClosedJaxpr) -> ClosedJaxpr:
    """The program without what no output depends on and has no effects."""
    return pruned(program, (True,) * len(program.out_avals))[0]


@cached_on_first
def _widen(
    program: ClosedJaxpr, start: int, count: int, captured: tuple[ShapedArray, ...]
) -> ClosedJaxpr:
    """The program with all of some captured values as first inputs, of which the `count` from
    `start` on are its own: so that several programs can share one list of operands."""
    if count == len(captured):
        return program
    jaxpr = program.jaxpr
    before = map(Var, captured[:start])
    after = map(Var, captured[start + count :])
    invars = (*before, *jaxpr.invars[:count], *after, *jaxpr.invars[count:])
    return ClosedJaxpr(jaxpr.replace(invars=invars, names=None), program.consts)


def widen_all(
    programs: Sequence[ClosedJaxpr], own: Sequence[Sequence[ShapedArray]]
) -> tuple[ClosedJaxpr, ...]:
    """The programs with the first inputs of all of them, of which each has some of its own."""
    everything = tuple(aval for avals in own for aval in avals)
    counts = [len(avals) for avals in own]
    starts = [0, *accumulate(counts[:-1])]
    return tuple(
        _widen(program, start, count, everything)
        for program, start, count in zip(programs, starts, counts, strict=True)
    )
