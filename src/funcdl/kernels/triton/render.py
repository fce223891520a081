"""Kernel IR to Triton source: one `triton.jit` function for each kernel.

Axes with a ``vector`` record are the dimensions of the kernel's blocks. Every value keeps all these
dimensions, with size 1 along those that it does not vary over (``[BI, 1]``), so that values meet by
broadcasting alone; a value that varies over none is a scalar. A matrix product has three kinds of
blocks, (m, k), (k, n) and (m, n), so there an axis's dimension depends on where the value is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from funcdl.kernels.triton import text
from funcdl.kir import elementwise
from funcdl.kir.ir import (
    AtomicUpdate,
    Bitcast,
    Cast,
    Const,
    Dot,
    Effect,
    Elementwise,
    IndexValue,
    Instruction,
    Kernel,
    Load,
    Reduce,
    Select,
    Store,
    ValueType,
    operands,
)
from funcdl.kir.index import Index
from funcdl.kir.schedule import Schedule, Step

DotPrecision = Literal["ieee", "tf32", "tf32x3"]

_MAX_PROGRAMS = 2**31 - 1
_INT32_MAX = 2**31 - 1


class UnsupportedKernel(NotImplementedError):
    """A kernel that this renderer cannot express; names the kernel and the instruction."""


@dataclass(frozen=True, slots=True)
class TritonKernel:
    """Source of one kernel and how it is launched.

    `source` is the text of a Python file that defines the `triton.jit` function `name`. `grid` is
    the number of program instances along each launch dimension; where it holds a zero there is
    nothing to launch. `signature` gives the parameters in order with Triton's pointer types.
    """

    source: str
    name: str
    grid: tuple[int, ...]
    num_warps: int
    num_stages: int
    signature: dict[str, str]


def render_kernel(
    kernel: Kernel, schedule: Schedule, dot_precision: DotPrecision = "ieee"
) -> TritonKernel:
    """Write `kernel` as Triton source, laid out as `schedule` says.

    `dot_precision` is what a float32 product may round its factors to. Raises `UnsupportedKernel`
    for what Triton cannot express (complex numbers, operations without a Triton spelling, ordered
    updates).
    """
    return _Renderer(kernel, schedule, dot_precision).render()


# A value's place: the dimension of each of its block axes. Values are named once for each place.
_Key = tuple[int, tuple[tuple[str, int], ...]]


class _Renderer:
    def __init__(self, kernel: Kernel, schedule: Schedule, dot_precision: DotPrecision) -> None:
        self.kernel = kernel
        self.schedule = schedule
        self.dot_precision = dot_precision
        self.extents = {axis.name: axis.extent for axis in kernel.axes}
        self.lanes = {s.axis: s.size for s in schedule.steps if s.kind == "vector"}
        self.grid = [s for s in schedule.steps if s.kind == "grid"]
        self.loops = [s for s in schedule.steps if s.kind in ("tile", "loop")]
        self.dot = next((id for id, i in enumerate(kernel.body) if isinstance(i, Dot)), None)
        self.dims = self._dimensions()
        self.rank = len(self.dims)
        self.wide = any(buffer.size > _INT32_MAX for buffer in kernel.buffers)
        self.lines: list[str] = []
        self.indent = 1
        self.values: dict[_Key, str] = {}
        self.positions: dict[tuple[str, int | None], str] = {}
        self.bounds: dict[tuple[str, int | None], str] = {}
        self.helpers: dict[str, str] = {}

    def render(self) -> TritonKernel:
        self._check()
        for axis, lanes in self.lanes.items():
            self._line(f"{_block(axis)}: tl.constexpr = {lanes}")
        self._write_grid()
        if self.dot is not None:
            self._write_dot(self.dot)
        elif self.loops:
            self._write_looped()
        else:
            self._write_effects(self._effects())
        return TritonKernel(
            source=self._source(),
            name=self.kernel.name,
            grid=(prod(self._programs(step) for step in self.grid),),
            num_warps=self.schedule.num_warps,
            num_stages=self.schedule.num_stages,
            signature={
                _pointer(buffer.name): text.pointer_type(buffer.dtype)
                for buffer in self.kernel.buffers
            },
        )

    def _source(self) -> str:
        lines = "\n".join(self.lines)
        parts = ["import triton\nimport triton.language as tl\n"]
        if "libdevice." in lines:
            parts[0] += "from triton.language.extra import libdevice\n"
        parts += [f"@triton.jit\n{source}" for source in self.helpers.values()]
        parameters = ", ".join(_pointer(buffer.name) for buffer in self.kernel.buffers)
        parts.append(f"@triton.jit\ndef {self.kernel.name}({parameters}):\n{lines}\n")
        return "\n\n".join(parts)

    def _dimensions(self) -> dict[str, int]:
        """Each block axis's dimension; in a product, those of the result's blocks."""
        axes = [axis.name for axis in self.kernel.axes if axis.name in self.lanes]
        if self.dot is not None:
            dot = self.kernel.body[self.dot]
            assert isinstance(dot, Dot)
            if set(axes) != {dot.m, dot.n, dot.k}:
                raise ValueError(
                    f"kernel {self.kernel.name}: the blocks of a product have the axes "
                    f"{dot.m}, {dot.n} and {dot.k}, but the schedule gives lanes to {axes}"
                )
            axes = [dot.m, dot.n]
        return {axis: dim for dim, axis in enumerate(axes)}

    # What the renderer takes

    def _check(self) -> None:
        kernel = self.kernel
        for buffer in kernel.buffers:
            if not text.supported(buffer.dtype):
                raise UnsupportedKernel(
                    f"kernel {kernel.name}: Triton has no element type {buffer.dtype.name} "
                    f"(buffer {buffer.name}); compile this part for the CPU"
                )
        for id, instruction in enumerate(kernel.body):
            if not isinstance(instruction, Effect) and not text.supported(instruction.type.dtype):
                self._refuse(id, f"Triton has no element type {instruction.type.dtype.name}")
        forms = {type(i) for i in kernel.body} & {Dot, Reduce, AtomicUpdate}
        dots = [id for id, i in enumerate(kernel.body) if isinstance(i, Dot)]
        if len(dots) > 1 or (dots and len(forms) > 1):
            self._refuse(dots[-1], "a kernel has one Dot and then no Reduce or AtomicUpdate")
        if self.loops and AtomicUpdate in forms:
            raise UnsupportedKernel(f"kernel {kernel.name}: updates stand in no loop")
        programs = prod(self._programs(step) for step in self.grid)
        if programs > _MAX_PROGRAMS:
            raise UnsupportedKernel(
                f"kernel {kernel.name}: {programs} program instances, at most {_MAX_PROGRAMS} "
                "can be launched; schedule larger blocks"
            )
        for step in self.schedule.steps:
            if step.kind in ("grid", "tile") and step.size != self.lanes.get(step.axis, 1):
                raise ValueError(
                    f"kernel {kernel.name}: axis {step.axis} moves by {step.size} but its block "
                    f"has {self.lanes.get(step.axis, 1)} lanes; the two records must agree"
                )

    def _refuse(self, id: int, why: str) -> None:
        raise UnsupportedKernel(f"kernel {self.kernel.name}, %{id} = {self.kernel.body[id]}: {why}")

    # Lines and names

    def _line(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        """A loop body: what it defines is forgotten at its end."""
        saved = self.values, self.positions, self.bounds
        self.values, self.positions, self.bounds = (dict(names) for names in saved)
        self.indent += 1
        yield
        self.indent -= 1
        self.values, self.positions, self.bounds = saved

    @contextmanager
    def _place(self, *axes: str) -> Iterator[None]:
        """Code whose blocks have these axes as dimensions, in this order."""
        saved = self.dims
        self.dims = {axis: dim for dim, axis in enumerate(axes)}
        yield
        self.dims = saved

    def _key(self, id: int) -> _Key:
        axes = self.kernel.value_type(id).axes
        return id, tuple((axis, self.dims[axis]) for axis in axes if axis in self.dims)

    def _value(self, id: int) -> str:
        return self.values[self._key(id)]

    def _define(self, id: int, stem: str, expression: str) -> None:
        self._line(f"{self._name(id, stem)} = {expression}")

    def _name(self, id: int, stem: str) -> str:
        """Name a value; a value used in two places of a product gets a second name."""
        name = f"{stem}_{id}"
        if any(other == id for other, _ in self.values):
            name += "_rhs"
        self.values[self._key(id)] = name
        return name

    # Axes

    def _programs(self, step: Step) -> int:
        return -(-self.extents[step.axis] // step.size)

    def _write_grid(self) -> None:
        """Split the program's number into a block along each grid axis, the last one fastest."""
        many = [step for step in self.grid if self._programs(step) > 1]
        if many:
            widened = ".to(tl.int64)" if self.wide else ""
            self._line(f"program = tl.program_id(0){widened}")
        after = prod(self._programs(step) for step in many)
        starts: dict[str, str] = {}
        for step in many:
            whole = after
            after //= self._programs(step)
            block = "program" if after == 1 else f"program // {after}"
            if whole != prod(self._programs(s) for s in many):
                block += f" % {self._programs(step)}"
            if step.axis not in self.lanes:
                self._line(f"{step.axis} = {block}")
                continue
            self._line(f"{step.axis}_block = {block}")
            starts[step.axis] = f"{step.axis}_block * {_block(step.axis)} + "
        moved = {step.axis for step in self.loops}
        for axis in self.dims:
            if axis not in moved:
                self._write_axis(axis, starts.get(axis, ""))
        for axis in self.extents:
            if axis not in self.lanes and axis not in moved:
                self.positions[axis, None] = axis if axis in {s.axis for s in many} else "0"

    def _write_axis(self, axis: str, start: str, suffix: str = "") -> None:
        """Define the block of positions along an axis, and which of them are in range."""
        dim, lanes, extent = self.dims[axis], self.lanes[axis], self.extents[axis]
        lanes_text = f"tl.arange(0, {_block(axis)})"
        if self.wide:
            lanes_text += ".to(tl.int64)"
        if self.rank > 1:
            slots = [":" if d == dim else "None" for d in range(self.rank)]
            lanes_text += f"[{', '.join(slots)}]"
        name = axis + suffix
        self._line(f"{name} = {start}{lanes_text}")
        self.positions[axis, dim] = name
        if extent % lanes or not extent:
            self._line(f"{name}_in = {name} < {extent}")
            self.bounds[axis, dim] = f"{name}_in"

    def _position(self, axis: str) -> str:
        return self.positions[axis, self.dims.get(axis)]

    def _bounds(self, axes: Iterable[str]) -> list[str]:
        keys = [(axis, self.dims.get(axis)) for axis in axes]
        return [self.bounds[key] for key in keys if key in self.bounds]

    def _in_order(self, axes: Iterable[str]) -> list[str]:
        wanted = set(axes)
        return [axis for axis in self.extents if axis in wanted]

    def _block_axes(self, axes: Iterable[str]) -> list[str]:
        return [axis for axis in self._in_order(axes) if axis in self.dims]

    def _shape(self, axes: Iterable[str]) -> str:
        """Shape text of a value over `axes`: ``[BI, 1]``; ``[]`` for a scalar."""
        sizes = ["1"] * self.rank
        present = self._block_axes(axes)
        for axis in present:
            sizes[self.dims[axis]] = _block(axis)
        return f"[{', '.join(sizes)}]" if present else "[]"

    # Order of evaluation

    def _effects(self) -> list[int]:
        return [id for id, i in enumerate(self.kernel.body) if isinstance(i, Effect)]

    def _needed(self, roots: Iterable[int]) -> list[int]:
        """Ids of values that `roots` read, themselves included, not yet computed; in order."""
        found: set[int] = set()
        pending = list(roots)
        while pending:
            id = pending.pop()
            instruction = self.kernel.body[id]
            computed = not isinstance(instruction, Effect) and self._key(id) in self.values
            if id not in found and not computed:
                found.add(id)
                pending.extend(operands(instruction))
        return sorted(found)

    def _write_effects(self, effects: list[int]) -> None:
        """Compute what effects need, then let them happen: a block loads before it stores."""
        for id in self._needed(effects):
            if id not in effects:
                self._write(id)
        for id in effects:
            self._write(id)

    def _write_looped(self) -> None:
        """A reduction too long for one block: one pass over it for each phase.

        A value's phase is the number of reductions that must end before it is known. What varies
        over a loop is computed again in each pass that needs it.
        """
        body = self.kernel.body
        looped = {step.axis for step in self.loops}
        phases = self._phases()
        last = max(phases[id] for id, i in enumerate(body) if isinstance(i, Reduce))
        inside = [id for id in self._effects() if looped & self._effect_axes(id)]
        last = max([last, *(phases[id] for id in inside)])
        for phase in range(last + 1):
            reduces = [
                id for id, i in enumerate(body) if isinstance(i, Reduce) and phases[id] == phase
            ]
            effects = inside if phase == last else []
            needed = self._needed([*reduces, *effects])
            varying = [id for id in needed if looped & self._effect_axes(id)]
            for id in needed:
                if id not in varying and id not in reduces:
                    self._write(id)
            for id in reduces:
                self._write_accumulator(id)
            with self._nest(self.loops):
                for id in varying:
                    if id not in reduces and id not in effects:
                        self._write(id)
                for id in reduces:
                    self._write_accumulation(id)
                for id in effects:
                    self._write(id)
            for id in reduces:
                self._write_total(id)
        self._write_effects([id for id in self._effects() if id not in inside])

    def _phases(self) -> list[int]:
        phases: list[int] = []
        for instruction in self.kernel.body:
            reads = operands(instruction)
            after = [phases[r] + isinstance(self.kernel.body[r], Reduce) for r in reads]
            phases.append(max(after, default=0))
        return phases

    def _effect_axes(self, id: int) -> set[str]:
        """Axes of a value, or of the points at which a store or update happens."""
        instruction = self.kernel.body[id]
        if not isinstance(instruction, Effect):
            return set(instruction.type.axes)
        reads = operands(instruction)
        return set(instruction.index.axes()).union(
            *(self.kernel.value_type(read).axes for read in reads)
        )

    @contextmanager
    def _nest(self, loops: list[Step]) -> Iterator[None]:
        if not loops:
            yield
            return
        step, *rest = loops
        axis, extent = step.axis, self.extents[step.axis]
        if step.kind == "tile":
            self._line(f"for {axis}_start in range(0, {extent}, {_block(axis)}):")
        else:
            self._line(f"for {axis}{'_step' if self.wide else ''} in range({extent}):")
        with self._scope():
            if step.kind == "tile":
                self._write_axis(axis, f"{axis}_start + ")
            else:
                if self.wide:
                    self._line(f"{axis} = tl.cast({axis}_step, tl.int64)")
                self.positions[axis, None] = axis
            with self._nest(rest):
                yield

    # Instructions

    def _write(self, id: int) -> None:
        instruction = self.kernel.body[id]
        match instruction:
            case Const(type=type, value=value):
                if text.is_half(type.dtype):
                    number = text.literal(value, np.dtype(np.float32))
                    full = f"tl.full([], {number}, tl.float32).to({text.type_name(type.dtype)})"
                else:
                    number = text.literal(value, type.dtype)
                    full = f"tl.full([], {number}, {text.type_name(type.dtype)})"
                self._define(id, "const", full)
            case IndexValue(type=type, index=index):
                position = self._index(index)
                self._define(id, "index", f"tl.cast({position}, {text.type_name(type.dtype)})")
            case Load():
                self._write_load(id, instruction)
            case Elementwise():
                self._write_elementwise(id, instruction)
            case Select(which=which, on_true=on_true, on_false=on_false):
                names = ", ".join(self._value(v) for v in (which, on_true, on_false))
                self._define(id, "select", f"tl.where({names})")
            case Cast(type=type, arg=arg):
                self._define(id, "cast", self._converted(arg, type))
            case Bitcast(type=type, arg=arg):
                bits = f"{self._value(arg)}.to({text.type_name(type.dtype)}, bitcast=True)"
                self._define(id, "bits", bits)
            case Reduce():
                self._write_reduce(id, instruction)
            case Store():
                self._write_store(instruction)
            case AtomicUpdate():
                self._write_update(id, instruction)
            case Dot():
                raise AssertionError("the product is written by _write_dot")

    def _index(self, index: Index) -> str:
        def computed(id: int) -> str:
            return f"{self._value(id)}.to(tl.int64)" if self.wide else self._value(id)

        return text.index_text(index, self._position, computed)

    def _access(
        self, buffer: str, index: Index, axes: Iterable[str], mask: int | None, *more: str
    ) -> tuple[str, str]:
        """Pointers and mask of an access at the points of `axes`; the mask is "" where none is."""
        offset_axes = set(index.axes()).union(
            *(self.kernel.value_type(id).axes for id in index.values())
        )
        axes = offset_axes.union(axes)
        conditions = [*self._bounds(self._in_order(axes)), *more]
        if mask is not None:
            axes = axes.union(self.kernel.value_type(mask).axes)
            conditions = [*self._bounds(self._in_order(axes)), self._value(mask), *more]
        offset = self._index(index)
        if self._block_axes(offset_axes) != self._block_axes(axes):
            offset = f"tl.zeros({self._shape(axes)}, tl.int32) + {offset}"
        pointer = _pointer(buffer)
        pointers = pointer if offset == "0" else f"{pointer} + ({offset})"
        if offset.isidentifier():
            pointers = f"{pointer} + {offset}"
        return pointers, " & ".join(conditions)

    def _write_load(self, id: int, load: Load) -> None:
        pointers, mask = self._access(load.buffer, load.index, load.type.axes, load.mask)
        dtype = self.kernel.buffer(load.buffer).dtype
        stored = np.dtype(np.uint8) if dtype == np.bool_ else dtype
        other = text.literal(load.other, stored)
        loaded = f"tl.load({pointers}, mask={mask}, other={other})" if mask else f"tl.load({pointers})"
        self._define(id, load.buffer, f"{loaded} != 0" if dtype == np.bool_ else loaded)

    def _write_store(self, store: Store) -> None:
        axes = self._in_order(self.kernel.value_type(store.value).axes)
        pointers, mask = self._access(store.buffer, store.index, axes, store.mask)
        value = self._value(store.value)
        if self.kernel.buffer(store.buffer).dtype == np.bool_:
            value = f"{value}.to(tl.uint8)"
        self._line(f"tl.store({pointers}, {value}{f', mask={mask}' if mask else ''})")

    def _write_update(self, id: int, update: AtomicUpdate) -> None:
        """Updates meet in any order. Programs that differ only in axes that it lacks do it once."""
        dtype = self.kernel.buffer(update.buffer).dtype
        integer = dtype.kind in "iu" and dtype.itemsize >= 4
        if not integer and not (update.op == "add" and dtype.kind == "f" and dtype.itemsize >= 4):
            self._refuse(id, f"there is no unordered atomic {update.op} on {dtype.name}")
        if update.op not in ("add", "min", "max"):
            self._refuse(id, f"{update.op} depends on the order of updates")
        axes = self._effect_axes(id)
        first = [
            f"({step.axis}{'_block' if step.axis in self.lanes else ''} == 0)"
            for step in self.grid
            if step.axis not in axes and self._programs(step) > 1
        ]
        points = self._in_order(axes)
        pointers, mask = self._access(update.buffer, update.index, points, update.mask, *first)
        value = self._value(update.value)
        masked = f", mask={mask}" if mask else ""
        self._line(f'tl.atomic_{update.op}({pointers}, {value}{masked}, sem="relaxed")')

    def _write_elementwise(self, id: int, instruction: Elementwise) -> None:
        template = elementwise.lookup(instruction.name).triton
        dtype = self.kernel.value_type(instruction.args[0]).dtype
        if callable(template):
            template = template(dtype)
        if template is None:
            self._refuse(id, f"operation {instruction.name!r} has no Triton spelling")
            return
        names = [self._value(arg) for arg in instruction.args]
        short = text.SHORT_NAMES[dtype.name]
        self._define(id, instruction.name, template.format(*names, t=short))

    def _converted(self, arg: int, type: ValueType) -> str:
        name = self._value(arg)
        if type.dtype == np.bool_:
            return f"{name} != 0"
        if type.dtype.kind in "iu" and text.is_float(self.kernel.value_type(arg).dtype):
            helper, source = text.saturating_cast(type.dtype)
            self.helpers[helper] = source
            return f"{helper}({name})"
        return f"{name}.to({text.type_name(type.dtype)})"

    # Reductions

    def _filled(self, id: int, reduce: Reduce) -> str:
        """The reduction's argument over whole blocks, with the identity at positions out of range.

        Only the reduced axes count: what lanes out of range along others reduce to is not stored.
        """
        type = self.kernel.value_type(reduce.arg)
        name = self._value(reduce.arg)
        axes = {*type.axes, *reduce.axes}
        mask = " & ".join(self._bounds(self._in_order(reduce.axes)))
        if mask:
            fill = text.literal(text.identity(reduce.op, type.dtype), type.dtype)
            name = f"tl.where({mask}, {name}, {fill})"
        present = {*type.axes, *(reduce.axes if mask else ())}
        if self._block_axes(present) != self._block_axes(axes):
            name = f"tl.broadcast_to({name}, {self._shape(axes)})"
        return name

    def _helper(self, op: str) -> str:
        self.helpers[f"combine_{op}"] = text.COMBINE[f"combine_{op}"]
        return f"combine_{op}"

    def _write_reduce(self, id: int, reduce: Reduce) -> None:
        """A reduction within one block."""
        if reduce.op in ("argmax", "argmin"):
            self._write_arg_reduce(id, reduce, self._filled(id, reduce), self._reduced_index(reduce))
        else:
            self._define(id, reduce.op, self._folded(reduce, self._filled(id, reduce)))

    def _folded(self, reduce: Reduce, block: str) -> str:
        """`block` reduced along its block axes, innermost first."""
        keep = ", keep_dims=True" if self._block_axes(reduce.type.axes) else ""
        for axis in reversed(self._block_axes(reduce.axes)):
            if reduce.op == "sum":
                block = f"tl.sum({block}, {self.dims[axis]}{keep})"
            else:
                block = f"tl.reduce({block}, {self.dims[axis]}, {self._helper(reduce.op)}{keep})"
        if reduce.op == "sum" and reduce.type.dtype.itemsize < 4:  # Triton widens small integers
            block += f".to({text.type_name(reduce.type.dtype)})"
        return block

    def _reduced_index(self, reduce: Reduce) -> str:
        axes = {*self.kernel.value_type(reduce.arg).axes, *reduce.axes}
        position = self._position(reduce.axes[0])
        if self._block_axes(axes) == self._block_axes(reduce.axes):
            return position
        return f"tl.zeros({self._shape(axes)}, tl.int32) + {position}"

    def _write_arg_reduce(self, id: int, reduce: Reduce, block: str, at: str) -> None:
        name = self._name(id, reduce.op)
        dims = self._block_axes(reduce.axes)
        if dims:
            keep = ", keep_dims=True" if self._block_axes(reduce.type.axes) else ""
            fold = f"({block}, {at}), {self.dims[dims[0]]}, {self._helper(reduce.op)}{keep}"
            self._line(f"{name}_best, {name} = tl.reduce({fold})")
            at = name
        self._line(f"{name} = tl.cast({at}, {text.type_name(reduce.type.dtype)})")

    def _write_accumulator(self, id: int) -> None:
        reduce = self.kernel.body[id]
        assert isinstance(reduce, Reduce)
        type = self.kernel.value_type(reduce.arg)
        shape = self._shape({*type.axes, *reduce.axes})
        start = text.literal(text.identity(reduce.op, type.dtype), type.dtype)
        acc = f"{reduce.op}_{id}_acc"
        self._line(f"{acc} = tl.full({shape}, {start}, {text.type_name(type.dtype)})")
        if reduce.op in ("argmax", "argmin"):
            index_type = "tl.int64" if self.wide else "tl.int32"
            self._line(f"{acc}_at = tl.full({shape}, {self.extents[reduce.axes[0]]}, {index_type})")

    def _write_accumulation(self, id: int) -> None:
        reduce = self.kernel.body[id]
        assert isinstance(reduce, Reduce)
        acc, block = f"{reduce.op}_{id}_acc", self._filled(id, reduce)
        if reduce.op in ("argmax", "argmin"):
            at = self._reduced_index(reduce)
            pair = f"{acc}, {acc}_at, {block}, {at}"
            self._line(f"{acc}, {acc}_at = {self._helper(reduce.op)}({pair})")
        elif reduce.op == "sum":
            self._line(f"{acc} += {block}")
        else:
            self._line(f"{acc} = {self._helper(reduce.op)}({acc}, {block})")

    def _write_total(self, id: int) -> None:
        reduce = self.kernel.body[id]
        assert isinstance(reduce, Reduce)
        acc = f"{reduce.op}_{id}_acc"
        if reduce.op in ("argmax", "argmin"):
            self._write_arg_reduce(id, reduce, acc, f"{acc}_at")
        else:
            self._define(id, reduce.op, self._folded(reduce, acc))

    # Matrix products

    def _write_dot(self, id: int) -> None:
        dot = self.kernel.body[id]
        assert isinstance(dot, Dot)
        lhs, rhs = self._factors(dot)
        places = ((lhs, (dot.m, dot.k), ""), (rhs, (dot.k, dot.n), "_rows"))
        for factor, axes, _ in places:  # what does not vary over k is computed once
            with self._place(*axes):
                for id_ in self._needed([factor]):
                    if dot.k not in self.kernel.value_type(id_).axes:
                        self._write(id_)
        acc, acc_type = f"dot_{id}", text.type_name(dot.type.dtype)
        self._line(f"{acc} = tl.zeros({self._shape(self.dims)}, {acc_type})")
        self._line(f"for {dot.k}_start in range(0, {self.extents[dot.k]}, {_block(dot.k)}):")
        with self._scope():
            blocks = []
            for factor, axes, suffix in places:
                with self._place(*axes):
                    self._write_axis(dot.k, f"{dot.k}_start + ", suffix)
                    blocks.append(self._factor(factor, dot.k))
            precision = f", out_dtype={acc_type}"
            if self.kernel.value_type(lhs).dtype == np.float32:
                precision = f', input_precision="{self.dot_precision}"'
            self._line(f"{acc} = tl.dot({', '.join(blocks)}, {acc}{precision})")
        self._write_dot_value(id, dot, acc)
        self._write_effects(self._effects())

    def _write_dot_value(self, id: int, dot: Dot, acc: str) -> None:
        """Name the product. One row or column of it is kept where the product has only one."""
        single = [axis for axis in (dot.n, dot.m) if axis not in dot.type.axes]
        keep = ", keep_dims=True" if len(single) == 1 else ""
        for axis in single:
            mask = f"{self._position(axis)} == 0"
            if len(single) == 2 and axis == dot.m:
                mask = f"tl.arange(0, {_block(axis)}) == 0"
            self._line(f"{acc} = tl.sum(tl.where({mask}, {acc}, 0.0), {self.dims[axis]}{keep})")
        self.values[self._key(id)] = acc

    def _factors(self, dot: Dot) -> tuple[int, int]:
        """The product's factors; where both were widened from one half type, the halves.

        Tensor cores multiply halves exactly and add in float32, so that nothing is lost.
        """
        narrow = []
        for id in (dot.lhs, dot.rhs):
            factor = self.kernel.body[id]
            if isinstance(factor, Cast) and text.is_half(self.kernel.value_type(factor.arg).dtype):
                narrow.append(factor.arg)
        if len(narrow) == 2 and dot.type.dtype == np.float32:
            lhs, rhs = narrow
            if self.kernel.value_type(lhs).dtype == self.kernel.value_type(rhs).dtype:
                return lhs, rhs
        return dot.lhs, dot.rhs

    def _factor(self, id: int, k: str) -> str:
        """Compute a factor's block; zero where k is out of range."""
        for value in self._needed([id]):
            self._write(value)
        name = self._value(id)
        mask = " & ".join(self._bounds([k]))
        if mask and not self._is_zero_beyond(id, k):
            name = f"tl.where({mask}, {name}, 0.0)"
        if self._block_axes(self.kernel.value_type(id).axes) != self._block_axes(self.dims):
            name = f"tl.broadcast_to({name}, {self._shape(self.dims)})"
        return name

    def _is_zero_beyond(self, id: int, k: str) -> bool:
        """Whether a value is zero where k is out of range, because its load is masked there."""
        match self.kernel.body[id]:
            case Load(type=type, other=other):
                return k in type.axes and other == 0
            case Cast(arg=arg):
                return self._is_zero_beyond(arg, k)
        return False


def _block(axis: str) -> str:
    """The name of the number of lanes along an axis."""
    return f"B{axis.upper()}"


def _pointer(buffer: str) -> str:
    return f"{buffer}_ptr"
