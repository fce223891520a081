"""jit: compile a function once for each type of its arguments, and call the compiled program."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import optree

from funcdl.config import config
from funcdl.core import backend, profiler, tree
from funcdl.core.array import Array, as_array, aval_of
from funcdl.core.avals import ShapedArray
from funcdl.core.axes import Axis, axes_in_scope, check_axis_name
from funcdl.core.device_buffer import backend_of, on_first_use
from funcdl.core.dispatch import dispatch
from funcdl.core.nan_check import checked
from funcdl.core.records import record
from funcdl.core.staging import hoist_consts, trace_to_jaxpr
from funcdl.core.trace import Tracer, context, current_trace, eval_trace, is_usable, raise_leaked
from funcdl.errors import ArgumentError, LeafTypeError, StaticArgumentError
from funcdl.transforms.arguments import (
    argument_names,
    as_arrays,
    flatten_output,
    function_name,
    leaf_names,
)
from funcdl.transforms.batching import AxisTrace
from funcdl.transforms.explain import explain_miss, logged
from funcdl.transforms.jit_primitive import compiled, jit_call
from funcdl.transforms.selection import Selection, select_arguments
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
        for flag in (*_KEY_FLAGS, "disable_jit", "dispatch"):
            config.on_change(flag, self.update)
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
        self._name = name = function_name(fun)
        self._static = select_arguments(fun, name, "static", static_argnums, static_argnames)
        self._donate = select_arguments(fun, name, "donate", donate_argnums, donate_argnames)
        both = self._static.names & self._donate.names
        if both or self._static.positions & self._donate.positions:
            raise ArgumentError(
                f"jit of {name} cannot donate static arguments, which are no arrays: "
                f"{', '.join(sorted(both)) or sorted(self._static.positions)}"
            )
        self._title = title
        self._has_static = bool(self._static)
        # As in JAX, all jits of one function with the same options share their programs.
        self._entries, self._staged = _shared_caches(fun, title, self._static, self._donate)
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
            args, kwargs, static = self._split_static(args, kwargs)
        arguments: Any = (args, kwargs) if kwargs else args
        leaves, treedef = optree.tree_flatten(arguments, namespace=tree.NAMESPACE)
        # This path is hot: types are plain tuples here, which hash and compare without Python code.
        types = tuple(
            [
                (x._value.shape, x._value.dtype, x.weak_type)
                if type(x) is Array and x._value is not None
                else self._leaf_type(x, args, kwargs, static)
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
                self._bind(args, kwargs, static), backend_name
            )
        if entry.native is not None and self._table is not None:
            self._table.learn(*whole, entry.native)
        values: list[Any]
        if entry.on_device:
            values = [x.buffer if type(x) is Array else as_array(x).buffer for x in leaves]
        else:
            values = [x.value if type(x) is Array else as_array(x).value for x in leaves]
        try:
            outs = entry.executable(values)
        except BaseException as error:
            if backend.had_begun(error):
                entry.delete_donated(leaves)
            raise
        if entry.donated:
            entry.delete_donated(leaves)
        return entry.out_tree.unflatten(map(Array, outs, entry.weak))

    def _leaf_type(
        self, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any], static: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """The cache key of a leaf that is no live array; raises where it cannot be an argument."""
        if isinstance(x, Tracer) and not is_usable(x):
            raise_leaked(x)
        try:
            aval = aval_of(x)
            if isinstance(x, Array) and x.is_deleted():
                raise LeafTypeError
        except LeafTypeError:
            for label, value in self._labelled(args, kwargs, static):
                as_arrays(label, value, f"{self._title} of {self._name}")
            raise
        return aval.shape, aval.dtype, aval.weak_type

    def _compile(self, call: _Call, backend_name: str) -> _Entry:
        staged = self._stage(call)

        def compile(donated: tuple[bool, ...]) -> backend.Executable:
            return compiled(staged.program, self._name, donated, backend_name)

        return _Entry(staged, checked(compile, staged.program, self._name, staged.donated))

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """Trace for the types of these arguments (arrays or `ShapeDtypeStruct`s)."""
        return Traced(self._name, self._stage(self._split_and_bind(args, kwargs)))

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Trace, and start the compiler's passes: ``trace(...).lower()``."""
        return self.trace(*args, **kwargs).lower()

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The output's structure, as `ShapeDtypeStruct`s, without computing anything."""
        staged = self._stage(self._split_and_bind(args, kwargs))
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
        call = self._split_and_bind(args, kwargs)
        rebuilt: Any = call.treedef.unflatten(map(as_array, call.leaves))
        args, kwargs = rebuilt if call.kwargs else (rebuilt, {})
        fixed = {place: value for place, _, value in call.static}
        kwargs = kwargs | {k: v for k, v in fixed.items() if isinstance(k, str)}
        return self._fun(*self._all_args(args, fixed), **kwargs)

    def _call_traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self._split_and_bind(args, kwargs)
        staged = self._stage(call)
        outs = jit_call.bind(
            *staged.captured,
            *map(as_array, call.leaves),
            jaxpr=staged.program,
            name=self._name,
            donated=(False,) * len(staged.program.in_avals),
        )
        return staged.out_tree.unflatten(outs)

    def _split_and_bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        static: tuple[Any, ...] = ()
        if self._has_static:
            args, kwargs, static = self._split_static(args, kwargs)
        return self._bind(args, kwargs, static)

    def _bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], static: tuple[Any, ...]
    ) -> _Call:
        leaves, treedef = tree.flatten((args, kwargs) if kwargs else args)
        types = tuple(ShapedArray(*self._leaf_type(x, args, kwargs, static)) for x in leaves)
        return _Call(args, kwargs, static, leaves, treedef, types)

    def _split_static(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], tuple[Any, ...]]:
        chosen = sorted(i for i in self._static.positions if i < len(args))
        keywords = sorted(self._static.names & kwargs.keys())
        static = [(i, args[i]) for i in chosen] + [(k, kwargs[k]) for k in keywords]
        for place, value in static:
            try:
                hash(value)
            except TypeError:
                names = argument_names(self._fun, args)
                label = names[place] if isinstance(place, int) else place
                raise StaticArgumentError(
                    f"jit requires static arguments to be hashable, got {label} of "
                    f"{self._name} of type {type(value).__name__}: {value!r}.\n"
                    "Pass a tuple instead of a list, a frozen dataclass instead of a dict, or make "
                    "the argument dynamic if it holds arrays."
                ) from None
        rest = tuple(x for i, x in enumerate(args) if i not in chosen)
        # Types take part in the key, since 1, 1.0 and True are equal and hash alike.
        return (
            rest,
            {k: v for k, v in kwargs.items() if k not in keywords},
            tuple((place, type(value), value) for place, value in static),
        )

    def _stage(self, call: _Call) -> Staged:
        staged = self._staged.get(call.key)
        if staged is None:
            if config.explain_cache_misses and self._title == "jit":
                self._explain_miss(call)
            staged = self._trace(call)
            if not staged.captured:
                self._staged[call.key] = staged
        return staged

    def _explain_miss(self, call: _Call) -> None:
        def leaves() -> list[str]:
            labelled = self._labelled(call.args, call.kwargs, call.static)
            return [leaf for label, value in labelled for leaf in leaf_names(label, value)]

        def statics() -> list[str]:
            fixed = {place: value for place, _, value in call.static}
            labels = argument_names(self._fun, self._all_args(call.args, fixed))
            return [labels[place] if isinstance(place, int) else place for place in fixed]

        explain_miss(self._name, self._fun, call.key, self._staged, leaves, statics)

    def _trace(self, call: _Call) -> Staged:
        out_tree: tree.TreeDef | None = None
        fixed = {place: value for place, _, value in call.static}
        labelled = self._labelled(call.args, call.kwargs, call.static)
        names = [leaf for label, value in labelled for leaf in leaf_names(label, value)]

        def flat_fun(*flat: Any) -> list[Any]:
            nonlocal out_tree
            rebuilt: Any = call.treedef.unflatten(flat)
            args, kwargs = rebuilt if call.kwargs else (rebuilt, {})
            keywords = {k: v for k, v in fixed.items() if isinstance(k, str)}
            out = self._fun(*self._all_args(args, fixed), **kwargs, **keywords)
            outs, out_tree = flatten_output(out, f"{self._title} of {self._name}", self._name)
            return outs

        with logged(f"{self._name} was traced", names, call.types):
            jaxpr, consts = trace_to_jaxpr(
                flat_fun, call.types, name=f"{self._title} of {self._name}", names=names
            )
        program, captured = hoist_consts(jaxpr, consts)
        assert out_tree is not None
        donated = (False,) * len(captured) + self._donated(call)
        return Staged(program, tuple(captured), out_tree, donated)

    def _labelled(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], static: tuple[Any, ...]
    ) -> list[tuple[str, Any]]:
        """The dynamic arguments with the names of their parameters."""
        fixed = {place: value for place, _, value in static}
        labels = argument_names(self._fun, self._all_args(args, fixed))
        dynamic = [label for i, label in enumerate(labels) if i not in fixed]
        return [*zip(dynamic, args, strict=True), *sorted(kwargs.items())]

    def _all_args(self, args: Sequence[Any], fixed: dict[Any, Any]) -> list[Any]:
        """Positional arguments with the static ones back in their places."""
        rest = iter(args)
        count = len(args) + sum(isinstance(place, int) for place in fixed)
        return [fixed[i] if i in fixed else next(rest) for i in range(count)]

    def _donated(self, call: _Call) -> tuple[bool, ...]:
        """For each leaf of the dynamic arguments, whether it is donated."""
        static = {place for place, _, _ in call.static}
        places = (i for i in itertools.count() if i not in static)
        values = [*zip(places, call.args), *sorted(call.kwargs.items())]  # noqa: B905  # endless
        donate = self._donate.positions | self._donate.names
        return tuple(place in donate for place, value in values for _ in tree.leaves(value))


@record
class _Call:
    """The arguments of one call, flattened, and their types."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    static: tuple[Any, ...]
    leaves: list[Any]
    treedef: tree.TreeDef
    types: tuple[ShapedArray, ...]

    @property
    def key(self) -> Any:
        """What the traced program depends on."""
        return self.types, self.treedef, self.static, config.x64, axes_in_scope()


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
    axes = [Axis(size, check_axis_name("make_jaxpr", name)) for name, size in axis_env or ()]
    traced = JitFunction(fun, static_argnums, None, None, None, "make_jaxpr")

    @functools.wraps(fun)
    def make_jaxpr_f(*args: Any, **kwargs: Any) -> Any:
        trace = context.trace
        for axis in axes:
            trace = AxisTrace(trace, axis)
        with current_trace(trace):
            staged = traced._trace(traced._split_and_bind(args, kwargs))
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
    if not isinstance(fun, JitFunction):
        fun = JitFunction(fun, None, None, None, None, "eval_shape")
    return fun.eval_shape(*args, **kwargs)
