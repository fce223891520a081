from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core import programs, toy
from tests.golden import assert_golden
from tests.work import count_calls

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.core.printer import (
    KEYWORDS,
    Names,
    format_atom,
    format_eqn,
    format_jaxpr,
    format_value,
    variable_names,
)
from funcdl.core.staging import trace_to_jaxpr

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", programs.NAMED)
def test_programs_print_as_expected(name: str) -> None:
    assert_golden(GOLDEN / f"{name}.txt", format_jaxpr(programs.NAMED[name]()) + "\n")


def test_golden_folder_has_no_other_files() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(programs.NAMED)


def test_str_and_repr_are_the_text() -> None:
    jaxpr = programs.weighted()
    closed = ClosedJaxpr(jaxpr, [toy.array(1, 2, 3)])
    text = format_jaxpr(jaxpr)
    assert [str(jaxpr), repr(jaxpr), str(closed), repr(closed)] == [text] * 4


def test_source_comments_name_the_users_line() -> None:
    def f(x: Any) -> list[Any]:
        y = toy.add(x, x)
        return toy.call(y, jaxpr=inner)

    inner = toy.closed(trace_to_jaxpr(lambda x: [toy.mul(x, x)], [toy.f32()]))
    jaxpr, _ = trace_to_jaxpr(f, [toy.f32()])
    first = f.__code__.co_firstlineno
    text = format_jaxpr(jaxpr, source=True)
    comments = [line.partition("  # ")[2] for line in text.splitlines() if "#" in line]
    lines = [first + 1, first + 4, first + 2]
    assert comments == [f"test_printer.py:{line}" for line in lines]
    assert "#" not in format_jaxpr(jaxpr)


def test_names_count_in_letters_and_leave_out_keywords() -> None:
    names = Names()
    found = [names[Var(toy.f32())] for _ in range(26 + 26 * 26 + 26)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pairs = ["".join(pair) for pair in itertools.product(letters, repeat=2)]
    expected = [*letters, *pairs, *("aa" + letter for letter in letters)]
    assert "in" in expected
    expected = [name for name in expected if name not in KEYWORDS]
    assert found[: len(expected)] == expected
    assert len(set(found)) == len(found)


def test_a_broken_program_still_prints() -> None:
    stray, x = Var(toy.f32(2)), Var(toy.f32(3))
    wide = Literal(toy.array(1, 2))
    eqn = Eqn(toy.add, [stray, wide, "what"], [x], {})  # type: ignore[list-item]
    jaxpr = Jaxpr([], [], [x, stray], [eqn])
    assert format_jaxpr(jaxpr) == (
        "{ lambda ; . let\n    a:f32[3] = add b <literal>:f32[2] <str>\n  in (a, b) }"
    )
    assert format_eqn(eqn, variable_names(jaxpr)) == "a:f32[3] = add b <literal>:f32[2] <str>"


class Opaque:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (len, "<len>"),
        (Opaque(), "<Opaque>"),
        (Opaque, "<Opaque>"),
        (lambda: 0, "<lambda>"),
        (functools.partial(len), "<partial>"),
        ({1: 2}, "<dict>"),
        (np.zeros((2, 3), np.int8), "<array i8[2,3]>"),
        (toy.array(1), "<array f32[1]>"),
        (np.dtype("U3"), "<StrDType>"),
        (programs.empty(), "open { lambda ; . let\n  in () }"),
        (ClosedJaxpr(programs.empty()), "{ lambda ; . let\n  in () }"),
        (toy.Window, "<Window>"),
        ((Opaque(),), "(<Opaque>,)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_outside_the_notation(value: Any, text: str) -> None:
    # The dtype class's own name differs between NumPy versions.
    found = format_value(value).replace("dtype[str_]", "StrDType")
    assert found == text


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
@given(value=st.floats(allow_nan=False))
def test_float_literals_keep_every_bit(dtype: str, value: float) -> None:
    with np.errstate(over="ignore"):
        scalar = np.array(value, dtypes.from_short_name(dtype))
    text, _, aval = format_atom(Literal(Array(scalar)), Names()).partition(":")
    assert aval == f"{dtype}[]"
    assert any(c in text for c in ".en")
    assert np.array(float(text), scalar.dtype).tobytes() == scalar.tobytes()


@pytest.mark.parametrize(
    ("value", "weak", "text"),
    [
        (np.float32(0.1), False, "0.1:f32[]"),
        (np.float32(2), True, "2.0:~f32[]"),
        (ml_dtypes.bfloat16(-2), False, "-2.0:bf16[]"),
        (np.float64(0.1), False, "0.1:f64[]"),
        (np.float32("nan"), False, "nan:f32[]"),
        (np.float16("-inf"), False, "-inf:f16[]"),
        (np.bool_(True), False, "True:bool[]"),
        (np.uint8(255), False, "255:u8[]"),
        (np.complex64(complex(-0.0, 1)), False, "complex(-0.0, 1.0):c64[]"),
    ],
)
def test_literals(value: Any, weak: bool, text: str) -> None:
    assert format_atom(Literal(Array(np.asarray(value), weak)), Names()) == text


def test_work_is_linear_in_the_length() -> None:
    def chain(length: int) -> int:
        def f(x: Any) -> list[Any]:
            for _ in range(length):
                x = toy.mul(x, x)
            return [x]

        jaxpr, _ = trace_to_jaxpr(f, [toy.f32()])
        return count_calls(lambda: format_jaxpr(jaxpr))

    assert chain(4000) < 10 * chain(500)
