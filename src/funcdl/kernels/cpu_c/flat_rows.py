"""Short rows one after the other as one vector loop, beside what all rows read.

A row of three numbers fills a part of a vector only. A tile of such rows (kir/flat_rows.py) is one
loop over neighbours. What varies along a row is repeated in arrays as long as a tile, once for all
tiles, so that every vector is read and written whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.loops import Loop, Nest
from funcdl.kernels.cpu_c.memory import stack_array
from funcdl.kernels.cpu_c.spread_rows import write_spread_rows
from funcdl.kir.flat_rows import FlatRows, flat_rows
from funcdl.kir.ir import Kernel, Store, operands


def rows_in_loops(kernel: Kernel, loops: Sequence[Loop]) -> FlatRows | None:
    """The short rows of a kernel without reductions, if they are the innermost of its loops."""
    if len(loops) < 2 or loops[-1].kind != "vector" or not all(loop.whole for loop in loops):
        return None
    flat = flat_rows(kernel, loops[-2].axis, loops[-1].axis)
    # Nothing can stand between loops that threads share as one.
    shared = len(loops) > 2 and loops[-3].joined
    return None if flat is not None and flat.within and shared else flat


def write_flat_rows(nest: Nest, loops: Sequence[Loop], flat: FlatRows) -> None:
    """The loops, and in them all that the nest's kernel computes."""
    if flat.spread:
        write_spread_rows(nest, loops, flat)
        return
    kernel, writer, expressions = nest.kernel, nest.writer, nest.expressions
    *outer, rows, row = loops
    position, size = row.variable, flat.rows * flat.length
    stores = [i for i in kernel.body if isinstance(i, Store)]
    roots = [id for store in stores for id in operands(store)]

    def keep(id: int) -> list[str]:
        return [f"rows{id}[{position}] = v{id};"] if id in flat.repeated else []

    def inside() -> None:
        writer.comment(f"what {flat.rows} rows read, which are one loop")
        for id in flat.repeated:
            kind = text.type_name(kernel.value_type(id).dtype)
            writer.line(stack_array(kind, f"rows{id}", size))
        nest.write([replace(row, pragma="")], nest.needed(flat.repeated), keep=keep)
        with writer.block(nest.head(replace(row, begin=row.end, end=str(size)))):
            for id in flat.repeated:
                writer.line(f"rows{id}[{position}] = rows{id}[{position} - {flat.length}];")
        for id in flat.repeated:
            expressions.bind(id, f"rows{id}[{position}]")
        end, after = f"{rows.variable}_end", f"{rows.variable} + {flat.rows}"
        first = f"const {text.POSITION} {end} = {after} < {rows.end} ? {after} : {rows.end};"
        tile = replace(rows, step=flat.rows, first=(*rows.first, first))
        # Positions along a row run on through the rows of a tile.
        whole = replace(row, end=f"({end} - {rows.variable}) * {flat.length}")
        actions = [nest.effect(store) for store in stores]
        nest.write([*outer, tile, whole], nest.needed(roots), actions)

    scalars = [id for id in nest.needed(roots) if not kernel.value_type(id).axes]
    nest.write([], scalars, inside=inside)
