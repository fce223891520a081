"""The search for the first NaN (or infinity), on behalf of ``config.debug_nans`` and `debug_infs`.

Eagerly, each primitive's results are looked at when it has run. A compiled program's are looked at
when the whole call has; if they have a NaN, the program runs again, equation by equation on the
reference evaluator, to find the equation that made it. See `jax.debug_nans`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.core import device_buffer, dtypes, source
from funcdl.core.array import Array
from funcdl.core.backend import Executable
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Literal, Var, sub_jaxprs
from funcdl.core.primitive import Primitive
from funcdl.core.printer import Names, format_eqn, variable_names
from funcdl.core.reference import run_reference, watch
from funcdl.core.trace import EvalTrace, PlacedEvalTrace, eval_trace
from funcdl.errors import NonFiniteError

NDArray = np.ndarray[Any, Any]


def unwanted(values: Sequence[NDArray]) -> str:
    """What the arrays have that the flags forbid: ``"NaN"``, ``"Inf"``, or nothing."""
    inexact = [x for x in values if dtypes.is_inexact(x.dtype)]
    if config.debug_nans and any(np.isnan(x).any() for x in inexact):
        return "NaN"
    if config.debug_infs and any(np.isinf(x).any() for x in inexact):
        return "Inf"
    return ""


class CheckedExecutable:
    """An executable whose results are looked at; it must not write to its inputs."""

    def __init__(self, executable: Executable, program: ClosedJaxpr, name: str) -> None:
        self._executable = executable
        self._program = program
        self._title = f"jitted {name}"

    def __call__(self, args: Sequence[NDArray]) -> Sequence[NDArray]:
        outs = self._executable(args)
        kind = unwanted([np.asarray(x) for x in outs])
        if kind:
            with _watching(self._title):
                run_reference(self._program, args)
            raise NonFiniteError(_not_reproduced(self._title, kind))
        return outs


class CheckedEvalTrace(EvalTrace):
    """Eager evaluation that looks at every result."""

    __slots__ = ()

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Interpret one application of a primitive."""
        out = super().process(primitive, args, params)
        outs = [x for x in (out if primitive.multiple_results else [out]) if type(x) is Array]
        kind = unwanted([x.value for x in outs])
        if kind:
            _explain(primitive, args, params, outs, kind)
        return out


def _explain(
    primitive: Primitive,
    args: Sequence[Array],
    params: dict[str, Any],
    outs: Sequence[Array],
    kind: str,
) -> None:
    values = [x.value for x in args]
    if sub_jaxprs(params) and primitive.impl is not None:
        name = params.get("name")
        title = f"jitted {name}" if isinstance(name, str) else primitive.name
        with _watching(title):
            primitive.impl(*values, **params)
        raise NonFiniteError(_not_reproduced(title, kind))
    operands = [Literal(x) if x.shape == () else Var(x.aval) for x in args]
    eqn = Eqn(primitive, operands, [Var(x.aval) for x in outs], params, source.current())
    raise NonFiniteError(_describe("", kind, eqn, Names(), values, {}))


@contextmanager
def _watching(title: str) -> Iterator[None]:
    """Raise at the first equation run by the reference evaluator that has an unwanted result."""

    def after(jaxpr: Jaxpr, eqn: Eqn, operands: Sequence[NDArray], outs: Sequence[NDArray]) -> None:
        kind = unwanted(outs)
        if kind:
            arguments = dict(zip(jaxpr.invars, jaxpr.names or (), strict=False))
            names = variable_names(jaxpr)
            raise NonFiniteError(_describe(title, kind, eqn, names, operands, arguments))

    previous, watch.after = watch.after, after
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        watch.after = previous


def _describe(
    title: str,
    kind: str,
    eqn: Eqn,
    names: Names,
    operands: Sequence[NDArray],
    arguments: dict[Var, str],
) -> str:
    name = eqn.primitive.name
    passed = "NaN" if kind == "NaN" else "Inf"
    test = np.isnan if kind == "NaN" else np.isinf
    before = any(dtypes.is_inexact(x.dtype) and test(x).any() for x in operands)
    what = f"passed on the {passed} of an operand" if before else f"made the first {passed}"
    lines = [f"{title}: {name} {what}:" if title else f"{name} {what}:"]
    lines.append(f"  {format_eqn(eqn, names, indent=2)}")
    shown: set[Var] = set()
    for atom, value in zip(eqn.invars, operands, strict=True):
        if isinstance(atom, Var) and atom not in shown:
            shown.add(atom)
            argument = f" (argument {arguments[atom]})" if atom in arguments else ""
            lines.append(f"  where {names[atom]}{argument} {_summary(value)}")
    if eqn.source is not None:
        lines.append(f"at {eqn.source.describe()}")
    return "\n".join(lines)


def _summary(x: NDArray) -> str:
    if x.ndim == 0:
        return f"is {x}"
    if x.size == 0:
        return "is empty"
    if dtypes.is_inexact(x.dtype):
        for test, word in ((np.isnan, "NaN"), (np.isinf, "infinite")):
            count = int(test(x).sum())
            if count:
                return f"has {count} of {x.size} elements {word}"
    if dtypes.is_complex(x.dtype) or dtypes.is_bool(x.dtype):
        return f"has {x.size} elements"
    return f"has elements from {x.min()} to {x.max()}"


def _not_reproduced(title: str, kind: str) -> str:
    return (
        f"{title}: the compiled program returned {kind} values, and none appeared when "
        "its equations ran one by one on NumPy, which rounds differently. "
        "config.backend = 'reference' runs everything there."
    )


def checked(
    compile: Callable[[tuple[bool, ...]], Executable],
    program: ClosedJaxpr,
    name: str,
    donated: tuple[bool, ...],
) -> Executable:
    """The executable that ``compile(donated)`` returns, with the checks that the flags ask for."""
    if not (config.debug_nans or config.debug_infs):
        return compile(donated)
    # The inputs must be there still when the search begins.
    return CheckedExecutable(compile((False,) * len(donated)), program, name)


def _choose_eval_trace(_: Any = None) -> None:
    # Another class rather than a test in `process`, which is the hottest path of all.
    wanted = config.debug_nans or config.debug_infs
    # With the plain class, functions take short cuts that look at no device.
    plain = PlacedEvalTrace if device_buffer.is_used() else EvalTrace
    eval_trace.__class__ = CheckedEvalTrace if wanted else plain


for _flag in ("debug_nans", "debug_infs"):
    config.on_change(_flag, _choose_eval_trace)
_choose_eval_trace()
