"""The kernel IR: what one kernel computes, as data, before threads and loops.

A `Kernel` is a list of instructions in SSA form over named *axes*. The id of a value is the
position of its instruction. A value's type is an element type and the axes that it varies over,
``f32{i,j}``; from that one fact the C renderer places loops and hoists code out of them, and the
Triton renderer derives block shapes, broadcasting and masks. Values of different axes combine by
broadcasting over the union of their axes, so there is no broadcast instruction.

Half-precision values exist only between a load or store and a cast: arithmetic is in float32 or
wider. Buffers are flat and contiguous; instructions index them by element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from funcdl.core.records import record
from funcdl.kir.cost import Cost
from funcdl.kir.index import Index

ReduceOp = Literal["sum", "prod", "max", "min", "and", "or", "argmax", "argmin"]
RunningOp = Literal["sum", "prod", "max", "min", "logsumexp"]
UpdateOp = Literal["add", "mul", "min", "max", "set"]
Role = Literal["in", "out", "inout"]
DotPrecision = Literal["ieee", "tf32", "tf32x3"]
Scalar = bool | int | float


@record
class Axis:
    """A named loop of the kernel, over ``range(extent)``."""

    name: str
    extent: int


@record
class Buffer:
    """A flat array of `size` elements that the kernel reads (`in`), writes (`out`), or both.

    `may_alias`: may be the same memory as another buffer of the kernel, element for element (a
    donated input updated in place). Reads then still see the old values, since every point loads
    before it stores.
    """

    name: str
    dtype: np.dtype
    size: int
    role: Role
    may_alias: bool = False


@record
class ValueType:
    """Element type, and the axes that the value varies over in the kernel's axis order."""

    dtype: np.dtype
    axes: tuple[str, ...]


@record
class Const:
    """A compile-time scalar."""

    type: ValueType
    value: Scalar


@record
class IndexValue:
    """An index expression as an integer value (for iota, masks and dynamic positions)."""

    type: ValueType
    index: Index


@record
class Load:
    """``buffer[index]``; where `mask` is given and false, nothing is read and `other` results."""

    type: ValueType
    buffer: str
    index: Index
    mask: int | None = None
    other: Scalar = 0


@record
class Elementwise:
    """The elementwise primitive `name` on its arguments (see `kir.elementwise`)."""

    type: ValueType
    name: str
    args: tuple[int, ...]


@record
class Select:
    """``on_true if which else on_false``; `which` is bool."""

    type: ValueType
    which: int
    on_true: int
    on_false: int


@record
class Cast:
    """Conversion to ``type.dtype`` with `convert_element_type`'s meaning."""

    type: ValueType
    arg: int


@record
class Bitcast:
    """Reinterpretation of the bits as another element type of the same width."""

    type: ValueType
    arg: int


@record
class Reduce:
    """Reduction of `arg` over `axes`; `argmax` and `argmin` take one axis, the first wins ties."""

    type: ValueType
    op: ReduceOp
    arg: int
    axes: tuple[str, ...]


@record
class Running:
    """At each position along `axis`, the result of `op` over `arg` at all positions up to it.

    With `reverse` over those from it on. The result varies over `axis`, whether `arg` does or not.
    """

    type: ValueType
    op: RunningOp
    arg: int
    axis: str
    reverse: bool = False


@record
class Order:
    """The position along `axis` of the element that comes here when the elements are in order.

    Ascending, by the first of `keys`, then the second; elements of equal keys stay in theirs. NaN
    is larger than all numbers, and zeros of both signs are equal. `descending` puts the largest
    first. Where `first` is not 0, only so many positions are asked for: those that come after them
    may be any.
    """

    type: ValueType
    keys: tuple[int, ...]
    axis: str
    descending: bool = False
    first: int = 0


@record
class Dot:
    """``Σ_k lhs · rhs``: `lhs` varies over `m`, `k` and batch axes, `rhs` over `k`, `n` and batch.

    Accumulates in ``type.dtype``. `precision` is what a GPU may round float32 factors to: not at
    all (``ieee``, as on a CPU), to the 10 bits of tensor cores (``tf32``), or to the sum of two
    such numbers (``tf32x3``, three products for each).
    """

    type: ValueType
    lhs: int
    rhs: int
    m: str
    n: str
    k: str
    precision: DotPrecision = "ieee"


@record
class Slide:
    """How the windows of a convolution move along one spatial dimension.

    `out`, `lhs` and `rhs` are the kernel axes of the windows, of the elements and of the places in
    a window. Place ``k`` of window ``i`` is at ``i · stride + k · dilation − low`` among elements
    that are `spread` places apart; between them, before the first and after the last are zeros.
    """

    out: str
    lhs: str
    rhs: str
    stride: int = 1
    low: int = 0
    spread: int = 1
    dilation: int = 1


