"""vmap: map a function over an axis of its arguments, as one batched computation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

from funcdl.core import tree
from funcdl.core.axes import Axis, check_axis_name
from funcdl.core.compound import hidden_dimensions
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.transforms.arguments import (
    argument_names,
    as_arrays,
    check_function,
    flatten_output,
    function_name,
    leaf_names,
    show_tree,
)
from funcdl.transforms.batching import batch_flat, place_batch


def vmap(
    fun: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Hashable | None = None,
    axis_size: int | None = None,
    spmd_axis_name: Hashable | None = None,
) -> Callable[..., Any]:
    """Vectorize a function over an axis (see `jax.vmap`).

    Args:
      fun: a function of pytrees of arrays.
      in_axes: for each positional argument, the axis to map over: an int, None (not mapped), or a
        pytree prefix of the argument; one int stands for all arguments. Keyword arguments are
        mapped over their first axis.
      out_axes: where the mapped axis appears in the output: an int, None (the output does not
        depend on it), or a pytree prefix of the output.
      axis_name: a name for the mapped axis, by which collectives such as `lax.psum` refer to it.
      axis_size: the size of the mapped axis; needed only when no argument is mapped.
      spmd_axis_name: accepted for compatibility; it tells how to lay arrays out over several
        devices, and changes no values.

    Raises:
      ArgumentError: `in_axes`, `axis_name` or `axis_size` is not of its type.

    Raises (when called):
      ArgumentError, TreeError: `in_axes` or `out_axes` does not fit.
      ShapeError: an axis is out of range, or mapped axes differ in size.
    """
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if not (in_axes is None or isinstance(in_axes, int | tuple)):
        raise ArgumentError(
            "vmap requires in_axes to be an int, None, or a tuple with one entry for each "
            f"positional argument, got {type(in_axes).__name__}"
        )

    if axis_name is not None:
        check_axis_name("vmap", axis_name)
    size_given: Any = axis_size
    if size_given is not None and (not isinstance(size_given, int) or size_given < 0):
        raise ArgumentError(f"vmap requires axis_size to be an int from 0 on, got {axis_size!r}")

    check_function("vmap", fun)

    @functools.wraps(fun)
    def vmap_f(*args: Any, **kwargs: Any) -> Any:
        name = function_name(fun)
        axes = _argument_axes(in_axes, args, name)
        leaves: list[Any] = []
        dims: list[int | None] = []
        names: list[str] = []
        labelled = [*zip(argument_names(fun, args), args, axes, strict=True)]
        labelled += [(key, value, 0) for key, value in sorted(kwargs.items())]
        for label, arg, axis in labelled:
            arrays, _ = as_arrays(label, arg, "vmap")
            paths = leaf_names(label, arg)
            leaves += arrays
            names += paths
            dims += _leaf_axes(label, arg, axis, arrays, paths, label in kwargs)
        size = _mapped_size(name, axis_size, leaves, dims, names)
        axis = size if axis_name is None else Axis(size, axis_name)
        in_tree = tree.structure((args, dict(sorted(kwargs.items()))))
        out_tree: tree.TreeDef | None = None

        def flat_fun(*flat: Any) -> list[Any]:
            nonlocal out_tree
            positional, keywords = in_tree.unflatten(flat)
            outs, out_tree = flatten_output(fun(*positional, **keywords), "vmap", name)
            return outs

        outs, out_dims = batch_flat(flat_fun, axis, leaves, dims, f"vmap of {name}")
        assert out_tree is not None
        targets = _output_axes(out_axes, out_tree, outs, out_dims, name)
        placed = []
        for out, dim, target in zip(outs, out_dims, targets, strict=True):
            if target is None:
                placed.append(out)
            else:
                placed.append(place_batch(out, dim, target, size))
        return out_tree.unflatten(placed)

    return vmap_f


def _is_axis(x: Any) -> bool:
    return x is None or isinstance(x, int)


def _broadcast_axes(axes: Any, value: Any) -> list[Any]:
    """The axis of each leaf, from a tree prefix in which None is a leaf."""
    prefix, treedef = tree.flatten(axes, is_leaf=_is_axis)
    subtrees = treedef.flatten_up_to(value)
    return [
        axis
        for axis, subtree in zip(prefix, subtrees, strict=True)
        for _ in range(tree.structure(subtree).num_leaves)
    ]


def _argument_axes(in_axes: Any, args: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if not isinstance(in_axes, tuple):
        return (in_axes,) * len(args)
    if len(in_axes) != len(args):
        raise ArgumentError(
            f"vmap requires in_axes to have one entry for each positional argument of {name}: "
            f"got {len(in_axes)} entries, in_axes={in_axes!r}, for {len(args)} arguments"
        )
    return in_axes


def _leaf_axes(
    label: str, arg: Any, axis: Any, leaves: list[Any], paths: list[str], keyword: bool
) -> list[int | None]:
    try:
        axes = _broadcast_axes(axis, arg)
    except ValueError:
        raise TreeError(
            "vmap requires each entry of in_axes to be a tree prefix of its argument; the entry "
            f"for {label} does not fit:\n  in_axes: {axis!r}\n  {label}: "
            f"{show_tree(tree.structure(arg))}"
        ) from None
    hidden = hidden_dimensions(arg)
    for i, (entry, leaf, path) in enumerate(zip(axes, leaves, paths, strict=True)):
        if not _is_axis(entry):
            raise ArgumentError(f"vmap requires axes to be ints or None, got {entry!r} for {path}")
        if entry is None:
            continue
        ndim = leaf.ndim - hidden[i]
        if not -ndim <= entry < ndim:
            kind = f"keys of shape {leaf.shape[:-1]}" if hidden[i] else f"type {leaf.aval}"
            way_out = (
                "keyword arguments are mapped over axis 0: to pass it whole, pass it by position, "
                "with None in in_axes, or close over it"
                if keyword
                else "use None in in_axes to pass it whole"
            )
            raise ShapeError(
                f"vmap cannot map {path} of {kind} over axis {entry}: it has {ndim} "
                f"dimension{'s' * (ndim != 1)}; {way_out}"
            )
        axes[i] = entry % ndim
    return axes


def _mapped_size(
    name: str,
    axis_size: int | None,
    leaves: list[Any],
    dims: list[int | None],
    names: list[str],
) -> int:
    sizes = {
        path: leaf.shape[dim]
        for path, leaf, dim in zip(names, leaves, dims, strict=True)
        if dim is not None
    }
    if not sizes:
        if axis_size is None:
            raise ArgumentError(
                f"vmap of {name} maps no argument (every entry of in_axes is None), so the size "
                "of the mapped axis is unknown; pass axis_size"
            )
        return int(axis_size)
    found = set(sizes.values()) | ({axis_size} if axis_size is not None else set())
    if len(found) == 1:
        return found.pop()
    lines = [
        f"  {path}: {leaf.aval} has size {sizes[path]} along axis {dim}"
        for path, leaf, dim in zip(names, leaves, dims, strict=True)
        if dim is not None
    ]
    if axis_size is not None:
        lines.append(f"  axis_size={axis_size}")
    raise ShapeError(
        f"vmap of {name} requires mapped axes of one size, got different ones:\n"
        + "\n".join(lines)
        + "\nSelect other axes with in_axes, or None for arguments to pass whole."
    )


def _output_axes(
    out_axes: Any,
    out_tree: tree.TreeDef,
    outs: list[Any],
    dims: list[int | None],
    name: str,
) -> list[int | None]:
    skeleton = out_tree.unflatten(range(len(outs)))
    try:
        axes = _broadcast_axes(out_axes, skeleton)
    except ValueError:
        raise TreeError(
            f"vmap requires out_axes to be a tree prefix of the output of {name}; "
            f"it does not fit:\n  out_axes: {out_axes!r}\n  output: {show_tree(out_tree)}"
        ) from None
    hidden = hidden_dimensions(skeleton)
    for i, (axis, out, dim) in enumerate(zip(axes, outs, dims, strict=True)):
        path = tree.format_path(tree.paths(out_tree)[i])
        if axis is None:
            if dim is not None:
                raise ArgumentError(
                    f"vmap got out_axes=None for output{path} of {name}, which depends on the "
                    "mapped axis; give an int"
                )
            continue
        ndim = out.ndim + (dim is None) - hidden[i]
        if not -ndim <= axis < ndim:
            raise ShapeError(
                f"vmap cannot place the mapped axis of output{path} of {name} at {axis}: the "
                f"batched output has {ndim} dimension{'s' * (ndim != 1)}"
            )
        axes[i] = axis % ndim
    return axes
