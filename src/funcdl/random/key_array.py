"""Typed arrays of keys, which behave as arrays whose elements are keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from funcdl.core import tree
from funcdl.core.array import Array
from funcdl.core.avals import Shape
from funcdl.core.compound import CompoundArray, apply_by_parts
from funcdl.errors import DtypeError, ShapeError, UnhashableArrayError
from funcdl.numpy import indexing, repetition, shaping
from funcdl.numpy.promotion import broadcast
from funcdl.ops.bits import not_
from funcdl.ops.reduction import reduce_and
from funcdl.ops.shape import reshape
from funcdl.ops.slicing import concatenate


class KeyType:
    """The dtype of typed keys; prints as JAX's, ``key<fry>``."""

    name = "key<fry>"
    itemsize = 8

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyType)

    def __hash__(self) -> int:
        return hash(self.name)


def pair(first: Any, second: Any) -> Any:
    """Two arrays along a new last dimension."""
    columns = [reshape(x, new_sizes=(*x.aval.shape, 1)) for x in (first, second)]
    return concatenate(*columns, dimension=first.aval.ndim)


class KeyArray(CompoundArray):
    """An array of keys: a pytree whose only leaf is a uint32 array with one more dimension.

    It can be indexed, iterated over, reshaped, stacked, mapped by `vmap`, and passed through every
    transform; it is not computed with.
    """

    __slots__ = ("_data",)

    dtype = KeyType()
    width = 2
    # NumPy must leave its operators, and their errors, to this class.
    __array_priority__ = 100
    __array_ufunc__ = None

    def __init__(self, data: Any) -> None:
        """Wrap key data of shape ``[..., 2]``; use `wrap_key_data`, which checks it."""
        self._data = data

    @property
    def shape(self) -> Shape:
        return tuple(self._data.shape[:-1])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.itemsize * self.size

    @property
    def T(self) -> KeyArray:
        """The keys with their dimensions reversed."""
        return self.transpose()

    @property
    def at(self) -> KeyUpdates:
        """Updates of single keys: ``keys.at[index].set(new)`` returns another array."""
        return KeyUpdates(self)

    def part(self, i: int) -> Any:
        """The upper (0) or the lower (1) 32 bits of every key."""
        return self._data[..., i]

    def joined(self, parts: list[Any]) -> KeyArray:
        """The keys with these upper and lower 32 bits."""
        if any(x.aval.dtype != self._data.dtype for x in parts):
            raise DtypeError(f"keys and numbers cannot be put into one array, got {parts[0].aval}")
        return KeyArray(pair(*parts))

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError(
                "len() of a single key; make several with funcdl.random.split(key, num)"
            )
        return self.shape[0]

    def __iter__(self) -> Iterator[KeyArray]:
        if not self.shape:
            raise ShapeError(
                "a single key cannot be iterated over; make several with "
                "funcdl.random.split(key, num)"
            )
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> KeyArray:
        entries = index if isinstance(index, tuple) else (index,)
        positions = [x for x in entries if x is not None and x is not Ellipsis]
        # A boolean array takes as many dimensions as it has.
        taken = sum(x.ndim if str(getattr(x, "dtype", "")) == "bool" else 1 for x in positions)
        if taken > self.ndim:
            raise ShapeError(
                f"keys of shape {self.shape} have {self.ndim} dimensions, got an index with {taken}"
            )
        # The dimension of the data must stay whole, whatever is indexed before it.
        if not any(entry is Ellipsis for entry in entries):
            entries = (*entries, Ellipsis)
        return KeyArray(self._data[(*entries, slice(None))])

    def reshape(self, *shape: Any) -> KeyArray:
        """The same keys in another shape."""
        sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
        return self._apply(shaping.reshape, sizes)

    def ravel(self) -> KeyArray:
        """The same keys in one dimension."""
        return self._apply(shaping.ravel)

    flatten = ravel

    def squeeze(self, axis: Any = None) -> KeyArray:
        """The same keys without dimensions of size 1."""
        return self._apply(shaping.squeeze, axis)

    def transpose(self, *axes: Any) -> KeyArray:
        """The same keys with their dimensions in another order, by default reversed."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return self._apply(shaping.transpose, order)

    def swapaxes(self, axis1: int, axis2: int) -> KeyArray:
        """The same keys with two dimensions exchanged."""
        return self._apply(shaping.swapaxes, axis1, axis2)

    def take(self, indices: Any, axis: int | None = None, mode: str | None = None) -> KeyArray:
        """The keys at some positions along an axis (see `funcdl.numpy.take`)."""
        return self._apply(indexing.take, indices, axis, mode=mode)

    def repeat(self, repeats: Any, axis: int | None = None) -> KeyArray:
        """Each key several times (see `funcdl.numpy.repeat`)."""
        return self._apply(repetition.repeat, repeats, axis)

    def copy(self) -> KeyArray:
        """The keys themselves: arrays are immutable."""
        return self

    def block_until_ready(self) -> KeyArray:
        """The keys, once they are computed."""
        self._data.block_until_ready()
        return self

    def _apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> KeyArray:
        out: KeyArray = apply_by_parts(function, self, (self, *args), kwargs)
        return out

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, KeyArray):
            return NotImplemented
        words = [broadcast("equal", self.part(i), other.part(i)) for i in (0, 1)]
        same = pair(words[0][0] == words[0][1], words[1][0] == words[1][1])
        return reduce_and(same, axes=(same.ndim - 1,))

    def __ne__(self, other: object) -> Any:
        same = self.__eq__(other)
        return NotImplemented if same is NotImplemented else not_(same)

    def __hash__(self) -> NoReturn:
        raise UnhashableArrayError(
            "unhashable type: 'KeyArray'; keys compare elementwise, as arrays do. Pass one as an "
            "argument that is not static, and as a dict key its seed."
        )

    def __bool__(self) -> NoReturn:
        raise DtypeError(
            "a key has no truth value; compare with None by `key is None`, draw one with "
            "funcdl.random.bernoulli(key)"
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise DtypeError(
            f"an array of numbers is needed, got {self.dtype}[{','.join(map(str, self.shape))}]; "
            "draw numbers from the keys, or see their data with funcdl.random.key_data(keys)"
        )

    def __repr__(self) -> str:
        data = self._data
        if not hasattr(data, "shape"):
            return f"KeyArray({data!r})"
        if not isinstance(data, Array):
            return f"KeyArray({self.dtype}[{','.join(map(str, self.shape))}], data={data!r})"
        return f"Array({self.shape}, dtype={self.dtype}) overlaying:\n{data}"


def _refused(symbol: str) -> Callable[[Any, Any], NoReturn]:
    def method(self: Any, other: Any = None) -> NoReturn:
        raise DtypeError(
            f"keys cannot be computed with, got {symbol} with {KeyArray.dtype}"
            f"[{','.join(map(str, self.shape))}]; draw numbers from them, such as "
            "funcdl.random.uniform(key), or see their data with funcdl.random.key_data(key)"
        )

    return method


_SYMBOLS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "matmul": "@",
    "and": "&",
    "or": "|",
    "xor": "^",
    "lshift": "<<",
    "rshift": ">>",
}
for _name, _symbol in _SYMBOLS.items():
    setattr(KeyArray, f"__{_name}__", _refused(_symbol))
    setattr(KeyArray, f"__r{_name}__", _refused(_symbol))
for _name, _symbol in {
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "neg": "-",
    "pos": "+",
    "invert": "~",
    "abs": "abs()",
    "float": "float()",
    "int": "int()",
    "index": "an index",
}.items():
    setattr(KeyArray, f"__{_name}__", _refused(_symbol))


class KeyUpdates:
    """What `KeyArray.at` returns."""

    def __init__(self, keys: KeyArray, index: Any = None) -> None:
        self._keys = keys
        self._index = index

    def __getitem__(self, index: Any) -> KeyUpdates:
        return KeyUpdates(self._keys, index)

    def get(self) -> KeyArray:
        """The keys at the index."""
        return self._keys[self._index]

    def set(self, values: Any) -> KeyArray:
        """The array with other keys at the index.

        Raises:
          DtypeError: `values` are no keys.
        """
        if not isinstance(values, KeyArray):
            raise DtypeError(
                f"keys.at[...].set requires keys, got {type(values).__name__}; make some with "
                "funcdl.random.split or wrap_key_data"
            )
        parts = [self._keys.part(i).at[self._index].set(values.part(i)) for i in (0, 1)]
        return self._keys.joined(parts)


tree.register_pytree_node(
    KeyArray, lambda keys: ((keys._data,), None), lambda _, children: KeyArray(*children)
)
