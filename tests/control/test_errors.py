"""What a user reads who gets control flow wrong, in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.control import cond, fori_loop, scan, switch, while_loop
from funcdl.errors import (
    ArgumentError,
    DtypeError,
    FuncdlError,
    LeafTypeError,
    NotDifferentiableError,
    ShapeError,
    TreeError,
)

one = fnp.ones(())
vector = fnp.ones(3)


def step(c: Any, x: Any) -> Any:
    return {"a": c["a"].sum(), "n": c["n"] + 0.5}, None


def returns_other_tree(c: Any, x: Any) -> Any:
    return (c, c), None


def returns_one(c: Any, x: Any = None) -> Any:
    return c


def returns_text(c: Any, x: Any = None) -> Any:
    return c, "text"


def halves(c: Any) -> Any:
    return c / 2


def grows(i: Any, c: Any) -> Any:
    return fnp.stack([c, c])


def yes(x: Any) -> Any:
    return {"a": x, "b": x}


def no(x: Any) -> Any:
    return {"a": x, "b": x.sum()}


def nothing(x: Any) -> Any:
    return None


def positive(c: Any) -> Any:
    return c > 0


FIX = "Give init the type that the body returns, or convert the result with .astype."
FIX_BRANCH = "Convert one of each two with .astype, or give it the shape of the other."
NO_REVERSE = (
    "reverse-mode differentiation (grad, vjp) of while_loop, or of fori_loop with traced bounds, "
    "is not possible: the number of steps is unknown, so their values cannot be kept.\n"
    "Use scan, or fori_loop with Python integers as bounds; or forward mode (jvp, jacfwd)."
)

ERRORS: dict[str, tuple[Callable[[], Any], type[FuncdlError], str]] = {
    "scan carry types": (
        lambda: scan(step, {"a": vector, "n": fnp.int32(1)}, None, 2),
        ShapeError,
        "scan requires step to return a carry of the types that it got:\n"
        "  carry['a']: got f32[3], returned f32[]\n"
        "  carry['n']: got i32[], returned ~f32[]\n" + FIX,
    ),
    "scan carry structure": (
        lambda: scan(returns_other_tree, one, None, 2),
        TreeError,
        "scan requires returns_other_tree to return a carry with the structure that it got:\n"
        "  found:  (*, *)\n"
        "  wanted: *",
    ),
    "scan without a pair": (
        lambda: scan(returns_one, {"a": one}, None, 2),
        TreeError,
        "scan requires returns_one to return a pair (carry, y), got {'a': *}; return (carry, None) "
        "if there is no output",
    ),
    "scan of different lengths": (
        lambda: scan(step, one, {"u": fnp.ones((3, 2)), "v": fnp.ones(4)}),
        ArgumentError,
        "scan of step requires one number of steps, got:\n"
        "  xs['u'] of type f32[3,2]: 3\n"
        "  xs['v'] of type f32[4]: 4",
    ),
    "scan of another length than told": (
        lambda: scan(step, one, fnp.ones(4), length=5),
        ArgumentError,
        "scan of step requires one number of steps, got:\n  xs of type f32[4]: 4\n  length: 5",
    ),
    "scan of no known length": (
        lambda: scan(step, one, None),
        ArgumentError,
        "scan of step does not know how many steps to run: xs has no arrays; pass length",
    ),
    "scan of a negative length": (
        lambda: scan(step, one, None, -1),
        ArgumentError,
        "scan of step requires a length of 0 or more, got -1",
    ),
    "scan over a scalar": (
        lambda: scan(step, one, [1.0]),
        ShapeError,
        "scan of step requires xs with a leading axis to loop over, got xs[0] of type ~f32[]; "
        "capture it in step, or carry it",
    ),
    "fori_loop carry types": (
        lambda: fori_loop(0, 3, grows, one),
        ShapeError,
        "fori_loop requires grows to return a carry of the types that it got:\n"
        "  carry: got f32[], returned f32[2]\n" + FIX,
    ),
    "fori_loop carry types, traced bound": (
        lambda: fd.jit(lambda n: fori_loop(0, n, grows, one))(3),
        ShapeError,
        "fori_loop requires grows to return a carry of the types that it got:\n"
        "  carry: got f32[], returned f32[2]\n" + FIX,
    ),
    "fori_loop carry structure": (
        lambda: fori_loop(0, 3, lambda i, c: (c, c), one),
        TreeError,
        "fori_loop requires <lambda> to return a carry with the structure that it got:\n"
        "  found:  (*, *)\n"
        "  wanted: *",
    ),
    "fori_loop bound": (
        lambda: fori_loop(0, 2.5, grows, one),
        DtypeError,
        "fori_loop requires integer scalars as bounds, got upper of type ~f32[]",
    ),
    "while_loop carry types": (
        lambda: while_loop(positive, halves, fnp.int32(3)),
        ShapeError,
        "while_loop requires halves to return a carry of the types that it got:\n"
        "  carry: got i32[], returned f32[]\n" + FIX,
    ),
    "while_loop carry structure": (
        lambda: while_loop(positive, nothing, one),
        TreeError,
        "while_loop requires nothing to return a value with the structure that it got:\n"
        "  found:  None\n"
        "  wanted: *\n"
        "Does nothing end without return?",
    ),
    "while_loop condition of a number": (
        lambda: while_loop(halves, halves, one),
        ShapeError,
        "while_loop requires halves to return a bool scalar, got f32[]; return a comparison, such "
        "as x > 0",
    ),
    "while_loop condition of a vector": (
        lambda: while_loop(positive, halves, vector),
        ShapeError,
        "while_loop requires positive to return a bool scalar, got bool[3]; reduce it with .any() "
        "or .all()",
    ),
    "while_loop in reverse mode": (
        lambda: fd.grad(lambda x: while_loop(positive, lambda c: c - 1, x))(3.0),
        NotDifferentiableError,
        NO_REVERSE,
    ),
    "fori_loop in reverse mode": (
        lambda: fd.jit(
            lambda n: fd.grad(lambda x: fori_loop(0, n, lambda i, c: fnp.sin(c), x))(3.0)
        )(2),
        NotDifferentiableError,
        NO_REVERSE,
    ),
    "cond branch types": (
        lambda: cond(True, yes, no, vector),
        ShapeError,
        "cond requires branches that return the same types; yes and no differ:\n"
        "  output['b']: f32[3] and f32[]\n" + FIX_BRANCH,
    ),
    "cond branch structure": (
        lambda: cond(True, yes, nothing, vector),
        TreeError,
        "cond requires branches that return the same structure; yes and nothing differ:\n"
        "  yes:     {'a': *, 'b': *}\n"
        "  nothing: None",
    ),
    "cond predicate": (
        lambda: cond(vector > 0, yes, no, vector),
        ShapeError,
        "cond requires a scalar predicate, got bool[3]; reduce it with .any() or .all(), choose "
        "elements with where, or map with vmap",
    ),
    "switch branch types": (
        lambda: switch(0, [yes, yes, no], vector),
        ShapeError,
        "switch requires branches that return the same types; yes (branch 0) and no (branch "
        "2) differ:\n  output['b']: f32[3] and f32[]\n" + FIX_BRANCH,
    ),
    "switch index": (
        lambda: switch(1.0, [yes], vector),
        DtypeError,
        "switch requires an integer scalar as index, got ~f32[]",
    ),
    "switch without branches": (
        lambda: switch(0, []),
        ArgumentError,
        "switch requires at least one branch, got none",
    ),
    "no array": (
        lambda: cond(True, yes, no, {"k": "text"}),
        LeafTypeError,
        "cond: argument operands[0]['k']: expected an array or a scalar, got str: 'text'.\n"
        "Arrays, NumPy arrays, and Python or NumPy scalars are valid leaves; for other static data "
        "use static_argnums or close over it.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_whole_text(name: str) -> None:
    call, error, text = ERRORS[name]
    with fd.config.override(backend="reference"), pytest.raises(error) as caught:
        call()
    assert str(caught.value).split("\n(at ")[0] == text


def test_outputs_that_are_no_arrays() -> None:
    with pytest.raises(LeafTypeError, match=r"scan requires returns_text to .*; output\[1\]: exp"):
        scan(returns_text, one, None, 2)
