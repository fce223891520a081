"""Writes a kernel of the IR as Triton source: one `triton.jit` function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import gcd

import numpy as np

from funcdl.core import dtypes
from funcdl.kernels.triton import text
from funcdl.kernels.triton.blocks import UnsupportedKernel, block_name, pointer_name
from funcdl.kernels.triton.online import OnlineSum, online_sums
from funcdl.kernels.triton.running import RunningWriter
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.identity import identity
from funcdl.kir.ir import (
    AtomicUpdate,
    Cast,
    Dot,
    Effect,
    Load,
    Order,
    Reduce,
    Running,
    operands,
)
from funcdl.kir.schedule import Step

_MAX_PROGRAMS = 2**31 - 1


class Renderer(RunningWriter):
    """Writes one kernel."""

    def render(self) -> TritonKernel:
        """The source, and how it is launched."""
        self._check()
        for axis, lanes in self.lanes.items():
            self._line(f"{block_name(axis)}: tl.constexpr = {lanes}")
        self._write_blocks()
        return TritonKernel(
            source=self._source(),
            name=self.kernel.name,
            grid=(self.instances,),
            num_warps=self.schedule.num_warps,
            num_stages=self.schedule.num_stages,
            signature={
                pointer_name(buffer.name): text.pointer_type(buffer.dtype)
                for buffer in self.kernel.buffers
            },
        )

    def _write_blocks(self) -> None:
        with self._each_program():
            self._write_grid()
            if self.dot is not None:
                self._write_dot(self.dot)
            elif self.loops and self.running_axis is not None:
                self._write_carried(self._effects())
            elif self.loops:
                self._write_looped()
            else:
                self._write_effects(self._effects())

    def _source(self) -> str:
        lines = "\n".join(self.lines)
        parts = ["import triton\nimport triton.language as tl\n"]
        if "libdevice." in "".join([lines, *self.helpers.values()]):
            parts[0] += "from triton.language.extra import libdevice\n"
        parts += [f"@triton.jit\n{source}" for source in self.helpers.values()]
        parameters = ", ".join(pointer_name(buffer.name) for buffer in self.kernel.buffers)
        parts.append(f"@triton.jit\ndef {self.kernel.name}({parameters}):\n{lines}\n")
        return "\n\n".join(parts)

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
        programs = self.instances
        if programs > _MAX_PROGRAMS:
            raise UnsupportedKernel(
                f"kernel {kernel.name}: {programs} program instances, at most {_MAX_PROGRAMS} "
                "can be launched; schedule larger blocks"
            )
        self._check_schedule()

    def _check_schedule(self) -> None:
        """Every position of every axis is visited once, by the right kind of loop."""
        kernel = self.kernel
        reduced = {a for i in kernel.body if isinstance(i, Reduce) for a in i.axes}
        reduced |= {i.k for i in kernel.body if isinstance(i, Dot)}
        reduced |= {i.axis for i in kernel.body if isinstance(i, Running | Order)}
        moved = {step.axis: step for step in (*self.grid, *self.loops)}
        for axis in kernel.axes:
            if axis.name not in moved and self.lanes.get(axis.name, 1) < axis.extent:
                raise ValueError(
                    f"kernel {kernel.name}: nothing visits all {axis.extent} positions of axis "
                    f"{axis.name}; add a grid or tile record, or as many lanes"
                )
        for name, step in moved.items():
            if (step.kind == "grid") == (name in reduced):
                wanted = "a tile, loop or vector" if name in reduced else "a grid"
                raise ValueError(
                    f"kernel {kernel.name}: axis {name} has a {step.kind} record, which needs "
                    f"{wanted} record, since it is {'' if name in reduced else 'not '}reduced"
                )
        for step in self.schedule.steps:
            if step.kind in ("grid", "tile") and step.size != self.lanes.get(step.axis, 1):
                raise ValueError(
                    f"kernel {kernel.name}: axis {step.axis} moves by {step.size} but its block "
                    f"has {self.lanes.get(step.axis, 1)} lanes; the two records must agree"
                )

    # Order of evaluation

    def _write_looped(self) -> None:
        """A reduction too long for one block: one pass over it for each phase.

        A value's phase is the number of reductions that must end before it is known. What varies
        over a loop is computed again in each pass that needs it. Every other pass goes backwards:
        of rows too long for the cache it then finds what was read last.
        """
        body = self.kernel.body
        looped = {step.axis for step in self.loops}
        online = online_sums(self.kernel)
        phases = self._phases(online)
        last = max(phases[id] for id, i in enumerate(body) if isinstance(i, Reduce))
        inside = [id for id in self._effects() if looped & self._effect_axes(id)]
        last = max([last, *(phases[id] for id in inside)])
        for phase in range(last + 1):
            reduces = [
                id for id, i in enumerate(body) if isinstance(i, Reduce) and phases[id] == phase
            ]
            effects = inside if phase == last else []
            plain = [id for id in reduces if id not in online]
            needed = self._needed([*plain, *effects])
            varying = [id for id in needed if looped & self._effect_axes(id)]
            for id in needed:
                if id not in varying and id not in reduces:
                    self._write(id)
            for id in reduces:
                self._write_accumulator(id)
            largest = dict.fromkeys(online[id].maximum for id in reduces if id in online)
            with self._nest(self.loops, phase % 2 == 1):
                for id in varying:
                    if id not in reduces and id not in effects:
                        self._write(id)
                for id in largest:
                    self._write_block_maximum(id)
                for id in reduces:
                    if id in online:
                        self._write_online(online[id])
                for id in largest:
                    self._line(f"max_{id}_acc = max_{id}_top")
                for id in plain:
                    if id not in largest:
                        self._write_accumulation(id)
                for id in effects:
                    self._write(id)
            for id in plain:
                self._write_total(id)
            for id in reduces:
                if id in online:
                    self._write_online_total(online[id])
        self._write_effects([id for id in self._effects() if id not in inside])

    def _phases(self, online: Mapping[int, OnlineSum]) -> list[int]:
        phases: list[int] = []
        for id, instruction in enumerate(self.kernel.body):
            if id in online:
                phases.append(phases[online[id].maximum])
                continue
            reads = operands(instruction)
            after = [phases[r] + isinstance(self.kernel.body[r], Reduce) for r in reads]
            phases.append(max(after, default=0))
        return phases

    @contextmanager
    def _nest(self, loops: list[Step], backwards: bool = False) -> Iterator[None]:
        if not loops:
            yield
            return
        step, *rest = loops
        axis, extent = step.axis, self.extents[step.axis]
        backwards = backwards and step.kind == "tile"
        if step.kind == "tile":
            moved = f"{axis}_left" if backwards else f"{axis}_start"
            self._line(f"for {moved} in range(0, {extent}, {block_name(axis)}):")
        else:
            self._line(f"for {axis}{'_step' if self.wide else ''} in range({extent}):")
        with self._scope():
            if backwards:
                self._line(f"{axis}_start = {(extent - 1) // step.size * step.size} - {moved}")
            if step.kind == "tile":
                self._write_axis(axis, f"{axis}_start + ")
            else:
                if self.wide:
                    self._line(f"{axis} = tl.cast({axis}_step, tl.int64)")
                self.positions[axis, None] = axis
            with self._nest(rest, backwards):
                yield

    def _folded_lanes(self, reduce: Reduce) -> int:
        """How many lanes of a loop's block share a partial result: those of one thread.

        A thread reads `width` neighbours at a time, 16 bytes where rows are aligned, and its next
        ones as many further on as all threads read. Fewer partial results take fewer registers,
        and an online sum is brought to a new maximum less often.
        """
        type = self.kernel.value_type(reduce.arg)
        (axis, *others) = self._block_axes({*type.axes, *reduce.axes}) or ("",)
        if self.rank > 1 or others or axis not in reduce.axes or reduce.op.startswith("arg"):
            return 1
        width = 1
        for load in self.kernel.body:
            if isinstance(load, Load) and abs(load.index.coefficient(axis)) == 1:
                vector = 16 // self.kernel.buffer(load.buffer).dtype.itemsize
                strides = [load.index.coefficient(other) for other in load.index.axes() - {axis}]
                width = max(width, gcd(vector, *strides))
        threads = 32 * self.schedule.num_warps
        return max(1, self.lanes[axis] // (threads * width))

    def _partial_shape(self, reduce: Reduce) -> str:
        axes = {*self.kernel.value_type(reduce.arg).axes, *reduce.axes}
        folded = self._folded_lanes(reduce)
        if folded == 1:
            return self._shape(axes)
        (axis,) = self._block_axes(axes)
        return f"[{self.lanes[axis] // folded}]"

    def _by_thread(self, reduce: Reduce, block: str) -> str:
        """A block as a matrix, whose columns each share a partial result."""
        (axis,) = self._block_axes({*self.kernel.value_type(reduce.arg).axes, *reduce.axes})
        folded = self._folded_lanes(reduce)
        return f"tl.reshape({block}, [{folded}, {self.lanes[axis] // folded}])"

    def _partial(self, reduce: Reduce, block: str) -> str:
        """What a block adds to the partial results of a loop."""
        if self._folded_lanes(reduce) == 1:
            return block
        rows = self._by_thread(reduce, block)
        if reduce.op == "sum":
            small = reduce.type.dtype.itemsize < 4  # Triton widens small integers
            narrow = f".to({text.type_name(reduce.type.dtype)})" if small else ""
            return f"tl.sum({rows}, 0){narrow}"
        return f"tl.reduce({rows}, 0, {self._helper(reduce.op)})"

    def _write_accumulator(self, id: int) -> None:
        reduce = self.kernel.body[id]
        assert isinstance(reduce, Reduce)
        type = self.kernel.value_type(reduce.arg)
        shape = self._partial_shape(reduce)
        start = text.literal(identity(reduce.op, type.dtype), type.dtype)
        acc = f"{reduce.op}_{id}_acc"
        self._line(f"{acc} = tl.full({shape}, {start}, {text.type_name(type.dtype)})")
        if reduce.op in ("argmax", "argmin"):
            index_type = "tl.int64" if self.wide else "tl.int32"
            self._line(f"{acc}_at = tl.full({shape}, {self.extents[reduce.axes[0]]}, {index_type})")

    def _write_accumulation(self, id: int) -> None:
        reduce = self.kernel.body[id]
        assert isinstance(reduce, Reduce)
        acc, block = f"{reduce.op}_{id}_acc", self._filled(reduce)
        if reduce.op in ("argmax", "argmin"):
            at = self._reduced_index(reduce)
            pair = f"{acc}, {acc}_at, {block}, {at}"
            self._line(f"{acc}, {acc}_at = {self._helper(reduce.op)}({pair})")
        elif reduce.op == "sum":
            self._line(f"{acc} += {self._partial(reduce, block)}")
        else:
            block = self._partial(reduce, block)
            self._line(f"{acc} = {self._helper(reduce.op)}({acc}, {block})")

    def _write_total(self, id: int) -> None:
        reduce = self.kernel.body[id]
        assert isinstance(reduce, Reduce)
        acc = f"{reduce.op}_{id}_acc"
        if reduce.op in ("argmax", "argmin"):
            self._write_arg_reduce(id, reduce, acc, f"{acc}_at")
        else:
            self._define(id, reduce.op, self._folded(reduce, acc))

    def _write_block_maximum(self, id: int) -> None:
        """The maximum with this block, before it takes the place of that so far."""
        reduce = self.kernel.body[id]
        assert isinstance(reduce, Reduce)
        block = f"max_{id}_block"
        self._line(f"{block} = {self._filled(reduce)}")
        top = f"{self._helper('max')}(max_{id}_acc, {self._partial(reduce, block)})"
        self._line(f"max_{id}_top = {top}")

    def _write_online(self, pair: OnlineSum) -> None:
        """Bring a sum to the maximum with this block, which is not yet in that of the maximum."""
        largest = self.kernel.body[pair.maximum]
        assert isinstance(largest, Reduce)
        acc, highest = f"sum_{pair.sum}_acc", f"max_{pair.maximum}_acc"
        block, top = f"max_{pair.maximum}_block", f"{acc}_top"
        self._line(
            f'{top} = tl.where(tl.abs(max_{pair.maximum}_top) < float("inf"), '
            f"max_{pair.maximum}_top, 0.0)"
        )
        # The fast exponential: its error grows with how far below the maximum a term is, where the
        # term no longer counts, and two accurate ones cost more than reading the element.
        terms = f"tl.exp({block} - {top})"
        if self._folded_lanes(largest) > 1:
            terms = f"tl.sum(tl.exp({self._by_thread(largest, block)} - {top}[None, :]), 0)"
        self._line(f"{acc} = {acc} * tl.exp({highest} - {top}) + {terms}")

    def _write_online_total(self, pair: OnlineSum) -> None:
        """A sum over all lanes, each relative to its own maximum so far."""
        reduce = self.kernel.body[pair.sum]
        assert isinstance(reduce, Reduce)
        for id in self._needed([pair.subtracted]):
            self._write(id)
        acc, highest = f"sum_{pair.sum}_acc", f"max_{pair.maximum}_acc"
        lanes = f"{acc} * tl.exp({highest} - {self._value(pair.subtracted)})"
        self._define(pair.sum, "sum", self._folded(reduce, lanes))

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
        self._line(f"for {dot.k}_start in range(0, {self.extents[dot.k]}, {block_name(dot.k)}):")
        with self._scope():
            blocks = []
            for factor, axes, suffix in places:
                with self._place(*axes):
                    self._write_axis(dot.k, f"{dot.k}_start + ", suffix)
                    blocks.append(self._factor(factor, dot.k))
            precision = f", out_dtype={acc_type}"
            if self.kernel.value_type(lhs).dtype == np.float32:
                precision = f', input_precision="{dot.precision}"'
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
                mask = f"tl.arange(0, {block_name(axis)}) == 0"
            self._line(f"{acc} = tl.sum(tl.where({mask}, {acc}, 0.0), {self.dims[axis]}{keep})")
        self.values[self._key(id)] = acc

    def _factors(self, dot: Dot) -> tuple[int, int]:
        """The product's factors; where both were widened from one half type, the halves.

        Tensor cores multiply halves exactly and add in float32, so that nothing is lost.
        """
        narrow = []
        for id in (dot.lhs, dot.rhs):
            factor = self.kernel.body[id]
            if isinstance(factor, Cast) and self.kernel.value_type(factor.arg).dtype in dtypes.HALF:
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
