"""The derivative of a function at a point, as a program to push through or to pull back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from funcdl.core import dtypes, tree
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Jaxpr, eval_jaxpr
from funcdl.core.pruning import prune_jaxpr
from funcdl.core.records import record
from funcdl.core.symbolic_zero import LinearInput, Zero, is_zero
from funcdl.core.trace import context, new_trace
from funcdl.errors import DtypeError, ShapeError, TreeError
from funcdl.ops.convert import convert_element_type
from funcdl.ops.shape import instantiate, zeros
from funcdl.transforms.arguments import as_arrays, describe_trees, leaf_names
from funcdl.transforms.jvp import jvp_flat
from funcdl.transforms.partial_eval import PartialEvalTrace
from funcdl.transforms.transpose import backward_pass


@record
class LinearProgram:
    """A linear function of flat tangents; the values of its constants are kept elsewhere.

    Inputs not flagged `varied` have no derivative; outputs not flagged `nonzero` are zero.
    """

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    jaxpr: Jaxpr
    in_avals: tuple[ShapedArray, ...]
    varied: tuple[bool, ...]
    out_avals: tuple[ShapedArray, ...]
    nonzero: tuple[bool, ...]

    def push(self, consts: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        """Output tangents for input tangents."""
        given = [instantiate(t) for t, v in zip(tangents, self.varied, strict=True) if v]
        found = iter(eval_jaxpr(self.jaxpr, consts, given))
        return [
            next(found) if flag else zeros(aval)
            for flag, aval in zip(self.nonzero, self.out_avals, strict=True)
        ]

    def pull(self, consts: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """Input cotangents for output cotangents."""
        cts = [ct for ct, flag in zip(cotangents, self.nonzero, strict=True) if flag]
        args = [LinearInput(var.aval) for var in self.jaxpr.invars]
        found = iter(backward_pass(self.jaxpr, consts, args, cts))
        return [
            instantiate(next(found)) if varied else zeros(aval.to_tangent())
            for aval, varied in zip(self.in_avals, self.varied, strict=True)
        ]


class Linearized:
    """A function's outputs at a point, and its derivative there as a linear program.

    Only the first `count()` outputs, which is asked once the function has run, are differentiated.
    """

    def __init__(
        self,
        fun: Callable[..., Sequence[Any]],
        primals: Sequence[Any],
        title: str,
        count: Callable[[], int],
    ) -> None:
        trace = PartialEvalTrace(title, context.trace)
        in_avals = tuple(x.aval for x in primals)
        varied = tuple(dtypes.is_inexact(aval.dtype) for aval in in_avals)
        with new_trace(trace):
            tangents = [
                trace.new_input(aval.to_tangent()) if flag else Zero(aval.to_tangent())
                for aval, flag in zip(in_avals, varied, strict=True)
            ]
            self.outs, found = jvp_flat(fun, primals, tangents, trace, title)
            out_tangents = found[: count()]
            jaxpr, consts = trace.to_jaxpr([t for t in out_tangents if not is_zero(t)])
            jaxpr, self.consts = prune_jaxpr(jaxpr, consts)
        avals = tuple(t.aval for t in out_tangents)
        nonzero = tuple(not is_zero(t) for t in out_tangents)
        self.program = LinearProgram(jaxpr, in_avals, varied, avals, nonzero)

    def push(self, tangents: Sequence[Any]) -> list[Any]:
        """Output tangents for input tangents."""
        return self.program.push(self.consts, tangents)

    def pull(self, cotangents: Sequence[Any]) -> list[Any]:
        """Input cotangents for output cotangents."""
        return self.program.pull(self.consts, cotangents)


@record
class VjpProgram:
    """A linear program with the structures of the function that it is the derivative of."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    name: str
    linear: LinearProgram
    in_tree: tree.TreeDef
    out_tree: tree.TreeDef
    out_avals: tuple[ShapedArray, ...]


@dataclass(frozen=True)
class Pullback:
    """The pullback of a function at a point: from a cotangent of its output to those of its
    arguments. A pytree of the values that it needs of the forward pass."""

    residuals: list[Any]
    program: VjpProgram = field(metadata={"static": True})

    def __call__(self, cotangent: Any) -> Any:
        """A tuple with one cotangent for each argument.

        Raises:
          TreeError, ShapeError, DtypeError: the cotangent does not fit the function's output.
        """
        program = self.program
        ct_tree = tree.structure(cotangent)
        if ct_tree != program.out_tree:
            raise TreeError(
                f"the vjp of {program.name} requires a cotangent with its output's "
                "structure:\n" + describe_trees(ct_tree, program.out_tree)
            )
        names = leaf_names("output", cotangent)
        arrays, _ = as_arrays("cotangent", cotangent, "vjp")
        checked = [
            check_tangent("vjp", "cotangent", name, aval, ct)
            for name, aval, ct in zip(names, program.out_avals, arrays, strict=True)
        ]
        return program.in_tree.unflatten(program.linear.pull(self.residuals, checked))


tree.register_dataclass(Pullback)


def check_tangent(transform: str, what: str, name: str, aval: ShapedArray, tangent: Any) -> Any:
    """The user's tangent (or cotangent: `what`) for the value `name` of type `aval`.

    Raises:
      ShapeError, DtypeError: it does not fit.
    """
    wanted = aval.to_tangent()
    found = tangent.aval
    if found.shape != wanted.shape:
        raise ShapeError(
            f"{transform} requires a {what} of shape {wanted.shape} for {name} (of type {aval}), "
            f"got shape {found.shape}"
        )
    if wanted.dtype == dtypes.float0:
        if found.dtype != dtypes.float0 and dtypes.is_inexact(found.dtype):
            raise DtypeError(
                f"{transform} requires a {what} of dtype float0 for {name} (of type {aval}), since "
                f"integers and bools have no derivative; got {found}"
            )
        return Zero(wanted)
    if found.dtype == wanted.dtype:
        return tangent
    if getattr(tangent, "weak_type", False) and dtypes.is_inexact(found.dtype):
        return convert_element_type(tangent, new_dtype=wanted.dtype, weak_type=False)
    raise DtypeError(
        f"{transform} requires a {what} of dtype {dtypes.short_name(wanted.dtype)} for {name} "
        f"(of type {aval}), got {found}; convert it with .astype({wanted.dtype.name!r})"
    )
