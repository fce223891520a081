"""How a jitted function takes the arguments of a call apart, and itself is called with others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcdl.config import config
from funcdl.core import tree
from funcdl.core.array import Array, aval_of
from funcdl.core.avals import ShapedArray
from funcdl.core.axes import axes_in_scope
from funcdl.core.records import record
from funcdl.core.trace import Tracer, is_usable, raise_leaked
from funcdl.errors import ArgumentError, LeafTypeError, StaticArgumentError
from funcdl.transforms.arguments import argument_names, as_arrays, function_name, leaf_names
from funcdl.transforms.selection import select_arguments

Positional = tuple[Any, ...]
Keywords = dict[str, Any]
Static = tuple[Any, ...]
"""For each static argument its position or name, its type and its value."""


@record
class Call:
    """The arguments of one call, flattened, and their types."""

    args: Positional
    kwargs: Keywords
    static: Static
    leaves: list[Any]
    treedef: tree.TreeDef
    types: tuple[ShapedArray, ...]

    @property
    def key(self) -> Any:
        """What the traced program depends on."""
        return self.types, self.treedef, self.static, config.x64, axes_in_scope()


class JitArguments:
    """A function and what is static or donated of its arguments; `title` names the transform.

    Raises:
      ArgumentError: the function has no such parameters, or one is both static and donated.
    """

    __slots__ = ("_fun", "_name", "_title", "donate", "static")

    def __init__(
        self,
        fun: Callable[..., Any],
        static_argnums: int | Sequence[int] | None,
        static_argnames: str | Iterable[str] | None,
        donate_argnums: int | Sequence[int] | None,
        donate_argnames: str | Iterable[str] | None,
        title: str,
    ) -> None:
        self._fun = fun
        self._title = title
        self._name = name = function_name(fun)
        self.static = select_arguments(fun, name, "static", static_argnums, static_argnames)
        self.donate = select_arguments(fun, name, "donate", donate_argnums, donate_argnames)
        both = self.static.names & self.donate.names
        if both or self.static.positions & self.donate.positions:
            raise ArgumentError(
                f"jit of {name} cannot donate static arguments, which are no arrays: "
                f"{', '.join(sorted(both)) or sorted(self.static.positions)}"
            )

    def split(self, args: Positional, kwargs: Keywords) -> Call:
        """The arguments as a call passes them."""
        static: Static = ()
        if self.static:
            args, kwargs, static = self.split_static(args, kwargs)
        return self.flatten(args, kwargs, static)

    def split_static(
        self, args: Positional, kwargs: Keywords
    ) -> tuple[Positional, Keywords, Static]:
        """The dynamic arguments, and the static ones.

        Raises:
          StaticArgumentError: one cannot be hashed.
        """
        chosen = sorted(i for i in self.static.positions if i < len(args))
        keywords = sorted(self.static.names & kwargs.keys())
        static = [(i, args[i]) for i in chosen] + [(k, kwargs[k]) for k in keywords]
        for place, value in static:
            try:
                hash(value)
            except TypeError:
                names = argument_names(self._fun, args)
                label = names[place] if isinstance(place, int) else place
                if isinstance(value, Tracer):
                    raise StaticArgumentError(
                        f"jit requires static arguments to be known, got {label} of {self._name} "
                        f"of type {value.aval}, which {value._trace.name} has traced.\n"
                        f"Make it a static argument there too, or a dynamic one of {self._name}."
                    ) from None
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

    def flatten(self, args: Positional, kwargs: Keywords, static: Static) -> Call:
        """A call with these dynamic and static arguments."""
        leaves, treedef = tree.flatten((args, kwargs) if kwargs else args)
        types = tuple(ShapedArray(*self.leaf_type(x, args, kwargs, static)) for x in leaves)
        return Call(args, kwargs, static, leaves, treedef, types)

    def leaf_type(
        self, x: Any, args: Positional, kwargs: Keywords, static: Static
    ) -> tuple[Any, ...]:
        """Shape, dtype and weak type of a leaf of these arguments.

        Raises:
          LeafTypeError: it is no array or scalar, or an array that was deleted.
        """
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

    def call(self, call: Call, leaves: Iterable[Any]) -> Any:
        """Call the function itself, with these leaves in place of those of the arguments."""
        rebuilt: Any = call.treedef.unflatten(leaves)
        args, kwargs = rebuilt if call.kwargs else (rebuilt, {})
        fixed = {place: value for place, _, value in call.static}
        keywords = {k: v for k, v in fixed.items() if isinstance(k, str)}
        return self._fun(*_all_args(args, fixed), **kwargs, **keywords)

    def leaf_names(self, call: Call) -> list[str]:
        """What to call each leaf in messages."""
        labelled = self._labelled(call.args, call.kwargs, call.static)
        return [leaf for label, value in labelled for leaf in leaf_names(label, value)]

    def static_names(self, call: Call) -> list[str]:
        """What to call each static argument in messages."""
        fixed = {place: value for place, _, value in call.static}
        labels = argument_names(self._fun, _all_args(call.args, fixed))
        return [labels[place] if isinstance(place, int) else place for place in fixed]

    def donated(self, call: Call) -> tuple[bool, ...]:
        """For each leaf of the dynamic arguments, whether it is donated."""
        static = {place for place, _, _ in call.static}
        places = (i for i in itertools.count() if i not in static)
        values = [*zip(places, call.args), *sorted(call.kwargs.items())]  # noqa: B905  # endless
        donate = self.donate.positions | self.donate.names
        return tuple(place in donate for place, value in values for _ in tree.leaves(value))

    def _labelled(
        self, args: Positional, kwargs: Keywords, static: Static
    ) -> list[tuple[str, Any]]:
        """The dynamic arguments with the names of their parameters."""
        fixed = {place: value for place, _, value in static}
        labels = argument_names(self._fun, _all_args(args, fixed))
        dynamic = [label for i, label in enumerate(labels) if i not in fixed]
        return [*zip(dynamic, args, strict=True), *sorted(kwargs.items())]


def _all_args(args: Sequence[Any], fixed: dict[Any, Any]) -> list[Any]:
    """Positional arguments with the static ones back in their places."""
    rest = iter(args)
    count = len(args) + sum(isinstance(place, int) for place in fixed)
    return [fixed[i] if i in fixed else next(rest) for i in range(count)]
