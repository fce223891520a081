"""Cached calls without Python code: the compiled extension, where it was built.

`funcdl.core._native` (its C sources are in ``native/``) serves a call of a jitted function whose
program is known: it flattens the arguments, looks the program up by their types, calls it and wraps
the results. The Python code of `funcdl.transforms.jit` is its twin: it serves whatever the
extension does not know or does not do, raises all errors, and teaches the extension what it found.
Without the extension, or with ``config.dispatch = "python"``, it serves every call.

What the extension leaves to the twin: traced values and deleted arrays, arrays that are not
C-contiguous, leaves other than arrays, NumPy arrays and scalars, containers other than
dicts, lists, tuples, named tuples and registered classes, and programs that run on the host.

Outside of all transforms it serves operators and elementwise functions (`Dispatch.operator`), and
applies primitives, in place of `Primitive.bind`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import optree

from funcdl.core import quiet, tree
from funcdl.core.array import Array
from funcdl.core.backend import Executable, NativeCall
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.primitive import Primitive, all_weak, never_weak
from funcdl.core.records import record
from funcdl.core.trace import EvalTrace, context, eval_trace

INTERFACE = 7
"""Of the extension; one that was built from older sources is left alone."""

_BIND: Any = Primitive.bind
"""How primitives are applied without the extension."""


def _find() -> ModuleType | None:
    try:
        from funcdl.core import _native
    except ImportError:  # it was not built, or for another Python or NumPy
        return None
    return _native if getattr(_native, "INTERFACE", None) == INTERFACE else None


@record
class Eager:
    """What an operator does to NumPy arrays of one dtype, weak types apart.

    Attributes:
      ufunc: computes the result, for all dtypes of these kinds but half precision.
      kinds: those of NumPy's dtypes.
      yields_bools: whether results are bools, rather than of the operands' dtype.
    """

    ufunc: np.ufunc
    kinds: str
    yields_bools: bool


class Dispatch:
    """Access to the extension.

    Attributes:
      native: the extension, or None.
      mode: the flags that programs depend on; None while the twin is to serve all calls.
    """

    def __init__(self, native: ModuleType | None) -> None:
        self.native: Any = None
        self.mode: Any = None
        self.use(native)
        tree.registration_listeners.append(self._forget_nodes)

    def use(self, native: ModuleType | None) -> None:
        """Let an extension serve primitives, and the functions that are jitted from now on."""
        self.native = native
        bind = _BIND
        if self.native is not None:
            self.native.setup(
                Array, context, eval_trace, EvalTrace, _classify, *quiet.STATE,
                Primitive, all_weak, never_weak,
            )  # fmt: skip
            self.native.set_mode(self.mode)
            bind = self.native.Binder(_BIND)
        for name in ("bind", "__call__"):
            setattr(Primitive, name, bind)

    def set_mode(self, mode: Any) -> None:
        """Serve calls under these flags from now on, or none."""
        self.mode = mode
        if self.native is not None:
            self.native.set_mode(mode)

    def table(self, positions: frozenset[int], names: frozenset[str]) -> Any:
        """A table for the programs of one function with these static parameters, or None."""
        if self.native is None or not all(0 <= i < 64 for i in positions):
            return None
        return self.native.Table(positions, names)

    def program(
        self,
        executable: Executable,
        jaxpr: ClosedJaxpr,
        donated: tuple[bool, ...],
        out_tree: tree.TreeDef,
    ) -> Any:
        """What a table calls for an executable, or None where the twin must."""
        call = getattr(executable, "native_call", None)
        if self.native is None or not isinstance(call, NativeCall):
            return None
        template = out_tree.unflatten(range(len(jaxpr.out_avals)))
        return self.native.Program(
            function=call.function,
            in_avals=tuple(jaxpr.in_avals),
            donated=donated,
            consts=call.consts,
            outputs=call.outputs,
            results=call.results,
            out_avals=tuple(jaxpr.out_avals),
            pool=call.pool,
            arena_bytes=call.arena_bytes,
            template=template,
            unflatten=None if _is_plain(template) else out_tree.unflatten,
            words=call.words,
            fail=call.fail,
        )

    def operator(
        self, eager: Eager, method: Callable[..., Any], is_reflected: bool = False
    ) -> Callable[..., Any]:
        """The method of arrays, or what does the same more quickly for arrays of one type.

        Args:
          eager: what the method does to NumPy arrays that broadcast.
          method: an operator or function of one array or two, either of which may be a number.
          is_reflected: whether it gets the second operand of `eager` first, as ``__radd__`` does.
        """
        if self.native is None:
            return method
        operator: Callable[..., Any] = self.native.Operator(
            eager.ufunc, method, eager.ufunc.nin, eager.kinds, eager.yields_bools, is_reflected
        )
        return operator

    def _forget_nodes(self) -> None:
        if self.native is not None:
            self.native.forget_nodes()


def _classify(cls: type[Any]) -> Any:
    """How instances are flattened: True as a tuple, else a function, or None if not by us."""
    entry = optree.register_pytree_node.get(cls, namespace=tree.NAMESPACE)
    if entry is None:
        return None
    if entry.namespace == tree.NAMESPACE:
        return entry.flatten_func
    return optree.is_namedtuple_class(cls) or None


def _is_plain(template: Any) -> bool:
    """Whether a tree has only nodes that the extension builds, and integers as leaves."""
    if type(template) is dict:
        return all(map(_is_plain, template.values()))
    if type(template) in (tuple, list) or _classify(type(template)) is True:
        return all(map(_is_plain, template))
    return template is None or type(template) is int


dispatch = Dispatch(_find())
