"""The Triton text of single instructions, within one block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from funcdl.core import dtypes
from funcdl.kernels.triton import special, text
from funcdl.kernels.triton.blocks import BlockWriter
from funcdl.kir import elementwise
from funcdl.kir.distinct import points_are_distinct
from funcdl.kir.identity import identity
from funcdl.kir.ir import (
    AtomicUpdate,
    Bitcast,
    Cast,
    Const,
    Dot,
    Effect,
    Elementwise,
    IndexValue,
    Load,
    Order,
    Reduce,
    Running,
    Select,
    Store,
    ValueType,
    operands,
)


class InstructionWriter(BlockWriter, ABC):
    """Writes the instructions of a kernel, each as a line of its own."""

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
        needed = self._needed(effects)
        if any(isinstance(self.kernel.body[id], Reduce) for id in needed):
            # What is not loaded before a reduction's barrier waits for it, and then for memory.
            needed.sort(key=lambda id: not self._loads_at_once(id))
        for id in needed:
            if id not in effects:
                self._write(id)
        for id in effects:
            self._write(id)

    def _loads_at_once(self, id: int) -> bool:
        """Whether a load's place and mask depend on no computed value."""
        load = self.kernel.body[id]
        return isinstance(load, Load) and not operands(load)

    # Single instructions

    def _write(self, id: int) -> None:
        instruction = self.kernel.body[id]
        match instruction:
            case Const(type=type, value=value):
                if type.dtype in dtypes.HALF:
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
            case Running():
                self._write_running(id, instruction)
            case Order():
                self._write_order(id, instruction)
            case Store():
                self._write_store(instruction)
            case AtomicUpdate():
                self._write_update(id, instruction)
            case Dot():
                raise AssertionError("the product is written by _write_dot")

    @abstractmethod
    def _write_running(self, id: int, running: Running) -> None:
        """Results along an axis; see `running.RunningWriter`."""

    @abstractmethod
    def _write_order(self, id: int, order: Order) -> None:
        """Positions in order; see `running.RunningWriter`."""

    def _write_load(self, id: int, load: Load) -> None:
        pointers, mask = self._access(load.buffer, load.index, load.type.axes, load.mask)
        dtype = self.kernel.buffer(load.buffer).dtype
        stored = np.dtype(np.uint8) if dtype == np.bool_ else dtype
        other = text.literal(load.other, stored)
        masked = f", mask={mask}, other={other}" if mask else ""
        loaded = f"tl.load({pointers}{masked})"
        self._define(id, load.buffer, f"{loaded} != 0" if dtype == np.bool_ else loaded)

    def _write_store(self, store: Store) -> None:
        axes = self._in_order(self.kernel.value_type(store.value).axes)
        pointers, mask = self._access(store.buffer, store.index, axes, store.mask)
        value = self._value(store.value)
        if self.kernel.buffer(store.buffer).dtype == np.bool_:
            value = f"{value}.to(tl.uint8)"
        self._line(f"tl.store({pointers}, {value}{f', mask={mask}' if mask else ''})")

    def _write_update(self, id: int, update: AtomicUpdate) -> None:
        """Updates meet in any order. Programs that differ only in axes that it lacks do it once.

        Elements are overwritten where no two points meet: by a plain store.
        """
        dtype = self.kernel.buffer(update.buffer).dtype
        integer = dtype.kind in "iu" and dtype.itemsize >= 4
        stored = update.op == "set" and points_are_distinct(self.kernel, update)
        added = update.op == "add" and dtype.kind == "f" and dtype.itemsize >= 4
        if not (stored or integer or added):
            self._refuse(id, f"there is no unordered atomic {update.op} on {dtype.name}")
        if not stored and update.op not in ("add", "min", "max"):
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
        if stored:
            byte = ".to(tl.uint8)" if dtype == np.bool_ else ""
            self._line(f"tl.store({pointers}, {value}{byte}{masked})")
        else:
            self._line(f'tl.atomic_{update.op}({pointers}, {value}{masked}, sem="relaxed")')

    def _write_elementwise(self, id: int, instruction: Elementwise) -> None:
        template = elementwise.lookup(instruction.name).triton
        dtype = self.kernel.value_type(instruction.args[0]).dtype
        if callable(template):
            try:
                template = template(dtype)
            except NotImplementedError as error:
                self._refuse(id, f"operation {instruction.name!r} on {dtype.name}: {error}")
        if template is None:
            self._refuse(id, f"operation {instruction.name!r} has no Triton spelling")
        names = [self._value(arg) for arg in instruction.args]
        short = dtypes.short_name(dtype)
        expression = template.format(*names, t=short)
        self.helpers |= special.sources(expression)
        self._define(id, instruction.name, expression)

    def _converted(self, arg: int, type: ValueType) -> str:
        name = self._value(arg)
        if type.dtype == np.bool_:
            return f"{name} != 0"
        if type.dtype.kind in "iu" and dtypes.is_float(self.kernel.value_type(arg).dtype):
            helper, source = text.saturating_cast(type.dtype)
            self.helpers[helper] = source
            return f"{helper}({name})"
        return f"{name}.to({text.type_name(type.dtype)})"

    # Reductions

    def _filled(self, reduce: Reduce) -> str:
        """The reduction's argument over whole blocks, with the identity at positions out of range.

        Only the reduced axes count: what lanes out of range along others reduce to is not stored.
        """
        type = self.kernel.value_type(reduce.arg)
        name = self._value(reduce.arg)
        axes = {*type.axes, *reduce.axes}
        mask = " & ".join(self._bounds(self._in_order(reduce.axes)))
        if mask:
            fill = text.literal(identity(reduce.op, type.dtype), type.dtype)
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
            self._write_arg_reduce(id, reduce, self._filled(reduce), self._reduced_index(reduce))
        else:
            self._define(id, reduce.op, self._folded(reduce, self._filled(reduce)))

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
