"""Every public function, called with what it does not take.

The calls are those that are compared with JAX, each with one operand replaced, or an argument added
that is wrong for sure. What is raised is an error of the library, and starts with the function's
name, as it was called; or the call goes well, since some functions take much.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.differential.calls import USUAL
from tests.differential.engine import peer
from tests.differential.tables import TABLES, Table

import funcdl as fd
from funcdl.core.trace import Tracer
from funcdl.errors import FuncdlError

NAMESPACES = [t for t in TABLES if t.namespace not in ("", "ops")]
OPERANDS = {
    "text": "abc",
    "nothing": None,
    "object": object(),
    "array of text": np.array(["a"]),
    "array of objects": np.array([None, {}], object),
    "uneven lists": [[1.0], [1.0, 2.0]],
    "empty tuple": (),
    "empty array": np.zeros((0,), np.float32),
    "five dimensions": np.ones((1, 2, 3, 1, 2), np.float32),
    "complex numbers": np.ones((3, 4), np.complex64),
    "integers": np.ones((3, 4), np.int32),
    "large integer": 2**70,
    "key": fd.random.key(0),
}
ARGUMENTS = {
    "axis": (9, "x", (0, 0), (0, 7)),
    "dtype": ("abc", 5),
    "shape": ("x", (1.5,), -1),
    "out": (1,),
    "num": ("x", -1),
    "keepdims": ([True], {}),
    "mode": ([], 5),
    "norm": ([], (1, 2)),
    "method": ([], {}),
    "side": ([],),
    "offset": ("x", None, 1.5),
    "decimals": ("x", 1.5),
    "reps": ("x", 1.5),
    "length": ("x", 1.5),
    "rounding_method": ("x",),
    "recall_target": ("x",),
    "feature_group_count": ("x", 1.5),
    "batch_size": ("x", 1.5),
    "tol": ("x", [1]),
    "period": ("x", [1]),
    "impl": ([],),
}

# For every other argument.
ANY = ("abc", (), 2**70, np.ones(2, np.float32), object())

# What else calls as text call a namespace.
NAMES = {"numpy": ("jnp",), "lax.linalg": ("linalg",), "scipy.linalg": ("scipy_linalg",)}

EXCEPT = {
    "asarray frombuffer fromstring issubdtype": "NumPy reads the dtype or the text",
    "result_type": "one function for all namespaces",
    "cond custom_linear_solve custom_root fori_loop platform_dependent scan switch": (
        "the user's own function fails"
    ),
}

# What the user's functions in these calls are made of: a mistake is that one's.
THEIRS = {
    "associative_scan": "mul",
    "map": "sin",
    "mask_indices": "triu",
    "minimize": "subtract",
}


class Recorder:
    """A namespace that keeps the first call of its functions."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.call: tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None = None

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if not callable(value) or isinstance(value, type):
            return value

        def record(*args: Any, **kwargs: Any) -> Any:
            traced = any(isinstance(x, Tracer) for x in fd.tree.leaves((args, kwargs)))
            if self.call is None and not traced:
                self.call = name, value, args, kwargs
            return value(*args, **kwargs)

        return record


def calls(table: Table) -> Iterator[tuple[str, Callable[..., Any], Any, dict[str, Any]]]:
    """The first call of each function."""
    seen = set()
    for call in table.calls:
        if call.name not in seen:
            scope = peer("funcdl").named(table.namespace)
            module = Recorder(scope["m"])
            scope |= dict.fromkeys(("m", *NAMES.get(table.namespace, ())), module)
            if table.namespace == "numpy.linalg":
                scope["jnp"] = SimpleNamespace(linalg=module)
            with contextlib.suppress(Exception):
                call.function(scope, *call.operands("f32", USUAL))
            if module.call is not None and module.call[0] not in seen:
                seen |= {call.name, module.call[0]}
                yield module.call


def wrong(function: Callable[..., Any], args: Any, kwargs: Any) -> Iterator[tuple[str, Any, Any]]:
    for i, arg in enumerate(args):
        if hasattr(arg, "shape"):
            for what, value in OPERANDS.items():
                yield f"{what} as {i}", (*args[:i], value, *args[i + 1 :]), kwargs
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return
    for name, parameter in list(parameters.items())[len(args) :]:
        if name not in kwargs and parameter.kind in (_EITHER, inspect.Parameter.KEYWORD_ONLY):
            for value in (*ARGUMENTS.get(name, ()), *ANY):
                yield f"{name}={value!r}", args, kwargs | {name: value}


_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


def fault(function: Callable[..., Any], name: str, args: Any, kwargs: Any) -> str | None:
    """What is wrong with the error that a call raises, if any."""
    # The name that the call is written with counts, since some functions have several.
    space = SimpleNamespace(**{name: function})
    call = eval(f"lambda args, kwargs: space.{name}(*args, **kwargs)", {"space": space})
    try:
        call(args, kwargs)
    except FuncdlError as error:
        known = f"{name}|{THEIRS.get(name, name)}"
        named = re.match(rf"({known})\b(?!: \w+(:| requires| does not accept))", str(error))
        return None if named else str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("table", NAMESPACES, ids=lambda t: t.namespace)
def test_errors_are_the_librarys_and_name_the_function(table: Table) -> None:
    found = []
    with fd.config.override(backend="reference"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, function, args, kwargs in calls(table):
            if name not in " ".join(EXCEPT).split():
                for what, xs, options in wrong(function, args, kwargs):
                    text = fault(function, name, xs, options)
                    if text is not None:
                        found.append(f"{name}({what}): {text[:150]}")
    assert not found, "\n".join(found)
