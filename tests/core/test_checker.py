from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.core import programs, toy

from funcdl.core.checker import check_closed_jaxpr, check_jaxpr
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.core.parser import parse_jaxpr
from funcdl.core.primitive import Primitive
from funcdl.core.source import SourceLine
from funcdl.core.staging import trace_to_jaxpr
from funcdl.errors import JaxprTypeError


def parse(text: str) -> Jaxpr:
    return parse_jaxpr(text, toy.PRIMITIVES, toy.TYPES, constant=toy.zeros)


@pytest.mark.parametrize("name", programs.NAMED)
def test_traced_programs_pass(name: str) -> None:
    check_jaxpr(programs.NAMED[name]())


@settings(max_examples=40)
@given(jaxpr=programs.jaxprs())
def test_random_programs_pass(jaxpr: Jaxpr) -> None:
    check_jaxpr(jaxpr)


@settings(max_examples=40)
@given(jaxpr=programs.jaxprs(), data=st.data())
def test_a_random_program_with_one_fault_is_refused(jaxpr: Jaxpr, data: Any) -> None:
    assume(jaxpr.eqns)
    position = data.draw(st.integers(0, len(jaxpr.eqns) - 1))
    eqn = jaxpr.eqns[position]
    faults = [eqn.replace(invars=(*eqn.invars, Var(toy.f32())))]
    faults += [eqn.replace(outvars=(*eqn.outvars, Var(toy.f32())))]
    if eqn.outvars:
        wrong = eqn.outvars[0].aval.update(dtype=np.dtype(np.int8))
        faults += [eqn.replace(outvars=(Var(wrong), *eqn.outvars[1:]))]
        faults += [eqn.replace(invars=(eqn.outvars[0], *eqn.invars[1:]))]
        faults += [eqn.replace(outvars=((*jaxpr.constvars, *jaxpr.invars)[0],))]
        faults += [eqn.replace(outvars=())]
    fault = data.draw(st.sampled_from(faults))
    eqns = (*jaxpr.eqns[:position], fault, *jaxpr.eqns[position + 1 :])
    with pytest.raises(JaxprTypeError):
        check_jaxpr(jaxpr.replace(eqns=eqns))


@pytest.mark.parametrize(
    ("eqn", "message"),
    [
        ("b:f32[4] = mul a a", "output 0 of mul has the wrong shape: found f32[4], wanted f32[3]"),
        ("b:i32[3] = mul a a", "output 0 of mul has the wrong dtype: found i32[3], wanted f32[3]"),
        (
            "b:~f32[3] = mul a a",
            "output 0 of mul has the wrong weak type: found ~f32[3], wanted f32[3]",
        ),
        (
            "b:~f32[3] = cast[dtype=f32] a",
            "output 0 of cast has the wrong weak type: found ~f32[3], wanted f32[3]",
        ),
        (
            "b:f32[3] = mul a 2.0:f32[]",
            "the shape rule of mul refuses the operands: ShapeError: operands must have one type, "
            "got [f32[3], f32[]]",
        ),
        (
            "b:f32[3] = cast a",
            "the shape rule of cast refuses the operands: TypeError: <lambda>() missing 1 required "
            "keyword-only argument: 'dtype'",
        ),
        ("b:f32[1] = halves a", "halves has 1 output(s), wanted 2"),
        ("_:f32[3] _:f32[3] = mul a a", "mul has 2 output(s), wanted 1"),
        ("() = mul a a", "mul has 0 output(s), wanted 1"),
        (
            "b:f32[1] _:f32[2] = halves a",
            "output 1 of halves has the wrong shape: found f32[2], wanted f32[1]",
        ),
    ],
)
def test_types_are_recomputed(eqn: str, message: str) -> None:
    jaxpr = parse(f"{{ lambda ; a:f32[3]. let {eqn} in (a,) }}")
    printed = eqn.replace("b:", "_:")
    with pytest.raises(JaxprTypeError) as caught:
        check_jaxpr(jaxpr, "after cse")
    assert str(caught.value) == f"after cse: {message}\nin equation 0:\n    {printed}"


X, Y = Var(toy.f32(3)), Var(toy.f32(3))
SUM = Eqn(toy.add, [X, X], [Y], {})
WIDE = Literal(toy.array(1, 2, 3))
ANY: Any = toy.array(1, 2, 3)
RULELESS = Eqn(Primitive("mystery"), [], [Var(toy.f32())], {})


