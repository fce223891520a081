"""One call, made by the extension and by its twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funcdl as fd
from funcdl.core import tree

Call = tuple[tuple[Any, ...], dict[str, Any]]


def describe(x: Any) -> Any:
    """A value with everything that a caller can see of it, as what can be compared."""
    if type(x) is fd.Array:
        assert type(x._value) is np.ndarray
        array = x.value
        assert array.dtype == x.aval.dtype and array.shape == x.aval.shape
        return (
            "Array",
            str(x.aval),
            x.weak_type,
            array.tobytes(),
            array.flags.writeable,
            array.flags.c_contiguous,
        )
    if isinstance(x, dict):
        return type(x), [(key, describe(value)) for key, value in x.items()]
    if isinstance(x, tuple | list):
        return type(x), [describe(value) for value in x]
    leaves, treedef = tree.flatten(x)
    if x is None or leaves == [x]:
        return x
    return treedef, [describe(leaf) for leaf in leaves]


def outcome(jitted: Any, make: Callable[[], Call]) -> Any:
    """What a call returns or raises, and which of its arguments it deletes."""
    args, kwargs = make()
    arrays = [x for x in tree.leaves((args, kwargs)) if isinstance(x, fd.Array)]
    try:
        result = describe(jitted(*args, **kwargs))
    except Exception as error:
        result = type(error), str(error)
    return result, [(x.is_deleted(), str(x.aval)) for x in arrays]


def compare(jitted: Any, make: Callable[[], Call], calls: int = 3) -> int:
    """Call both; return how many of the calls the extension served."""
    with fd.config.override(dispatch="python"):
        wanted = outcome(jitted, make)
    before = jitted._table.hits
    for _ in range(calls):
        assert outcome(jitted, make) == wanted
    return jitted._table.hits - before  # type: ignore[no-any-return]
