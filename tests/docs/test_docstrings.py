"""Public docstrings say what CONTRIBUTING.md asks of them: types, arguments, errors, the source.

What one docstring leaves to another by naming it, as in "arguments are those of `sum`", is read
there. Data operands often need no more than the first line, so the first parameter and those that
cannot be passed by name need not be named.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.docs import coverage

OWN = tuple(f"funcdl.{name}" for name in ("data", "distributed", "optim", "profiling", "test_util"))

# Names without a counterpart elsewhere, or whose facts cannot be of this kind.
NO_SOURCE = {
    "Profile": "funcdl's own: nobody else times kernels of programs so",
    "ProfileRow": "see Profile",
    "profile": "see Profile",
    "ndarray": "the class that arrays and tracers share, which is `numpy.ndarray` by its name only",
}
NO_TYPES = {
    "clear_caches": "neither takes nor returns anything",
    "effects_barrier": "neither takes nor returns anything",
    "ensure_compile_time_eval": "takes nothing, and its context has no value",
    "live_arrays": "the arrays that there are, of any type",
    "shutdown": "neither takes nor returns anything",
}

SOURCE = re.compile(
    r"`(?:jax|numpy|scipy|optax|optree|dataclasses|functools)\.[\w.]+`|\bJAX\b|\((?:19|20)\d\d\)"
)
TYPES = re.compile(
    r"dtype|shape|``\[|``\(|\bfloat|\bint|bool|complex|scalar|vector|matri|\btuple|\blist|\bdict"
    r"|pytree|leaf|leaves|function|class|\btext|\bname\b|`[A-Z]\w+`",
    re.IGNORECASE,
)
CITED = re.compile(r"`((?:jax|numpy|scipy|optax|optree)\.[\w.]+)`")
NAME = re.compile(r"`([\w.]+)`")


def modules() -> list[ModuleType]:
    found = [coverage.ours(namespace) for namespace in coverage.NAMESPACES]
    found += [importlib.import_module(name) for name in OWN]
    stats = importlib.import_module("funcdl.scipy.stats")
    found += [getattr(stats, name) for name in dir(stats)]  # a distribution is a module
    return [x for x in found if inspect.ismodule(x) and x.__name__.startswith("funcdl")]


def public() -> dict[str, tuple[ModuleType, Any]]:
    """Functions and classes of funcdl's own, by the first of their names."""
    found: dict[int, tuple[str, ModuleType, Any]] = {}
    for module in modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if callable(value) and getattr(value, "__module__", "").startswith("funcdl"):
                found.setdefault(id(value), (f"{module.__name__}.{name}", module, value))
    return {name: (module, value) for name, module, value in found.values()}


PUBLIC = public()


def resolve(name: str, *modules: ModuleType) -> Any:
    """What a name in a docstring stands for, where it is one of funcdl's functions or classes."""
    for value in (*modules, importlib.import_module("funcdl")):
        try:
            for part in name.removeprefix("funcdl.").split("."):
                value = getattr(value, part)
        except AttributeError:
            continue
        if getattr(value, "__module__", None) and callable(value):
            return value
    return None


def defining(value: Any) -> ModuleType:
    return importlib.import_module(inspect.unwrap(value).__module__)


def told(module: ModuleType, value: Any, steps: int = 3) -> str:
    """A docstring, and those of the functions that it names, and so on three times."""
    text = inspect.getdoc(value) or ""
    others = (
        [resolve(name, module, defining(value)) for name in NAME.findall(text)] if steps else []
    )
    parts = [told(module, other, steps - 1) for other in others if inspect.isfunction(other)]
    return "\n".join([text, *parts])


@functools.cache
def functions_of(path: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(Path(path).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def calls_and_errors(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Raise) and isinstance(part.exc, ast.Call):
            yield ast.unparse(part.exc.func).rpartition(".")[2]
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
            yield part.func.id


def errors_of(value: Any) -> set[str]:
    """The errors that a function raises itself, or through private functions beside it."""
    function = inspect.unwrap(value)
    if not inspect.isfunction(function):
        return set()
    own = ast.parse(textwrap.dedent(inspect.getsource(function)))
    helpers = functions_of(inspect.getsourcefile(function) or "")
    names = set(calls_and_errors(own))
    for name in [name for name in names if name.startswith("_") and name in helpers]:
        names.update(calls_and_errors(helpers[name]))
    if {"normalize_axis", "normalize_axes"} & names:
        names.add("ArgumentError")
    return {name for name in names if name.endswith("Error")}


def options_of(value: Any) -> list[str]:
    """Parameters that can be passed by name, but the first."""
    parameters = list(inspect.signature(value).parameters.values())[1:]
    return [p.name for p in parameters if p.kind is not inspect.Parameter.POSITIONAL_ONLY]


def lacking(name: str, module: ModuleType, value: Any) -> list[str]:
    text, short = told(module, value), name.rpartition(".")[2]
    lacks = []
    if not SOURCE.search(text) and short not in NO_SOURCE:
        lacks.append("source")
    if inspect.isclass(value):
        return lacks
    if not TYPES.search(text) and short not in NO_TYPES:
        lacks.append("types")
    lacks += [f"argument {p}" for p in options_of(value) if not re.search(rf"\b{p}\b", text)]
    lacks += [f"error {error}" for error in sorted(errors_of(value)) if error not in text]
    return lacks


def test_public_docstrings_give_types_arguments_errors_and_sources() -> None:
    assert len(PUBLIC) > 800
    found = {name: lacking(name, *entry) for name, entry in sorted(PUBLIC.items())}
    assert {name: lacks for name, lacks in found.items() if lacks} == {}


def test_no_exception_is_stale() -> None:
    names = {name.rpartition(".")[2] for name in PUBLIC}
    assert {*NO_SOURCE, *NO_TYPES} <= names
    for name, (module, value) in PUBLIC.items():
        short = name.rpartition(".")[2]
        if short in NO_SOURCE:
            assert not SOURCE.search(told(module, value)), name
        if short in NO_TYPES:
            assert not TYPES.search(told(module, value)), name


def example(x: Any, width: int = 1) -> Any:
    """The nearest number (see `numpy.nosuchname`)."""
    if width < 0:
        raise ValueError("width")
    return x


def test_what_is_missing_is_found() -> None:
    module = importlib.import_module(__name__)
    assert lacking("example", module, example) == ["types", "argument width", "error ValueError"]
    assert absent("numpy") == set()
    assert not exists("numpy.nosuchname")


def exists(path: str) -> bool:
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        return all((value := getattr(value, part, None)) is not None for part in parts[count:])
    return False


def absent(package: str) -> set[str]:
    """What docstrings cite of a package that it has not."""
    texts = [inspect.getdoc(value) or "" for _, value in PUBLIC.values()]
    cited = {path for text in texts for path in CITED.findall(text)}
    return {path for path in cited if path.startswith(f"{package}.") and not exists(path)}


@pytest.mark.parametrize("package", ["numpy", "scipy", "optree"])
def test_functions_that_are_cited_exist(package: str) -> None:
    assert absent(package) == set()


@pytest.mark.peers
def test_functions_of_jax_that_are_cited_exist() -> None:
    pytest.importorskip("jax")
    assert absent("jax") == set()
