"""Kernels with a blocked `Dot`: tiles, a micro-kernel, and an epilogue on each tile.

The product is computed in tiles of m by n positions, in a local array that stays in the cache until
the epilogue has read it. Rows of the right operand are read where they are if their columns are
contiguous; else the operand is packed first, for all of n, into panels of a few columns. The left
operand is never packed. Where columns are too few to fill a vector, vectors run along k, and what
is packed is the right operand's transpose. What is no plain load is evaluated into a small array
first, in vectors, one block of k after the other.

Rows of a tile are short and far apart in memory, so that the processor does not see what the
epilogue will read and write. The product's loops have the cache fetch it meanwhile.

Threads share the tiles. With many batch elements of small matrices, they share these instead, and
each thread packs for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod

from funcdl.core.integers import round_up
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import PARALLEL, Action, Loop, Nest, share
from funcdl.kernels.cpu_c.memory import STACK_BYTES, heap_array, stack_array
from funcdl.kernels.cpu_c.parameters import Number, Parameters, generic_parameters
from funcdl.kernels.cpu_c.text import Writer, factor
from funcdl.kernels.cpu_c.tiled import Tiled
from funcdl.kir.dot import (
    VECTOR_BYTES,
    has_strides,
    is_strided,
    reads_in_place,
)
from funcdl.kir.ir import Dot, Effect, Kernel, Load, Store, operands
from funcdl.kir.schedule import Schedule

# A multiple of every micro-kernel's width, which tiles of packed columns must be; and how many
# columns are packed at a time.
COLUMN_UNIT = 32
PACKED_COLUMNS = 3 * COLUMN_UNIT
# What arrays on the stack have room for along a generic axis: rows of a tile, terms of a block.
MOST_ROWS = 128
MOST_TERMS = 256
# With less than this, in bytes, what the epilogue reads and writes is near anyway; with fewer terms
# there is no time to fetch it.
FETCHED_BYTES = 128 * 1024
FETCHED_TERMS = 64
# A product that is stored as it is goes to its place at once, where it has no more terms than this:
# fd_gemm adds those of later blocks to what it has stored, which is far apart there. (Measured: 2
# to 3 % faster up to 1024 terms, 3 to 10 % slower from 2048 on.)
DIRECT_TERMS = 1024


def is_blocked(kernel: Kernel, schedule: Schedule) -> bool:
    """Whether the kernel has a product for the micro-kernels, no sum: its k is tiled and left.

    Vectors run along the columns, or along k where the schedule says so. Then the tile has all of
    k, unlike the blocks of a long sum.
    """
    for instruction in kernel.body:
        if isinstance(instruction, Dot):
            extent = kernel.axis(instruction.k).extent
            steps = schedule.of(instruction.k)
            kinds = [step.kind for step in steps]
            along = kinds == ["tile", "vector"] and steps[0].size >= extent
            return extent > 0 and (kinds == ["tile"] or along)
    return False


def render_dot(kernel: Kernel, schedule: Schedule, writer: Writer) -> tuple[Number, ...]:
    """Write the body of the C function of a kernel with a blocked product (see `is_blocked`).

    Returns the function's parameters.
    """
    dot = next(i for i in kernel.body if isinstance(i, Dot))
    parameters = generic_parameters(kernel, {dot.m, dot.n, dot.k})
    if parameters.axis == dot.n:
        parameters = Parameters()
    _DotRenderer(kernel, schedule, writer, parameters).render()
    return parameters.numbers


class _DotRenderer:
    def __init__(
        self, kernel: Kernel, schedule: Schedule, writer: Writer, parameters: Parameters
    ) -> None:
        self.kernel = kernel
        self.writer = writer
        self.expressions = Expressions(kernel, parameters)
        self.nest = Nest(kernel, writer, self.expressions)
        self.id, self.dot = next((id, i) for id, i in enumerate(kernel.body) if isinstance(i, Dot))
        self.type = text.type_name(self.dot.type.dtype)
        self.short = text.short_name(self.dot.type.dtype)
        self.sizes = {step.axis: step.size for step in reversed(schedule.steps)}
        self.m = self._tiled(self.dot.m, room=MOST_ROWS, looped=True)
        self.k = self._tiled(self.dot.k, room=MOST_TERMS)
        self.dots = any(step.kind == "vector" for step in schedule.of(self.dot.k))
        self.in_place = self._in_place()
        self.n = self._tiled(self.dot.n, 1 if self.in_place else COLUMN_UNIT)
        product = (self.dot.m, self.dot.n, self.dot.k)
        self.batch = [a.name for a in kernel.axes if a.name not in product and a.extent != 1]
        parallel = {step.axis for step in schedule.steps if step.kind == "parallel"}
        self.parallel = bool(parallel)
        self.share_batch = bool(parallel.intersection(self.batch)) and not self.in_place
        several = self.m.extent > self.m.size or not self.n.single
        self.share_tiles = bool(parallel) and not self.share_batch and several
        rhs_axes = kernel.value_type(self.dot.rhs).axes
        self.pack_once = not any(axis in rhs_axes for axis in self.batch)
        self.direct = self._direct()

    def _tiled(self, axis: str, unit: int = 1, *, room: int = 0, looped: bool = False) -> Tiled:
        extent = self.kernel.axis(axis).extent
        size = round_up(self.sizes.get(axis, extent), unit)
        size = max(1, min(size, extent))
        name = self.expressions.axis_name(axis)
        if axis != self.expressions.parameters.axis:
            return Tiled(axis, extent, size, name)
        bound = self.expressions.extent(axis)
        step = self.expressions.chunk(axis, size) if looped or size < extent else bound
        return Tiled(axis, extent, size, name, (bound, step), room, looped)

    def _in_place(self) -> bool:
        """Whether the right operand is read where it is; no tile may be narrower than a vector."""
        if self.dots:
            rhs = self.kernel.body[self.dot.rhs]
            return isinstance(rhs, Load) and rhs.index.coefficient(self.dot.k) == 1
        n = self._tiled(self.dot.n)
        narrowest = n.size if n.whole else n.extent % n.size
        wide = narrowest * self.dot.type.dtype.itemsize >= VECTOR_BYTES
        return wide and self.k.single and reads_in_place(self.kernel, self.dot)

    def _direct(self) -> Store | None:
        """The store of the product, if that is all the kernel does, in rows of whole vectors."""
        effects = [i for i in self.kernel.body if isinstance(i, Effect)]
        store = effects[0]
        if len(effects) > 1 or not isinstance(store, Store) or store.value != self.id:
            return None
        rows, columns = self.m.axis, self.n.axis
        index, itemsize = store.index, self.dot.type.dtype.itemsize
        whole = all(size * itemsize % VECTOR_BYTES == 0 for size in (self.n.size, self.n.extent))
        short = self.k.single and self.k.extent <= DIRECT_TERMS
        fits = (
            (whole or self.in_place or self.dots)
            and (short or self.dots)
            and store.mask is None
            and not self.kernel.buffer(store.buffer).may_alias
            and (index.coefficient(columns) == 1 or (self.dots and self.n.extent == 1))
            and has_strides(index, {rows, columns})
            and {*self.dot.type.axes, *self.batch} <= set(index.axes())
        )
        return store if fits else None

    def render(self) -> None:
        strip = f"FD_NR_{self.short.upper()}"
        if self.direct is None:
            self.writer.line(f"enum {{ tile_columns = {_round_up(self.n.size, strip)} }};")
        if self.in_place:
            loops = [*self.batch_loops(), *self.m.tiles(), *self.n.tiles()]
            self.nest.write(share(loops, PARALLEL) if self.parallel else loops, inside=self.tile)
            return
        columns = str(self.n.extent) if self.dots else _round_up(self.n.extent, strip)
        self.writer.line(f"enum {{ rhs_columns = {columns} }};")
        if self.pack_once or not self.share_batch:
            with self.panels():
                if self.pack_once:
                    self.pack_rhs()
                self.nest.write(self.batch_loops(), inside=self.batch_element)
        else:
            self.nest.write(self.batch_loops(), inside=self.batch_element)

    @contextmanager
    def panels(self) -> Iterator[None]:
        """The right operand's packed panels, on the stack or on the heap."""
        size = f"{self.k.bound} * rhs_columns"
        columns = self.n.extent + COLUMN_UNIT
        if self.k.generic:
            yield from self._generic_panels(size)
            return
        if self.k.extent * columns * self.dot.type.dtype.itemsize <= STACK_BYTES:
            self.writer.line(stack_array(self.type, "rhs_panels", size))
            yield
            return
        with heap_array(self.writer, self.type, "rhs_panels", size):
            yield

    def _generic_panels(self, size: str) -> Iterator[None]:
        line, kind = self.writer.line, self.type
        line(f"const int64_t rhs_bytes = (int64_t)sizeof({kind}) * {size};")
        line(f"enum {{ rhs_limit = {STACK_BYTES} }};")
        line(stack_array(kind, "rhs_near", f"rhs_bytes > rhs_limit ? 1 : {size}"))
        line(f"{kind} *rhs_panels = rhs_near;")
        line("if (rhs_bytes > rhs_limit) rhs_panels = fd_take(rhs_bytes, missing);")
        with self.writer.block("if (rhs_panels != NULL)"):
            yield
            line("if (rhs_bytes > rhs_limit) free(rhs_panels);")

    def batch_loops(self) -> list[Loop]:
        names = [self.expressions.axis_name(axis) for axis in self.batch]
        loops = [
            Loop(axis, "loop", name, "0", self.expressions.extent(axis))
            for axis, name in zip(self.batch, names, strict=True)
        ]
        return share(loops, PARALLEL) if self.share_batch else loops

    def batch_element(self) -> None:
        """The whole product of one batch element."""
        if not self.pack_once and self.share_batch:
            with self.panels():
                self.pack_rhs()
                self.tiles()
            return
        if not self.pack_once:
            self.pack_rhs()
        self.tiles()

    def pack_rhs(self) -> None:
        size = min(PACKED_COLUMNS, self.n.size)
        columns = replace(self.n, size=size)
        self.writer.comment(f"panels of v{self.dot.rhs}")
        loops = [*self.k.tiles(), *columns.tiles()]
        self.share(loops, lambda: self.pack(columns))

    def tiles(self) -> None:
        self.writer.comment(f"tiles of v{self.id}, and what follows from them")
        self.share([*self.m.tiles(), *self.n.tiles()], self.tile)

    def share(self, loops: list[Loop], inside: Callable[[], None]) -> None:
        """Loops that threads share, in a parallel region of their own: regions have no barriers."""
        shared = self.share_tiles and bool(loops)
        self.nest.write(share(loops, PARALLEL) if shared else loops, inside=inside)

    def tile(self) -> None:
        """One tile of the product, and what follows from it."""
        if self.direct is not None:
            self.nest.write(self.k.tiles(), inside=self.multiply)
            return
        size = f"{self.m.most} * tile_columns"
        self.writer.line(stack_array(self.type, "product", size))
        axes = self.dot.type.axes
        row = factor(self.m.inside) if self.m.axis in axes else "0"
        column = self.n.inside if self.n.axis in axes else "0"
        self.expressions.elements[self.id] = f"product[{row} * tile_columns + {column}]"
        self.nest.write(self.k.tiles(), inside=self.multiply)
        self.epilogue()

    def multiply(self) -> None:
        """Add to the tile what one block of k gives."""
        lhs, strides = self.operand("lhs_values", self.dot.lhs, self.m, self.k)
        if self.dots:
            self.multiply_along_terms(lhs, strides[0])
            return
        if self.in_place:
            load = self.kernel.body[self.dot.rhs]
            assert isinstance(load, Load)
            columns, rhs = self.n.count, self.element(load, self.k, self.n)
            rhs_strides = str(self.stride(load, self.k)), f"FD_NR_{self.short.upper()}"
        else:
            strip = f"FD_NR_{self.short.upper()}"
            columns = self.whole_vectors(self.n.count)
            rhs, rhs_strides = self.panel(self.n), (strip, f"{strip} * ({self.k.count})")
        accumulate = "0" if self.k.single else f"{self.k.first} > 0"
        arguments = [self.m.count, columns, self.k.count, lhs, *strides]
        arguments += [rhs, *rhs_strides, *self.result(), accumulate]
        function = f"fd_gemm_{self.short}"
        accesses = self.fetched()
        if accesses:
            function = f"fd_gemm_ahead_{self.short}"
            arguments += [str(len(accesses)), self.ahead(accesses)]
        self.writer.call(function, arguments)

    def multiply_along_terms(self, lhs: str, row: str) -> None:
        """The tile with vectors along k."""
        rhs, column = "rhs_panels", self.k.count
        if self.in_place:
            load = self.kernel.body[self.dot.rhs]
            assert isinstance(load, Load)
            rhs, column = self.element(load, self.k, self.n), str(self.stride(load, self.n))
        arguments = [self.m.count, self.n.count, self.k.count, lhs, row, rhs, column]
        self.writer.call(f"fd_dots_{self.short}", [*arguments, *self.result()])

    def result(self) -> list[str]:
        """Where a tile of the product goes, and its stride from row to row."""
        if self.direct is None:
            return ["product", "tile_columns"]
        place = self.element(self.direct, self.m, self.n)
        return [place, str(self.stride(self.direct, self.m))]

    def fetched(self) -> list[Load | Store]:
        """What the epilogue reads and writes row by row; what may be one array is named once."""
        if self.k.extent < FETCHED_TERMS and not self.k.generic:
            return []
        body = self.kernel.body
        effects = [i for i in body if isinstance(i, Effect)]
        values = self.nest.needed(id for effect in effects for id in operands(effect))
        found: list[Load | Store] = []
        for access in (*effects, *(body[id] for id in values)):
            if not isinstance(access, Load | Store) or access.mask is not None:
                continue
            alias = self.kernel.buffer(access.buffer).may_alias
            index, rows, columns = access.index, self.m.axis, self.n.axis
            if (
                index.coefficient(columns) == 1
                and index.coefficient(rows) != 0
                and has_strides(index, {rows, columns})
                and not (alias and isinstance(access, Load))
            ):
                found.append(access)
        return found if sum(self.bytes(access) for access in found) >= FETCHED_BYTES else []

    def bytes(self, access: Load | Store) -> int:
        """The size of what an access reads or writes; a generic axis counts as if it were short."""
        sizes = {axis.name: axis.extent for axis in self.kernel.axes}
        sizes[self.expressions.parameters.axis] = MOST_ROWS
        itemsize = self.kernel.buffer(access.buffer).dtype.itemsize
        return itemsize * prod(sizes[axis] for axis in access.index.axes())

    def ahead(self, accesses: list[Load | Store]) -> str:
        """Declare the tiles of some arrays; the declaration's name."""
        with self.writer.block("const fd_ahead tile_arrays[] =", end="};"):
            for access in accesses:
                item = f"sizeof({text.type_name(self.kernel.buffer(access.buffer).dtype)})"
                row = f"{self.stride(access, self.m)} * {item}"
                self.writer.line(f"{{{self.element(access, self.m, self.n)}, {row}, {item}}},")
        return "tile_arrays"

    def whole_vectors(self, count: str) -> str:
        lanes = f"FD_LANES_{self.short.upper()}"
        return f"({count} + {lanes} - 1) / {lanes} * {lanes}"

    def panel(self, columns: Tiled) -> str:
        """The panel of this block of k where the tile of `columns` begins."""
        depth = f"({self.k.count})" if not self.k.whole else self.k.count
        parts = ["rhs_panels"]
        if not self.k.single:
            parts.append(f"{self.k.first} * rhs_columns")
        if not columns.single:
            parts.append(f"{columns.first} * {depth}")
        return " + ".join(parts)

    def pack(self, columns: Tiled) -> None:
        """Pack one block of k of some columns of the right operand."""
        source, strides = self.operand("rhs_values", self.dot.rhs, self.k, columns)
        if self.dots:  # columns one after the other
            turn = f"fd_turn_{self.dot.type.dtype.itemsize}"
            arguments = ["rhs_panels", self.k.count, source, strides[0]]
            self.writer.call(turn, [*arguments, self.k.count, columns.count])
            return
        arguments = [self.panel(columns), source, *strides, self.k.count, columns.count]
        self.writer.call(f"fd_pack_{self.short}", arguments)

    def operand(
        self, name: str, id: int, rows: Tiled, columns: Tiled
    ) -> tuple[str, tuple[str, str]]:
        """Where a block of an operand begins, and its strides; evaluated unless a plain load."""
        load = self.kernel.body[id]
        if not self.is_plain(id):
            return self.evaluate(name, id, rows, columns)
        assert isinstance(load, Load)
        strides = str(self.stride(load, rows)), str(self.stride(load, columns))
        return self.element(load, rows, columns), strides

    def evaluate(
        self, name: str, operand: int, rows: Tiled, columns: Tiled
    ) -> tuple[str, tuple[str, str]]:
        """Compute a block of an operand into an array; its name and strides."""
        values = self.nest.needed([operand])
        outer, inner = rows, columns
        if self.unit_strides(values, rows) > self.unit_strides(values, columns):
            outer, inner = columns, rows
        self.writer.line(stack_array(self.type, name, f"{outer.most} * {inner.most}"))
        element = f"{name}[{factor(outer.inside)} * {inner.step} + {inner.inside}]"
        self.expressions.vector_axis = inner.axis
        action = Action(
            lambda: [f"{element} = {self.expressions.value(operand)};"], (outer.axis, inner.axis)
        )
        loops = [outer.positions(), inner.positions("#pragma omp simd")]
        self.nest.write(loops, values, [action])
        return name, (inner.step, "1") if outer is rows else ("1", inner.step)

    def unit_strides(self, values: list[int], tiled: Tiled) -> int:
        loads = [i for i in (self.kernel.body[id] for id in values) if isinstance(i, Load)]
        return sum(abs(load.index.coefficient(tiled.axis)) == 1 for load in loads)

    def epilogue(self) -> None:
        """Loops over the tile that compute from the product and store."""
        effects = [i for i in self.kernel.body if isinstance(i, Effect)]
        self.expressions.vector_axis = self.n.axis
        self.nest.write(
            [self.m.positions(), self.n.positions("#pragma omp simd")],
            self.nest.needed(id for effect in effects for id in operands(effect)),
            [self.nest.effect(effect) for effect in effects],
        )

    def is_plain(self, operand: int) -> bool:
        return is_strided(self.kernel, self.dot, operand)

    def element(self, access: Load | Store, rows: Tiled, columns: Tiled) -> str:
        """The address of the first element of a block."""
        at = {tiled.axis: tiled.first for tiled in (rows, columns)}
        index = self.expressions.index(access.index, narrow=False, at=at)
        return f"&{self.expressions.buffer_name(access.buffer)}[{index}]"

    def stride(self, access: Load | Store, tiled: Tiled) -> int:
        return access.index.coefficient(tiled.axis)


def _round_up(size: int, unit: str) -> str:
    return f"({size} + {unit} - 1) / {unit} * {unit}"
