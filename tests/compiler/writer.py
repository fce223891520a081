"""Writes programs equation by equation, with operands drawn by Hypothesis."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

import funcdl.ops
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.jaxpr import Atom, Eqn, Literal, Var
from funcdl.core.primitive import Primitive
from funcdl.ops import registry

for module in pkgutil.iter_modules(funcdl.ops.__path__, "funcdl.ops."):
    importlib.import_module(module.name)

NDArray = np.ndarray[Any, Any]
DType = np.dtype[Any]

P: dict[str, Primitive] = registry.primitives()
F32 = np.dtype(np.float32)
BOOL = np.dtype(bool)


class Writer:
    """A program being written, equation by equation."""

    def __init__(self, draw: st.DrawFn, sizes: Sequence[int]) -> None:
        self.draw = draw
        self.sizes = sizes
        self.most = max(sizes) ** 2 * 6  # elements of one array
        self.eqns: list[Eqn] = []
        self.known: list[Var] = []
        # Whose elements are the same bits whatever the order of sums.
        self.exact: set[Var] = set()

    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flip(self) -> bool:
        return self.draw(st.booleans())

    def emit(self, name: str, *operands: Atom, approximate: bool = False, **params: Any) -> Var:
        return self.emit_all(P[name], operands, params, approximate)[0]

    def emit_all(
        self,
        primitive: Primitive,
        operands: Sequence[Atom],
        params: dict[str, Any],
        approximate: bool = False,
    ) -> list[Var]:
        outvars = [Var(a) for a in primitive.output_avals([x.aval for x in operands], params)]
        self.eqns.append(Eqn(primitive, operands, outvars, params))
        exact = all(isinstance(x, Literal) or x in self.exact for x in operands)
        for var in outvars:
            inexact = dtypes.is_inexact(var.aval.dtype)
            if not inexact or (exact and not approximate):
                self.exact.add(var)
        self.known += outvars
        return outvars

    def pick(self, fits: Callable[[Var], bool] = lambda var: True) -> Var | None:
        """A known variable, most often one of the last; None where none fits."""
        found = [var for var in reversed(self.known) if fits(var)]
        if not found:
            return None
        return self.choose(found[: self.choose([2, 4, len(found)])])

    def pick_kind(self, kinds: str) -> Var | None:
        return self.pick(lambda var: dtypes.kind(var.aval.dtype) in kinds)

    def cast(self, x: Var, dtype: DType) -> Var:
        if x.aval.dtype == dtype:
            return x
        return self.emit("convert_element_type", x, new_dtype=dtype, weak_type=False)

    def can_cast(self, x: Var, dtype: DType) -> bool:
        return x in self.exact or dtypes.is_inexact(dtype)

    def literal(self, value: Any, dtype: DType) -> Literal:
        return Literal(Array(np.asarray(value).astype(dtype)))

    def scalar_of(self, dtype: DType) -> Literal:
        value = self.choose([0, 1, 2, 3, -1, 0.5, -1.5])
        return self.literal(abs(int(value)) if dtypes.kind(dtype) in "biu" else value, dtype)

    def full(self, aval: ShapedArray) -> Var:
        value = self.scalar_of(aval.dtype)
        return self.emit("broadcast_in_dim", value, shape=aval.shape, broadcast_dimensions=())

    def like(self, x: Var) -> Atom:
        """Another operand of the shape and dtype of `x`."""
        aval = x.aval
        options: list[Callable[[], Atom]] = [lambda: x, lambda: self.full(aval)]
        if aval.shape == ():
            options.append(lambda: self.scalar_of(aval.dtype))
        twin = self.pick(lambda var: var.aval.same_type(aval))
        assert twin is not None
        options = [lambda: twin] * 3 + options
        shaped = self.pick(lambda var: var.aval.shape == aval.shape)
        if shaped is not None and self.can_cast(shaped, aval.dtype):
            options += [lambda: self.cast(shaped, aval.dtype)] * 2
        lower = self.pick(
            lambda var: (
                0 < var.aval.ndim < aval.ndim and bool(broadcasts(var.aval.shape, aval.shape))
            )
        )
        if lower is not None and self.can_cast(lower, aval.dtype):
            options += [lambda: self.stretch(self.cast(lower, aval.dtype), aval.shape)] * 4
        return self.choose(options)()

    def stretch(self, x: Var, shape: Shape) -> Var:
        dimensions = self.choose(broadcasts(x.aval.shape, shape))
        return self.emit("broadcast_in_dim", x, shape=shape, broadcast_dimensions=dimensions)


def broadcasts(small: Shape, shape: Shape) -> list[tuple[int, ...]]:
    """The ways in which `small` can be broadcast to `shape`."""
    if not small:
        return [()]
    found = []
    for d in range(len(shape) - len(small) + 1):
        if small[0] in (1, shape[d]):
            rest = broadcasts(small[1:], shape[d + 1 :])
            found += [(d, *(e + d + 1 for e in others)) for others in rest]
    return found
