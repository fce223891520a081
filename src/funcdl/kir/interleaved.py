"""Pairs of loads that read neighbours, as the two parts of complex numbers are."""

from __future__ import annotations

from funcdl.kir.index import Index
from funcdl.kir.ir import Kernel, Load


def interleaved(kernel: Kernel) -> dict[int, tuple[int, int]]:
    """The loads of ``x[2 * e]`` and ``x[2 * e + 1]`` for the same positions e.

    Returns:
        For each such load, the id of the first part's and which part it is, 0 or 1.
    """
    places: dict[tuple[str, Index], int] = {}
    for id, load in enumerate(kernel.body):
        if not isinstance(load, Load) or load.mask is not None or load.index.values():
            continue
        if all(coefficient % 2 == 0 for _, coefficient in load.index.terms):
            places[load.buffer, load.index] = id
    found = {}
    for (buffer, index), id in places.items():
        other = places.get((buffer, index + 1))
        if index.offset % 2 == 0 and other is not None:
            found[id] = id, 0
            found[other] = id, 1
    return found
