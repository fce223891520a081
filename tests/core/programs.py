"""Programs to print, read back and check: a few by name, and any number at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tests.core import toy

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.core.staging import trace_to_jaxpr


def weighted() -> Jaxpr:
    weights = toy.array(1, 2, 3)

    def f(x: Any, y: Any) -> list[Any]:
        toy.mul(x, y)
        return [toy.reduce_sum(toy.mul(toy.add(x, y), weights), axes=(0,)), 0.5, x]

    return trace_to_jaxpr(f, [toy.f32(3), toy.f32(3)])[0]


def nested() -> Jaxpr:
    weights = toy.array(1, 2, 3)
    inner = toy.closed(trace_to_jaxpr(lambda x: [toy.mul(x, weights)], [toy.f32(3)]))
    middle = toy.closed(
        trace_to_jaxpr(
            lambda x: toy.call(*toy.call(x, jaxpr=inner, name="scale"), jaxpr=inner, name="scale"),
            [toy.f32(3)],
        )
    )
    branches = (inner, middle)
    f = lambda x: toy.call(x, jaxpr=middle, branches=branches, name="twice")  # noqa: E731
    return trace_to_jaxpr(f, [toy.f32(3)])[0]


VALUES: dict[str, Any] = {
    "nothing": None,
    "yes": True,
    "no": False,
    "negative": -3,
    "huge": 10**30,
    "float": 0.1,
    "tiny": 5e-324,
    "infinite": float("-inf"),
    "complex": complex(-0.0, 2.5),
    "text": "it's a \"# [tag]\n\\",
    "empty": (),
    "one": (1,),
    "axes": (0, -1, (2, None)),
    "list": [1, [2.0]],
    "dtype": np.dtype(dtypes.bfloat16),
    "float0": dtypes.float0,
    "aval": toy.f32(3, 0),
    "weakly_typed": ShapedArray((), np.dtype(np.int32), True),
    "scalar": np.float32(0.1),
    "flag": np.bool_(True),
    "numbers": toy.Numbers((0,), toy.Window(2, (0, 1)), toy.Mode.FILL),
}


def values() -> Jaxpr:
    return trace_to_jaxpr(lambda x: [toy.tag(x, **VALUES)], [toy.f32()])[0]


def odd() -> Jaxpr:
    """No inputs' use, no outputs, several outputs, literals of every dtype."""

    def f(x: Any, y: Any) -> list[Any]:
        toy.announce(x, 1.5)
        first, _ = toy.halves(x)
        weak = (False, True)
        scalars = [Array(np.array(1, d), w) for d in dtypes.SUPPORTED for w in weak]
        toy.announce(*scalars)
        toy.announce()
        return [first, float("nan"), -7, True, complex(0.0, -0.0)]

    return trace_to_jaxpr(f, [toy.f32(4), toy.f32()])[0]


def empty() -> Jaxpr:
    return trace_to_jaxpr(list, [])[0]


NAMED: dict[str, Callable[[], Jaxpr]] = {
    f.__name__: f for f in (weighted, nested, values, odd, empty)
}

_FLOATS = st.floats(allow_nan=False, width=32)
_PARAMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.complex_numbers(allow_nan=False) | st.sampled_from(dtypes.SUPPORTED)
    | st.sampled_from(toy.Mode) | st.builds(ShapedArray, st.tuples(st.integers(0, 9)),
                                            st.sampled_from(dtypes.SUPPORTED), st.booleans())
    | st.builds(toy.Window, st.integers(), st.tuples(st.integers(), st.integers())),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.builds(toy.Numbers, inner, inner),
    max_leaves=6,
)  # fmt: skip
_NAMES = st.from_regex(r"[a-z_][a-z_0-9]{0,5}", fullmatch=True).map(lambda name: f"p_{name}")


@st.composite
def jaxprs(draw: st.DrawFn, depth: int = 2, aval: ShapedArray | None = None) -> Jaxpr:
    """Well-formed programs over arrays of one type, with literals, constants and calls."""
    if aval is None:
        shape = draw(st.sampled_from([(), (4,), (2, 3)]))
        aval = ShapedArray(shape, np.dtype(np.float32))
    known: list[Atom] = [Var(aval) for _ in range(draw(st.integers(1, 4)))]
    split = draw(st.integers(0, len(known)))
    constvars, invars = known[:split], known[split:]
    eqns = []
    kinds = ["add", "mul", "tag-it", "announce", *(["call"] if depth else [])]
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(kinds))
        args = [draw(st.sampled_from(known)) for _ in range(2)]
        params: dict[str, Any] = {}
        outvars = [Var(aval)]
        if aval.shape == () and draw(st.booleans()):
            args[1] = Literal(Array(np.float32(draw(_FLOATS))))  # type: ignore[arg-type]
        if kind == "announce":
            outvars = []
        elif kind == "tag-it":
            args = args[:1]
            params = draw(st.dictionaries(_NAMES, _PARAMS, max_size=3))
        elif kind == "call":
            inner = draw(jaxprs(depth - 1, aval))
            consts = [toy.zeros(var.aval) for var in inner.constvars]
            params = {"jaxpr": ClosedJaxpr(inner, consts), "name": draw(st.text(max_size=5))}
            args = [draw(st.sampled_from(known)) for _ in inner.invars]
            outvars = [Var(aval) for _ in inner.outvars]
        eqns.append(Eqn(toy.PRIMITIVES[kind], args, outvars, params))
        known += outvars
    outs = draw(st.lists(st.sampled_from(known), max_size=3))
    return Jaxpr(constvars, invars, outs, eqns)  # type: ignore[arg-type]
