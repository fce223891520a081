"""Derivatives of functions over pytrees: jvp, linearize, vjp and linear_transpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from funcdl.core import tree
from funcdl.core.array import aval_of
from funcdl.core.avals import ShapedArray
from funcdl.core.options import flag
from funcdl.errors import (
    ArgumentError,
    TreeError,
)
from funcdl.ops.shape import instantiate
from funcdl.transforms.arguments import (
    argument_names,
    as_arrays,
    check_function,
    describe,
    describe_trees,
    flatten_output,
    function_name,
    leaf_names,
)
from funcdl.transforms.jvp import jvp_flat
from funcdl.transforms.linearized import Linearized, Pullback, VjpProgram, check_tangent
from funcdl.transforms.transpose import linear_transpose_flat


def jvp(
    fun: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: bool = False,
) -> Any:
    """The value of a function and its directional derivative (see `jax.jvp`).

    Args:
      fun: a function of the arguments in `primals`, returning a pytree of arrays.
      primals: the arguments, each a pytree of arrays.
      tangents: one tangent for each primal, with its structure, shapes and dtypes (float0 for
        integers and bools).
      has_aux: whether `fun` returns a pair ``(output, aux)``, `aux` not to be differentiated.

    Returns:
      ``(output, output_tangent)``, and `aux` third if `has_aux`.

    Raises:
      ArgumentError: `primals` or `tangents` is no tuple or list.
      TreeError, ShapeError, DtypeError: a tangent does not fit its primal.
    """
    has_aux = flag("jvp: has_aux", has_aux)
    for what, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, tuple | list):
            raise ArgumentError(
                f"jvp requires {what} to be a tuple or list with one entry for each argument, got "
                f"{type(value).__name__}; write {what}=(x,) for a single argument"
            )
    flat, treedef, names = _flatten_args(fun, primals, "jvp")
    flat_tangents, tangent_tree = _flatten_args(fun, tangents, "jvp")[:2]
    if treedef != tangent_tree:
        raise TreeError(
            "jvp requires primals and tangents of the same structure:\n"
            + describe_trees(tangent_tree, treedef)
        )
    given = [
        check_tangent("jvp", "tangent", name, x.aval, t)
        for name, x, t in zip(names, flat, flat_tangents, strict=True)
    ]
    flat_fun = FlatFunction(fun, treedef, has_aux, "jvp")
    outs, out_tangents = jvp_flat(flat_fun, flat, given, name=flat_fun.title)
    out = flat_fun.out_tree.unflatten(outs[: flat_fun.num_outs])
    tangent = flat_fun.out_tree.unflatten(
        [instantiate(t) for t in out_tangents[: flat_fun.num_outs]]
    )
    if has_aux:
        return out, tangent, flat_fun.unflatten_aux(outs)
    return out, tangent


def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function and its derivative as a linear function (see `jax.linearize`).

    Args:
      fun: a function of pytrees of arrays.
      primals: its arguments.
      has_aux: whether `fun` returns a pair, of which the second part is not differentiated.

    Returns:
      The output and a function from tangents of `primals` to the output's tangent, which does not
      compute `fun` again; with `has_aux`, the second part comes third.

    Raises:
      TreeError: the returned function is called with tangents of another structure than `primals`.
      ShapeError, DtypeError: with a tangent that does not fit its primal.
    """
    has_aux = flag("linearize: has_aux", has_aux)
    flat, treedef, names = _flatten_args(fun, primals, "linearize")
    flat_fun = FlatFunction(fun, treedef, has_aux, "linearize")
    linear = flat_fun.linearize(flat)

    def f_jvp(*tangents: Any) -> Any:
        given, tangent_tree = _flatten_args(fun, tangents, "linearize")[:2]
        if tangent_tree != treedef:
            raise TreeError(
                "the linearized function requires tangents of the primals' structure:\n"
                + describe_trees(tangent_tree, treedef)
            )
        checked = [
            check_tangent("linearize", "tangent", name, x.aval, t)
            for name, x, t in zip(names, flat, given, strict=True)
        ]
        return flat_fun.out_tree.unflatten(linear.push(checked))

    out = flat_fun.out_tree.unflatten(linear.outs[: flat_fun.num_outs])
    if has_aux:
        return out, f_jvp, flat_fun.unflatten_aux(linear.outs)
    return out, f_jvp


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function and its pullback (see `jax.vjp`).

    Returns:
      ``(output, f_vjp)``, and `aux` third if `has_aux`. ``f_vjp(cotangent)`` takes a cotangent
      with the output's structure, shapes and dtypes, and returns a tuple with one cotangent for
      each of `primals` (float0 zeros for integers and bools). It is a pytree of the residuals, so
      that it can be returned from jitted functions and passed to them.
    """
    has_aux = flag("vjp: has_aux", has_aux)
    flat, treedef, _ = _flatten_args(fun, primals, "vjp")
    flat_fun = FlatFunction(fun, treedef, has_aux, "vjp")
    linear = flat_fun.linearize(flat)
    types = flat_fun.out_tree, tuple(out.aval for out in linear.outs[: flat_fun.num_outs])
    f_vjp = Pullback(linear.consts, VjpProgram(function_name(fun), linear.program, treedef, *types))
    out = flat_fun.out_tree.unflatten(linear.outs[: flat_fun.num_outs])
    if has_aux:
        return out, f_vjp, flat_fun.unflatten_aux(linear.outs)
    return out, f_vjp


def linear_transpose(fun: Callable[..., Any], *primals: Any) -> Callable[[Any], tuple[Any, ...]]:
    """The transpose of a linear function (see `jax.linear_transpose`).

    Args:
      fun: a linear function.
      primals: its arguments, or `ShapeDtypeStruct`s of them; only types matter.

    Raises (when the transpose is called):
      TreeError, ShapeError, DtypeError: the cotangent does not fit the function's output.
    """
    leaves, treedef = tree.flatten(primals)
    flat_fun = FlatFunction(fun, treedef, False, "linear_transpose")

    def transposed(cotangent: Any) -> tuple[Any, ...]:
        def checked(avals: Sequence[ShapedArray]) -> list[Any]:
            given, ct_tree = as_arrays("cotangent", cotangent, "linear_transpose")
            if ct_tree != flat_fun.out_tree:
                raise TreeError(
                    f"the transpose of {function_name(fun)} requires a cotangent with its "
                    "output's structure:\n" + describe_trees(ct_tree, flat_fun.out_tree)
                )
            names = leaf_names("output", cotangent)
            return [
                check_tangent("linear_transpose", "cotangent", name, aval, ct)
                for name, aval, ct in zip(names, avals, given, strict=True)
            ]

        found = linear_transpose_flat(flat_fun, [aval_of(x) for x in leaves], checked)
        return cast(tuple[Any, ...], treedef.unflatten(map(instantiate, found)))

    return transposed


class FlatFunction:
    """A function of flat arguments; remembers the structure of what it returned."""

    def __init__(
        self, fun: Callable[..., Any], in_tree: tree.TreeDef, has_aux: bool, transform: str
    ) -> None:
        check_function(transform, fun)
        self._fun = fun
        self._in_tree = in_tree
        self._has_aux = has_aux
        self._transform = transform
        self.title = f"{transform} of {function_name(fun)}"
        self.out_tree: tree.TreeDef
        self.num_outs = 0

    def __call__(self, *flat: Any) -> list[Any]:
        out = self._fun(*self._in_tree.unflatten(flat))
        name = function_name(self._fun)
        aux: Any = ()
        if self._has_aux:
            if not isinstance(out, tuple) or len(out) != 2:
                raise ArgumentError(
                    f"{self._transform} with has_aux=True requires {name} to return a pair "
                    f"(output, aux), got {describe(out)}"
                )
            out, aux = out
        outs, self.out_tree = flatten_output(out, self._transform, name)
        self.num_outs = len(outs)
        aux_leaves, self._aux_tree = flatten_output(aux, self._transform, name)
        return outs + aux_leaves

    def linearize(self, primals: Sequence[Any]) -> Linearized:
        """Its outputs at a point, and the derivative of all but aux."""
        return Linearized(self, primals, self.title, lambda: self.num_outs)

    def unflatten_aux(self, outs: Sequence[Any]) -> Any:
        """The aux pytree out of all flat outputs."""
        return self._aux_tree.unflatten(outs[self.num_outs :])


def _flatten_args(
    fun: Callable[..., Any], args: Sequence[Any], transform: str
) -> tuple[list[Any], tree.TreeDef, list[str]]:
    names = argument_names(fun, args)
    leaves: list[Any] = []
    all_names: list[str] = []
    for name, arg in zip(names, args, strict=True):
        leaves += as_arrays(name, arg, transform)[0]
        all_names += leaf_names(name, arg)
    return leaves, tree.structure(tuple(args)), all_names
