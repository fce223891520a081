"""Random programs over the real primitives, made to be fused in odd ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from tests.compiler.writer import BOOL, F32, NDArray, P, Writer, broadcasts

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.dtypes import HALF
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.ops import registry
from funcdl.ops.gather import GatherDimensionNumbers
from funcdl.ops.indexed_windows import GatherScatterMode
from funcdl.ops.scatter import ScatterDimensionNumbers
from funcdl.transforms.jit_primitive import jit_call

DTYPES = [
    dtypes.from_short_name(name)
    for name in "f32 i32 bool bf16 f64 u32 f16 i64 u8 i16 i8 u16 u64 c64 c128".split()  # noqa: SIM905
]
INPUT_DTYPES = [F32] * 8 + DTYPES[:10]
SMALL = (3, 2, 4, 1, 5, 7, 8, 0)
LARGE = (33, 17, 64, 1, 5, 100, 8, 130)  # of several vectors, or tiles, and of parts of them

# Functions are taken of values near 0, where they are neither flat nor steep.
_FUNCTIONS = ["exp", "tanh", "logistic", "sin", "cos", "log1p", "sqrt"]
_BINARY = ["add", "mul", "sub", "max", "min", "div"]
_INTEGER_BINARY = ["add", "mul", "sub", "max", "min", "and", "or", "xor"]
_KINDS = (
    ["binary"] * 6
    + ["reduce"] * 5
    + ["unary", "broadcast"] * 3
    + ["dot", "cast", "function", "compare", "select", "transpose", "reshape", "slice"] * 2
    + ["pad", "concatenate", "rev", "iota", "extreme_at", "gather", "dynamic_slice"]
    + ["scatter", "update_slice", "threefry", "normalize", "softmax", "copy", "complex"]
)


@dataclass
class Case:
    """A program, its operands, and which of these it may reuse the memory of."""

    closed: ClosedJaxpr
    args: list[NDArray]
    donated: tuple[bool, ...]

    def __repr__(self) -> str:
        consts = [const.value for const in self.closed.consts]
        return (
            f"Case(donated={self.donated}, args={self.args}, consts={consts}, program=\n"
            f"{self.closed})"
        )


class _Steps(Writer):
    """One method for each kind of step; a step that finds no operands adds nothing."""

    def binary(self) -> None:
        x = self.pick_kind("iufb")
        if x is None:
            return
        y = self.like(x)
        dtype = x.aval.dtype
        match dtypes.kind(dtype):
            case "b":
                self.emit(self.choose(["and", "or", "xor", "max"]), x, y)
            case "f":
                self.emit(self.choose(_BINARY), *self.maybe_swap(x, y), approximate=dtype in HALF)
            case _:
                self.emit(self.choose(_INTEGER_BINARY), *self.maybe_swap(x, y))

    def maybe_swap(self, x: Atom, y: Atom) -> tuple[Atom, Atom]:
        return (y, x) if self.flip() else (x, y)

    def unary(self) -> None:
        x = self.pick_kind("iufb")
        if x is None:
            return
        dtype = x.aval.dtype
        match dtypes.kind(dtype):
            case "b":
                self.emit("not", x)
            case "u":
                self.emit(self.choose(["not", "population_count", "neg"]), x)
            case "i":
                self.emit(self.choose(["neg", "abs", "sign", "not", "clz"]), x)
            case _:
                names = ["neg", "abs", "square", "integer_pow"]
                if x in self.exact:
                    names += ["floor", "ceil", "sign"]
                name = self.choose(names)
                power = {"y": self.choose([1, 2, 3])} if name == "integer_pow" else {}
                rounds = name in ("square", "integer_pow")
                self.emit(name, x, approximate=rounds, **power)

    def function(self) -> None:
        x = self.pick_kind("f")
        if x is None:
            return
        name = self.choose(_FUNCTIONS)
        if name in ("log1p", "sqrt"):
            x = self.emit("abs", x)
        if name == "exp":
            x = self.emit("tanh", x, approximate=True)
        self.emit(name, x, approximate=True)

    def compare(self) -> None:
        x = self.pick(lambda var: var in self.exact and not dtypes.is_complex(var.aval.dtype))
        if x is None:
            return
        y = self.pick(lambda var: var.aval.same_type(x.aval) and var in self.exact)
        assert y is not None
        if self.flip():
            y = self.full(x.aval)
        self.emit(self.choose(["lt", "le", "gt", "ge", "eq", "ne"]), x, y)

    def select(self) -> None:
        x = self.pick()
        if x is None:
            return
        which: Atom | None = self.pick(
            lambda var: var.aval.dtype in (BOOL, np.int32) and var.aval.shape in ((), x.aval.shape)
        )
        if which is None or which is x:
            which = self.literal(self.flip(), BOOL)
        self.emit("select_n", which, x, self.like(x))

    def cast_step(self) -> None:
        x, dtype = self.pick(), self.choose(DTYPES)
        if x is not None and self.can_cast(x, dtype):
            weak = self.integer(0, 7) == 7
            self.emit("convert_element_type", x, new_dtype=dtype, weak_type=weak)

    def axes_of(self, x: Var) -> tuple[int, ...]:
        if x.aval.ndim == 0:
            return ()
        masks = [(d,) for d in range(x.aval.ndim)] * 2
        masks += [(), tuple(range(x.aval.ndim)), tuple(range(x.aval.ndim - 1))]
        masks.append(tuple(range(1, x.aval.ndim)))
        return self.choose(masks)

    def reduce(self) -> None:
        x = self.pick_kind("iufb")
        if x is None:
            return
        names = {"b": ["and", "or", "max", "min"], "f": ["sum", "sum", "max", "min", "prod"]}
        every = ["sum", "max", "min", "prod", "and", "or"]
        name = self.choose(names.get(dtypes.kind(x.aval.dtype), every))
        axes = self.axes_of(x)
        y = self.emit(f"reduce_{name}", x, approximate=name in ("sum", "prod"), axes=axes)
        if self.flip() and axes:
            kept = tuple(d for d in range(x.aval.ndim) if d not in axes)
            self.emit("broadcast_in_dim", y, shape=x.aval.shape, broadcast_dimensions=kept)

    def extreme_at(self) -> None:
        x = self.pick(
            lambda var: (
                var in self.exact and dtypes.kind(var.aval.dtype) in "iufb" and any(var.aval.shape)
            )
        )
        if x is not None:
            axes = [d for d, size in enumerate(x.aval.shape) if size]
            index_dtype = np.dtype(self.choose([np.int32, np.int64, np.uint8]))
            name = self.choose(["argmax", "argmin"])
            self.emit(name, x, axes=(self.choose(axes),), index_dtype=index_dtype)

    def softmax(self) -> None:
        x = self.pick(lambda var: dtypes.is_float(var.aval.dtype) and var.aval.ndim > 0)
        if x is None:
            return
        axes = (self.integer(0, x.aval.ndim - 1),)
        kept = tuple(d for d in range(x.aval.ndim) if d not in axes)
        back = {"shape": x.aval.shape, "broadcast_dimensions": kept}
        most = self.emit("broadcast_in_dim", self.emit("reduce_max", x, axes=axes), **back)
        half = x.aval.dtype in HALF
        e = self.emit("exp", self.emit("sub", x, most, approximate=half), approximate=True)
        total = self.emit("reduce_sum", e, approximate=True, axes=axes)
        self.emit("div", e, self.emit("broadcast_in_dim", total, **back), approximate=half)

    def normalize(self) -> None:
        x = self.pick(lambda var: dtypes.is_float(var.aval.dtype) and var.aval.ndim > 0)
        if x is None:
            return
        axes = self.axes_of(x)
        kept = tuple(d for d in range(x.aval.ndim) if d not in axes)
        back = {"shape": x.aval.shape, "broadcast_dimensions": kept}
        half = x.aval.dtype in HALF
        mean = self.emit("reduce_sum", x, approximate=True, axes=axes)
        centred = self.emit("sub", x, self.emit("broadcast_in_dim", mean, **back), approximate=half)
        square = self.emit("mul", centred, centred, approximate=half)
        spread = self.emit("reduce_sum", square, approximate=True, axes=axes)
        one = self.literal(1, x.aval.dtype)
        ones = self.emit("broadcast_in_dim", one, shape=spread.aval.shape, broadcast_dimensions=())
        spread = self.emit(
            "sqrt", self.emit("add", spread, ones, approximate=half), approximate=True
        )
        self.emit("div", centred, self.emit("broadcast_in_dim", spread, **back), approximate=half)

    def broadcast(self) -> None:
        x = self.pick(lambda var: var.aval.ndim < 3)
        if x is None:
            return
        target = self.pick(lambda var: bool(broadcasts(x.aval.shape, var.aval.shape)))
        if target is not None and self.flip():
            shape = target.aval.shape
        else:
            shape = list(x.aval.shape)
            shape.insert(self.integer(0, len(shape)), self.choose([1, 2, 3, 4]))
            shape = tuple(shape)
        if math.prod(shape) <= self.most:
            self.stretch(x, shape)

    def transpose(self) -> None:
        x = self.pick(lambda var: var.aval.ndim > 1)
        if x is not None:
            order = tuple(self.draw(st.permutations(range(x.aval.ndim))))
            self.emit("transpose", x, permutation=order)

    def reshape(self) -> None:
        x = self.pick()
        if x is None:
            return
        size = x.aval.size
        shapes: list[Shape] = [(size,), (1, size), (size, 1)]
        shapes += [(d, size // d) for d in range(2, 9) if size and size % d == 0]
        shapes += [var.aval.shape for var in self.known if var.aval.size == size]
        self.emit("reshape", x, new_sizes=self.choose(shapes))

    def slice(self) -> None:
        x = self.pick(lambda var: var.aval.ndim > 0)
        if x is None:
            return
        starts, limits, strides = [], [], []
        for size in x.aval.shape:
            start = self.integer(0, size)
            limit = self.integer(start, size)
            whole = self.flip()
            starts.append(0 if whole else start)
            limits.append(size if whole else limit)
            strides.append(self.choose([1, 1, 2, 3]))
        self.emit(
            "slice",
            x,
            start_indices=tuple(starts),
            limit_indices=tuple(limits),
            strides=None if self.flip() else tuple(strides),
        )

    def pad(self) -> None:
        x = self.pick()
        if x is None:
            return
        config = []
        for size in x.aval.shape:
            low, high, interior = self.integer(-2, 3), self.integer(-2, 3), self.integer(0, 2)
            if low + high + size + max(size - 1, 0) * interior < 0:
                low = high = 0
            config.append((low, high, interior))
        shape = [
            low + high + size + max(size - 1, 0) * interior
            for size, (low, high, interior) in zip(x.aval.shape, config, strict=True)
        ]
        if math.prod(shape) > self.most:
            return
        value: Atom | None = self.pick(
            lambda var: var.aval.shape == () and var.aval.dtype == x.aval.dtype
        )
        if value is None or self.flip():
            value = self.scalar_of(x.aval.dtype)
        self.emit("pad", x, value, padding_config=tuple(config))

    def concatenate(self) -> None:
        x = self.pick(lambda var: var.aval.ndim > 0)
        if x is None:
            return
        d = self.integer(0, x.aval.ndim - 1)

        def fits(var: Var) -> bool:
            aval = var.aval
            same = aval.dtype == x.aval.dtype and aval.ndim == x.aval.ndim
            return same and all(
                a == b
                for i, (a, b) in enumerate(zip(aval.shape, x.aval.shape, strict=True))
                if i != d
            )

        parts = [x, *(self.pick(fits) for _ in range(self.integer(0, 3)))]
        if sum(part.aval.size for part in parts if part is not None) <= self.most:
            self.emit("concatenate", *parts, dimension=d)  # type: ignore[arg-type]

    def rev(self) -> None:
        x = self.pick(lambda var: var.aval.ndim > 0)
        if x is not None:
            dimensions = tuple(d for d in range(x.aval.ndim) if self.flip())
            self.emit("rev", x, dimensions=dimensions)

    def iota(self) -> None:
        x = self.pick(lambda var: var.aval.ndim > 0)
        if x is not None:
            dtype = self.choose([np.dtype(np.int32), F32, np.dtype(np.uint8), *HALF])
            dimension = self.integer(0, x.aval.ndim - 1)
            self.emit("iota", dtype=dtype, shape=x.aval.shape, dimension=dimension)

    def dot(self) -> None:
        x = self.pick_kind("iuf")
        if x is None:
            return
        y = self.pick(lambda var: var.aval.dtype == x.aval.dtype)
        assert y is not None
        pairs = [
            (i, j) for i, a in enumerate(x.aval.shape) for j, b in enumerate(y.aval.shape) if a == b
        ]
        contract, batch = [], []
        for i, j in self.draw(st.permutations(pairs)):
            if all(i != a and j != b for a, b in contract + batch):
                role = self.choose(["contract", "batch", "neither", "contract"])
                if role == "contract" and len(contract) < 2:
                    contract.append((i, j))
                elif role == "batch":
                    batch.append((i, j))
        numbers = tuple(
            (tuple(i for i, _ in found), tuple(j for _, j in found)) for found in (contract, batch)
        )
        left = [s for i, s in enumerate(x.aval.shape) if all(i != a for a, _ in contract)]
        right = [s for j, s in enumerate(y.aval.shape) if all(j != b for _, b in contract + batch)]
        if math.prod(left) * math.prod(right) > self.most or len(left) + len(right) > 5:
            return
        preferred = None
        if x.aval.dtype in (*HALF, np.int32) and self.flip():
            preferred = F32
        self.emit(
            "dot_general",
            x,
            y,
            approximate=True,
            dimension_numbers=numbers,
            preferred_element_type=preferred,
            precision=None,
        )

    def starts(self, x: Var) -> list[Atom]:
        dtype = np.dtype(self.choose([np.int32, np.int64, np.uint8]))
        known = self.pick(lambda var: var.aval.shape == () and var.aval.dtype == dtype)
        low = 0 if dtype == np.uint8 else -2
        return [
            known
            if known is not None and self.flip()
            else self.literal(self.integer(low, 9), dtype)
            for _ in x.aval.shape
        ]

    def dynamic_slice(self) -> None:
        x = self.pick()
        if x is not None:
            sizes = tuple(self.integer(0, size) for size in x.aval.shape)
            self.emit("dynamic_slice", x, *self.starts(x), slice_sizes=sizes)

    def update_slice(self) -> None:
        x = self.pick()
        if x is None:
            return

        def fits(var: Var) -> bool:
            aval = var.aval
            same = aval.dtype == x.aval.dtype and aval.ndim == x.aval.ndim
            return same and all(a <= b for a, b in zip(aval.shape, x.aval.shape, strict=True))

        update = self.pick(fits)
        assert update is not None
        self.emit("dynamic_update_slice", x, update, *self.starts(x))

    def indices(self, count: int, limit: int) -> Var:
        """Row numbers, shape (count, 1), some outside."""
        known = self.pick(
            lambda var: (
                dtypes.is_integer(var.aval.dtype) and 0 < var.aval.size <= 8 and var.aval.ndim > 0
            )
        )
        if known is not None and self.flip():
            return self.emit("reshape", known, new_sizes=(known.aval.size, 1))
        dtype = np.dtype(self.choose([np.int32, np.int64]))
        places = self.emit("iota", dtype=dtype, shape=(count, 1), dimension=0)
        factor = self.emit(
            "broadcast_in_dim",
            self.literal(self.choose([1, 2, -1, 0]), dtype),
            shape=(count, 1),
            broadcast_dimensions=(),
        )
        return self.emit("mul", places, factor)

    def gather(self) -> None:
        x = self.pick(lambda var: var.aval.ndim > 0)
        if x is None:
            return
        d = self.integer(0, x.aval.ndim - 1)
        if x.aval.shape[d] == 0:
            return
        indices = self.indices(self.integer(1, 6), x.aval.shape[d])
        sizes = tuple(1 if i == d else size for i, size in enumerate(x.aval.shape))
        if math.prod(sizes) * indices.aval.size > self.most:
            return
        mode = self.choose(list(GatherScatterMode))
        numbers = GatherDimensionNumbers(tuple(range(1, x.aval.ndim)), (d,), (d,))
        self.emit(
            "gather",
            x,
            indices,
            dimension_numbers=numbers,
            slice_sizes=sizes,
            indices_are_sorted=False,
            unique_indices=False,
            mode=mode,
            fill_value=0 if mode is GatherScatterMode.FILL_OR_DROP else None,
        )

    def scatter(self) -> None:
        x = self.pick(lambda var: var.aval.ndim > 0 and not dtypes.is_complex(var.aval.dtype))
        if x is None:
            return
        d = self.integer(0, x.aval.ndim - 1)
        if x.aval.shape[d] == 0:
            return
        indices = self.indices(self.integer(1, 5), x.aval.shape[d])
        count = indices.aval.size
        shape = (count, *(size for i, size in enumerate(x.aval.shape) if i != d))
        if math.prod(shape) > self.most:
            return
        updates = self.pick(lambda var: var.aval.same_type(ShapedArray(shape, x.aval.dtype)))
        if updates is None:
            updates = self.full(ShapedArray(shape, x.aval.dtype))
        names = ["scatter", "scatter_max", "scatter_min"]
        if x.aval.dtype != BOOL:
            names += ["scatter_add"] * 3
        name = self.choose(names)
        self.emit(
            name,
            x,
            indices,
            updates,
            approximate=name == "scatter_add",
            dimension_numbers=ScatterDimensionNumbers(tuple(range(1, x.aval.ndim)), (d,), (d,)),
            indices_are_sorted=False,
            unique_indices=False,
            mode=self.choose(list(GatherScatterMode)),
        )

    def threefry(self) -> None:
        uint32 = np.dtype(np.uint32)
        x = self.pick(lambda var: var.aval.dtype == uint32)
        if x is None:
            shape = (self.choose(self.sizes),)
            x = self.emit("iota", dtype=uint32, shape=shape, dimension=0)
        key = [self.full(x.aval) for _ in range(2)]
        self.emit_all(P["threefry2x32"], [*key, x, self.like(x)], {})

    def copy(self) -> None:
        x = self.pick()
        if x is not None:
            self.emit(self.choose(["copy", "stop_gradient"]), x)

    def complex(self) -> None:
        x = self.pick_kind("c")
        if x is not None:
            name = self.choose(["real", "imag", "add", "mul", "conj"])
            self.emit(name, *([x] if name in ("real", "imag", "conj") else [x, self.like(x)]))
            return
        x = self.pick(lambda var: var.aval.dtype in (F32, np.float64))
        if x is not None:
            self.emit("complex", x, self.like(x))

    def step(self) -> None:
        kind = self.choose(_KINDS)
        method = self.cast_step if kind == "cast" else getattr(self, kind)
        method()


def random_values(rng: np.random.Generator, aval: ShapedArray, special: bool) -> NDArray:
    """Small multiples of 1/8, which sums and products often keep exact; some inf and NaN."""
    x = np.asarray(registry.random_array(rng, aval.shape, aval.dtype))
    if dtypes.is_inexact(aval.dtype):
        wide = np.complex128 if dtypes.is_complex(aval.dtype) else np.float64
        x = (np.round(x.astype(wide) * 8) / 8).astype(aval.dtype)
    if special and dtypes.is_float(aval.dtype) and x.size:
        flat = x.reshape(-1)
        for value in (np.inf, -np.inf, np.nan, -0.0):
            flat[rng.integers(x.size)] = value
        x = flat.reshape(aval.shape)
    return np.asarray(x, aval.dtype)


@st.composite
def cases(draw: st.DrawFn, of: Sequence[int] = SMALL) -> Case:
    """Programs with their operands, whose dimensions have a few of the sizes `of`."""
    writer = _Steps(draw, of)
    sizes = draw(st.lists(st.sampled_from(of), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    special = draw(st.integers(0, 9)) == 9

    def new_var() -> Var:
        shape = tuple(draw(st.lists(st.sampled_from(sizes), max_size=3)))
        while math.prod(shape) > writer.most:
            shape = shape[1:]
        return Var(ShapedArray(shape, draw(st.sampled_from(INPUT_DTYPES))))

    invars = [new_var() for _ in range(draw(st.integers(1, 4)))]
    constvars = [
        var for var in (new_var() for _ in range(draw(st.integers(0, 2)))) if var.aval.ndim
    ]
    writer.known += [*constvars, *invars]
    writer.exact.update(writer.known)
    for _ in range(draw(st.integers(1, 16))):
        writer.step()
    known: list[Atom] = [*reversed(writer.known), Literal(Array(np.float32(1.5)))]
    outs = draw(st.lists(st.sampled_from(known), max_size=3))
    read = {atom for eqn in writer.eqns for atom in eqn.invars}
    unread: list[Atom] = [var for eqn in writer.eqns for var in eqn.outvars if var not in read]
    outs += unread[-draw(st.integers(1, 8)) :]
    consts = [Array(random_values(rng, var.aval, special)) for var in constvars]
    closed = ClosedJaxpr(Jaxpr(constvars, invars, outs, writer.eqns), consts)
    if draw(st.integers(0, 4)) == 4:
        closed = _called(closed, draw(st.booleans()))
    args = [random_values(rng, var.aval, special) for var in invars]
    donated = tuple(draw(st.booleans()) for _ in args)
    return Case(closed, args, donated)


def _called(inner: ClosedJaxpr, twice: bool) -> ClosedJaxpr:
    """A program that calls another one, once or twice with the same operands."""
    invars = [Var(var.aval) for var in inner.jaxpr.invars]
    eqns, outs = [], []
    for _ in range(1 + twice):
        params = {"jaxpr": inner, "name": "inner", "donated": (False,) * len(invars)}
        outvars = [Var(a) for a in jit_call.output_avals([var.aval for var in invars], params)]
        eqns.append(Eqn(jit_call, invars, outvars, params))
        outs += outvars
    return ClosedJaxpr(Jaxpr((), invars, outs, eqns), ())
