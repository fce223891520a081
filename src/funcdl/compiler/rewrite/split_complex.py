"""The pass `split_complex`: complex arrays as two real ones, their real and imaginary parts.

Kernels have no complex numbers, and neither have Triton's language and vector units. So equations
on complex arrays become equations on the parts: those that only move, choose or add elements are
applied to each, others are written by their formulas (`complex_formulas`). What follows sees a real
program: products of matrices are four products of real ones, and parts that kernels hand on to each
other lie in arrays of their own.

Numbers lie side by side in memory where others look at them: in inputs and results of the program
and of equations that run on the host. There ``real`` and ``imag`` read them, and ``complex`` writes
them, and no other equation of kernels has complex operands or results. Loops take and return parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from funcdl.compiler.rewrite.complex_formulas import FORMULAS, Parts
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.core.primitive import Primitive
from funcdl.core.source import SourceLine
from funcdl.core.staging import trace_to_jaxpr
from funcdl.ops.complex_parts import complex_, imag, real
from funcdl.ops.gather import default_fill

BY_PARTS = frozenset(
    {
        "add",
        "broadcast_in_dim",
        "checkpoint_name",
        "concatenate",
        "copy",
        "cumsum",
        "dynamic_slice",
        "dynamic_update_slice",
        "gather",
        "neg",
        "optimization_barrier",
        "pad",
        "reduce_sum",
        "reduce_window_sum",
        "reshape",
        "rev",
        "scatter",
        "scatter_add",
        "select_n",
        "slice",
        "stop_gradient",
        "sub",
        "transpose",
    }
)
"""Primitives that do the same to the real parts as to the imaginary ones."""

_LOOPS = frozenset({"cond", "scan", "while"})

Pair = tuple[Atom, Atom]


def split_complex(program: ClosedJaxpr) -> ClosedJaxpr:
    """The program with operations on parts in place of those on complex numbers.

    The program itself is returned where none is to be split.
    """
    if not any(_is_complex(atom) for eqn in program.jaxpr.eqns for atom in _atoms(eqn)):
        return program
    splitter = _Splitter(program.jaxpr)
    if not splitter.has_work():
        return program
    jaxpr = splitter.run()
    return ClosedJaxpr(jaxpr, program.consts)


def is_split(name: str) -> bool:
    """Whether the primitive of this name is computed by parts where it is complex."""
    return name in FORMULAS or name in BY_PARTS


class _Splitter:
    def __init__(self, jaxpr: Jaxpr) -> None:
        self._jaxpr = jaxpr
        self._eqns: list[Eqn] = []
        # What real variables became, and the parts of complex ones.
        self._renamed: dict[Var, Atom] = {}
        self._parts: dict[Var, Pair] = {}
        self._joined: dict[Var, Var] = {}
        self._source: SourceLine | None = None

    def has_work(self) -> bool:
        """Whether some equation is to be split; not those that only access memory."""
        joined: set[Var] = set()
        for eqn in self._jaxpr.eqns:
            if not any(map(_is_complex, _atoms(eqn))):
                continue
            name = eqn.primitive.name
            if name == complex_.name:
                joined.update(eqn.outvars)
            elif name in (real.name, imag.name):
                (operand,) = eqn.invars
                if isinstance(operand, Literal) or operand in joined:
                    return True
            elif is_split(name) or name in _LOOPS:
                return True
        return False

    def run(self) -> Jaxpr:
        """The program, with the same inputs and results."""
        self._add_all()
        outs = [self._in_memory(atom) for atom in self._jaxpr.outvars]
        return self._jaxpr.replace(eqns=tuple(self._eqns), outvars=tuple(outs))

    def run_body(self) -> Jaxpr:
        """The program of a loop, with parts for inputs and results."""
        invars: list[Var] = []
        for var in self._jaxpr.invars:
            if _is_complex(var):
                pair = _part(var), _part(var)
                self._parts[var] = pair
                invars += pair
            else:
                invars.append(var)
        self._add_all()
        outs = self._expanded(self._jaxpr.outvars)
        return Jaxpr(self._jaxpr.constvars, invars, outs, self._eqns)

    def _add_all(self) -> None:
        for eqn in self._jaxpr.eqns:
            self._source = eqn.source
            self._add(eqn)

    def _add(self, eqn: Eqn) -> None:
        name = eqn.primitive.name
        if any(map(_is_complex, _atoms(eqn))):
            if name in BY_PARTS:
                return self._add_by_parts(eqn)
            if name in FORMULAS:
                return self._add_formula(eqn)
            if name in _LOOPS:
                return self._add_loop(eqn)
        self._eqns.append(eqn.replace(invars=tuple(map(self._in_memory, eqn.invars))))

    def _add_by_parts(self, eqn: Eqn) -> None:
        outs = []
        for number in (0, 1):
            invars = [
                self._pair(atom)[number] if _is_complex(atom) else self._in_memory(atom)
                for atom in eqn.invars
            ]
            params = eqn.params
            if "fill_value" in params:
                fill = _fill(params["fill_value"], eqn.outvars[0].aval.dtype)
                params = params | {"fill_value": (fill.real, fill.imag)[number]}
            outs.append(self._emit(eqn.primitive, invars, params))
        self._parts.update(zip(eqn.outvars, zip(*outs, strict=True), strict=True))

    def _add_formula(self, eqn: Eqn) -> None:
        avals = tuple(atom.aval for atom in eqn.invars)
        body = _formula(eqn.primitive, avals, tuple(eqn.params.items()))
        env: dict[Var, Atom] = dict(zip(body.invars, self._expanded(eqn.invars), strict=True))
        for inner in body.eqns:
            invars = [env[a] if isinstance(a, Var) else a for a in inner.invars]
            outs = self._emit(inner.primitive, invars, inner.params)
            env.update(zip(inner.outvars, outs, strict=True))
        found = [env[a] if isinstance(a, Var) else a for a in body.outvars]
        (out,) = eqn.outvars
        if _is_complex(out):
            re, im = found
            self._parts[out] = re, im
        else:
            (self._renamed[out],) = found

    def _add_loop(self, eqn: Eqn) -> None:
        params = dict(eqn.params)
        match eqn.primitive.name:
            case "scan":
                carry = params["num_consts"] + params["num_carry"]
                params["num_carry"] = _width(eqn.invars[params["num_consts"] : carry])
                params["num_consts"] = _width(eqn.invars[: params["num_consts"]])
                params["jaxpr"] = _split_body(params["jaxpr"])
            case "while":
                first = params["cond_consts"]
                consts = first + params["body_consts"]
                params["body_consts"] = _width(eqn.invars[first:consts])
                params["cond_consts"] = _width(eqn.invars[:first])
                params["cond"] = _split_body(params["cond"])
                params["body"] = _split_body(params["body"])
            case _:
                params["branches"] = tuple(map(_split_body, params["branches"]))
        outvars: list[Var] = []
        for var in eqn.outvars:
            if _is_complex(var):
                pair = _part(var), _part(var)
                self._parts[var] = pair
                outvars += pair
            else:
                outvars.append(var)
        invars = self._expanded(eqn.invars)
        self._eqns.append(eqn.replace(invars=tuple(invars), outvars=tuple(outvars), params=params))

    def _emit(
        self, primitive: Primitive, invars: Sequence[Atom], params: dict[str, Any]
    ) -> list[Var]:
        avals = primitive.output_avals([atom.aval for atom in invars], params)
        outs = list(map(Var, avals))
        self._eqns.append(Eqn(primitive, invars, outs, params, self._source))
        return outs

    def _expanded(self, atoms: Iterable[Atom]) -> list[Atom]:
        """Atoms, with the parts of complex ones in their places."""
        found: list[Atom] = []
        for atom in atoms:
            found += self._pair(atom) if _is_complex(atom) else (self._in_memory(atom),)
        return found

    def _pair(self, atom: Atom) -> Pair:
        """The parts of a complex atom."""
        if isinstance(atom, Literal):
            number, weak = atom.value.value, atom.aval.weak_type
            values = (Array(np.asarray(part), weak) for part in (number.real, number.imag))
            first, second = map(Literal, values)
            return first, second
        if atom not in self._parts:
            ((re,), (im,)) = (self._emit(primitive, (atom,), {}) for primitive in (real, imag))
            self._parts[atom] = re, im
            self._joined[atom] = atom
        return self._parts[atom]

    def _in_memory(self, atom: Atom) -> Atom:
        """The atom itself; of complex numbers that were split, an array of both parts."""
        if isinstance(atom, Literal):
            return atom
        if atom not in self._parts:
            return self._renamed.get(atom, atom)
        if atom not in self._joined:
            (self._joined[atom],) = self._emit(complex_, self._parts[atom], {})
        return self._joined[atom]


def _split_body(program: ClosedJaxpr) -> ClosedJaxpr:
    return ClosedJaxpr(_Splitter(program.jaxpr).run_body(), program.consts)


@lru_cache(maxsize=1024)
def _formula(
    primitive: Primitive, avals: tuple[ShapedArray, ...], params: tuple[tuple[str, Any], ...]
) -> Jaxpr:
    """A primitive's formula as a program of parts."""

    def body(*parts: Any) -> Sequence[Any]:
        remaining = iter(parts)
        operands = [
            Parts(next(remaining), next(remaining))
            if dtypes.is_complex(aval.dtype)
            else next(remaining)
            for aval in avals
        ]
        out = FORMULAS[primitive.name](*operands, **dict(params))
        return out if isinstance(out, Parts) else [out]

    flat = []
    for aval in avals:
        if dtypes.is_complex(aval.dtype):
            flat += [aval.update(dtype=dtypes.real_dtype(aval.dtype))] * 2
        else:
            flat.append(aval)
    jaxpr, consts = trace_to_jaxpr(body, flat, name=primitive.name)
    assert not consts, "formulas have scalar constants only"
    return jaxpr


def _fill(value: Any, dtype: np.dtype[Any]) -> Any:
    """What a gather fills in, as a complex number."""
    return np.asarray(default_fill(dtype) if value is None else value, dtype)[()]


def _atoms(eqn: Eqn) -> tuple[Atom, ...]:
    return (*eqn.invars, *eqn.outvars)


def _is_complex(atom: Atom) -> bool:
    return dtypes.is_complex(atom.aval.dtype)


def _part(var: Var) -> Var:
    return Var(var.aval.update(dtype=dtypes.real_dtype(var.aval.dtype)))


def _width(atoms: Sequence[Atom]) -> int:
    """How many atoms these are by parts."""
    return len(atoms) + sum(map(_is_complex, atoms))
