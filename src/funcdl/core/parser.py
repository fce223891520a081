"""Read the text of a jaxpr, as `funcdl.core.printer` writes it, back into a program.

For tests and for files of expected programs. Line breaks and blanks mean nothing, and comments run
from ``#`` to the end of the line. Types are taken as written; `funcdl.core.checker` checks them.
"""

from __future__ import annotations

import ast
import difflib
import enum
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.core.primitive import Primitive
from funcdl.core.printer import KEYWORDS, UNUSED
from funcdl.errors import ArgumentError

_TOKENS = re.compile(
    r"""
      (?P<blank>\s+|\#[^\n]*)
    | (?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    | (?P<number>[-+]?(?:(?:inf|nan)\b|\d+(?:\.\d*)?(?:e[-+]?\d+)?))
    | (?P<name>[A-Za-z_]\w*(?:[-.][A-Za-z_]\w*)*)
    | (?P<opaque><[^<>\n]*>)
    | (?P<sign>[][(){}:;,.=~])
    """,
    re.VERBOSE,
)
_CONSTANTS = {"None": None, "True": True, "False": False}
_DTYPE_NAMES = frozenset(map(dtypes.short_name, (*dtypes.SUPPORTED, dtypes.float0)))
# Which Python scalars may be written for a literal of each kind of dtype.
_LITERALS: dict[str, tuple[type, ...]] = {
    "b": (bool,),
    "i": (int,),
    "u": (int,),
    "f": (int, float),
    "c": (int, float, complex),
}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


def parse_jaxpr(
    text: str,
    primitives: Mapping[str, Primitive],
    params_types: Mapping[str, type] | None = None,
    *,
    constant: Callable[[ShapedArray], Any] | None = None,
) -> Jaxpr:
    """The program that prints as `text`: the inverse of `format_jaxpr`, source lines apart.

    Args:
      text: one program in the printer's notation.
      primitives: the operations by name, such as `funcdl.ops.registry.primitives()`.
      params_types: the dataclasses, named tuples and enums that parameters hold, by name.
      constant: gives the values of constants of programs within parameters, which the text does
        not hold.

    Raises:
      ArgumentError: the text breaks the notation, or names something that is not known. The
        message gives line and column.
    """
    return _Parser(text, primitives, params_types or {}, constant).whole()


