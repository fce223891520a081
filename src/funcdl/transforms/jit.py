"""jit: compile a function once for each type of its arguments, and call the compiled program."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from funcdl.config import config
from funcdl.core import backend, profiler, tree
from funcdl.core.array import Array, as_array, shortened
from funcdl.core.axes import Axis, check_axis_name
from funcdl.core.device_buffer import backend_of, on_first_use
from funcdl.core.dispatch import dispatch
from funcdl.core.integers import integer
from funcdl.core.nan_check import checked
from funcdl.core.options import flag, sequence
from funcdl.core.staging import hoist_consts, trace_to_jaxpr
from funcdl.core.trace import context, current_trace, eval_trace
from funcdl.errors import ArgumentError
from funcdl.transforms.arguments import check_function, flatten_output, function_name
from funcdl.transforms.batching import AxisTrace
from funcdl.transforms.explain import explain_miss, logged
from funcdl.transforms.jit_arguments import Call, JitArguments
from funcdl.transforms.jit_primitive import compiled, jit_call
from funcdl.transforms.selection import Selection
from funcdl.transforms.stages import Lowered, Staged, Traced


class _Entry:
    """What a cached call needs: the executable and how to wrap its results."""

    __slots__ = ("donated", "executable", "native", "on_device", "out_tree", "weak")

    def __init__(self, staged: Staged, executable: backend.Executable) -> None:
        self.executable = executable
        self.on_device = isinstance(executable, backend.DeviceExecutable)
        self.out_tree = staged.out_tree
        self.weak = tuple(aval.weak_type for aval in staged.program.out_avals)
        self.donated = tuple(i for i, flag in enumerate(staged.donated) if flag)
        self.native = dispatch.program(executable, staged.program, staged.donated, staged.out_tree)

    def delete_donated(self, leaves: Sequence[Any]) -> None:
        """After a call with these arguments, also one that failed on its way."""
        for i in self.donated:
            if type(leaves[i]) is Array:
                leaves[i].delete()


class _Entries(dict[Any, _Entry]):
    """The entries of a function, with the compiled extension's table that stands before them."""

    __slots__ = ("table",)

    def __init__(self, static: Selection) -> None:
        self.table = dispatch.table(static.positions, static.names)

    def clear(self) -> None:
        super().clear()
        if self.table is not None:
            self.table.clear()


_KEY_FLAGS = ("x64", "backend", "debug_nans", "debug_infs", "default_matmul_precision")


class _Mode:
    """The flags that executables depend on, as one value, since every call reads it."""

    __slots__ = ("has_devices", "key")

    def __init__(self) -> None:
        self.update()
        self.has_devices = False
        on_first_use(self.use_devices)
        for setting in (*_KEY_FLAGS, "disable_jit", "dispatch"):
            config.on_change(setting, self.update)
        profiler.on_change(self.update)

    def use_devices(self) -> None:
        """From now on, arrays may be on devices: where they are takes part in the key."""
        self.has_devices = True

    def update(self, _: Any = None) -> None:
        flags = (getattr(config, flag) for flag in _KEY_FLAGS)
        self.key = (*flags, bool(profiler.active))
        serves = config.dispatch == "auto" and not config.disable_jit
        dispatch.set_mode(self.key if serves else None)


_mode = _Mode()
_Caches = tuple[_Entries, dict[Any, Staged]]
_caches: weakref.WeakKeyDictionary[Any, dict[Any, _Caches]] = weakref.WeakKeyDictionary()


def _shared_caches(
    fun: Callable[..., Any], title: str, static: Selection, donate: Selection
) -> _Caches:
    """The caches of a function's jits with these options."""
    new: _Caches = _Entries(static), {}
    try:
        by_options = _caches.setdefault(fun, {})
    except TypeError:  # neither every callable can be hashed, nor referred to weakly
        return new
    return by_options.setdefault((title, static, donate), new)


