"""Arrays of nested sequences, of numbers and of arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, lattice
from funcdl.core.array import Array, ArrayOperators, as_array, shortened
from funcdl.errors import IntegerRangeError, LeafTypeError, ShapeError
from funcdl.numpy.promotion import convert, operand, strong
from funcdl.ops.shape import reshape
from funcdl.ops.slicing import concatenate

SEQUENCES = (list, tuple, range, deque)


def array_of_sequence(a: Sequence[Any], dtype: np.dtype[Any] | None) -> Any:
    """An array of a nested sequence.

    Args:
      dtype: the element type; None is that to which the elements promote.

    Raises:
      LeafTypeError: an element is no number.
      IntegerRangeError: a Python int does not fit the dtype.
      ShapeError: sequences have different lengths.
    """
    leaves = list(_leaves(a))
    target = dtype
    if target is None and leaves:
        target = lattice.result_type(*_representatives(leaves))
    elif target is None:
        target = dtypes.default_dtype("f")
    if not any(isinstance(leaf, ArrayOperators) for leaf in leaves):
        try:
            return Array(np.array(a, target))
        except OverflowError as error:
            raise IntegerRangeError(f"array: an element does not fit: {error}") from None
        except (TypeError, ValueError):
            if not _uneven(a):
                raise LeafTypeError(
                    f"array: elements must be numbers or arrays, got {shortened(a)}"
                ) from None
            raise ShapeError(
                f"array: nested sequences must have equal lengths, got {_uneven(a)}; pad them, or "
                "keep a list of arrays"
            ) from None
    return strong(_stack_nested(a, target))


def _uneven(a: Sequence[Any], path: str = "") -> str:
    """Which parts of nested sequences differ in length, or in depth."""
    lengths = [len(x) if isinstance(x, SEQUENCES) else None for x in a]
    for i, length in enumerate(lengths):
        if length != lengths[0]:
            first, other = (
                "a number" if n is None else f"{n} element{'s' * (n != 1)}"
                for n in (lengths[0], length)
            )
            return f"{first} in a{path}[0] and {other} in a{path}[{i}]"
    for i, x in enumerate(a):
        if isinstance(x, SEQUENCES) and (found := _uneven(x, f"{path}[{i}]")):
            return found
    return ""


def _leaves(a: Any) -> Iterator[Any]:
    for x in a:
        if isinstance(x, SEQUENCES):
            yield from _leaves(x)
        else:
            yield x


def _representatives(leaves: list[Any]) -> list[Any]:
    """One leaf for each type: all that promotion needs, however long the data."""
    found: dict[Any, Any] = {}
    for x in leaves:
        key = (type(x), getattr(x, "dtype", None), getattr(x, "weak_type", None))
        if key not in found:
            found[key] = as_array(x) if hasattr(x, "__array__") else x
    for x in found.values():
        if isinstance(x, str | type) or x is None:
            raise LeafTypeError(f"array: elements must be numbers or arrays, got {shortened(x)}")
    return list(found.values())


def _stack_nested(a: Any, dtype: np.dtype[Any]) -> Any:
    if not isinstance(a, SEQUENCES):
        return convert(operand("array", a), dtype)
    parts = [_stack_nested(x, dtype) for x in a]
    shapes = {part.aval.shape for part in parts}
    if len(shapes) != 1:
        raise ShapeError(
            "array: nested sequences must have equal lengths, got parts of shapes "
            + " and ".join(map(str, sorted(shapes)))
        )
    (shape,) = shapes
    rows = [reshape(part, new_sizes=(1, *shape)) for part in parts]
    return concatenate(*rows, dimension=0)
