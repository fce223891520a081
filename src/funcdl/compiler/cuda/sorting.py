"""Rows that are too long to be sorted in one block: the pass that finds them, and their kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from funcdl.compiler.lower import LoweredKernel
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Var
from funcdl.kir.cost import Cost
from funcdl.kir.ir import Buffer, Kernel, Library
from funcdl.kir.schedule import sorted_in_a_block
from funcdl.ops.shape import transpose
from funcdl.ops.sort import order, order_rows

Array = np.ndarray[Any, Any]

BLOCK_BYTES = 8 << 10
MAX_BLOCK = 2048
"""What a program of `sort_blocks` takes: bytes of keys, of four or more each, and elements."""


def divide_orders(program: ClosedJaxpr) -> ClosedJaxpr:
    """Put `order_rows` along the last dimension in the place of every `order` of long rows."""
    eqns: list[Eqn] = []
    for eqn in program.jaxpr.eqns:
        eqns += _rows_last(eqn) if _is_long(eqn) else [eqn]
    if not any(eqn.primitive is order_rows for eqn in eqns):
        return program
    return ClosedJaxpr(program.jaxpr.replace(eqns=tuple(eqns)), program.consts)


def _is_long(eqn: Eqn) -> bool:
    if eqn.primitive is not order:
        return False
    length = eqn.invars[0].aval.shape[eqn.params["dimension"]]
    return not sorted_in_a_block(length, [key.aval.dtype for key in eqn.invars])


def _rows_last(eqn: Eqn) -> list[Eqn]:
    dimension, params = eqn.params["dimension"], {"descending": eqn.params["descending"]}
    rank = len(eqn.outvars[0].aval.shape)
    turn = [d for d in range(rank) if d != dimension] + [dimension]
    if dimension == rank - 1:
        return [Eqn(order_rows, eqn.invars, eqn.outvars, params, eqn.source)]
    eqns = [_transposed(eqn, key, turn) for key in eqn.invars]
    keys = [turned.outvars[0] for turned in eqns]
    found = Var(order_rows.output_avals([key.aval for key in keys], params)[0])
    eqns.append(Eqn(order_rows, keys, [found], params, eqn.source))
    back = _transposed(eqn, found, [turn.index(d) for d in range(rank)])
    return [*eqns, back.replace(outvars=eqn.outvars)]


def _transposed(eqn: Eqn, x: Any, permutation: Sequence[int]) -> Eqn:
    params = {"permutation": tuple(permutation)}
    (aval,) = transpose.output_avals([x.aval], params)
    return Eqn(transpose, [x], [Var(aval)], params, eqn.source)


def sorting_kernels(eqn: Eqn, name: str) -> list[LoweredKernel] | None:
    """The kernels of an `order_rows`, None of any other equation.

    The runs that one pass merges into the second of two memories the next one merges back into the
    first, so that the last pass writes the result.
    """
    if eqn.primitive is not order_rows:
        return None
    (result,) = eqn.outvars
    block, length = _block(eqn), result.aval.shape[-1]
    passes = max(-(-length // block) - 1, 0).bit_length()
    memories = [_Memory(eqn, result), _Memory(eqn, Var(result.aval))]
    first = memories[passes % 2]
    given = {f"given_{n}": key for n, key in enumerate(eqn.invars)}
    kernels = [_lowered(eqn, f"{name}_blocks", "sort_blocks", given, first.variables(""))]
    for number in range(passes, 0, -1):
        source, target = memories[number % 2], memories[(number - 1) % 2]
        read, written = source.variables(""), target.variables("merged_")
        kernels.append(_lowered(eqn, f"{name}_merge", "merge_runs", read, written))
    return kernels


def _block(eqn: Eqn) -> int:
    width = sum(max(key.aval.dtype.itemsize, 4) for key in eqn.invars)
    return min(1 << (BLOCK_BYTES // width).bit_length() - 1, MAX_BLOCK)


class _Memory:
    """The variables of sorted runs: keys, places, and how long the runs are."""

    def __init__(self, eqn: Eqn, places: Var) -> None:
        keys = [ShapedArray(key.aval.shape, key.aval.dtype) for key in eqn.invars]
        self._all = {f"key_{n}": Var(key) for n, key in enumerate(keys)}
        self._all["places"] = places
        self._all["run"] = Var(ShapedArray((1,), np.dtype(np.int64)))

    def variables(self, prefix: str) -> dict[str, Var]:
        return {f"{prefix}{name}": var for name, var in self._all.items()}


def _lowered(
    eqn: Eqn, name: str, function: str, read: Mapping[str, Any], written: Mapping[str, Var]
) -> LoweredKernel:
    buffers = [Buffer(n, v.aval.dtype, v.aval.size, "in") for n, v in read.items()]
    buffers += [Buffer(n, v.aval.dtype, v.aval.size, "out") for n, v in written.items()]
    shape = eqn.outvars[0].aval.shape
    length, block, count = shape[-1], _block(eqn), len(eqn.invars)
    rows = eqn.outvars[0].aval.size // length
    in_order = order_rows.impl
    assert in_order is not None

    def run(arrays: Mapping[str, Array]) -> None:
        whole = {n: x.reshape(-1, length) for n, x in arrays.items() if not n.endswith("run")}
        if function == "sort_blocks":
            old, new, after = "given_", "", block
            places = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
        else:
            old, new, after = "key_", "merged_", 2 * int(arrays["run"][0])
            places = whole["places"]
        keys = [whole[f"{old}{n}"] for n in range(count)]
        for start in range(0, length, after):
            part = np.s_[:, start : start + after]
            # Runs follow each other as their elements do, so that any stable order merges them.
            at = in_order(*(k[part] for k in keys), **eqn.params)
            for n, key in enumerate(keys):
                whole[f"{new}key_{n}"][part] = np.take_along_axis(key[part], at, 1)
            whole[f"{new}places"][part] = np.take_along_axis(places[part], at, 1)
        arrays[f"{new}run"][0] = after

    problem = {
        "rows": rows,
        "length": length,
        "dtypes": tuple(key.aval.dtype for key in eqn.invars),
        "descending": eqn.params["descending"],
        "block": block,
    }
    cost = Cost(
        bytes_read=sum(v.aval.nbytes for v in read.values()),
        bytes_written=sum(v.aval.nbytes for v in written.values()),
    )
    library = Library(function, tuple(problem.items()), cost, run)
    return LoweredKernel(
        Kernel(name, tuple(buffers), (), (), library), {**read, **written}, eqn.source
    )