class JitFunction:
    """A function compiled on demand; made by `jit`."""

    def __init__(
        self,
        fun: Callable[..., Any],
        static_argnums: int | Sequence[int] | None,
        static_argnames: str | Iterable[str] | None,
        donate_argnums: int | Sequence[int] | None,
        donate_argnames: str | Iterable[str] | None,
        title: str = "jit",
    ) -> None:
        functools.update_wrapper(self, fun)
        self._fun = fun
        self._name = function_name(fun)
        self._title = title
        self._arguments = JitArguments(
            fun, static_argnums, static_argnames, donate_argnums, donate_argnames, title
        )
        static, donate = self._arguments.static, self._arguments.donate
        self._has_static = bool(static)
        # As in JAX, all jits of one function with the same options share their programs.
        self._entries, self._staged = _shared_caches(fun, title, static, donate)
        self._table = self._entries.table

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the compiled program; trace and compile first where the types are new."""
        if self._table is not None:
            out = self._table.call(args, kwargs)
            if out is not NotImplemented:
                return out
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The twin of the compiled extension's call; see `core.dispatch`."""
        if config.disable_jit:
            return self._call_eagerly(args, kwargs)
        if context.trace is not eval_trace:
            return self._call_traced(args, kwargs)
        whole = args, kwargs
        static: tuple[Any, ...] = ()
        if self._has_static:
            args, kwargs, static = self._arguments.split_static(args, kwargs)
        arguments: Any = (args, kwargs) if kwargs else args
        leaves, treedef = optree.tree_flatten(arguments, namespace=tree.NAMESPACE)
        # This path is hot: types are plain tuples here, which hash and compare without Python code.
        types = tuple(
            [
                (x._value.shape, x._value.dtype, x.weak_type)
                if type(x) is Array and x._value is not None
                else self._arguments.leaf_type(x, args, kwargs, static)
                for x in leaves
            ]
        )
        key: Any = (types, treedef, static, _mode.key)
        backend_name: str = config.backend
        if _mode.has_devices:
            backend_name = backend_of(x._value for x in leaves if type(x) is Array)
            key = (key, backend_name)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = self._compile(
                self._arguments.flatten(args, kwargs, static), backend_name
            )
        if entry.native is not None and self._table is not None:
            self._table.learn(*whole, entry.native)
        values: list[Any]
        if entry.on_device:
            values = [x.buffer if type(x) is Array else as_array(x).buffer for x in leaves]
        else:
            values = [x.value if type(x) is Array else as_array(x).value for x in leaves]
            for at, value in enumerate(values):
                if not value.flags.c_contiguous:
                    # Kept, or every call would copy a view such as x.T again.
                    values[at] = np.ascontiguousarray(value)
                    if type(leaves[at]) is Array:
                        leaves[at]._value = values[at]
        try:
            outs = entry.executable(values)
        except BaseException as error:
            if backend.had_begun(error):
                entry.delete_donated(leaves)
            raise
        if entry.donated:
            entry.delete_donated(leaves)
        return entry.out_tree.unflatten(map(Array, outs, entry.weak))

    def _compile(self, call: Call, backend_name: str) -> _Entry:
        staged = self._stage(call)

        def compile(donated: tuple[bool, ...]) -> backend.Executable:
            return compiled(staged.program, self._name, donated, backend_name)

        return _Entry(staged, checked(compile, staged.program, self._name, staged.donated))

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """Trace for the types of these arguments (arrays or `ShapeDtypeStruct`s)."""
        return Traced(self._name, self._stage(self._arguments.split(args, kwargs)))

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Trace, and start the compiler's passes: ``trace(...).lower()``."""
        return self.trace(*args, **kwargs).lower()

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The output's structure, as `ShapeDtypeStruct`s, without computing anything."""
        staged = self._stage(self._arguments.split(args, kwargs))
        return staged.out_info

    def clear_cache(self) -> None:
        """Forget all compiled programs of this function."""
        self._entries.clear()
        self._staged.clear()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<jit of {self._name}>"

    def _call_eagerly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function itself, with its arguments as arrays, as a trace would have them."""
        call = self._arguments.split(args, kwargs)
        return self._arguments.call(call, map(as_array, call.leaves))

    def _call_traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self._arguments.split(args, kwargs)
        staged = self._stage(call)
        outs = jit_call.bind(
            *staged.captured,
            *map(as_array, call.leaves),
            jaxpr=staged.program,
            name=self._name,
            donated=(False,) * len(staged.program.in_avals),
        )
        return staged.out_tree.unflatten(outs)

    def _stage(self, call: Call) -> Staged:
        staged = self._staged.get(call.key)
        if staged is None:
            if config.explain_cache_misses and self._title == "jit":
                leaves = functools.partial(self._arguments.leaf_names, call)
                static = functools.partial(self._arguments.static_names, call)
                explain_miss(self._name, self._fun, call.key, self._staged, leaves, static)
            staged = self._trace(call)
            if not staged.captured:
                self._staged[call.key] = staged
        return staged

    def _trace(self, call: Call) -> Staged:
        out_tree: tree.TreeDef | None = None
        names = self._arguments.leaf_names(call)

        def flat_fun(*flat: Any) -> list[Any]:
            nonlocal out_tree
            out = self._arguments.call(call, flat)
            outs, out_tree = flatten_output(out, f"{self._title} of {self._name}", self._name)
            return outs

        with logged(f"{self._name} was traced", names, call.types):
            jaxpr, consts = trace_to_jaxpr(
                flat_fun, call.types, name=f"{self._title} of {self._name}", names=names
            )
        program, captured = hoist_consts(jaxpr, consts)
        assert out_tree is not None
        donated = (False,) * len(captured) + self._arguments.donated(call)
        return Staged(program, tuple(captured), out_tree, donated)


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
    inline: bool = False,
) -> Any:
    """Compile a function (see `jax.jit`); also usable as a decorator with arguments.

    Args:
      fun: a pure function of pytrees of arrays.
      static_argnums, static_argnames: arguments that are not traced; hashable, a new value means
        a new compilation.
      donate_argnums, donate_argnames: arguments whose memory the program may reuse for its
        results; the arrays passed are deleted by the call.
      inline: accepted for compatibility; nested calls are always inlined by the compiler.

    Returns:
      A `JitFunction` with `fun`'s signature, and `lower` for looking at what is compiled.

    Raises:
      ArgumentError: `fun` is no function, or it has no such argument.
    """
    if fun is None:
        return functools.partial(
            jit,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            donate_argnums=donate_argnums,
            donate_argnames=donate_argnames,
            inline=inline,
        )
    if not callable(fun):
        raise ArgumentError(f"jit requires a function, got {type(fun).__name__}")
    return JitFunction(fun, static_argnums, static_argnames, donate_argnums, donate_argnames)


def make_jaxpr(
    fun: Callable[..., Any],
    static_argnums: int | Sequence[int] = (),
    return_shape: bool = False,
    axis_env: Sequence[tuple[Hashable, int]] | None = None,
) -> Callable[..., Any]:
    """A function that returns the traced program of a call (see `jax.make_jaxpr`).

    Args:
      fun: a function of pytrees of arrays.
      static_argnums: positional arguments that are not traced.
      return_shape: whether to return also the output's structure, as `ShapeDtypeStruct`s.
      axis_env: names and sizes of axes that `fun` may use as if it were mapped by `vmap`, the
        outermost first.
    """
    return_shape = flag("make_jaxpr: return_shape", return_shape)
    check_function("make_jaxpr", fun)
    axes = []
    for pair in sequence("make_jaxpr: axis_env", () if axis_env is None else axis_env):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ArgumentError(
                "make_jaxpr: axis_env must be a sequence of pairs of a name and a size, got "
                f"{shortened(axis_env)}"
            )
        size = integer("make_jaxpr: a size of axis_env", pair[1])
        axes.append(Axis(size, check_axis_name("make_jaxpr", pair[0])))
    traced = JitFunction(fun, static_argnums, None, None, None, "make_jaxpr")

    @functools.wraps(fun)
    def make_jaxpr_f(*args: Any, **kwargs: Any) -> Any:
        trace = context.trace
        for axis in axes:
            trace = AxisTrace(trace, axis)
        with current_trace(trace):
            staged = traced._trace(traced._arguments.split(args, kwargs))
        if return_shape:
            return staged.program, staged.out_info
        return staged.program

    return make_jaxpr_f


def eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The output's structure, as `ShapeDtypeStruct`s (see `jax.eval_shape`).

    Args:
      fun: a function of pytrees of arrays, which is traced and not computed.
      args, kwargs: its arguments, or `ShapeDtypeStruct`s in place of arrays.

    Raises:
      LeafTypeError: an argument's leaf is no array, scalar or `ShapeDtypeStruct`.
    """
    check_function("eval_shape", fun)
    if not isinstance(fun, JitFunction):
        fun = JitFunction(fun, None, None, None, None, "eval_shape")
    return fun.eval_shape(*args, **kwargs)
