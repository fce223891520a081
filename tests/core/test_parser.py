from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from tests.core import programs, toy

from funcdl.core.array import Array
from funcdl.core.checker import check_jaxpr
from funcdl.core.jaxpr import ClosedJaxpr, Jaxpr, Literal, eval_jaxpr
from funcdl.core.parser import parse_jaxpr
from funcdl.core.printer import format_jaxpr
from funcdl.errors import ArgumentError


def parse(text: str) -> Jaxpr:
    return parse_jaxpr(text, toy.PRIMITIVES, toy.TYPES, constant=toy.zeros)


@pytest.mark.parametrize("name", programs.NAMED)
def test_round_trip_of_named_programs(name: str) -> None:
    text = format_jaxpr(programs.NAMED[name]())
    jaxpr = parse(text)
    assert format_jaxpr(jaxpr) == text
    check_jaxpr(jaxpr)


@settings(max_examples=60)
@given(jaxpr=programs.jaxprs())
def test_round_trip_of_random_programs(jaxpr: Jaxpr) -> None:
    text = format_jaxpr(jaxpr)
    parsed = parse(text)
    assert format_jaxpr(parsed) == text
    # Equal text need not mean equal values: 1 and True, f32 and 'f32'.
    for eqn, again in zip(jaxpr.eqns, parsed.eqns, strict=True):
        assert eqn.primitive is again.primitive
        for name, value in eqn.params.items():
            if not isinstance(value, ClosedJaxpr):
                assert again.params[name] == value
                assert type(again.params[name]) is type(value)
        for atom, atom_again in zip(eqn.invars, again.invars, strict=True):
            assert atom.aval == atom_again.aval


def test_values_come_back_with_their_types() -> None:
    (eqn,) = parse(format_jaxpr(programs.values())).eqns
    assert eqn.params == programs.VALUES
    assert {k: type(v) for k, v in eqn.params.items()} == {
        k: type(v) for k, v in programs.VALUES.items()
    }
    assert str(eqn.params["complex"]) == "(-0+2.5j)"


def test_a_parsed_program_runs() -> None:
    jaxpr = parse(
        """
        # Blank lines, comments and any layout are fine.
        { lambda w:f32[3];   # a constant
          x:f32[3]. let y:f32[3] = mul x w z:f32[] = reduce_sum[axes=(0,)] y
            () = announce z
            s:f32[] = add z 0.5:f32[] in (s, 2:i32[],) }
        """
    )
    out, literal = eval_jaxpr(jaxpr, [toy.array(1, 2, 3)], [toy.array(1, 1, 1)])
    assert (float(out), literal.item()) == (6.5, 2)


def test_literals_have_the_type_as_written() -> None:
    jaxpr = parse(
        "{ lambda ; . let in (1:f32[], 1.5:~f16[], False:bool[], nan:bf16[], 1e3:f64[],"
        " 2:c64[], complex(1, -0.0):c128[], -5:i8[], -inf:f32[]) }"
    )
    assert all(type(atom) is Literal and type(atom.value) is Array for atom in jaxpr.outvars)
    assert [str(atom.aval) for atom in jaxpr.outvars] == (
        ["f32[]", "~f16[]", "bool[]", "bf16[]", "f64[]", "c64[]", "c128[]", "i8[]", "f32[]"]
    )
    values = [atom.value.item() for atom in jaxpr.outvars if type(atom) is Literal]
    assert str(values) == "[1.0, 1.5, False, nan, 1000.0, (2+0j), (1-0j), -5, -inf]"


def test_constants_of_programs_in_parameters_need_values() -> None:
    text = format_jaxpr(programs.nested())
    with pytest.raises(ArgumentError, match=r"^line 4, column 9: this program has constants"):
        parse_jaxpr(text, toy.PRIMITIVES)
    jaxpr = parse_jaxpr(text, toy.PRIMITIVES, constant=lambda aval: toy.array(5, 6, 7))
    inner = jaxpr.eqns[0].params["branches"][0]
    np.testing.assert_array_equal(inner.consts[0].value, [5, 6, 7])


def test_open_programs_stay_open() -> None:
    text = "{ lambda ; . let\n    () = announce[p=open { lambda a:f32[]; . let\n        in () }]\n"
    (eqn,) = parse(text + "  in () }").eqns
    assert type(eqn.params["p"]) is Jaxpr


BODY = "{{ lambda ; a:f32[3] b:f32[]. let\n    {}\n  in (a,) }}"


def eqn(text: str) -> str:
    return BODY.format(text)


