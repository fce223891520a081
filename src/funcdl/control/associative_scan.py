"""associative_scan: all prefixes of a list combined, in logarithmically many vectorized steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core import tree
from funcdl.core.avals import ShapedArray
from funcdl.core.integers import integer
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.ops.shape import normalize_axis, reshape, rev
from funcdl.ops.slicing import concatenate, slice_along
from funcdl.transforms.arguments import (
    as_arrays,
    check_function,
    describe_trees,
    flatten_output,
    function_name,
    leaf_names,
)

Leaves = list[Any]


def associative_scan(
    fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """Prefixes of `elems` combined by an associative function (see `jax.lax.associative_scan`).

    Element i of the result is ``fn(…fn(fn(elems[0], elems[1]), elems[2])…, elems[i])``. Neighbours
    are combined in pairs and the pairs scanned in turn (the odd-even recursion of Ladner and
    Fischer, 1980), so that there are about 2 n applications in 2 log n steps.

    Args:
      fn: ``fn(a, b)``, associative, on trees like `elems` with any number of elements along `axis`,
        which it combines elementwise. It returns the structure, shapes and dtypes that it got.
      elems: a pytree of arrays of equal size along `axis`.
      reverse: whether to go from the last element back, ``fn(…fn(elems[-1], elems[-2])…,
        elems[i])``.
      axis: the axis to scan along.

    Raises:
      ArgumentError: `elems` has no arrays, or they differ in size along `axis`.
      TreeError, ShapeError: `fn` returns another structure or other types than it got.
    """
    reverse = flag("associative_scan: reverse", reverse)
    check_function("associative_scan", fn)
    name = function_name(fn)
    axis = integer("associative_scan: axis", axis)
    leaves, treedef = as_arrays("elems", elems, "associative_scan")
    paths = leaf_names("elems", elems)
    sizes = {}
    for path, x in zip(paths, leaves, strict=True):
        if not x.aval.shape:
            raise ShapeError(
                f"associative_scan of {name} requires arrays with an axis to scan along, got "
                f"{path} of type {x.aval}"
            )
        sizes[f"{path} of type {x.aval}"] = x.shape[normalize_axis(axis, x.ndim)]
    if not sizes:
        raise ArgumentError(f"associative_scan of {name} requires elems with at least one array")
    if len(set(sizes.values())) > 1:
        listing = "\n".join(f"  {path}: {size}" for path, size in sizes.items())
        raise ArgumentError(
            f"associative_scan of {name} requires one size along axis {axis}, got:\n{listing}"
        )
    axes = [normalize_axis(axis, x.ndim) for x in leaves]

    def combine(left: Leaves, right: Leaves) -> Leaves:
        found = fn(treedef.unflatten(left), treedef.unflatten(right))
        outs, out_tree = flatten_output(found, "associative_scan", name)
        _check_outputs(name, [x.aval for x in left], treedef, [x.aval for x in outs], out_tree)
        return outs

    if reverse:
        leaves = [rev(x, dimensions=(a,)) for x, a in zip(leaves, axes, strict=True)]
    found = _prefixes(combine, leaves, axes)
    if reverse:
        found = [rev(x, dimensions=(a,)) for x, a in zip(found, axes, strict=True)]
    return treedef.unflatten(found)


def _prefixes(
    combine: Callable[[Leaves, Leaves], Leaves], xs: Leaves, axes: Sequence[int]
) -> Leaves:
    count = xs[0].shape[axes[0]]
    if count < 2:
        return xs

    def part(values: Leaves, start: int, stop: int, step: int = 1) -> Leaves:
        return [slice_along(x, a, start, stop, step) for x, a in zip(values, axes, strict=True)]

    pairs = combine(part(xs, 0, count - 1, 2), part(xs, 1, count, 2))
    odd = _prefixes(combine, pairs, axes)
    even = part(xs, 0, 1)
    if count > 2:
        before = part(odd, 0, (count - 1) // 2)
        rest = combine(before, part(xs, 2, count, 2))
        even = [
            concatenate(first, x, dimension=a) for first, x, a in zip(even, rest, axes, strict=True)
        ]
    return [_interleave(x, y, a) for x, y, a in zip(even, odd, axes, strict=True)]


def _interleave(even: Any, odd: Any, axis: int) -> Any:
    """``even[0], odd[0], even[1], …``; `even` may have one more."""
    count = odd.shape[axis]
    shape = list(odd.shape)
    wide = (*shape[: axis + 1], 1, *shape[axis + 1 :])
    halves = [reshape(x, new_sizes=wide) for x in (slice_along(even, axis, 0, count, 1), odd)]
    shape[axis] = 2 * count
    mixed = reshape(concatenate(*halves, dimension=axis + 1), new_sizes=tuple(shape))
    if even.shape[axis] == count:
        return mixed
    return concatenate(mixed, slice_along(even, axis, count, count + 1, 1), dimension=axis)


def _check_outputs(
    name: str,
    avals: Sequence[ShapedArray],
    treedef: tree.TreeDef,
    outs: Sequence[ShapedArray],
    out_tree: tree.TreeDef,
) -> None:
    if out_tree != treedef:
        raise TreeError(
            f"associative_scan requires {name} to return the structure that it got:\n"
            + describe_trees(out_tree, treedef)
        )
    paths = map(tree.format_path, tree.paths(treedef))
    wrong = [
        f"  element{path}: got {aval}, returned {out}"
        for path, aval, out in zip(paths, avals, outs, strict=True)
        if not aval.same_type(out)
    ]
    if wrong:
        raise ShapeError(
            f"associative_scan requires {name} to return the types that it got:\n"
            + "\n".join(wrong)
        )
