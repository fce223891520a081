"""Operations over named axes, those of `vmap(..., axis_name=...)`, by `jax.lax`'s names.

Every function takes `axis_name`: a name, or (but for permutations) a tuple of names, which is one
axis over all combinations of their indices, the last name's varying fastest. All of them have
derivatives of any order, and pytrees stand for their leaves.

Raises (all of them):
  AxisNameError: no axis of this name is in scope.
  ArgumentError: `axis_name` cannot be a name, names a positional axis, or has a name twice;
    `axis_index_groups` is given, but for `psum` of Python numbers. (JAX takes groups where an axis
    is one of devices, and refuses them under vmap, in the same cases.)
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, tree
from funcdl.core.array import shortened
from funcdl.core.axes import axis_names, size_in_scope
from funcdl.core.integers import integers
from funcdl.core.options import flag
from funcdl.core.primitive import Primitive
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.promotion import array
from funcdl.numpy.reductions import normalize_axis
from funcdl.ops import collectives
from funcdl.ops.convert import convert_element_type
from funcdl.ops.shape import reshape

AxisName = Hashable | tuple[Hashable, ...]
PyTree = Any
_NUMBER = (bool, int, float, complex)


def axis_size(axis_name: AxisName) -> int:
    """The number of members of a named axis, as a Python int (see `jax.lax.axis_size`).

    Args:
      axis_name: a name, or a tuple of names, whose sizes are multiplied.

    Raises:
      AxisNameError: no axis of this name is in scope.
    """
    names = axis_names("axis_size", axis_name)
    return math.prod(size_in_scope("axis_size", name) for name in names)


def axis_index(axis_name: AxisName) -> Any:
    """The position along a named axis, an int32 scalar (see `jax.lax.axis_index`).

    Args:
      axis_name: a name, or a tuple of names, which is one axis; the last name varies fastest.

    Raises:
      AxisNameError: no axis of this name is in scope.
    """
    index: Any = None
    for name in axis_names("axis_index", axis_name):
        size = size_in_scope("axis_index", name)
        own = collectives.axis_index.bind(axis_name=name, axis_size=size)
        index = own if index is None else index * size + own
    return array("axis_index", np.int32(0)) if index is None else index


def psum(
    x: PyTree, axis_name: AxisName, *, axis_index_groups: Sequence[Sequence[int]] | None = None
) -> PyTree:
    """The sum over a named axis, the same for all members (see `jax.lax.psum`).

    Bools count as int32. The sum of a Python number is a Python number, known while tracing:
    ``psum(1, name)`` is the axis's size, and with `axis_index_groups`, lists of members, that of
    each group. Only Python numbers can be summed over groups.

    Args:
      x: a pytree of arrays and Python numbers.
      axis_name: a name, or a tuple of names, which is one axis.
      axis_index_groups: see above.

    Raises:
      AxisNameError: no axis of this name is in scope.
      ArgumentError: arrays are summed over groups, or these are not equal parts of all members.
    """
    names = axis_names("psum", axis_name)
    count = axis_size(names)
    if axis_index_groups is not None:
        if not all(isinstance(value, _NUMBER) for value in tree.leaves(x)):
            _names("psum", axis_name, axis_index_groups)
        count = _group_size("psum", axis_index_groups, names, count)

    def leaf(value: Any) -> Any:
        if isinstance(value, _NUMBER):
            return value * count
        value = array("psum", value)
        if dtypes.is_bool(value.aval.dtype):
            value = convert_element_type(value, new_dtype=np.dtype(np.int32), weak_type=False)
        return collectives.psum.bind(value, axes=names) if names else value

    return tree.map(leaf, x)


def pmean(x: PyTree, axis_name: AxisName, *, axis_index_groups: None = None) -> PyTree:
    """The mean over a named axis, the same for all members; floating point (see `jax.lax.pmean`).

    Shapes stay; integers and bools become floats. Arguments and errors are those of `pmax`.
    """
    names = _names("pmean", axis_name, axis_index_groups)
    total, count = psum(x, names), axis_size(names)
    return tree.map(lambda value: value / count, total)


def pmax(x: PyTree, axis_name: AxisName, *, axis_index_groups: None = None) -> PyTree:
    """The largest value over a named axis, elementwise, the same for all members.

    Shapes and dtypes stay. See `jax.lax.pmax`.

    Args:
      x: a pytree of arrays.
      axis_name: see `psum`.
      axis_index_groups: must be None.

    Raises:
      AxisNameError: no axis of this name is in scope.
      ArgumentError: groups are given.
    """
    return _extreme("pmax", collectives.pmax, x, axis_name, axis_index_groups)


def pmin(x: PyTree, axis_name: AxisName, *, axis_index_groups: None = None) -> PyTree:
    """The smallest value over a named axis, elementwise, the same for all members.

    Shapes and dtypes stay. See `jax.lax.pmin`.

    Args:
      x: a pytree of arrays.
      axis_name: see `psum`.
      axis_index_groups: must be None.

    Raises:
      AxisNameError: no axis of this name is in scope.
      ArgumentError: groups are given.
    """
    return _extreme("pmin", collectives.pmin, x, axis_name, axis_index_groups)


def _extreme(what: str, primitive: Primitive, x: PyTree, axis_name: Any, groups: Any) -> PyTree:
    names = _names(what, axis_name, groups)

    def leaf(value: Any) -> Any:
        value = array(what, value)
        return primitive.bind(value, axes=names) if names else value

    return tree.map(leaf, x)


def all_gather(
    x: PyTree,
    axis_name: AxisName,
    *,
    axis_index_groups: None = None,
    axis: int = 0,
    tiled: bool = False,
) -> PyTree:
    """The values of all members, the same for all of them (see `jax.lax.all_gather`).

    Args:
      x: a pytree of arrays of shape ``(..., n, ...)``, n along `axis`.
      axis: where the result has the members: as a new dimension of their number, or, if `tiled`,
        one after the other along an existing one, of size ``n * members``.
      axis_name, axis_index_groups: see `pmax`.

    Raises:
      AxisNameError: no axis of this name is in scope.
      ArgumentError: there is no such dimension, or groups are given.
    """
    tiled = flag("all_gather: tiled", tiled)
    names = _names("all_gather", axis_name, axis_index_groups)

    def leaf(value: Any) -> Any:
        value = array("all_gather", value)
        at = normalize_axis("all_gather", axis, value.ndim + (not tiled))
        if not names and not tiled:
            return _expanded(value, at)
        for number, name in enumerate(reversed(names)):
            value = collectives.all_gather.bind(
                value,
                axis_name=name,
                axis_size=size_in_scope("all_gather", name),
                all_gather_dimension=at,
                tiled=tiled or number > 0,
            )
        return value

    return tree.map(leaf, x)


def psum_scatter(
    x: PyTree,
    axis_name: AxisName,
    *,
    scatter_dimension: int = 0,
    axis_index_groups: None = None,
    tiled: bool = False,
) -> PyTree:
    """The sum over a named axis, of which each member gets its part (see `jax.lax.psum_scatter`).

    Args:
      x: a pytree of arrays.
      scatter_dimension: the dimension that is cut into a part for each member: one element,
        without the dimension, or, if `tiled`, a block.
      axis_name, axis_index_groups: see `pmax`.

    Raises:
      ShapeError: the dimension's size is not the number of members, or, if `tiled`, no multiple.
      AxisNameError: no axis of this name is in scope.
      ArgumentError: there is no such dimension, or groups are given.
    """
    tiled = flag("psum_scatter: tiled", tiled)
    names = _names("psum_scatter", axis_name, axis_index_groups)
    count = axis_size(names)

    def leaf(value: Any) -> Any:
        value = array("psum_scatter", value)
        at = normalize_axis("psum_scatter", scatter_dimension, value.ndim)
        _check_parts("psum_scatter", value, at, names, count, tiled)
        for name in names:
            value = collectives.reduce_scatter.bind(
                value,
                axis_name=name,
                axis_size=size_in_scope("psum_scatter", name),
                scatter_dimension=at,
                tiled=tiled or name != names[-1],
            )
        if tiled or names:
            return value
        return reshape(value, new_sizes=_without(value.shape, at))

    return tree.map(leaf, x)


def ppermute(x: PyTree, axis_name: Hashable, perm: Sequence[tuple[int, int]]) -> PyTree:
    """Values sent from member to member (see `jax.lax.ppermute`).

    Args:
      x: a pytree of arrays.
      perm: pairs ``(source, destination)``; members that are no destination get zeros.
      axis_name: one name.

    Raises:
      ArgumentError: a member is source or destination twice, or out of range.
      AxisNameError: no axis of this name is in scope.
    """
    name, size = _single("ppermute", axis_name)
    pairs = []
    given: Sequence[Any] = perm
    for pair in given:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ArgumentError(
                f"ppermute requires perm to have pairs (source, destination), got {shortened(pair)}"
            )
        pairs.append((int(pair[0]), int(pair[1])))
    for what, ends in (
        ("sources", [source for source, _ in pairs]),
        ("destinations", [target for _, target in pairs]),
    ):
        outside = sorted({end for end in ends if not 0 <= end < size})
        if outside:
            raise ArgumentError(
                f"ppermute requires {what} from 0 to {size - 1}, for axis {name!r} of size {size}; "
                f"got {', '.join(map(str, outside))} in perm={pairs}"
            )
        twice = sorted({end for end in ends if ends.count(end) > 1})
        if twice:
            fix = "send with psum or all_gather" if what == "sources" else "add them up with psum"
            raise ArgumentError(
                f"ppermute requires different {what}, got {', '.join(map(str, twice))} more than "
                f"once in perm={pairs}; {fix} instead"
            )

    def leaf(value: Any) -> Any:
        return collectives.ppermute.bind(
            array("ppermute", value), axis_name=name, axis_size=size, perm=tuple(pairs)
        )

    return tree.map(leaf, x)


def pshuffle(x: PyTree, axis_name: Hashable, perm: Sequence[int]) -> PyTree:
    """Values in another order: member i gets that of member ``perm[i]`` (`jax.lax.pshuffle`).

    Args:
      x: a pytree of arrays, whose shapes and dtypes stay.
      axis_name: one name.
      perm: the number of a member for each one.

    Raises:
      ArgumentError: `perm` is no permutation of the members.
      AxisNameError: no axis of this name is in scope.
    """
    size = _single("pshuffle", axis_name)[1]
    order = [int(i) for i in perm]
    if sorted(order) != list(range(size)):
        raise ArgumentError(
            f"pshuffle requires perm to have each number from 0 to {size - 1} once, got {order}"
        )
    return ppermute(x, axis_name, [(source, target) for target, source in enumerate(order)])


def pswapaxes(
    x: PyTree, axis_name: AxisName, axis: int, *, axis_index_groups: None = None
) -> PyTree:
    """The named axis exchanged with a dimension of the array, of equal size.

    See `jax.lax.pswapaxes`.

    Args:
      x: a pytree of arrays.
      axis_name, axis_index_groups: see `pmax`.
      axis: the dimension.

    Raises:
      AxisNameError: no axis of this name is in scope.
      ShapeError: the dimension's size is not the number of members.
    """
    return all_to_all(x, axis_name, axis, axis, axis_index_groups=axis_index_groups)


def all_to_all(
    x: PyTree,
    axis_name: AxisName,
    split_axis: int,
    concat_axis: int,
    *,
    axis_index_groups: None = None,
    tiled: bool = False,
) -> PyTree:
    """A part of each member for each other one (see `jax.lax.all_to_all`).

    Args:
      x: a pytree of arrays.
      split_axis: the dimension that is cut into as many parts as there are members: elements,
        without the dimension, or, if `tiled`, blocks.
      concat_axis: where the parts received lie: along a new dimension of the result, or, if
        `tiled`, one after the other along an existing one.
      axis_name, axis_index_groups: see `pmax`.

    Raises:
      ShapeError: the size along `split_axis` is not the number of members, or, if `tiled`, no
        multiple.
      AxisNameError: no axis of this name is in scope.
      ArgumentError: there is no such dimension, or groups are given.
    """
    tiled = flag("all_to_all: tiled", tiled)
    names = _names("all_to_all", axis_name, axis_index_groups)
    count = axis_size(names)

    def leaf(value: Any) -> Any:
        value = array("all_to_all", value)
        split = normalize_axis("all_to_all", split_axis, value.ndim)
        concat = normalize_axis("all_to_all", concat_axis, value.ndim)
        _check_parts("all_to_all", value, split, names, count, tiled)
        if tiled:
            return _exchanged(value, names, split, concat)
        # A dimension of size 1 to set the parts along; what was split has size 1 then, and goes.
        target = concat if concat <= split else concat + 1
        out = _exchanged(_expanded(value, target), names, split + (concat <= split), target)
        return reshape(out, new_sizes=_without(out.shape, split + (concat <= split)))

    return tree.map(leaf, x)


def _exchanged(x: Any, names: tuple[Hashable, ...], split: int, concat: int) -> Any:
    """`all_to_all` along existing dimensions, over one name after the other.

    All of them split and set in place, along dimensions of their own, before these are moved.
    """
    sizes = [size_in_scope("all_to_all", name) for name in names]
    if len(names) == 1:
        return collectives.all_to_all.bind(
            x, axis_name=names[0], axis_size=sizes[0], split_axis=split, concat_axis=concat
        )
    count = math.prod(sizes)
    part = x.shape[split] // max(count, 1)
    out = reshape(x, new_sizes=(*x.shape[:split], *sizes, part, *x.shape[split + 1 :]))
    for number, (name, size) in enumerate(zip(names, sizes, strict=True)):
        out = collectives.all_to_all.bind(
            out,
            axis_name=name,
            axis_size=size,
            split_axis=split + number,
            concat_axis=split + number,
        )
    out = reshape(out, new_sizes=(*x.shape[:split], count, part, *x.shape[split + 1 :]))
    order = [d for d in range(out.ndim) if d != split]
    # The senders lie along `split` now; they belong before the dimension that was `concat`.
    order.insert(order.index(concat if concat < split else concat + 1), split)
    moved = out.transpose(order)
    shape = list(x.shape)
    shape[split] = part
    shape[concat] *= count
    return reshape(moved, new_sizes=tuple(shape))


def _names(what: str, axis_name: Any, groups: Any) -> tuple[Hashable, ...]:
    if groups is not None:
        raise ArgumentError(
            f"{what} does not take axis_index_groups; nest two vmaps instead, with a name for the "
            "groups and one for the members of a group, and use the latter"
        )
    return axis_names(what, axis_name)


def _group_size(what: str, groups: Any, names: tuple[Hashable, ...], count: int) -> int:
    """The size of each of the groups, which must be those of all members of an axis, and equal."""
    members = [integers(f"{what}: axis_index_groups", group) for group in groups]
    sizes = {len(group) for group in members}
    if sorted(i for group in members for i in group) != list(range(count)) or len(sizes) != 1:
        raise ArgumentError(
            f"{what} requires axis_index_groups of equal sizes that have each number from 0 to "
            f"{count - 1} once, for axis {', '.join(map(repr, names))}; got {shortened(groups)}"
        )
    return sizes.pop()


def _single(what: str, axis_name: Any) -> tuple[Hashable, int]:
    names = axis_names(what, axis_name)
    if len(names) != 1:
        raise ArgumentError(f"{what} requires one axis name, got {shortened(axis_name)}")
    return names[0], size_in_scope(what, names[0])


def _check_parts(
    what: str, x: Any, dim: int, names: tuple[Hashable, ...], count: int, tiled: bool
) -> None:
    size = x.shape[dim]
    if size == count or (tiled and count and size % count == 0):
        return
    label = f"axis {names[0]!r}" if len(names) == 1 else f"axes {names!r} together"
    if tiled:
        raise ShapeError(
            f"{what} with tiled=True requires the size of dimension {dim} to be a multiple of the "
            f"size of {label}, {count}; got {x.aval}"
        )
    raise ShapeError(
        f"{what} requires the size of dimension {dim} to be that of {label}, {count}; got "
        f"{x.aval}. Pass tiled=True to cut a multiple of it into blocks"
    )


def _expanded(x: Any, dim: int) -> Any:
    return reshape(x, new_sizes=(*x.shape[:dim], 1, *x.shape[dim:]))


def _without(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], *shape[dim + 1 :])
