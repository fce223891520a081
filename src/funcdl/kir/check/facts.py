"""What is known of a kernel while it is checked, and how a broken rule is reported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import numpy as np

from funcdl.core import dtypes
from funcdl.kir.index import AxisAtom, DivAtom, Index, ModAtom, ValueAtom
from funcdl.kir.ir import Axis, Buffer, Kernel, Scalar, ValueType
from funcdl.kir.printer import format_instruction
from funcdl.kir.rules import KernelError


class Facts:
    """The kernel's axes and buffers by name, and what was found of its instructions so far.

    Attributes:
        types: of each value.
        varies: what each instruction varies over; for an effect, the points at which it happens.
        at: the instruction that is looked at, -1 for none.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.axes: dict[str, Axis] = {axis.name: axis for axis in kernel.axes}
        self.buffers: dict[str, Buffer] = {buffer.name: buffer for buffer in kernel.buffers}
        self.types: dict[int, ValueType] = {}
        self.varies: dict[int, frozenset[str]] = {}
        self.at = -1

    def fail(self, rule: str, at: int | None = None) -> NoReturn:
        """Report a broken rule, of the instruction that is looked at where `at` names no other."""
        at = self.at if at is None else at
        if at < 0:
            raise KernelError(f"kernel {self.kernel.name}: {rule}")
        text = format_instruction(self.kernel.body[at])
        raise KernelError(f"kernel {self.kernel.name}: %{at} ({text}): {rule}")

    def in_order(self, axes: Iterable[str]) -> tuple[str, ...]:
        """Axes in the kernel's order."""
        wanted = frozenset(axes)
        return tuple(name for name in self.axes if name in wanted)

    def index_axes(self, index: Index) -> frozenset[str]:
        """The axes that an index varies over."""
        axes: set[str] = set()
        for atom, _ in index.terms:
            match atom:
                case AxisAtom(name, extent):
                    if name not in self.axes:
                        self.fail(f"the kernel has no axis {name}")
                    if extent != self.axes[name].extent:
                        self.fail(
                            f"axis {name} in the index has extent {extent}, "
                            f"in the kernel {self.axes[name].extent}"
                        )
                    axes.add(name)
                case ValueAtom(id, low, high):
                    if not dtypes.is_integer(self.types[id].dtype):
                        self.fail(f"computed positions must be integers, %{id} is not")
                    if low > high:
                        self.fail(f"range of %{id} must not be empty, is {low}..{high}")
                    axes |= self.varies[id]
                case DivAtom(inner, _) | ModAtom(inner, _):
                    axes |= self.index_axes(inner)
        return frozenset(axes)

    def buffer(self, name: str) -> Buffer:
        """The buffer of a name that some instruction uses."""
        if name not in self.buffers:
            self.fail(f"the kernel has no buffer {name!r}")
        return self.buffers[name]

    def refuse_half(self, dtype: np.dtype) -> None:
        """Check that a dtype is one to compute with."""
        if dtype in dtypes.HALF:
            self.fail(f"{dtypes.short_name(dtype)} must be cast to f32 before it is computed with")

    def require_scalar(self, value: Scalar, dtype: np.dtype) -> None:
        """Check that a scalar is the Python number that stands for a value of this dtype."""
        wanted = {"b": bool, "i": int, "u": int}.get(dtypes.kind(dtype), float)
        if type(value) is not wanted:
            self.fail(f"a {dtype} scalar must be a Python {wanted.__name__}, got {value!r}")
