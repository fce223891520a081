"""Jaxprs as text, in the notation of JAX; `funcdl.core.parser` reads it back.

A program is ``{ lambda constants ; inputs. let equations in (outputs,) }``, where every variable
is followed by its type at its definition::

    { lambda ; a:f32[3] b:f32[]. let
        c:f32[3] = broadcast_in_dim[broadcast_dimensions=() shape=(3,)] b
        d:f32[3] = mul a c
        e:f32[] = reduce_sum[axes=(0,)] d
      in (e,) }

Variables are named a, b, ..., z, aa, ab, ... in the order of their definition, anew in every
program; an output that nothing reads is ``_``. Parameters are sorted by name. An equation without
outputs starts with ``() =``. Values that the notation cannot express, such as functions, are
printed between angle brackets and cannot be read back.
"""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var

KEYWORDS = frozenset(["lambda", "let", "in", "open", "inf", "nan", "complex"])
"""Words of the notation, and so no names of variables."""

UNUSED = "_"
"""The name of an equation's output that nothing reads."""


class Names(dict[Var, str]):
    """Names of variables, given out in the order of asking."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def __missing__(self, var: Var) -> str:
        name = self._next()
        while name in KEYWORDS:
            name = self._next()
        self[var] = name
        return name

    def _next(self) -> str:
        self._count += 1
        rest, name = self._count, ""
        while rest:
            rest, digit = divmod(rest - 1, 26)
            name = chr(ord("a") + digit) + name
        return name


def variable_names(jaxpr: Jaxpr) -> Names:
    """The names under which `format_jaxpr` prints the program's variables."""
    names = Names()
    read = {atom for eqn in jaxpr.eqns for atom in eqn.invars if type(atom) is Var}
    read.update(atom for atom in jaxpr.outvars if type(atom) is Var)
    for var in (*jaxpr.constvars, *jaxpr.invars):
        _ = names[var]
    for eqn in jaxpr.eqns:
        for var in eqn.outvars:
            if var in read:
                _ = names[var]
            else:
                names[var] = UNUSED
    return names


def format_jaxpr(jaxpr: Jaxpr, *, source: bool = False) -> str:
    """The program as text, in time linear in its length.

    Args:
      jaxpr: the program; it need not be well formed, so that a broken one can be looked at.
      source: whether to end every equation with the user's line that it came from, as a comment.
    """
    return _program(jaxpr, 0, source)


def format_eqn(eqn: Eqn, names: Names, *, indent: int = 0, source: bool = False) -> str:
    """One equation as text; `indent` is the column at which its first line will stand."""
    outs = " ".join(f"{names[var]}:{var.aval}" for var in eqn.outvars) or "()"
    words = [outs, "=", eqn.primitive.name + _params(eqn.params, indent, source)]
    words += [format_atom(atom, names) for atom in eqn.invars]
    if source and eqn.source is not None:
        scope = f" {eqn.source.scope}" if eqn.source.scope else ""
        words.append(f" # {os.path.basename(eqn.source.file)}:{eqn.source.line}{scope}")
    return " ".join(words)


def format_atom(atom: Atom, names: Names) -> str:
    """A variable's name, or a literal with its type: ``2.0:f32[]``, weakly typed ``2.0:~f32[]``."""
    if type(atom) is Var:
        return names[atom]
    if type(atom) is not Literal:
        return _opaque(atom)
    if atom.value.is_deleted() or atom.aval.shape != ():
        return f"<literal>:{atom.aval}"
    return f"{_number(atom.value.value[()])}:{atom.aval}"


def format_value(value: Any, *, indent: int = 0, source: bool = False) -> str:
    """A parameter's value as text.

    Args:
      value: None, Python scalars, strings, tuples, lists, enum members, dtypes, avals, named
        tuples, dataclasses, NumPy scalars, programs; others print as ``<type name>``.
      indent: the column at which the text will stand.
      source: as for `format_jaxpr`, for programs in the value.
    """

    def group(begin: str, values: Iterable[Any], end: str, names: Iterable[str] = ()) -> str:
        texts = [format_value(x, indent=indent + 2, source=source) for x in values]
        if names:
            texts = [f"{name}={text}" for name, text in zip(names, texts, strict=True)]
        if any("\n" in text for text in texts):
            margin = "\n" + " " * indent
            return begin + "".join(f"{margin}  {text}," for text in texts) + margin + end
        comma = "," if len(texts) == 1 and begin == "(" else ""
        return f"{begin}{', '.join(texts)}{comma}{end}"

    def record(names: Sequence[str]) -> str:
        fields = [getattr(value, name) for name in names]
        return group(f"{type(value).__name__}(", fields, ")", names)

    if isinstance(value, ClosedJaxpr):
        return _program(value.jaxpr, indent, source)
    if isinstance(value, Jaxpr):
        return f"open {_program(value, indent, source)}"
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if value is None or isinstance(value, bool | int | str):
        return repr(value)
    if isinstance(value, np.generic) and value.dtype in dtypes.SUPPORTED:
        return f"{dtypes.short_name(value.dtype)}({_number(value)})"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, complex):
        return _complex(value)
    if isinstance(value, np.dtype) and (value in dtypes.SUPPORTED or value == dtypes.float0):
        return dtypes.short_name(value)
    if isinstance(value, ShapedArray):
        return repr(value)
    if isinstance(value, tuple):
        if hasattr(value, "_fields"):
            return record(value._fields)
        return group("(", value, ")")
    if isinstance(value, list):
        return group("[", value, "]")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return record([field.name for field in dataclasses.fields(value) if field.init])
    return _opaque(value)


def _program(jaxpr: Jaxpr, indent: int, source: bool) -> str:
    names = variable_names(jaxpr)

    def variables(group: Iterable[Var]) -> str:
        return " ".join(f"{names[var]}:{var.aval}" for var in group)

    margin = "\n" + " " * (indent + 4)
    lines = [f"{{ lambda {variables(jaxpr.constvars)}; {variables(jaxpr.invars)}. let"]
    lines += [margin + format_eqn(e, names, indent=indent + 4, source=source) for e in jaxpr.eqns]
    outs = [format_atom(atom, names) for atom in jaxpr.outvars]
    results = f"({outs[0]},)" if len(outs) == 1 else f"({', '.join(outs)})"
    return "".join(lines) + "\n" + " " * (indent + 2) + f"in {results} }}"


def _params(params: dict[str, Any], indent: int, source: bool) -> str:
    if not params:
        return ""
    texts = [
        f"{name}={format_value(params[name], indent=indent + 2, source=source)}"
        for name in sorted(params)
    ]
    if not any("\n" in text for text in texts):
        return f"[{' '.join(texts)}]"
    margin = "\n" + " " * (indent + 2)
    return f"[{margin}{margin.join(texts)}\n{' ' * indent}]"


def _number(value: Any) -> str:
    """A NumPy scalar as the shortest Python number that converts back to it."""
    python = value.item()
    if isinstance(python, complex):
        return _complex(python)
    if isinstance(python, float):
        short = str(value)
        if short.lstrip("-").isdecimal():  # bfloat16 prints so
            short += ".0"
        return short if value.dtype.type(float(short)) == value else repr(python)
    return repr(python)


def _complex(value: complex) -> str:
    # Python's own notation loses the signs of zeros.
    return f"complex({value.real!r}, {value.imag!r})"


def _opaque(value: Any) -> str:
    if isinstance(value, Array | np.ndarray):
        return f"<array {ShapedArray(value.shape, value.dtype)}>"
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    text = name if isinstance(name, str) else type(value).__name__
    return f"<{text.replace('<', '').replace('>', '')}>"
