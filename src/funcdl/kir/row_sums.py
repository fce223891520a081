"""A kernel over rows of a matrix that also adds up columns: what a back end puts a loop around.

A kernel of the IR reduces over one set of axes. Sums along the others, over all rows, can be made
on the way where one program takes many rows in turn; a back end writes such a kernel by putting a
loop and the sums around the kernel over rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from funcdl.kir.cost import Cost
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel
from funcdl.kir.kernel_cost import kernel_cost
from funcdl.kir.printer import format_kernel
from funcdl.kir.schedule import Schedule

Array = np.ndarray[Any, Any]

ROW_SUMS = "row_sums"
"""The function of a `kir.ir.Library` whose problem has `RowSums` as ``rows``."""


@dataclass(frozen=True, slots=True, repr=False)
class RowSums:
    """What is computed for each row, and what of it is added up.

    `kernel` has two axes, rows and columns, of which its reductions take columns. It stores the
    terms of each sum, one for each point, in one of the buffers `sums`. These stores do not happen:
    instead each of the `schedule.programs` instances stores a row of sums over its own rows, in
    ``[programs, columns]``. A row lies in one block.
    """

    kernel: Kernel
    schedule: Schedule
    sums: tuple[str, ...]

    def __repr__(self) -> str:
        lines = format_kernel(self.kernel, self.schedule).rstrip().splitlines()
        inner = "\n".join(f"    {line}" for line in lines)
        return f"{', '.join(self.sums)} over rows of\n{inner}"

    @property
    def columns(self) -> int:
        """The length of a row."""
        return self.kernel.axes[1].extent

    @property
    def rows_at_once(self) -> int:
        """Rows of a block."""
        name = self.kernel.axes[0].name
        return next((s.size for s in self.schedule.of(name) if s.kind == "vector"), 1)

    @property
    def cost(self) -> Cost:
        """That of the kernel, with its partial sums in place of their terms."""
        cost = kernel_cost(self.kernel)
        buffers = [self.kernel.buffer(name) for name in self.sums]
        terms = sum(buffer.size * buffer.dtype.itemsize for buffer in buffers)
        kept = sum(self.schedule.programs * self.columns * b.dtype.itemsize for b in buffers)
        elements = sum(buffer.size for buffer in buffers)
        return replace(
            cost,
            flops=cost.flops + elements,
            operations=cost.operations + elements,
            bytes_written=cost.bytes_written - terms + kept,
        )

    def run(self, arrays: Mapping[str, Array]) -> None:
        """What the kernel means, in NumPy; `arrays` by the names of the kernel's buffers."""
        memory = dict(arrays)
        for name in self.sums:
            buffer = self.kernel.buffer(name)
            memory[name] = np.zeros(buffer.size, buffer.dtype)
        interpret(self.kernel, memory)
        count, programs = self.rows_at_once, self.schedule.programs
        for name in self.sums:
            terms = memory[name].reshape(-1, self.columns)
            missing = -len(terms) % (count * programs)
            terms = np.pad(terms, ((0, missing), (0, 0)))
            blocks = terms.reshape(-1, programs, count, self.columns)
            arrays[name][...] = blocks.sum((0, 2), dtype=terms.dtype).reshape(-1)