ERRORS: list[tuple[str, int, int, str]] = [
    ("", 1, 1, "expected '{', found the end of the text"),
    ("{ lambda ; a:f32[3]. let in (a,) } a", 1, 36, "expected the end of the text, found 'a'"),
    ("{ lambda ; a:f32[3] let in (a,) }", 1, 21, "'let' cannot name a variable"),
    ("{ lambda ; a:f33[3]. let in () }", 1, 14, "unknown short dtype name 'f33'; use one of"),
    ("{ lambda ; a:f32[x]. let in () }", 1, 18, "expected a size, found 'x'"),
    ("{ lambda ; a:f32[-1]. let in () }", 1, 18, "expected a size, found '-1'"),
    ("{ lambda a:f32[]; a:f32[]. let in () }", 1, 19, "variable 'a' is defined twice"),
    ("{ lambda ; in:f32[]. let in () }", 1, 12, "'in' cannot name a variable"),
    ("{ lambda ; . let in (1.5:f32[3],) }", 1, 22, "a literal must be a scalar, not f32[3]"),
    ("{ lambda ; . let in (1.5:i32[],) }", 1, 22, "1.5 is no literal of type i32[]"),
    ("{ lambda ; . let in (1:bool[],) }", 1, 22, "1 is no literal of type bool[]"),
    ("{ lambda ; . let in (300:u8[],) }", 1, 22, "300"),
    ("{ lambda ; . let in (<literal>:f32[2],) }", 1, 22, "expected a value that can be read back"),
    ("{ lambda ; . let in (a,) }", 1, 22, "unknown variable 'a'; it must be defined before its"),
    (eqn("c:f32[3] = mull a a"), 2, 16, "unknown primitive 'mull'; did you mean 'mul'?"),
    (eqn("c:f32[3] = xyz a a"), 2, 16, "unknown primitive 'xyz'; pass it in `primitives`"),
    (eqn("c:f32[3] = mul c a"), 2, 20, "unknown variable 'c'; it must be defined before its"),
    (eqn("c:f32[3] = mul a _"), 2, 22, "unknown variable '_'; it must be defined before its"),
    (eqn("a:f32[3] = mul a a"), 2, 5, "variable 'a' is defined twice"),
    (eqn("c:f32[] c:f32[] = halves a"), 2, 13, "variable 'c' is defined twice"),
    (eqn("= mul a a"), 2, 5, "expected an equation or 'in', found '='"),
    (eqn("c:f32[] mul a a"), 2, 17, "expected ':', found 'a'"),
    (eqn("c:f32[] = 'mul' a a"), 2, 15, "expected the name of a primitive, found \"'mul'\""),
    (eqn("c:f32[] = mul[x] a"), 2, 20, "expected '=', found ']'"),
    (eqn("c:f32[] = mul[x=] a"), 2, 21, "expected a value, found ']'"),
    (eqn("c:f32[] = mul[x=1 x=2] a"), 2, 23, "parameter 'x' is given twice"),
    (eqn("c:f32[] = mul[x=<f>] a"), 2, 21, "expected a value that can be read back, found '<f>'"),
    (eqn("c:f32[] = mul[x=(1 2)] a"), 2, 24, "expected ',', found '2'"),
    (eqn("c:f32[] = mul[x=Window] a"), 2, 27, "expected '(', found ']'"),
    (eqn("c:f32[] = mul[x=Windaw()] a"), 2, 21, "unknown value 'Windaw'; did you mean 'Window'"),
    (eqn("c:f32[] = mul[x=Window(size=1)] a"), 2, 21, "cannot make this Window: "),
    (eqn("c:f32[] = mul[x=Mode.WRAP] a"), 2, 21, "Mode has no member 'WRAP'; it has: CLIP, FILL"),
    (eqn("c:f32[] = mul[x=complex(1)] a"), 2, 21, "complex takes 2 number(s), got [1]"),
    (eqn("c:f32[] = mul[x=u8(300)] a"), 2, 21, "300"),
    (eqn("c:f32[] = mul[x='abc] a"), 2, 21, 'unexpected character "\'"'),
    (eqn("c:f32[] = mul a a §"), 2, 23, "unexpected character '§'"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), ERRORS)
def test_errors_name_line_and_column(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse(text)
    first, shown, caret = str(caught.value).split("\n")
    assert first.startswith(f"line {line}, column {column}: ")
    assert message in first
    assert shown == "  " + text.split("\n")[line - 1]
    assert caret == "  " + " " * (column - 1) + "^"


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_text_that_is_cut_short_is_refused(cut: int) -> None:
    text: Any = format_jaxpr(programs.weighted())
    with pytest.raises(ArgumentError, match="line"):
        parse(text[: min(cut, len(text) - 1)])
