"""Minima of functions of a vector, differentiable by what the function depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import dtypes, tree
from funcdl.core.array import as_array, shortened
from funcdl.core.jaxpr import eval_jaxpr
from funcdl.core.options import number
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.promotion import promote_inexact, strong
from funcdl.ops.shape import zeros
from funcdl.scipy.optimize.bfgs import CONVERGED, minimize_bfgs
from funcdl.transforms import custom_jvp, grad, jacfwd, jvp
from funcdl.transforms.arguments import check_function
from funcdl.transforms.programs import trace_body

__all__ = ["OptimizeResults", "minimize"]


class OptimizeResults(NamedTuple):
    """What `minimize` returns.

    Attributes:
      x: ``[n]``, the minimum.
      success: whether the gradient is small enough there.
      status: 0: it is; 1: `maxiter` steps were taken; 3: no lower point was found in a step, often
        since rounding leaves none.
      fun: the value, a scalar.
      jac: ``[n]``, the gradient.
      hess_inv: ``[n, n]``, an estimate of the Hessian's inverse.
      nfev, njev: how many values and gradients were computed.
      nit: how many steps were taken.
    """

    x: Any
    success: Any
    status: Any
    fun: Any
    jac: Any
    hess_inv: Any
    nfev: Any
    njev: Any
    nit: Any


_OPTIONS = ("gtol", "line_search_maxiter", "maxiter", "norm")


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    method: str,
    tol: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> OptimizeResults:
    """A local minimum of a function of a vector (see `jax.scipy.optimize.minimize`).

    It can be part of jitted and mapped functions. Derivatives of `x` and `fun` by `args`, and by
    what `fun` closes over, come from the implicit function theorem: they are those of the exact
    minimum, whose Hessian must be invertible. `x0` has no influence on them.

    Args:
      fun: ``fun(x, *args)`` returns a real scalar; it must be differentiable.
      x0: ``[n]``, where to start; real numbers.
      args: further arguments, pytrees of arrays.
      method: must be ``"BFGS"``, in letters of any case.
      tol: as the option ``gtol``, which has precedence.
      options: ``maxiter``, how many steps to take at most (200 n by default); ``gtol``, what the
        gradient's norm must come down to (1e-5), and ``norm``, which norm that is (infinity, the
        largest element); ``line_search_maxiter``, how many points to try in a step (10).

    Raises:
      ArgumentError: another method, or an unknown option.
      ShapeError: `x0` is no vector, or `fun` returns no scalar.
    """
    check_function("minimize", fun, "fun")
    given_method: Any = method
    if not isinstance(given_method, str) or method.lower() != "bfgs":
        raise ArgumentError(f"minimize: method must be 'BFGS', got {shortened(method)}")
    if not isinstance(options, Mapping | None):
        raise ArgumentError(f"minimize: options must be a dict, got {shortened(options)}")
    given = dict(options or {})
    unknown = sorted(set(given) - set(_OPTIONS))
    if unknown:
        raise ArgumentError(
            f"minimize: options are {', '.join(_OPTIONS)}; got {shortened(unknown[0])}"
        )
    if not isinstance(args, tuple):
        raise ArgumentError(
            f"minimize: args must be a tuple, got {type(args).__name__}; write args=(a,) for one"
        )
    tol = None if tol is None else number("minimize: tol", tol)
    (start,) = map(strong, promote_inexact("minimize", x0))
    if start.ndim != 1:
        raise ShapeError(
            f"minimize: x0 must be a vector, got {start.aval}; flatten_util.ravel_pytree makes one "
            "of any pytree"
        )
    if dtypes.is_complex(start.dtype):
        raise ArgumentError(f"minimize: x0 must be real, got {start.aval}")
    maxiter = given.get("maxiter")
    settings = {
        "maxiter": 200 * start.shape[0] if maxiter is None else maxiter,
        "norm": given.get("norm", np.inf),
        "gtol": given.get("gtol", 1e-5 if tol is None else tol),
        "line_search_maxiter": given.get("line_search_maxiter", 10),
    }

    def value(x: Any, *args: Any) -> Any:
        out = fnp.asarray(fun(x, *args))
        if out.shape != ():
            raise ShapeError(f"minimize: fun must return a scalar, got {out.aval}")
        return out.astype(start.dtype)

    operands, in_tree = tree.flatten((start, *args))
    leaves = [as_array(x) for x in operands]
    avals = [x.aval for x in leaves]
    program, captured, _ = trace_body(value, in_tree, avals, "minimize", owner=fun)
    places = len(captured)

    def function(x: Any, others: Sequence[Any]) -> Any:
        inputs = [*others[:places], x, *others[places:]]
        return eval_jaxpr(program.jaxpr, program.consts, inputs)[0]

    result = _solution(function, settings)(start, [*captured, *leaves[1:]])
    return cast(OptimizeResults, result)


def _solution(
    function: Callable[[Any, Sequence[Any]], Any], settings: Mapping[str, Any]
) -> Callable[..., Any]:
    """The minimum from a start and the function's other operands, with its derivatives by them."""

    @custom_jvp
    def solution(start: Any, others: Sequence[Any]) -> OptimizeResults:
        last, status = minimize_bfgs(lambda x: function(x, others), start, **settings)
        return OptimizeResults(
            x=last.x,
            success=status == CONVERGED,
            status=status,
            fun=last.value,
            jac=last.gradient,
            hess_inv=last.inverse,
            nfev=last.evaluations,
            njev=last.evaluations,
            nit=last.steps,
        )

    @solution.defjvp
    def solution_jvp(primals: Any, tangents: Any) -> Any:
        start, others = primals
        result = solution(start, others)
        still = tree.map(lambda y: zeros(y.aval.to_tangent()), result)
        if not others:
            return result, still
        slope = grad(function)
        along = jvp(lambda others: slope(result.x, others), (others,), (tangents[1],))[1]
        hessian = jacfwd(slope)(result.x, others)
        change = -fnp.linalg.solve(hessian, along)
        # The gradient is zero at the minimum and stays so.
        lift = jvp(lambda others: function(result.x, others), (others,), (tangents[1],))[1]
        return result, still._replace(x=change, fun=lift)

    return solution
