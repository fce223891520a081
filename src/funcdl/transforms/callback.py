"""Calls of the user's Python functions from traced programs: pure_callback and io_callback.

One primitive serves them and `debug.callback`. Compiled programs run it as a host step between
their kernels; a loop around it runs on the host altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.core import dtypes, lattice, tree
from funcdl.core.array import Array, as_array
from funcdl.core.avals import ShapedArray
from funcdl.core.effects import Effect
from funcdl.core.options import is_option
from funcdl.core.primitive import Params, Primitive, never_weak
from funcdl.core.source import no_line
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.core.trace import current_trace, eval_trace
from funcdl.errors import (
    ArgumentError,
    DtypeError,
    LeafTypeError,
    MissingRuleError,
    NotDifferentiableError,
    ShapeError,
    TreeError,
)
from funcdl.ops.shape import move_to_front, reshape
from funcdl.transforms.arguments import as_arrays, describe_trees, function_name
from funcdl.transforms.batching import place_batch

NDArray = np.ndarray[Any, Any]
VMAP_METHODS = ("sequential", "sequential_unrolled", "expand_dims", "broadcast_all")

callback = Primitive("callback", multiple_results=True)


class HostFunction:
    """A user's function of flat arguments, as a parameter of equations; equal only to itself."""

    def __init__(self, what: str, name: str, call: Callable[[list[Array]], Sequence[Any]]) -> None:
        self.__name__ = name
        self.title = f"{what} of {name}"
        self.call = call


def pure_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    vmap_method: str | None = None,
    **kwargs: Any,
) -> Any:
    """Call a Python function without side effects from traced code (see `jax.pure_callback`).

    It may be called any number of times, also never where nothing reads its result.

    Args:
      callback: takes `Array`s in the structure of the arguments; returns arrays or scalars.
      result_shape_dtypes: the result's structure, a `ShapeDtypeStruct` for each leaf.
      args, kwargs: pytrees of arrays.
      vmap_method: what vmap does: ``"sequential"`` one call for each element (also
        ``"sequential_unrolled"``), ``"expand_dims"`` or ``"broadcast_all"`` one call with a leading
        batch axis on all arguments, of size 1 on those not mapped, or repeated.

    Raises:
      ArgumentError: an argument is not as described.
      TreeError, ShapeError, DtypeError: the function returned something else than it declared.
      NotDifferentiableError: a derivative is asked; give the function a custom_jvp rule.
    """
    if vmap_method is not None and not is_option(vmap_method, VMAP_METHODS):
        known = ", ".join(map(repr, VMAP_METHODS))
        raise ArgumentError(
            f"pure_callback requires vmap_method to be None or one of {known}; got {vmap_method!r}"
        )
    return _call_back(
        "pure_callback", callback, result_shape_dtypes, args, kwargs, vmap_method=vmap_method
    )


def io_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    ordered: bool = False,
    **kwargs: Any,
) -> Any:
    """Call a Python function with side effects (see `jax.experimental.io_callback`).

    It is called once wherever the program says so. Under vmap it is called for each element, in
    their order.

    Args:
      callback, result_shape_dtypes, args, kwargs: as for `pure_callback`.
      ordered: whether to keep the program's order among all ordered callbacks.

    Raises: as `pure_callback`.
    """
    return _call_back("io_callback", callback, result_shape_dtypes, args, kwargs, ordered=ordered)


def _call_back(
    what: str,
    fun: Callable[..., Any],
    result: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    ordered: bool = False,
    vmap_method: str | None = None,
) -> Any:
    if not callable(fun):
        raise ArgumentError(f"{what} requires a function, got {type(fun).__name__}")
    leaves, in_tree = as_arrays("argument", (args, kwargs), what)
    declared, out_tree = tree.flatten(result)
    paths = [tree.format_path(path) for path in tree.paths(out_tree)]
    out_avals = tuple(_declared(what, p, x) for p, x in zip(paths, declared, strict=True))
    name = function_name(fun)

    def call(flat: list[Array]) -> list[Any]:
        rebuilt: Any = in_tree.unflatten(flat)
        positional, keywords = rebuilt
        outs, found = tree.flatten(fun(*positional, **keywords))
        if found != out_tree:
            raise TreeError(
                f"{what} requires {name} to return the structure of result_shape_dtypes:\n"
                + describe_trees(found, out_tree)
            )
        return outs

    outs = callback.bind(
        *leaves,
        fun=HostFunction(what, name, call),
        out_avals=out_avals,
        kind=what.split("_")[0],
        ordered=ordered,
        vmap_method=vmap_method,
    )
    return out_tree.unflatten(outs)


def _declared(what: str, path: str, x: Any) -> ShapedArray:
    try:
        shape, dtype = tuple(map(int, x.shape)), x.dtype
    except (AttributeError, TypeError):
        raise LeafTypeError(
            f"{what} requires result_shape_dtypes{path} to have a shape and a dtype, got "
            f"{type(x).__name__}: {x!r}; pass ShapeDtypeStruct(shape, dtype)"
        ) from None
    return ShapedArray(shape, dtypes.canonicalize(dtypes.as_dtype(dtype)))