class _Parser:
    """Recursive descent; every method reads one piece of the notation."""

    def __init__(
        self,
        text: str,
        primitives: Mapping[str, Primitive],
        params_types: Mapping[str, type],
        constant: Callable[[ShapedArray], Any] | None,
    ) -> None:
        self._text = text
        self._primitives = primitives
        self._types = params_types
        self._constant = constant
        self._tokens = self._split()
        self._position = 0

    def whole(self) -> Jaxpr:
        program = self._program()
        if self._next.kind != "end":
            self._fail("the end of the text")
        return program

    def _split(self) -> list[_Token]:
        tokens = []
        start = 0
        while start < len(self._text):
            match = _TOKENS.match(self._text, start)
            if match is None:
                self._error(start, f"unexpected character {self._text[start]!r}")
            if match.lastgroup != "blank":
                tokens.append(_Token(str(match.lastgroup), match.group(), start))
            start = match.end()
        return [*tokens, _Token("end", "", start)]

    # Tokens.

    @property
    def _next(self) -> _Token:
        return self._tokens[self._position]

    def _at(self, text: str) -> bool:
        return self._next.text == text

    def _take(self) -> _Token:
        token = self._next
        self._position += 1
        return token

    def _skip(self, text: str) -> bool:
        found = self._at(text)
        self._position += found
        return found

    def _expect(self, *texts: str) -> None:
        for text in texts:
            if not self._skip(text):
                self._fail(repr(text))

    def _name(self, what: str) -> _Token:
        if self._next.kind != "name":
            self._fail(what)
        return self._take()

    def _fail(self, wanted: str) -> NoReturn:
        token = self._next
        found = "the end of the text" if token.kind == "end" else repr(token.text)
        self._error(token.start, f"expected {wanted}, found {found}")

    def _error(self, start: int, message: str) -> NoReturn:
        line = self._text.count("\n", 0, start) + 1
        column = start - (self._text.rfind("\n", 0, start) + 1)
        shown = self._text.split("\n")[line - 1]
        raise ArgumentError(
            f"line {line}, column {column + 1}: {message}\n  {shown}\n  {' ' * column}^"
        )

    def _unknown(self, token: _Token, what: str, known: Iterable[str], fix: str) -> NoReturn:
        close = difflib.get_close_matches(token.text, list(known), n=1)
        hint = f"did you mean {close[0]!r}?" if close else fix
        self._error(token.start, f"unknown {what} {token.text!r}; {hint}")

    # Programs.

    def _program(self) -> Jaxpr:
        env: dict[str, Var] = {}
        self._expect("{", "lambda")
        constvars = self._define(env, self._variables())
        self._expect(";")
        invars = self._define(env, self._variables())
        self._expect(".", "let")
        eqns = []
        while not self._at("in"):
            eqns.append(self._eqn(env))
        self._expect("in")
        outs = self._sequence("(", ")", lambda: self._atom(env))
        self._expect("}")
        return Jaxpr(constvars, invars, outs, eqns)

    def _closed(self) -> ClosedJaxpr:
        start = self._next.start
        program = self._program()
        if program.constvars and self._constant is None:
            self._error(
                start,
                "this program has constants, whose values are not in the text; pass `constant`, "
                "a function from an aval to a value",
            )
        make = self._constant
        return ClosedJaxpr(program, [make(var.aval) for var in program.constvars] if make else ())

    def _variables(self) -> list[tuple[_Token, Var]]:
        found = []
        while self._next.kind == "name":
            token = self._take()
            if token.text in KEYWORDS:
                self._error(token.start, f"{token.text!r} cannot name a variable")
            self._expect(":")
            found.append((token, Var(self._aval())))
        return found

    def _define(self, env: dict[str, Var], named: list[tuple[_Token, Var]]) -> list[Var]:
        for token, var in named:
            if token.text in env:
                self._error(token.start, f"variable {token.text!r} is defined twice")
            if token.text != UNUSED:
                env[token.text] = var
        return [var for _, var in named]

    def _eqn(self, env: dict[str, Var]) -> Eqn:
        if self._skip("("):
            self._expect(")")
            outs = []
        else:
            outs = self._variables()
            if not outs:
                self._fail("an equation or 'in'")
        self._expect("=")
        name = self._name("the name of a primitive")
        if name.text not in self._primitives:
            self._unknown(name, "primitive", self._primitives, "pass it in `primitives`")
        params = self._params()
        invars = []
        while self._at_operand():
            invars.append(self._atom(env))
        # Only now, since an equation cannot read its own outputs.
        outvars = self._define(env, outs)
        return Eqn(self._primitives[name.text], invars, outvars, params)

    def _at_operand(self) -> bool:
        token = self._next
        if token.kind != "name" or token.text in ("True", "False", "complex"):
            return token.kind in ("name", "number", "opaque")
        # A name with a type is the first output of the next equation.
        return token.text not in KEYWORDS and self._tokens[self._position + 1].text != ":"

    def _atom(self, env: dict[str, Var]) -> Atom:
        token = self._next
        if token.kind == "name" and token.text not in ("True", "False", "complex"):
            self._take()
            if token.text not in env:
                self._unknown(token, "variable", env, "it must be defined before its use")
            return env[token.text]
        value = self._value()
        self._expect(":")
        return Literal(self._literal(token, value, self._aval()))

    def _literal(self, token: _Token, value: Any, aval: ShapedArray) -> Array:
        if aval.shape != ():
            self._error(token.start, f"a literal must be a scalar, not {aval}")
        if type(value) not in _LITERALS.get(dtypes.kind(aval.dtype), ()):
            self._error(token.start, f"{value!r} is no literal of type {aval}")
        try:
            return Array(np.array(value, aval.dtype), aval.weak_type)
        except OverflowError as error:
            self._error(token.start, str(error))

    # Types and parameters.

    def _dtype(self) -> np.dtype[Any]:
        token = self._name("a dtype")
        try:
            return dtypes.from_short_name(token.text)
        except ValueError as error:
            self._error(token.start, str(error))

    def _aval(self) -> ShapedArray:
        weak = self._skip("~")
        dtype = self._dtype()
        shape = self._sequence("[", "]", self._extent)
        return ShapedArray(tuple(shape), dtype, weak)

    def _extent(self) -> int:
        if not self._next.text.isdecimal():
            self._fail("a size")
        return int(self._take().text)

    def _sequence(self, begin: str, end: str, item: Callable[[], Any]) -> list[Any]:
        self._expect(begin)
        found = []
        while not self._skip(end):
            found.append(item())
            if not self._at(end):
                self._expect(",")
        return found

    def _field(self) -> tuple[str, Any]:
        name = self._name("the name of a parameter")
        self._expect("=")
        return name.text, self._value()

    def _params(self) -> dict[str, Any]:
        params: dict[str, Any] = {}
        if self._skip("["):
            while not self._skip("]"):
                token = self._next
                name, value = self._field()
                if name in params:
                    self._error(token.start, f"parameter {name!r} is given twice")
                params[name] = value
        return params

    def _value(self) -> Any:
        token = self._next
        if self._at("{"):
            return self._closed()
        if self._skip("open"):
            return self._program()
        if self._at("("):
            return tuple(self._sequence("(", ")", self._value))
        if self._at("["):
            return self._sequence("[", "]", self._value)
        if self._at("~"):
            return self._aval()
        if token.kind == "name":
            return self._named_value()
        if token.kind not in ("string", "number"):
            self._fail("a value that can be read back" if token.kind == "opaque" else "a value")
        text = self._take().text
        if token.kind == "string":
            return ast.literal_eval(text)
        return int(text) if text.lstrip("+-").isdecimal() else float(text)

    def _named_value(self) -> Any:
        token = self._take()
        if token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        if token.text == "complex":
            return self._call(token, complex, 2)
        if token.text in _DTYPE_NAMES:
            if self._at("["):
                self._position -= 1
                return self._aval()
            dtype = dtypes.from_short_name(token.text)
            return self._call(token, dtype.type, 1) if self._at("(") else dtype
        return self._record(token)

    def _call(self, token: _Token, function: Callable[..., Any], count: int) -> Any:
        args = self._sequence("(", ")", self._value)
        if len(args) != count or not all(isinstance(x, int | float | complex) for x in args):
            self._error(token.start, f"{token.text} takes {count} number(s), got {args}")
        try:
            return function(*args)
        except (OverflowError, TypeError) as error:
            self._error(token.start, str(error))

    def _record(self, token: _Token) -> Any:
        name, _, member = token.text.partition(".")
        cls = self._types.get(name)
        if cls is None:
            self._unknown(token, "value", self._types, "pass its class in `params_types`")
        if issubclass(cls, enum.Enum):
            if member not in cls.__members__:
                members = ", ".join(cls.__members__)
                self._error(token.start, f"{name} has no member {member!r}; it has: {members}")
            return cls[member]
        fields = dict(self._sequence("(", ")", self._field))
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            self._error(token.start, f"cannot make this {name}: {error}")
