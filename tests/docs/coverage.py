"""docs/coverage.md, made from the public namespaces, JAX's names and the primitives' registry.

JAX's names are kept in docs/coverage_names.json, so that the page can be made without JAX; why a
name is left out is in src/funcdl/absent.toml, where a key may be a pattern (``"*_p"``).
Arguments that a function has in JAX only are listed there too.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import json
import operator
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.docs.documents import DOCS
from tests.ops.table import OPS, reason_missing

from funcdl import absent

PAGE = DOCS / "coverage.md"
NAMES = DOCS / "coverage_names.json"
NOTES = Path(absent.__file__).with_suffix(".toml")
NAMESPACES = (
    "jax",
    "jax.lax",
    "jax.lax.linalg",
    "jax.nn",
    "jax.nn.initializers",
    "jax.random",
    "jax.numpy",
    "jax.numpy.linalg",
    "jax.numpy.fft",
    "jax.scipy.special",
    "jax.scipy.linalg",
    "jax.scipy.stats",
    "jax.scipy.optimize",
    "jax.scipy.fft",
    "jax.scipy.signal",
    "jax.scipy.ndimage",
    "jax.scipy.integrate",
    "jax.scipy.interpolate",
    "jax.scipy.cluster.vq",
    "jax.scipy.sparse.linalg",
    "jax.scipy.spatial.transform",
    "jax.tree",
    "jax.tree_util",
    "jax.flatten_util",
    "jax.ops",
    "jax.custom_batching",
    "jax.custom_derivatives",
    "jax.debug",
    "jax.dtypes",
    "jax.dlpack",
    "jax.image",
)


def ours(namespace: str) -> Any:
    """funcdl's module of that place, or None."""
    try:
        return importlib.import_module("funcdl" + namespace.removeprefix("jax"))
    except ModuleNotFoundError:
        return None


def jax_names() -> dict[str, Any]:
    """The public names of the JAX that is installed: no submodules of no namespace listed here."""
    import jax

    modules = {namespace: importlib.import_module(namespace) for namespace in NAMESPACES}
    result: dict[str, Any] = {"version": jax.__version__}
    for namespace, module in modules.items():
        result[namespace] = sorted(_public_names(namespace, module))
    return result


def _public_names(namespace: str, module: Any) -> Iterator[str]:
    for name in dir(module):
        value = getattr(module, name)
        if name.startswith("_"):
            continue
        if namespace == "jax" or not inspect.ismodule(value):
            yield name
        elif namespace == "jax.scipy.stats":  # a module is a distribution
            for function in dir(value):
                if not function.startswith("_") and callable(getattr(value, function)):
                    yield f"{name}.{function}"


def stored_names() -> dict[str, Any]:
    return json.loads(NAMES.read_text())  # type: ignore[no-any-return]


def missing(namespace: str, names: list[str]) -> list[str]:
    module = ours(namespace)
    return [name for name in names if not _has(module, name)]


def _has(module: Any, path: str) -> bool:
    try:
        operator.attrgetter(path)(module)
    except AttributeError:
        return False
    return True


def reason(namespace: str, name: str, notes: dict[str, dict[str, str]]) -> str | None:
    """Why a name is left out: its own note, or that of the first pattern that it matches."""
    table = notes.get(namespace, {})
    if name in table:
        return table[name]
    return next((why for key, why in table.items() if fnmatch.fnmatchcase(name, key)), None)


def page() -> str:
    names = stored_names()
    notes = tomllib.loads(NOTES.read_text())
    lines = [
        "# Coverage",
        "",
        "What funcdl has of JAX's public names, and what it leaves out and why. A test makes this",
        "page from the two libraries' namespaces and from the registry of primitives.",
        "",
        f"## Names of JAX {names['version']}",
        "",
        "| namespace | names | there | left out |",
        "|---|---|---|---|",
    ]
    gaps = {namespace: missing(namespace, names[namespace]) for namespace in NAMESPACES}
    for namespace, gap in gaps.items():
        count = len(names[namespace])
        lines.append(f"| `{namespace}` | {count} | {count - len(gap)} | {len(gap)} |")
    lines += ["", "## Left out", ""]
    for namespace, gap in gaps.items():
        by_reason: dict[str, list[str]] = {}
        for name in gap:
            why = reason(namespace, name, notes) or "not yet"
            by_reason.setdefault(why, []).append(name)
        if gap:
            lines += [f"### `{namespace}`", "", "| names | why |", "|---|---|"]
            lines += [
                f"| {', '.join(f'`{name}`' for name in found)} | {why} |"
                for why, found in by_reason.items()
            ]
            lines.append("")
    lines += ["### Arguments", "", "| argument | why |", "|---|---|"]
    lines += [f"| {name} | {why} |" for name, why in notes["arguments"].items()]
    return "\n".join([*lines, "", *primitives()]) + "\n"


def primitives() -> list[str]:
    lines = [
        "## Primitives",
        "",
        "Every primitive with its dtypes and rules. `host` means that a compiled program stops and",
        "calls NumPy or SciPy for it; of complex numbers it says nothing. C has functions for",
        "small real matrices of `cholesky`, `lu` and `triangular_solve`, and for `fft` up to a",
        "length of 2^20.",
        "",
        "| primitive | dtypes | derivative | vmap | C | Triton |",
        "|---|---|---|---|---|---|",
    ]
    for name, op in sorted(OPS.items()):
        cells = [f"`{name}`", " ".join(op.dtypes)]
        for column in ("jvp", "vmap", "c", "triton"):
            real = [dtype for dtype in op.dtypes if not dtype.startswith("c")] or list(op.dtypes)
            lacking = [dtype for dtype in real if reason_missing(name, dtype, column) is not None]
            word = "no" if column in ("jvp", "vmap") else "host"
            if not lacking:
                cells.append("yes")
            elif len(lacking) == len(real):
                cells.append(word)
            else:
                cells.append(f"{word}: {' '.join(lacking)}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines
