"""Jaxprs: traced programs as typed, flat, immutable lists of equations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final

from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.source import SourceLine, place

if TYPE_CHECKING:
    from funcdl.core.primitive import Primitive


class Var:
    """A variable; two are equal only when they are the same object."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Var({self.aval})"


@final
class Literal:
    """A scalar constant written into the program."""

    __slots__ = ("aval", "value")

    def __init__(self, value: Array) -> None:
        self.value = value
        self.aval = value.aval

    def __repr__(self) -> str:
        return f"Literal({self.value!r})"


Atom = Var | Literal


class Eqn:
    """``outvars = primitive[params] invars``, and the user's line that it came from."""

    __slots__ = ("invars", "outvars", "params", "primitive", "source")

    def __init__(
        self,
        primitive: Primitive,
        invars: Sequence[Atom],
        outvars: Sequence[Var],
        params: dict[str, Any],
        source: SourceLine | None = None,
    ) -> None:
        self.primitive = primitive
        self.invars = tuple(invars)
        self.outvars = tuple(outvars)
        self.params = params
        self.source = source

    def replace(self, **fields: Any) -> Eqn:
        """A copy with some fields replaced."""
        return Eqn(**{name: getattr(self, name) for name in self.__slots__} | fields)

    def __repr__(self) -> str:
        return f"Eqn({self.primitive.name}, {self.invars} -> {self.outvars})"


class Jaxpr:
    """A program: constants and inputs, equations, outputs.

    `names` optionally names the inputs (``params['w1']``), for messages and generated code.
    """

    __slots__ = ("constvars", "eqns", "invars", "names", "outvars")

    def __init__(
        self,
        constvars: Sequence[Var],
        invars: Sequence[Var],
        outvars: Sequence[Atom],
        eqns: Sequence[Eqn],
        names: Sequence[str] | None = None,
    ) -> None:
        self.constvars = tuple(constvars)
        self.invars = tuple(invars)
        self.outvars = tuple(outvars)
        self.eqns = tuple(eqns)
        self.names = None if names is None else tuple(names)

    def replace(self, **fields: Any) -> Jaxpr:
        """A copy with some fields replaced."""
        return Jaxpr(**{name: getattr(self, name) for name in self.__slots__} | fields)

    def __str__(self) -> str:
        from funcdl.core.printer import format_jaxpr

        return format_jaxpr(self)

    __repr__ = __str__


class ClosedJaxpr:
    """A jaxpr with values for its constants.

    `memo` keeps what is derived from the program, by the function that derives it.
    """

    __slots__ = ("__weakref__", "consts", "jaxpr", "memo")

    def __init__(self, jaxpr: Jaxpr, consts: Sequence[Any] = ()) -> None:
        assert len(jaxpr.constvars) == len(consts)
        for x in consts:
            if not isinstance(x, Array):
                from funcdl.core.trace import raise_leaked

                raise_leaked(x)
        self.jaxpr = jaxpr
        self.consts = tuple(consts)
        self.memo: dict[Any, dict[Any, Any]] = {}

    @property
    def in_avals(self) -> list[ShapedArray]:
        return [v.aval for v in self.jaxpr.invars]

    @property
    def out_avals(self) -> list[ShapedArray]:
        return [v.aval for v in self.jaxpr.outvars]

    @property
    def eqns(self) -> tuple[Eqn, ...]:
        return self.jaxpr.eqns

    def __str__(self) -> str:
        return str(self.jaxpr)

    __repr__ = __str__


def eval_jaxpr(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Run a program by binding its equations one by one under the current trace.

    Values are dropped after their last use, so that memory is what the program needs.
    """
    env: dict[Var, Any] = {}
    last_use = last_uses(jaxpr)

    def read(atom: Atom) -> Any:
        return atom.value if type(atom) is Literal else env[atom]

    env.update(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    caller = place.line
    try:
        for position, eqn in enumerate(jaxpr.eqns):
            place.line = eqn.source or caller
            out = eqn.primitive.bind(*map(read, eqn.invars), **eqn.params)
            if eqn.primitive.multiple_results:
                env.update(zip(eqn.outvars, out, strict=True))
            else:
                env[eqn.outvars[0]] = out
            for var in last_use.get(position, ()):
                env.pop(var, None)
    finally:
        place.line = caller
    return [read(atom) for atom in jaxpr.outvars]


def closed_fun(closed: ClosedJaxpr) -> Callable[..., list[Any]]:
    """The program as a function from arrays to a list of arrays."""

    def run(*args: Any) -> list[Any]:
        return eval_jaxpr(closed.jaxpr, closed.consts, args)

    return run


def last_uses(jaxpr: Jaxpr) -> dict[int, list[Var]]:
    """For each equation position, the variables that nothing later reads."""
    outputs = {atom for atom in jaxpr.outvars if type(atom) is Var}
    seen: set[Var] = set(outputs)
    last: dict[int, list[Var]] = {}
    for position in range(len(jaxpr.eqns) - 1, -1, -1):
        eqn = jaxpr.eqns[position]
        dying = []
        for atom in (*eqn.invars, *eqn.outvars):
            if type(atom) is Var and atom not in seen:
                seen.add(atom)
                dying.append(atom)
        if dying:
            last[position] = dying
    return last


def sub_jaxprs(params: dict[str, Any]) -> list[ClosedJaxpr]:
    """The programs among an equation's parameters."""
    found: list[ClosedJaxpr] = []
    for value in params.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, ClosedJaxpr):
                found.append(item)
    return found
