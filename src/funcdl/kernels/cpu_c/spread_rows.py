"""Short rows one after the other as one vector loop, beside values of single rows.

A tile has as many rows as a vector has lanes. First the values of its rows, a vector of each, then
as many vectors of elements as a row is long; each shuffles the rows' values to where its elements
are (fd_spread.h). What varies along a row is repeated in arrays as long as a tile, before the tiles
of one run of rows. Rows that fill no tile are loops of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from funcdl.core import dtypes
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.loops import Loop, Nest
from funcdl.kernels.cpu_c.memory import stack_array
from funcdl.kernels.cpu_c.text import POSITION
from funcdl.kir.flat_rows import FlatRows
from funcdl.kir.ir import Store, operands

_SIMD = "#pragma omp simd"


def write_spread_rows(nest: Nest, loops: Sequence[Loop], flat: FlatRows) -> None:
    """The loops, and in them all that the nest's kernel computes."""
    kernel = nest.kernel
    *outer, rows, row = loops
    stores = [i for i in kernel.body if isinstance(i, Store)]
    roots = [id for store in stores for id in operands(store)]
    # A tile starts at this row; positions along a row run on through the rows of a tile.
    start = f"{rows.variable}_tile"
    lanes = f"FD_SPREAD_{flat.itemsize}"
    tile = replace(rows, variable=start, step=lanes, whole=False)

    def elsewhere() -> list[int]:
        own = {rows.axis, row.axis}
        return [id for id in nest.needed(roots) if own.isdisjoint(kernel.value_type(id).axes)]

    def whole() -> None:
        _write_rows(nest, rows, flat, lanes)
        nest.writer.line(f"const {POSITION} {rows.variable} = {start};")
        _write_elements(nest, row, flat, lanes, roots, stores)

    def tiles() -> None:
        extent = int(rows.end) if rows.end.isdigit() else 1
        if extent % flat.rows == 0:
            whole()
            return
        with nest.writer.block(f"if ({start} + {lanes} <= {rows.end})"):
            whole()
        with nest.writer.block("else"):
            single = replace(rows, begin=start, pragma="", before=(), after=(), joined=False)
            with nest.expressions.scope():
                for id in flat.repeated:
                    nest.expressions.bind(id, f"rows{id}[{row.variable}]")
                actions = [nest.effect(store) for store in stores]
                nest.write([single, row], nest.needed(roots), actions)

    def begin() -> None:
        nest.writer.comment("the row of each element of a tile")
        kind = f"int{8 * flat.itemsize}_t"
        nest.writer.line(stack_array(kind, "row_of", f"{lanes} * {flat.length}"))
        nest.writer.line(f"fd_rows_{flat.itemsize}(row_of, {flat.length});")
        if flat.within:
            nest.write(outer, elsewhere(), inside=run)
        else:
            _repeat(nest, row, flat, lanes)
            nest.write([*outer, tile], elsewhere(), inside=tiles)

    def run() -> None:
        _repeat(nest, row, flat, lanes)
        nest.write([tile], inside=tiles)

    scalars = [id for id in nest.needed(roots) if not kernel.value_type(id).axes]
    nest.write([], scalars, inside=begin)


def _repeat(nest: Nest, row: Loop, flat: FlatRows, lanes: str) -> None:
    """What is the same in all rows, once for each row of a tile."""
    writer = nest.writer
    if not flat.repeated:
        return
    writer.comment(f"what {lanes} rows read")
    for id in flat.repeated:
        kind = text.type_name(nest.kernel.value_type(id).dtype)
        writer.line(stack_array(kind, f"rows{id}", f"{lanes} * {flat.length}"))
    nest.write(
        [replace(row, pragma="")],
        nest.needed(flat.repeated),
        keep=lambda id: [f"rows{id}[{row.variable}] = v{id};"] if id in flat.repeated else [],
    )
    with writer.block(f"for ({POSITION} lane = 1; lane < {lanes}; ++lane)"):
        for id in flat.repeated:
            size = f"{flat.length} * sizeof *rows{id}"
            writer.line(f"memcpy(rows{id} + lane * {flat.length}, rows{id}, {size});")


def _write_rows(nest: Nest, rows: Loop, flat: FlatRows, lanes: str) -> None:
    """The values of the rows of a tile, as vectors."""
    expressions = nest.expressions
    for id in flat.spread:
        nest.writer.line(stack_array(_kind(nest, id, flat.itemsize), f"row{id}", lanes))
    first = f"const {POSITION} {rows.variable} = {rows.variable}_tile + lane;"
    loop = Loop(rows.axis, "vector", "lane", "0", lanes, pragma=_SIMD, first=(first,))
    along, expressions.vector_axis = expressions.vector_axis, rows.axis
    nest.write(
        [loop],
        nest.needed(flat.spread),
        keep=lambda id: [f"row{id}[lane] = v{id};"] if id in flat.spread else [],
    )
    expressions.vector_axis = along


def _write_elements(
    nest: Nest,
    row: Loop,
    flat: FlatRows,
    lanes: str,
    roots: Sequence[int],
    stores: Sequence[Store],
) -> None:
    """The elements of a tile, vector by vector."""
    position, vector = row.variable, f"{row.variable}_group"
    spread: list[str] = []
    for id in flat.spread:
        spread.append(stack_array(_kind(nest, id, flat.itemsize), f"of{id}", lanes))
        spread.append(f"fd_spread_{flat.itemsize}(of{id}, row{id}, row_of + {vector});")
    vectors = Loop(
        row.axis,
        "tile",
        vector,
        "0",
        f"{lanes} * {flat.length}",
        lanes,
        first=tuple(spread),
        whole=False,
    )
    first = f"const {POSITION} {position} = {vector} + lane;"
    elements = Loop(row.axis, "vector", "lane", "0", lanes, pragma=_SIMD, first=(first,))
    with nest.expressions.scope():
        for id in flat.repeated:
            nest.expressions.bind(id, f"rows{id}[{position}]")
        for id in flat.spread:
            nest.expressions.bind(id, f"of{id}[lane]")
        actions = [nest.effect(store) for store in stores]
        nest.write([vectors, elements], nest.needed(roots), actions)


def _kind(nest: Nest, id: int, itemsize: int) -> str:
    """The type of a row's value in its vector: truth values are as wide as the others."""
    dtype = nest.kernel.value_type(id).dtype
    return f"int{8 * itemsize}_t" if dtypes.is_bool(dtype) else text.type_name(dtype)