def _impl(
    *values: NDArray, fun: HostFunction, out_avals: Sequence[ShapedArray], **_: Any
) -> list[NDArray]:
    # Copies, since compiled programs use the memory again, and the function may keep its arguments.
    args = [Array(np.array(x, order="C")) for x in values]
    with current_trace(eval_trace), no_line():
        outs = fun.call(args)
    return _results(fun, outs, out_avals)


def _results(fun: HostFunction, outs: Sequence[Any], avals: Sequence[ShapedArray]) -> list[NDArray]:
    return [_result(fun, i, x, aval) for i, (x, aval) in enumerate(zip(outs, avals, strict=True))]


def _result(fun: HostFunction, number: int, value: Any, wanted: ShapedArray) -> NDArray:
    """What the function returned, checked against what it declared."""
    try:
        x = as_array(value)
    except LeafTypeError as error:
        raise LeafTypeError(f"{fun.title}: result {number}: {error.reason}") from None
    if x.shape != wanted.shape:
        raise ShapeError(
            f"{fun.title} returned {x.aval} as result {number}, where result_shape_dtypes says "
            f"{wanted}; return that shape, or declare another"
        )
    if x.dtype != wanted.dtype and not _may_convert(x.aval, wanted.dtype):
        raise DtypeError(
            f"{fun.title} returned {x.aval} as result {number}, where result_shape_dtypes says "
            f"{wanted}; convert it with .astype({wanted.dtype.name!r}), or declare another dtype"
        )
    result: np.ndarray[Any, Any] = x.value.astype(wanted.dtype, copy=False)
    return result


def _may_convert(found: ShapedArray, wanted: np.dtype[Any]) -> bool:
    """Python scalars take any wider kind of dtype; NumPy's default types count as this library's.

    NumPy makes 64-bit numbers wherever a function creates some, so asking for a conversion every
    time would be a nuisance.
    """
    if found.weak_type:
        return lattice.promote_types(found.dtype, wanted) == wanted or (
            found.dtype.kind == wanted.kind
        )
    default = found.dtype.itemsize == (16 if found.dtype.kind == "c" else 8)
    return config.x64 != "on" and default and found.dtype.kind == wanted.kind


def _shape(*avals: ShapedArray, out_avals: Sequence[ShapedArray], **_: Any) -> list[ShapedArray]:
    return list(out_avals)


def _effect(params: Params) -> Effect:
    if params["ordered"]:
        return Effect.ORDERED
    return Effect.NONE if params["kind"] == "pure" else Effect.UNORDERED


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    if params["kind"] != "debug" and not all(map(is_zero, tangents)):
        raise NotDifferentiableError(
            f"{params['fun'].title} has no derivative, since what the function computes is not "
            "known. Wrap the call in a function with a custom_jvp or custom_vjp rule, or pass "
            "stop_gradient of its arguments."
        )
    outs = callback.bind(*primals, **params)
    return outs, [Zero(aval.to_tangent()) for aval in params["out_avals"]]


def _batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int | None]]:
    fun, method = params["fun"], params["vmap_method"]
    out_avals = params["out_avals"]
    params["out_avals"] = tuple(a.update(shape=(axis_size, *a.shape)) for a in out_avals)
    if params["kind"] != "pure" or (method is not None and method.startswith("sequential")):
        params["fun"] = _for_each(fun, axis_size, tuple(dims), out_avals)
        outs = callback.bind(*args, **params)
    elif method is None:
        raise MissingRuleError(
            f"{fun.title} cannot be used under vmap without vmap_method: pass "
            "vmap_method='sequential' for one call for each element, or 'expand_dims' or "
            "'broadcast_all' where the function takes a leading batch axis"
        )
    elif method == "expand_dims":
        expanded = [
            reshape(x, new_sizes=(1, *x.shape)) if d is None else move_to_front(x, d)
            for x, d in zip(args, dims, strict=True)
        ]
        outs = callback.bind(*expanded, **params)
    else:
        repeated = [place_batch(x, d, 0, axis_size) for x, d in zip(args, dims, strict=True)]
        outs = callback.bind(*repeated, **params)
    return outs, [0] * len(outs)


def _for_each(
    fun: HostFunction,
    axis_size: int,
    dims: tuple[int | None, ...],
    out_avals: Sequence[ShapedArray],
) -> HostFunction:
    """The function on a whole batch: one call for each element, in their order."""

    def element(x: Array, dim: int | None, i: int) -> Array:
        return x if dim is None else Array(np.array(np.take(x.value, i, dim), order="C"))

    def call(flat: list[Array]) -> list[NDArray]:
        lanes = []
        for i in range(axis_size):
            outs = fun.call([element(x, dim, i) for x, dim in zip(flat, dims, strict=True)])
            lanes.append(_results(fun, outs, out_avals))
        return [
            np.stack([lane[n] for lane in lanes]) if lanes else np.empty((0, *a.shape), a.dtype)
            for n, a in enumerate(out_avals)
        ]

    batched = HostFunction("", fun.__name__, call)
    batched.title = fun.title
    return batched


callback.impl = _impl
callback.shape = _shape
callback.weak = never_weak
callback.effect = _effect
callback.jvp = _jvp
callback.batch = _batch
