"""Index expressions as text: what C and Triton spell alike."""

from __future__ import annotations

from collections.abc import Callable

from funcdl.kir.index import Atom, Index


def sum_text(index: Index, atom_text: Callable[[Atom], str]) -> str:
    """``first * 4 - second + 1`` for an index, given the text of each atom.

    Atoms whose text is "0" are left out.
    """
    text = ""
    for atom, coefficient in index.terms:
        factor = atom_text(atom)
        if factor == "0":
            continue
        size = abs(coefficient)
        sign = ("-" if coefficient < 0 else "") if not text else (" - ", " + ")[coefficient > 0]
        text += sign + (factor if size == 1 else f"{factor} * {size}")
    if not text:
        return str(index.offset)
    if index.offset:
        text += f" {'-' if index.offset < 0 else '+'} {abs(index.offset)}"
    return text
