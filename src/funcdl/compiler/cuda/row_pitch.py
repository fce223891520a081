"""Temporaries whose rows would begin at odd addresses get longer rows (`kir.pitched_rows`).

For example the logits of 50257 classes in a half type, which a product stores, the loss reads, and
whose gradient goes into two products: all of them move 16 bytes at a time then, in place of two.

Only what the kernels of one program write and read is concerned: arguments and results have the
layout that callers know, and hand-written kernels, loops and the host take dense arrays. So the
pass runs last, when it is known which kernels there are. What only elementwise kernels touch stays
dense: these take it as one long row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from funcdl.compiler.loops import LoopStep
from funcdl.compiler.lower import LoweredKernel
from funcdl.compiler.steps import HostStep, Step, kernels_of, step_uses
from funcdl.core.avals import ShapedArray
from funcdl.core.integers import round_up
from funcdl.core.jaxpr import Var
from funcdl.kir.pitched_rows import Rows, goes_along, pitch_rows, stored_rows

VECTOR_BYTES = 16
# Rows of fewer elements would become longer by more than a sixteenth.
MIN_LENGTH = 256
# To what multiple rows become longer; that of long ones is a line of the cache of half types. It
# does not depend on the element type, so that one axis can go along rows of several.
FEW, MANY, LONG = 16, 64, 4096


def align_rows(steps: Sequence[Step], outputs: Iterable[Var]) -> list[Step]:
    """Give temporaries rows that begin at multiples of 16 bytes.

    Args:
      steps: the kernels of a program, in order.
      outputs: what the program returns.
    """
    fixed = {*outputs}
    users: dict[Var, list[tuple[LoweredKernel, str]]] = {}
    for step in steps:
        if isinstance(step, HostStep | LoopStep):
            fixed |= {var for var, _ in step_uses(step)}
            fixed |= {var for lowered in kernels_of(step) for var in lowered.variables}
            continue
        for lowered in step:
            for name, var in lowered.names.items():
                users.setdefault(var, []).append((lowered, name))
    found = {var: _rows(var, uses) for var, uses in users.items() if var not in fixed}
    chosen = {var: rows for var, rows in found.items() if rows is not None}
    if not chosen:
        return [*steps]
    longer = {var: _longer(var, rows) for var, rows in chosen.items()}
    return [
        step
        if isinstance(step, HostStep | LoopStep)
        else [_pitched(k, chosen, longer) for k in step]
        for step in steps
    ]


def _rows(var: Var, uses: Sequence[tuple[LoweredKernel, str]]) -> Rows | None:
    """The rows to be given to a variable; None where it stays as it is."""
    writers = [(k, name) for k, name in uses if k.kernel.buffer(name).role != "in"]
    if len(writers) != 1 or not var.aval.size:
        return None
    ((writer, name),) = writers
    if writer.kernel.buffer(name).role != "out":
        return None
    length = stored_rows(writer.kernel, name)
    if length is None or length < MIN_LENGTH or length == var.aval.size:
        return None
    if length * var.aval.dtype.itemsize % VECTOR_BYTES == 0:
        return None
    rows = Rows(length, round_up(length, FEW if length < LONG else MANY))
    if not any(goes_along(k.kernel, name, length) for k, name in uses):
        return None
    fits = all(pitch_rows(k.kernel, {name: rows}) is not None for k, name in uses)
    return rows if fits else None


def _longer(var: Var, rows: Rows) -> Var:
    """A variable with room for longer rows."""
    shape = var.aval.shape
    last = (*shape[:-1], rows.pitch)
    whole = (var.aval.size // rows.length * rows.pitch,)
    return Var(ShapedArray(last if shape[-1:] == (rows.length,) else whole, var.aval.dtype))


def _pitched(
    lowered: LoweredKernel, chosen: dict[Var, Rows], longer: dict[Var, Var]
) -> LoweredKernel:
    names = lowered.names
    rows = {name: chosen[var] for name, var in names.items() if var in chosen}
    if not rows:
        return lowered
    kernel = pitch_rows(lowered.kernel, rows)
    assert kernel is not None, "kernels take each of these rows by itself"
    names = {name: longer.get(var, var) for name, var in names.items()}
    return LoweredKernel(kernel, names, lowered.source)
