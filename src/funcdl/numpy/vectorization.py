"""vectorize: a function of small arrays, applied over all leading dimensions by broadcasting."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from funcdl.core.array import shortened
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.promotion import array
from funcdl.ops.shape import reshape
from funcdl.transforms.arguments import argument_names, describe, function_name
from funcdl.transforms.vmap import vmap

__all__ = ["vectorize"]

Core = tuple[str, ...]

_NAME = r"\w+"
_CORE = rf"\(\s*(?:{_NAME}\s*(?:,\s*{_NAME}\s*)*)?\)"
_LIST = rf"\s*(?:{_CORE}\s*(?:,\s*{_CORE}\s*)*)?"
_SIGNATURE = re.compile(rf"({_LIST})->({_LIST})", re.ASCII)


def vectorize(
    pyfunc: Callable[..., Any],
    *,
    excluded: Collection[int | str] = frozenset(),
    signature: str | None = None,
) -> Callable[..., Any]:
    """A function applied over the leading dimensions of arrays (see `jax.numpy.vectorize`).

    Leading dimensions broadcast against each other as in NumPy; each one becomes a `vmap`, so the
    result can be differentiated, mapped and jitted.

    Args:
      pyfunc: a function of arrays, of the number of dimensions that the signature says.
      excluded: positions and names of arguments that are passed on as they are; they need not be
        arrays. None counts as excluded.
      signature: core dimensions of arguments and results, as in ``"(m,n),(n)->(m)"``, by NumPy's
        grammar for generalised ufuncs. Equal names are equal sizes; a number is its own size. By
        default all arguments and results are scalars.

    Raises:
      ArgumentError: the signature cannot be read, or does not have the arguments that are passed;
        `excluded` has something else than positions from 0 on and names.
      ShapeError (when called): an array has too few dimensions or other sizes than the signature
        says, leading dimensions do not broadcast, or `pyfunc` returns something else.
    """
    try:
        chosen: frozenset[Any] = frozenset(excluded)
    except TypeError:
        raise ArgumentError(
            "vectorize: excluded must be a set of positions and names of arguments, got "
            f"{shortened(excluded)}"
        ) from None
    for item in chosen:
        is_position = isinstance(item, int) and not isinstance(item, bool) and item >= 0
        if not is_position and not isinstance(item, str):
            raise ArgumentError(
                "vectorize requires excluded to have positions from 0 on and names of arguments, "
                f"got {shortened(item)}"
            )
    name = function_name(pyfunc)
    parsed = None if signature is None else _parse(signature)

    @functools.wraps(pyfunc)
    def vectorized(*args: Any, **kwargs: Any) -> Any:
        fixed = {i: x for i, x in enumerate(args) if i in chosen or x is None}
        keywords = {key: x for key, x in kwargs.items() if key in chosen or x is None}
        mapped_keys = [key for key in kwargs if key not in keywords]
        labels = [*argument_names(pyfunc, args), *mapped_keys]
        labels = [label for i, label in enumerate(labels) if i not in fixed]
        given = [x for i, x in enumerate(args) if i not in fixed]
        given += [kwargs[key] for key in mapped_keys]
        arrays = [array("vectorize", x) for x in given]
        inputs: Sequence[Core] = [()] * len(arrays)
        outputs: Sequence[Core] | None = None
        if parsed is not None:
            inputs, outputs = parsed
            if len(inputs) != len(arrays):
                raise ArgumentError(
                    f"vectorize of {name} with signature {signature!r} takes {len(inputs)} "
                    f"arrays that are not excluded, got {len(arrays)}"
                )
        sizes: dict[str, int] = {}
        leading = [
            _bind(name, label, x, core, sizes)
            for label, x, core in zip(labels, arrays, inputs, strict=True)
        ]
        try:
            shape = np.broadcast_shapes(*leading)
        except ValueError:
            lines = [f"  {label}: {x.aval}" for label, x in zip(labels, arrays, strict=True)]
            raise ShapeError(
                f"vectorize of {name} requires leading dimensions that broadcast, got "
                f"{', '.join(map(str, leading))} of\n" + "\n".join(lines)
            ) from None

        def call(*values: Any) -> Any:
            rest = iter(values)
            full = [fixed[i] if i in fixed else next(rest) for i in range(len(args))]
            own = dict(zip(mapped_keys, rest, strict=True))
            return _checked(name, pyfunc(*full, **own, **keywords), outputs, dict(sizes))

        return _mapped(call, arrays, leading, shape)(*_squeezed(arrays, leading))

    return vectorized


def _squeezed(arrays: Sequence[Any], leading: Sequence[tuple[int, ...]]) -> list[Any]:
    """The arrays without leading dimensions of size 1, which need not be mapped."""
    return [
        reshape(x, new_sizes=(*(n for n in lead if n != 1), *x.shape[len(lead) :]))
        if 1 in lead
        else x
        for x, lead in zip(arrays, leading, strict=True)
    ]


def _mapped(
    call: Callable[..., Any],
    arrays: Sequence[Any],
    leading: Sequence[tuple[int, ...]],
    shape: tuple[int, ...],
) -> Callable[..., Any]:
    """The function mapped once for each leading dimension, from the last one inwards out."""
    for back in range(1, len(shape) + 1):
        axes = tuple(0 if len(lead) >= back and lead[-back] != 1 else None for lead in leading)
        if all(axis is None for axis in axes):
            call = vmap(call, in_axes=axes, axis_size=shape[-back])
        else:
            call = vmap(call, in_axes=axes)
    return call


def _parse(signature: Any) -> tuple[list[Core], list[Core]]:
    found = _SIGNATURE.fullmatch(signature) if isinstance(signature, str) else None
    if found is None:
        raise ArgumentError(
            f"vectorize cannot read the signature {signature!r}; write core dimensions in "
            "parentheses, such as '(m,n),(n)->(m)', '()' for scalars"
        )
    inputs, outputs = (
        [tuple(re.findall(_NAME, core)) for core in re.findall(_CORE, part)]
        for part in found.groups()
    )
    return inputs, outputs


def _bind(name: str, label: str, x: Any, core: Core, sizes: dict[str, int]) -> tuple[int, ...]:
    """Check an array against its core dimensions; returns its leading dimensions."""
    shape: tuple[int, ...] = x.shape
    if len(shape) < len(core):
        raise ShapeError(
            f"vectorize of {name} requires {label} to have at least {len(core)} "
            f"dimension{'s' * (len(core) != 1)}, ({','.join(core)}), got {x.aval}"
        )
    start = len(shape) - len(core)
    _check_sizes(f"vectorize of {name}", label, x, core, shape[start:], sizes)
    return shape[:start]


def _check_sizes(
    what: str, label: str, x: Any, core: Core, found: Sequence[int], sizes: dict[str, int]
) -> None:
    for dim, size in zip(core, found, strict=True):
        wanted = int(dim) if dim.isdecimal() else sizes.setdefault(dim, size)
        if size != wanted:
            raise ShapeError(
                f"{what} requires core dimension {dim} of {label} to have size {wanted}, "
                f"got {size} in ({','.join(core)}) of {x.aval}"
            )


def _checked(name: str, out: Any, cores: Sequence[Core] | None, sizes: dict[str, int]) -> Any:
    """What the function returned for one element, checked against the signature."""
    what = f"vectorize of {name}"
    if cores is None:
        values = out if isinstance(out, tuple) else (out,)
        cores = [()] * len(values)
    else:
        if len(cores) != 1 and (not isinstance(out, tuple) or len(out) != len(cores)):
            found = f"a tuple of {len(out)}" if isinstance(out, tuple) else describe(out)
            raise ArgumentError(
                f"{what} requires a tuple of {len(cores)} results, as the signature says, got "
                f"{found}"
            )
        values = (out,) if len(cores) == 1 else out
    results = [array("vectorize", x) for x in values]
    for i, (x, core) in enumerate(zip(results, cores, strict=True)):
        label = f"result {i}" if len(results) != 1 else "the result"
        if x.ndim != len(core):
            raise ShapeError(
                f"{what} requires {label} to have the core dimensions ({','.join(core)}), got "
                f"{x.aval}"
            )
        _check_sizes(what, label, x, core, x.shape, sizes)
    return tuple(results) if isinstance(out, tuple) else results[0]
