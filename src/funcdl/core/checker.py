"""Check that a jaxpr is well formed and well typed, between the passes that rewrite it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from funcdl.core.array import aval_of
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Literal, Var, sub_jaxprs
from funcdl.core.printer import format_eqn, variable_names
from funcdl.errors import JaxprTypeError


def check_jaxpr(jaxpr: Jaxpr, where: str = "") -> None:
    """Check a program, and the programs within its equations' parameters.

    Every variable is defined once, before its use; literals are scalars; outputs have the types
    that the primitive's rules give for the operands, weak types included.

    Args:
      jaxpr: the program.
      where: what made it, such as the name of a pass; begins the message.

    Raises:
      JaxprTypeError: the program breaks a rule. The message has the rule, the equation, what was
        found and what was wanted, and the user's line.
    """
    _check(jaxpr, where, set())


def check_closed_jaxpr(closed: ClosedJaxpr, where: str = "") -> None:
    """Like `check_jaxpr`; the constants' values must have the types of their variables too."""
    _check_closed(closed, where, set())


class _Scope:
    """The variables defined so far, and the place that an error names."""

    def __init__(self, jaxpr: Jaxpr, where: str) -> None:
        self.jaxpr = jaxpr
        self.where = where
        self.defined: set[Var] = set()
        self.eqn: Eqn | None = None

    def fail(self, message: str, cause: Exception | None = None) -> NoReturn:
        parts = [f"{self.where}: {message}" if self.where else message]
        names = variable_names(self.jaxpr)
        eqn = self.eqn
        if eqn is not None:
            parts.append(f"in equation {self.jaxpr.eqns.index(eqn)}:")
            parts.append(f"    {format_eqn(eqn, names, indent=4)}")
            if eqn.source is not None:
                parts.append(f"from {eqn.source.describe()}")
        raise JaxprTypeError("\n".join(parts)) from cause

    def name(self, var: Var) -> str:
        return f"{variable_names(self.jaxpr)[var]}:{var.aval}"

    def define(self, vars: Sequence[Var]) -> None:
        for var in vars:
            if type(var) is not Var:
                self.fail(f"an output must be a variable, found {type(var).__name__}")
            if var in self.defined:
                self.fail(f"variable {self.name(var)} is defined twice")
            self.defined.add(var)

    def read(self, atoms: Sequence[Any]) -> None:
        for atom in atoms:
            if type(atom) is Var:
                if atom not in self.defined:
                    self.fail(f"variable {self.name(atom)} is used before it is defined")
            elif type(atom) is Literal:
                if atom.aval.shape != ():
                    self.fail(f"a literal must be a scalar, found one of type {atom.aval}")
            else:
                self.fail(f"expected a variable or a literal, found {type(atom).__name__}")


def _check_closed(closed: ClosedJaxpr, where: str, known: set[int]) -> None:
    if id(closed) in known:
        return
    known.add(id(closed))
    for position, (var, value) in enumerate(
        zip(closed.jaxpr.constvars, closed.consts, strict=True)
    ):
        found = aval_of(value)
        if found != var.aval:
            _Scope(closed.jaxpr, where).fail(
                f"constant {position} has a value of type {found}, wanted {var.aval}"
            )
    _check(closed.jaxpr, where, known)


def _check(jaxpr: Jaxpr, where: str, known: set[int]) -> None:
    scope = _Scope(jaxpr, where)
    scope.define(jaxpr.constvars)
    scope.define(jaxpr.invars)
    if jaxpr.names is not None and len(jaxpr.names) != len(jaxpr.invars):
        scope.fail(f"{len(jaxpr.names)} names for {len(jaxpr.invars)} inputs")
    for eqn in jaxpr.eqns:
        scope.eqn = eqn
        scope.read(eqn.invars)
        for closed in sub_jaxprs(eqn.params):
            _check_closed(closed, _inside(where, eqn), known)
        _check_types(scope, eqn)
        scope.define(eqn.outvars)
    scope.eqn = None
    scope.read(jaxpr.outvars)


def _inside(where: str, eqn: Eqn) -> str:
    line = f" ({eqn.source.file}:{eqn.source.line})" if eqn.source is not None else ""
    place = f"inside {eqn.primitive.name}{line}"
    return f"{where}, {place}" if where else place


def _check_types(scope: _Scope, eqn: Eqn) -> None:
    primitive = eqn.primitive
    if primitive.shape is None:
        scope.fail(f"primitive {primitive.name} has no shape rule")
    try:
        wanted = primitive.output_avals([atom.aval for atom in eqn.invars], eqn.params)
    except Exception as error:
        scope.fail(
            f"the shape rule of {primitive.name} refuses the operands: "
            f"{type(error).__name__}: {error}",
            error,
        )
    if len(wanted) != len(eqn.outvars):
        scope.fail(f"{primitive.name} has {len(eqn.outvars)} output(s), wanted {len(wanted)}")
    for position, (var, aval) in enumerate(zip(eqn.outvars, wanted, strict=True)):
        if type(var) is Var and var.aval != aval:
            scope.fail(
                f"output {position} of {primitive.name} has the wrong {_difference(var.aval, aval)}"
                f": found {var.aval}, wanted {aval}"
            )


def _difference(found: ShapedArray, wanted: ShapedArray) -> str:
    if found.shape != wanted.shape:
        return "shape"
    return "dtype" if found.dtype != wanted.dtype else "weak type"
