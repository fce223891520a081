"""Running results and sorted positions as Triton text.

A running result is an associative scan over the block. Where a row has several blocks, one program
takes them one after the other, and carries what all blocks so far came to into the next one.

A row that is sorted lies in one block, and goes through a network of exchanges (see `sorting`).
Longer rows are sorted by kernels of their own (`library.sort_blocks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from funcdl.kernels.triton import text
from funcdl.kernels.triton.blocks import UnsupportedKernel, block_name
from funcdl.kernels.triton.instructions import InstructionWriter
from funcdl.kernels.triton.sorting import sorting_functions
from funcdl.kir.identity import identity
from funcdl.kir.ir import Order, Running
from funcdl.kir.schedule import SORTED_BYTES, Step, sorted_in_a_block

_LOGADDEXP = """def combine_logsumexp(a, b):
    high = tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    low = tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
    # Infinities of one sign have no difference.
    more = libdevice.log1p(libdevice.exp(low - high))
    return high + tl.where(high == low, 0.6931471805599453, more)
"""


class RunningWriter(InstructionWriter):
    """Writes kernels with running results and sorts."""

    @property
    def running_axis(self) -> str | None:
        """The axis that running results go along, or that is sorted."""
        found = (i.axis for i in self.kernel.body if isinstance(i, Running | Order))
        return next(found, None)

    @property
    def _backwards(self) -> bool:
        return any(isinstance(i, Running) and i.reverse for i in self.kernel.body)

    def _write_carried(self, effects: list[int]) -> None:
        """A row of several blocks, in the direction of the running results."""
        (step,) = self.loops
        body = self.kernel.body
        running = [id for id, i in enumerate(body) if isinstance(i, Running)]
        inside = [id for id in effects if step.axis in self._effect_axes(id)]
        for id in self._needed([*running, *inside]):
            if step.axis not in self._effect_axes(id) and id not in inside:
                self._write(id)
        for id in running:
            self._write_carry(id)
        with self._rows_block(step):
            for id in self._needed(inside):
                if id not in inside:
                    self._write(id)
            for id in inside:
                self._write(id)
        self._write_effects([id for id in effects if id not in inside])

    @contextmanager
    def _rows_block(self, step: Step) -> Iterator[None]:
        axis, extent = step.axis, self.extents[step.axis]
        last = (extent - 1) // step.size * step.size
        number = f"{axis}_{'after' if self._backwards else 'start'}"
        self._line(f"for {number} in range(0, {extent}, {block_name(axis)}):")
        with self._scope():
            if self._backwards:
                self._line(f"{axis}_start = {last} - {number}")
            self._write_axis(axis, f"{axis}_start + ")
            yield

    def _write_carry(self, id: int) -> None:
        running = self.kernel.body[id]
        assert isinstance(running, Running)
        type = running.type
        start = text.literal(identity(running.op, type.dtype), type.dtype)
        axes = [axis for axis in type.axes if axis != running.axis]
        shape = self._shape([*axes, running.axis]).replace(block_name(running.axis), "1")
        self._line(f"{self._carry(id)} = tl.full({shape}, {start}, {text.type_name(type.dtype)})")

    def _carry(self, id: int) -> str:
        running = self.kernel.body[id]
        assert isinstance(running, Running)
        return f"{running.op}_{id}_carry"

    def _write_running(self, id: int, running: Running) -> None:
        """The running result within a block, after what earlier blocks came to."""
        axis, type = running.axis, running.type
        name = self._value(running.arg)
        arg = self.kernel.value_type(running.arg)
        mask = " & ".join(self._bounds([axis]))
        if mask:
            fill = text.literal(identity(running.op, type.dtype), type.dtype)
            name = f"tl.where({mask}, {name}, {fill})"
        if self._block_axes({*arg.axes, *([axis] if mask else [])}) != self._block_axes(type.axes):
            name = f"tl.broadcast_to({name}, {self._shape(type.axes)})"
        if axis not in self.dims:  # one element
            self._define(id, f"running_{running.op}", name)
            return
        combine = self._combining(running)
        dim = self.dims[axis]
        back = ", reverse=True" if running.reverse else ""
        if not self.loops:
            scan = f"tl.associative_scan({name}, {dim}, {combine}{back})"
            self._define(id, f"running_{running.op}", scan)
            return
        block, carry = f"{running.op}_{id}_block", self._carry(id)
        self._line(f"{block} = {name}")
        scan = f"tl.associative_scan({block}, {dim}, {combine}{back})"
        self._define(id, f"running_{running.op}", f"{combine}({carry}, {scan})")
        whole = f"tl.reduce({block}, {dim}, {combine}, keep_dims=True)"
        self._line(f"{carry} = {combine}({carry}, {whole})")

    def _combining(self, running: Running) -> str:
        name = f"combine_{running.op}"
        match running.op:
            case "logsumexp":
                self.helpers[name] = _LOGADDEXP
            case "sum":
                self.helpers[name] = "def combine_sum(a, b):\n    return a + b\n"
            case _:
                return self._helper(running.op)
        return name

    def _write_order(self, id: int, order: Order) -> None:
        axis, extent = order.axis, self.extents[order.axis]
        position = text.type_name(order.type.dtype)
        if axis not in self.dims:
            self._define(id, "order", f"tl.full([], 0, {position})")
            return
        types = [self.kernel.value_type(key).dtype for key in order.keys]
        if not sorted_in_a_block(self.lanes[axis], types):
            raise UnsupportedKernel(
                f"kernel {self.kernel.name}: a row of {extent} elements is too long to be sorted "
                f"in one block, which holds {SORTED_BYTES} bytes of keys"
            )
        if self.loops or self.rank != 1:
            raise ValueError(f"kernel {self.kernel.name}: what is sorted is the block's one axis")
        keys = []
        for key in order.keys:
            type = self.kernel.value_type(key)
            name = self._value(key)
            if type.dtype == np.bool_:
                name = f"{name}.to(tl.int8)"
            if axis not in type.axes:
                name = f"tl.zeros([{block_name(axis)}], {name}.dtype) + {name}"
            keys.append(name)
        functions = sorting_functions("sorted", len(keys), order.descending)
        self.helpers |= functions
        lanes = f"tl.arange(0, {block_name(axis)})"
        name = self._name(id, "order")
        results = ", ".join([*(f"{name}_key_{n}" for n in range(len(keys))), name])
        call = f"{list(functions)[-1]}({', '.join(keys)}, {lanes}, {block_name(axis)}, {extent})"
        self._line(f"{results} = {call}")
        self._line(f"{name} = {name}.to({position})")