@record
class Conv:
    """``Σ_{c, k} lhs[n, c, i · stride + k · dilation − low] · rhs[k, c, o]``.

    `lhs` varies over the axes `n` and `c` and those of the elements of each of `slides`, `rhs` over
    the places of theirs, `c` and `o`; both over batch axes (feature groups), too. The result varies
    over batch axes, `n`, the windows' axes and `o`. Accumulates in ``type.dtype``; `precision` is
    that of `Dot`. With `direct` every window is summed by itself; else windows may share products
    (Winograd), which rounds their sums a few times more.
    """

    type: ValueType
    lhs: int
    rhs: int
    n: str
    o: str
    c: str
    slides: tuple[Slide, ...]
    precision: DotPrecision = "ieee"
    direct: bool = False

    @property
    def summed(self) -> tuple[str, ...]:
        """The axes that the operands vary over and the result does not."""
        return (*(axis for s in self.slides for axis in (s.lhs, s.rhs)), self.c)

    @property
    def windows(self) -> tuple[str, ...]:
        """The axes that the result varies over and the operands do not."""
        return tuple(slide.out for slide in self.slides)


@record
class Store:
    """``buffer[index] = value`` for every point of the value's and index's axes where `mask`.

    Several stores may fill one buffer, each element once.
    """

    buffer: str
    index: Index
    value: int
    mask: int | None = None


@record
class AtomicUpdate:
    """``buffer[index] = op(buffer[index], value)``; points may meet at one element.

    Updates of one element happen in the order of the axes' row-major traversal (CPU), or in any
    order (GPU: `add`, `min` and `max` only, and `set` where no points meet).
    """

    op: UpdateOp
    buffer: str
    index: Index
    value: int
    mask: int | None = None


ValueInstruction = (
    Const
    | IndexValue
    | Load
    | Elementwise
    | Select
    | Cast
    | Bitcast
    | Reduce
    | Running
    | Order
    | Dot
    | Conv
)
Effect = Store | AtomicUpdate
Instruction = ValueInstruction | Effect


@dataclass(frozen=True, slots=True)
class Library:
    """Stands for a hand-written kernel of the back end.

    `function` is the kernel's name there, `problem` what it is made for: fields by name. `run` is
    what it means: it computes with arrays in NumPy, by the names of the kernel's buffers.
    """

    function: str
    problem: tuple[tuple[str, Any], ...]
    cost: Cost
    run: Callable[[Mapping[str, np.ndarray]], None] = field(compare=False)


@record
class Kernel:
    """One kernel: its buffers in call order, its axes in row-major order, its instructions.

    With `library` there are no instructions and no axes, and the buffers are those that the
    hand-written kernel takes.
    """

    name: str
    buffers: tuple[Buffer, ...]
    axes: tuple[Axis, ...]
    body: tuple[Instruction, ...]
    library: Library | None = None

    def axis(self, name: str) -> Axis:
        return next(a for a in self.axes if a.name == name)

    def buffer(self, name: str) -> Buffer:
        return next(b for b in self.buffers if b.name == name)

    def value_type(self, id: int) -> ValueType:
        """The type of the value with this id."""
        instruction = self.body[id]
        assert not isinstance(instruction, Effect), f"%{id} is a {type(instruction).__name__}"
        return instruction.type


def operands(instruction: Instruction) -> tuple[int, ...]:
    """Ids of the values that an instruction reads, those inside its index last."""
    match instruction:
        case Const():
            return ()
        case IndexValue(index=index):
            return tuple(sorted(index.values()))
        case Load(index=index, mask=mask):
            return _present(mask) + tuple(sorted(index.values()))
        case Elementwise(args=args) | Order(keys=args):
            return args
        case Select(which=which, on_true=on_true, on_false=on_false):
            return which, on_true, on_false
        case Cast(arg=arg) | Bitcast(arg=arg) | Reduce(arg=arg) | Running(arg=arg):
            return (arg,)
        case Dot(lhs=lhs, rhs=rhs) | Conv(lhs=lhs, rhs=rhs):
            return lhs, rhs
        case (
            Store(value=value, index=index, mask=mask)
            | AtomicUpdate(value=value, index=index, mask=mask)
        ):
            return (value, *_present(mask), *sorted(index.values()))


def _present(mask: int | None) -> tuple[int, ...]:
    return () if mask is None else (mask,)
