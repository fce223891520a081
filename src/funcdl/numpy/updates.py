"""Updated copies of arrays: ``x.at[index].set(value)`` and its kin, as in JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from funcdl.core import dtypes, lattice
from funcdl.core.array import Array, ArrayOperators, aval_of
from funcdl.core.options import flag
from funcdl.core.primitive import Primitive
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, DtypeError, ImmutableArrayError, ShapeError
from funcdl.numpy import arithmetic
from funcdl.numpy.index_plan import Plan, broadcast_update, plan_index, with_axes_for_bools
from funcdl.numpy.indexing import Mode, read, read_region
from funcdl.numpy.promotion import ArrayLike, array, convert, operand
from funcdl.ops.arithmetic import add, max_, min_, mul, neg
from funcdl.ops.dynamic import dynamic_update_slice
from funcdl.ops.indexed_windows import GatherScatterMode
from funcdl.ops.scatter import (
    ScatterDimensionNumbers,
    scatter,
    scatter_add,
    scatter_max,
    scatter_min,
    scatter_mul,
)
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_to, full, full_like, reshape, reshape_to, rev
from funcdl.ops.slicing import pad
from funcdl.transforms.arguments import check_function

Combine = Callable[[Any, Any], Any]

_COMBINE: dict[str, tuple[Primitive, Combine]] = {
    "set": (scatter, lambda old, new: new),
    "add": (scatter_add, add),
    "multiply": (scatter_mul, mul),
    "min": (scatter_min, min_),
    "max": (scatter_max, max_),
}


class IndexUpdateHelper:
    """What ``x.at`` is: ``x.at[index]`` gives the updates of ``x[index]``."""

    __slots__ = ("_array",)

    def __init__(self, array: Any) -> None:
        self._array = array

    def __getitem__(self, index: Any) -> IndexUpdateRef:
        return IndexUpdateRef(self._array, index)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        _refuse_in_place(self._array)

    def __repr__(self) -> str:
        return f"<at of {self._array.aval}>"


def _refuse_in_place(array: Any) -> NoReturn:
    raise ImmutableArrayError(
        f"arrays are immutable, so x.at[index] is no place to assign to, of {array.aval}.\n"
        "Instead of   x.at[index] = value   or   x.at[index] += value\n"
        "write        x = x.at[index].set(value)   or   x = x.at[index].add(value)"
    )


class IndexUpdateRef:
    """Elements of an array, to be read or updated; every method returns a new array.

    Where index arrays name an element more than once, `set` keeps one of the values (on CPU the
    last), and the others combine them all. Options of all methods:

    * ``mode``: what becomes of index arrays out of range: "drop" (the default; the update is left
      out) or "clip" (moved to the nearest element); for `get`, "fill" or, by default, "clip".
      "promise_in_bounds" is a promise that there are none. Static integers out of range are an
      error in any case.
    * ``wrap_negative_indices``: whether negative places in index arrays count from the end (the
      default), or are out of range.
    * ``indices_are_sorted``, ``unique_indices``: promises that can make it faster.
    """

    __slots__ = ("_array", "_index")

    def __init__(self, array: Any, index: Any) -> None:
        self._array = array
        self._index = index

    def __iadd__(self, values: Any) -> NoReturn:
        _refuse_in_place(self._array)

    __isub__ = __imul__ = __itruediv__ = __ipow__ = __iadd__

    def __call__(self, *values: Any) -> NoReturn:
        raise ArgumentError(
            "x.at[index] cannot be called; name what to do with the value, as in "
            "x.at[index].set(value) or x.at[index].add(value)"
        )

    def get(
        self,
        *,
        mode: Mode = None,
        fill_value: Any = None,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        wrap_negative_indices: bool = True,
    ) -> Any:
        """``x[index]``, with a choice of `mode`; `fill_value` is for ``mode="fill"``."""
        shape, index = with_axes_for_bools(self._array.aval.shape, self._index)
        plan = plan_index(shape, index, wrap_negative_indices)
        return read(
            reshape_to(self._array, shape),
            plan,
            mode=GatherScatterMode.PROMISE_IN_BOUNDS if mode is None else mode,
            fill_value=fill_value,
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
        )

    def set(self, values: ArrayLike, **options: Any) -> Any:
        """Replaced by `values`, which broadcast to ``x[index]``."""
        return self._update("set", values, **options)

    def add(self, values: ArrayLike, **options: Any) -> Any:
        """`values` added."""
        return self._update("add", values, **options)

    def subtract(self, values: ArrayLike, **options: Any) -> Any:
        """`values` subtracted."""
        return self._update("add", neg(self._converted("subtract", values)), **options)

    def multiply(self, values: ArrayLike, **options: Any) -> Any:
        """Multiplied by `values`."""
        return self._update("multiply", values, **options)

    mul = multiply

    def divide(self, values: ArrayLike, **options: Any) -> Any:
        """Divided by `values`."""
        ones = full_like(self._array, 1)
        divisor = IndexUpdateRef(ones, self._index)._update("multiply", values, **options)
        return arithmetic.divide(self._array, divisor)

    def power(self, values: ArrayLike, **options: Any) -> Any:
        """Raised to the power of `values`."""
        ones = full_like(self._array, 1)
        exponent = IndexUpdateRef(ones, self._index)._update("multiply", values, **options)
        return arithmetic.power(self._array, exponent)

    def min(self, values: ArrayLike, **options: Any) -> Any:
        """The smaller of element and value."""
        return self._update("min", values, **options)

    def max(self, values: ArrayLike, **options: Any) -> Any:
        """The larger of element and value."""
        return self._update("max", values, **options)

    def apply(
        self,
        func: Callable[[Any], Any],
        *,
        mode: Mode = None,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        wrap_negative_indices: bool = True,
    ) -> Any:
        """Replaced by what an elementwise function makes of them.

        An element that index arrays name more than once is replaced as often. Where these are
        traced, without the promise `unique_indices`, that takes a loop over the whole array, and
        jitted programs have no reverse derivative of it.

        Args:
          func: called with an array of elements; its result broadcasts to their shape.

        Raises:
          DtypeError: the result is of a higher kind than the array.
        """
        x = self._array
        if _is_mask(self._index) and aval_of(self._index).shape == x.aval.shape:
            mask = array("index", self._index)
            return select_n(mask, x, self._results(func, x))
        check_function("apply", func)
        shape, index = with_axes_for_bools(x.aval.shape, self._index)
        plan = plan_index(shape, index, wrap_negative_indices)
        if not x.aval.size:
            return x
        if flag("at[...].apply: unique_indices", unique_indices) or _are_distinct(plan):
            old = read(reshape_to(x, shape), plan, mode="clip")
            return self.set(
                self._converted("apply", func(old)),
                mode=mode,
                indices_are_sorted=indices_are_sorted,
                unique_indices=unique_indices,
                wrap_negative_indices=wrap_negative_indices,
            )
        from funcdl.lax import scatter_apply

        whole = reshape_to(x, shape)
        numbers, _ = plan.window_numbers()
        updated = scatter_apply(
            read_region(whole, plan),
            plan.index_vectors(),
            lambda elements: self._results(func, elements),
            ScatterDimensionNumbers(*numbers),
            update_shape=plan.window_shape(),
            indices_are_sorted=indices_are_sorted,
            mode=mode,
        )
        return reshape_to(_write_region(whole, plan, updated, "set"), x.aval.shape)

    def _results(self, func: Callable[[Any], Any], elements: Any) -> Any:
        return broadcast_to(self._converted("apply", func(elements)), elements.aval.shape)

    def _converted(self, method: str, values: ArrayLike) -> Any:
        """The values in the array's dtype.

        Raises:
          DtypeError: they are of a higher kind, which would lose more than precision.
        """
        value = operand(f"at[...].{method}", values)
        target = self._array.aval.dtype
        found = lattice.lattice_type(value)[0]
        order = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
        if order[dtypes.kind(found)] > order[dtypes.kind(target)]:
            raise DtypeError(
                f"at[...].{method}: values of dtype {found.name} cannot be stored in "
                f"{self._array.aval} without loss; convert them with .astype({target.name!r}), or "
                f"the array with .astype({found.name!r})"
            )
        return convert(value, target)

    def _update(
        self,
        method: str,
        values: ArrayLike,
        *,
        mode: Mode = None,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        wrap_negative_indices: bool = True,
    ) -> Any:
        x = self._array
        value = self._converted(method, values)
        scatter_op, combine = _COMBINE[method]
        if _is_mask(self._index):
            updated = _update_masked(x, array("index", self._index), value, combine)
            if updated is not None:
                return updated
        shape, index = with_axes_for_bools(x.aval.shape, self._index)
        if shape != x.aval.shape:
            within = IndexUpdateRef(reshape_to(x, shape), index)
            updated = within._update(
                method, value, mode=mode, wrap_negative_indices=wrap_negative_indices
            )
            return reshape_to(updated, x.aval.shape)
        plan = plan_index(shape, index, wrap_negative_indices)
        value = broadcast_update(value, plan)
        if not plan.arrays:
            region = tuple(extent.count for extent in plan.region)
            return _write_region(x, plan, reshape(value, new_sizes=region), method)
        old = read_region(x, plan)
        if not old.aval.size:  # no element is in any window, whatever the indices
            return x
        numbers, _ = plan.window_numbers()
        updated = scatter_op(
            old,
            plan.index_vectors(),
            value,
            dimension_numbers=ScatterDimensionNumbers(*numbers),
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
            mode=GatherScatterMode.from_any(mode),
        )
        return _write_region(x, plan, updated, "set")


def _are_distinct(plan: Plan) -> bool:
    """Whether index arrays are known to name no place twice."""
    arrays = [index for _, index in plan.arrays]
    if not all(type(index) is Array for index in arrays):
        return plan.batch == ()
    if not arrays:
        return True
    vectors = np.stack([np.broadcast_to(i.value, plan.batch).ravel() for i in arrays], axis=1)
    return len(np.unique(vectors, axis=0)) == len(vectors)


def _is_mask(index: Any) -> bool:
    return (
        isinstance(index, ArrayOperators | np.ndarray)
        and dtypes.is_bool(aval_of(index).dtype)
        and index.ndim > 0
    )


def _update_masked(x: Any, mask: Any, value: Any, combine: Combine) -> Any:
    """The update where a mask is true, if one value serves all of its elements; else None.

    Then the mask may be traced: the number of its elements is not needed.
    """
    rank = mask.aval.ndim
    shape = x.aval.shape
    row = shape[rank:]
    own = value.aval.shape
    if mask.aval.shape != shape[:rank]:
        return None  # The plan's error says more.
    serves_all = len(own) <= len(row) and all(
        n in (1, size) for n, size in zip(own[::-1], row[::-1], strict=False)
    )
    if not serves_all:
        if isinstance(mask, Tracer):
            raise ShapeError(
                f"x.at[mask]: with a traced mask the value must broadcast to {row}, the shape of "
                f"each masked element, got {value.aval}; use where(mask, values, x) with values of "
                f"shape {shape}"
            )
        return None
    mask = broadcast_to(reshape(mask, new_sizes=mask.aval.shape + (1,) * len(row)), shape)
    return select_n(mask, x, combine(x, broadcast_to(value, shape)))


def _write_region(x: Any, plan: Plan, value: Any, method: str) -> Any:
    """The array with the region of a plan updated by a value of the region's shape."""
    shape = x.aval.shape
    combine = _COMBINE[method][1]
    if all(extent.is_whole(size) for extent, size in zip(plan.region, shape, strict=True)):
        return combine(x, value)
    if 0 in value.aval.shape:
        return x
    if all(abs(extent.step) == 1 or extent.count == 1 for extent in plan.region):
        if method != "set":
            value = combine(read_region(x, plan), value)
        value = _forwards(plan, value)
        starts = [Array(np.array(low, np.int32)) for low, _ in map(_ends, plan.region)]
        return dynamic_update_slice(x, value, *starts)
    # Elements apart from each other: the value spread out, and a mask of where it is.
    config = tuple(
        (low, size - 1 - high, abs(extent.step) - 1 if extent.count > 1 else 0)
        for extent, (low, high), size in zip(
            plan.region, map(_ends, plan.region), shape, strict=True
        )
    )
    zero = Array(np.zeros((), value.aval.dtype))
    spread = pad(_forwards(plan, value), zero, padding_config=config)
    if method == "add":
        return add(x, spread)
    inside = full(value.aval.shape, True, np.dtype(bool))
    mask = pad(inside, Array(np.array(False)), padding_config=config)
    return select_n(mask, x, combine(x, spread))


def _ends(extent: Any) -> tuple[int, int]:
    """The lowest and the highest place of an extent that is not empty."""
    last = extent.start + (extent.count - 1) * extent.step
    return min(extent.start, last), max(extent.start, last)


def _forwards(plan: Plan, value: Any) -> Any:
    """A region's value with increasing places along every dimension."""
    backwards = tuple(d for d, extent in enumerate(plan.region) if extent.step < 0)
    return rev(value, dimensions=backwards) if backwards else value
