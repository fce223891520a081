"""Dead code: programs without what nothing reads, down into the programs of their equations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from funcdl.core.effects import eqn_effect
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Var, sub_jaxprs


def live_eqns(eqns: Sequence[Eqn], outs: Iterable[Atom]) -> tuple[list[Eqn], set[Var]]:
    """The equations that an output depends on or that have effects, and the variables read.

    Of an equation with several outputs only the part that is read is kept, where its primitive
    knows how to (its `prune` rule).
    """
    live = {atom for atom in outs if isinstance(atom, Var)}
    kept = []
    for eqn in reversed(eqns):
        read = [var in live for var in eqn.outvars]
        if not any(read) and not eqn_effect(eqn):
            continue
        if eqn.primitive.prune is not None:
            eqn = eqn.primitive.prune(eqn, read)
        kept.append(eqn)
        live.update(atom for atom in eqn.invars if isinstance(atom, Var))
    return kept[::-1], live


def prune_jaxpr(jaxpr: Jaxpr, consts: Sequence[Any]) -> tuple[Jaxpr, list[Any]]:
    """The program without equations and constants that no output depends on."""
    smaller, values, _ = _pruned(jaxpr, consts)
    return smaller, values


def _pruned(jaxpr: Jaxpr, consts: Sequence[Any]) -> tuple[Jaxpr, list[Any], set[Var]]:
    eqns, live = live_eqns(jaxpr.eqns, jaxpr.outvars)
    kept = [(v, x) for v, x in zip(jaxpr.constvars, consts, strict=True) if v in live]
    smaller = jaxpr.replace(constvars=[v for v, _ in kept], eqns=eqns)
    return smaller, [x for _, x in kept], live


def pruned(program: ClosedJaxpr, read: Sequence[bool]) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """The program with the outputs flagged `read` only, and which of its inputs it reads."""
    key = tuple(read)
    results = program.memo.setdefault(pruned, {})
    if key not in results:
        outvars = [v for v, flag in zip(program.jaxpr.outvars, key, strict=True) if flag]
        jaxpr, consts, live = _pruned(program.jaxpr.replace(outvars=outvars), program.consts)
        used = tuple(var in live for var in jaxpr.invars)
        unchanged = all(key) and len(jaxpr.eqns) == len(program.eqns)
        same = unchanged and all(a is b for a, b in zip(jaxpr.eqns, program.eqns, strict=True))
        results[key] = (program if same else ClosedJaxpr(jaxpr, consts)), used
    found: tuple[ClosedJaxpr, tuple[bool, ...]] = results[key]
    return found


def with_inputs(program: ClosedJaxpr, keep: Sequence[bool]) -> ClosedJaxpr:
    """The program without some inputs, which it does not read."""
    if all(keep):
        return program
    key = tuple(keep)
    results = program.memo.setdefault(with_inputs, {})
    if key not in results:
        invars = [v for v, flag in zip(program.jaxpr.invars, key, strict=True) if flag]
        results[key] = ClosedJaxpr(program.jaxpr.replace(invars=invars, names=None), program.consts)
    found: ClosedJaxpr = results[key]
    return found


def prune_call(eqn: Eqn, read: Sequence[bool]) -> Eqn:
    """The `prune` rule of calls of one program, ``params["jaxpr"]``."""
    program, used = pruned(eqn.params["jaxpr"], read)
    if all(read) and all(used):
        return eqn if program is eqn.params["jaxpr"] else _with(eqn, jaxpr=program)
    params: dict[str, Any] = {"jaxpr": with_inputs(program, used)}
    if "donated" in eqn.params:
        params["donated"] = _chosen(eqn.params["donated"], used)
    smaller = _with(eqn, **params)
    return smaller.replace(invars=_chosen(eqn.invars, used), outvars=_chosen(eqn.outvars, read))


def _with(eqn: Eqn, **params: Any) -> Eqn:
    return eqn.replace(params={**eqn.params, **params})


def _chosen(values: Sequence[Any], flags: Sequence[bool]) -> tuple[Any, ...]:
    return tuple(x for x, flag in zip(values, flags, strict=True) if flag)


def without_silent_effects(eqn: Eqn) -> Eqn | None:
    """The equation without the calls in it that are made for their effects alone; None if nothing
    is left. What is left may have effects still."""
    if eqn.primitive.effect is not None and not eqn.outvars:
        return None
    if not eqn_effect(eqn) or not sub_jaxprs(eqn.params):
        return eqn

    def strip(value: Any) -> Any:
        if isinstance(value, ClosedJaxpr):
            return quiet(value)
        return tuple(map(strip, value)) if isinstance(value, tuple) else value

    return eqn.replace(params={name: strip(value) for name, value in eqn.params.items()})


def quiet(program: ClosedJaxpr) -> ClosedJaxpr:
    """The program without the calls in it that are made for their effects alone."""
    results = program.memo.setdefault(quiet, {})
    if () not in results:
        eqns = [left for eqn in program.eqns if (left := without_silent_effects(eqn)) is not None]
        results[()] = ClosedJaxpr(program.jaxpr.replace(eqns=eqns), program.consts)
    found: ClosedJaxpr = results[()]
    return found