@pytest.mark.parametrize(
    ("jaxpr", "message"),
    [
        (Jaxpr([], [X, X], [], []), "variable a:f32[3] is defined twice"),
        (Jaxpr([X], [X], [], []), "variable a:f32[3] is defined twice"),
        (Jaxpr([], [X, Y], [Y], [SUM]), "variable b:f32[3] is defined twice\nin equation 0:"),
        (Jaxpr([], [X], [Y], [SUM, SUM]), "variable b:f32[3] is defined twice\nin equation"),
        (
            Jaxpr([], [], [Y], [SUM]),
            "variable b:f32[3] is used before it is defined\nin equation 0",
        ),
        (Jaxpr([], [Y], [X], []), "variable b:f32[3] is used before it is defined"),
        (Jaxpr([], [], [WIDE], []), "a literal must be a scalar, found one of type f32[3]"),
        (Jaxpr([], [], [ANY], []), "expected a variable or a literal, found Array"),
        (
            Jaxpr([], [], [], [SUM.replace(invars=(ANY, X))]),
            "expected a variable or a literal, found Array\n"
            "in equation 0:\n    _:f32[3] = add <array f32[3]> a",
        ),
        (
            Jaxpr([], [X], [], [SUM.replace(outvars=(WIDE,))]),
            "an output must be a variable, found Literal\n",
        ),
        (Jaxpr([], [X], [X], [], names=["x", "y"]), "2 names for 1 inputs"),
        (Jaxpr([], [], [], [RULELESS]), "primitive mystery has no shape rule"),
    ],
)
def test_structure(jaxpr: Jaxpr, message: str) -> None:
    with pytest.raises(JaxprTypeError, match="^" + re.escape(message)):
        check_jaxpr(jaxpr)


def test_the_users_line_is_shown() -> None:
    def f(x: Any) -> list[Any]:
        return [toy.mul(x, x)]

    jaxpr, _ = trace_to_jaxpr(f, [toy.f32(3)])
    (eqn,) = jaxpr.eqns
    wrong = eqn.replace(outvars=(Var(toy.f32(4)),))
    with pytest.raises(JaxprTypeError) as caught:
        check_jaxpr(jaxpr.replace(eqns=(wrong,), outvars=()), "simplify")
    line = f.__code__.co_firstlineno + 1
    function = "test_the_users_line_is_shown.<locals>.f"
    assert str(caught.value) == (
        "simplify: output 0 of mul has the wrong shape: found f32[4], wanted f32[3]\n"
        "in equation 0:\n    _:f32[4] = mul a a\n"
        f"from {__file__}:{line} ({function}): return [toy.mul(x, x)]"
    )


def test_programs_in_parameters_are_checked() -> None:
    bad = parse("{ lambda ; a:f32[]. let b:f32[2] = add a a in (b,) }")
    source = SourceLine("/home/user/model.py", 7, "loss")
    out = Var(toy.f32(2))
    eqn = Eqn(toy.call, [], [out], {"branches": (ClosedJaxpr(bad),), "jaxpr": ClosedJaxpr(bad)})
    with pytest.raises(JaxprTypeError) as caught:
        check_jaxpr(Jaxpr([], [], [out], [eqn.replace(source=source)]), "after vmap")
    assert str(caught.value) == (
        "after vmap, inside call (/home/user/model.py:7): output 0 of add has the wrong shape: "
        "found f32[2], wanted f32[]\nin equation 0:\n    b:f32[2] = add a a"
    )
    with pytest.raises(JaxprTypeError, match=r"^inside call: output 0 of add"):
        check_jaxpr(Jaxpr([], [], [out], [eqn]))


def test_constants_must_have_the_types_of_their_variables() -> None:
    jaxpr = parse("{ lambda a:f32[3]; . let in (a,) }")
    check_closed_jaxpr(ClosedJaxpr(jaxpr, [toy.array(1, 2, 3)]))
    with pytest.raises(JaxprTypeError) as caught:
        check_closed_jaxpr(ClosedJaxpr(jaxpr, [toy.array(1, 2)]), "fold")
    assert str(caught.value) == "fold: constant 0 has a value of type f32[2], wanted f32[3]"
    call = Eqn(toy.call, [], [Var(toy.f32(3))], {"jaxpr": ClosedJaxpr(jaxpr, [toy.array(1)])})
    with pytest.raises(JaxprTypeError, match=r"^inside call: constant 0"):
        check_jaxpr(Jaxpr([], [], [], [call]))


def test_a_shared_program_is_checked_once() -> None:
    calls = []
    probe = Primitive("probe")

    def shape(x: Any) -> Any:
        calls.append(x)
        return x

    probe.shape = shape
    program = toy.closed(trace_to_jaxpr(lambda x: [probe(x)], [toy.f32()]))
    for _ in range(20):  # 2**20 copies when written out
        f = lambda x, inner=program: toy.call(*toy.call(x, jaxpr=inner), jaxpr=inner)  # noqa: E731
        program = toy.closed(trace_to_jaxpr(f, [toy.f32()]))
    calls.clear()
    check_closed_jaxpr(program)
    assert len(calls) == 1
