"""Primitives: the operations that traces see, each with one slot for every rule.

The rules themselves live in `funcdl.ops`, beside each other. A rule slot that is None means that
the transform in question refuses the primitive with an error that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.trace import context, eval_trace

if TYPE_CHECKING:
    from funcdl.core.effects import Effect
    from funcdl.core.jaxpr import Eqn

Params = dict[str, Any]


def all_weak(weak: Sequence[bool], /, **params: Any) -> bool:
    """The usual weak-type rule: a result is weakly typed when every operand is."""
    return all(weak)


def never_weak(weak: Sequence[bool], /, **params: Any) -> bool:
    """The rule of operations whose result dtype is given by a parameter or fixed."""
    return False


def own_weak(weak: Sequence[bool], /, **params: Any) -> bool:
    """The rule of operations on programs: the shape rule gives each result's weak type."""
    raise AssertionError("results have weak types of their own")


class Primitive:
    """One operation.

    Rules (they take the equation's parameters as keywords, but for those given `params`):

    * ``impl(*arrays)``: the meaning, on NumPy arrays; also eager evaluation on CPU and the oracle
      of every back end. Operands must not be written to.
    * ``ufuncs``: by kind of dtype, the function of NumPy's that `impl` applies to operands of that
      kind, half precision apart; kinds for which there is none are missing.
    * ``shape(*avals)``: checks the operands and returns the output's `ShapedArray` (weak type
      apart), or a list of them.
    * ``weak(flags)``: the output's weak type from the operands' flags.
    * ``jvp(primals, tangents)``: returns the output and its tangent; tangents may be `Zero`.
    * ``transpose(cotangent, *args)``: a cotangent (or None, or Zero) for every argument; those to
      be found are given as `LinearInput`.
    * ``batch(axis_size, args, dims)``: the output and its batch dimension, where each of `dims` is
      None or the batch dimension of an argument. `axis_size` carries the axis's name, if any;
      see `core.axes`.
    * ``eval(*args)``: instead of `impl`, for primitives that work on `Array`s or call functions.
    * ``partial_eval(trace, args, params)`` and ``stage(trace, args, params)``: for primitives that
      hold programs or functions; see `transforms.partial_eval` and `core.staging`.
    * ``effect(params)``: what an application does besides computing its outputs (none where the
      slot is None); see `core.effects`.
    * ``prune(eqn, read)``: the equation without what only outputs are computed for that are not
      flagged `read`, and without those; for primitives that hold programs.
    * ``uses_axis(params, name)``: whether an application refers to a named axis; it is not asked
      about programs in the parameters unless the slot is set. See `core.axes`.
    * ``lower``: how the compiler writes it in the kernel IR; see `compiler.lower`.

    Primitives with `multiple_results` return lists everywhere.
    """

    __slots__ = (
        "batch",
        "effect",
        "eval",
        "impl",
        "jvp",
        "lower",
        "multiple_results",
        "name",
        "partial_eval",
        "prune",
        "shape",
        "stage",
        "transpose",
        "ufuncs",
        "uses_axis",
        "weak",
    )

    def __init__(self, name: str, *, multiple_results: bool = False) -> None:
        self.name = name
        self.multiple_results = multiple_results
        self.impl: Callable[..., Any] | None = None
        self.ufuncs: Mapping[str, np.ufunc] = {}
        self.eval: Callable[..., Any] | None = None
        self.shape: Callable[..., Any] | None = None
        self.weak: Callable[..., bool] = all_weak
        self.jvp: Callable[..., Any] | None = None
        self.transpose: Callable[..., Any] | None = None
        self.batch: Callable[..., Any] | None = None
        self.partial_eval: Callable[..., Any] | None = None
        self.stage: Callable[..., Any] | None = None
        self.effect: Callable[[Params], Effect] | None = None
        self.prune: Callable[[Eqn, Sequence[bool]], Eqn] | None = None
        self.uses_axis: Callable[[Params, Hashable], bool] | None = None
        self.lower: Any = None

    def bind(self, *args: Any, **params: Any) -> Any:
        """Apply the primitive to arrays or tracers under the current trace."""
        trace = context.trace
        if trace is eval_trace:
            return eval_trace.process(self, args, params)
        return trace.process(self, args, params)

    __call__ = bind

    def output_avals(self, avals: Sequence[ShapedArray], params: Params) -> list[ShapedArray]:
        """Types of the outputs, weak types included."""
        assert self.shape is not None, self.name
        found: Any = self.shape(*avals, **params)
        outs: list[ShapedArray] = found if self.multiple_results else [found]
        if self.weak is own_weak:
            return outs
        weak = self.weak([aval.weak_type for aval in avals], **params)
        return [out.update(weak_type=weak) if out.weak_type != weak else out for out in outs]

    def __repr__(self) -> str:
        return self.name
