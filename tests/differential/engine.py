"""One comparison for all public functions: what a call gives here and in JAX, aspect by aspect.

JAX compiles many calls in one program, because compiling takes most of the time.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from tests.differential.calls import USUAL, Call, Sizes
from tests.differential.known import KNOWN, TOLERANCES

import funcdl as fd
from funcdl.core import dtypes

MODULES = {
    "jnp": "numpy",
    "lax": "lax",
    "nn": "nn",
    "random": "random",
    "linalg": "lax.linalg",
    "scipy_linalg": "scipy.linalg",
    "special": "scipy.special",
}
REFUSALS = (TypeError, ValueError, NotImplementedError, OverflowError, AttributeError, KeyError)
REFUSALS += (IndexError, ZeroDivisionError, AssertionError, FloatingPointError)
TOLERANCE = {"f16": 1e-2, "bf16": 6e-2, "f32": 2e-5, "f64": 1e-9}
# Cheap code: the programs are run once. Fusions are written by the older of two emitters, which is
# several times as fast.
QUICK_COMPILER = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
# Calls in one compiled program of this library: a run of the C compiler costs as much as several.
TOGETHER = 10

Aspects = tuple[str, ...]
QUICK: Aspects = ("value", "vjp")
ALL: Aspects = ("value", "jvp", "vjp", "vmap")

Modes = Mapping[str, Aspects]
"""What is compared for each back end of this library; "" computes eagerly."""
EAGERLY: Modes = {"": QUICK}


@dataclass
class Seen:
    """What one aspect of a call gives: leaves, or the kind of error."""

    arrays: list[Any] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)
    error: Exception | None = None


@dataclass(frozen=True)
class Peer:
    """The transforms and modules of one of the two libraries."""

    jax: Any
    modules: Mapping[str, Any]

    def named(self, namespace: str) -> dict[str, Any]:
        name = ".".join(filter(None, (self.jax.__name__, namespace)))
        return {**self.modules, "m": importlib.import_module(name)}

    def is_array(self, x: Any) -> bool:
        return hasattr(x, "aval") or isinstance(x, np.ndarray)

    def split(self, tree: Any) -> Seen:
        leaves = self.jax.tree.leaves(tree)
        return Seen(
            [x for x in leaves if self.is_array(x)], [x for x in leaves if not self.is_array(x)]
        )


@cache
def peer(name: str) -> Peer:
    jax = importlib.import_module(name)
    modules = {key: importlib.import_module(f"{name}.{path}") for key, path in MODULES.items()}
    return Peer(jax, {"jax": jax, **modules, "key": modules["random"].key(123456789)})


def weights(shape: tuple[int, ...], dtype: Any, seed: float) -> np.ndarray[Any, Any]:
    """A cotangent or tangent of no symmetry; float0 for what has none."""
    if not dtypes.is_inexact(np.dtype(dtype)):
        return np.zeros(shape, dtypes.float0)
    places = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape) + seed
    values = np.cos(places) + 1j * np.sin(places) * dtypes.is_complex(np.dtype(dtype))
    return np.asarray(values if dtypes.is_complex(np.dtype(dtype)) else values.real).astype(dtype)


def see(library: Peer, namespace: str, call: Call, aspect: str, args: Sequence[Any]) -> Seen:
    """One aspect of a call; errors of bad arguments are a result as well."""
    scope = library.named(namespace)
    jax = library.jax

    def function(*xs: Any) -> Any:
        return call.function(scope, *xs)

    def arrays(*xs: Any) -> list[Any]:
        return library.split(function(*xs)).arrays

    def has_tangent(x: Any) -> bool:
        return bool(dtypes.is_inexact(np.dtype(x.dtype)))

    def smooth(*floats: Any) -> list[Any]:
        given = iter(floats)
        outs = arrays(*[next(given) if has_tangent(x) else x for x in args])
        return [x for x in outs if not is_key(x) and has_tangent(x)]

    floats = [x for x in args if has_tangent(x)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            match aspect:
                case "value":
                    return library.split(function(*args))
                case "jvp":
                    as_array = library.modules["jnp"].asarray
                    tangents = [
                        as_array(weights(x.shape, x.dtype, i)) for i, x in enumerate(floats)
                    ]
                    return Seen(jax.jvp(smooth, tuple(floats), tuple(tangents))[1])
                case "vjp":
                    outs, pull = jax.vjp(smooth, *floats)
                    return Seen(list(pull([weights(x.shape, x.dtype, 1) for x in outs])))
                case _:
                    stack = library.modules["jnp"].stack
                    return Seen(jax.vmap(arrays)(*[stack([x, x]) for x in args]))
    except REFUSALS as error:
        return Seen(error=error)


def is_key(x: Any) -> bool:
    return not isinstance(x.dtype, np.dtype) or x.dtype.names is not None


def aspects_of(call: Call, aspects: Aspects, args: Sequence[Any]) -> list[str]:
    smooth = call.grad and any(dtypes.is_inexact(np.dtype(x.dtype)) for x in args)
    left = aspects if smooth else [a for a in aspects if a not in ("jvp", "vjp")]
    return [a for a in left if a != "vmap" or args]


@contextlib.contextmanager
def types(kind: str) -> Iterator[None]:
    """The types' widths of both libraries: 64 bits for f64 and c128."""
    wide = kind in ("f64", "c128")
    with peer("jax").jax.enable_x64(wide), fd.config.override(x64="on" if wide else "off"):
        yield


@cache
def quick_compiler() -> dict[str, Any]:
    """Those of the options for quick compiling that this version of JAX has."""
    jax = peer("jax").jax
    taken = {}
    for name, value in QUICK_COMPILER.items():
        with contextlib.suppress(RuntimeError):
            jax.jit(lambda: 0, compiler_options={name: value})()
            taken[name] = value
    return taken


def theirs(
    namespace: str, calls: Sequence[Call], aspects: Aspects, argss: Sequence[list[Any]]
) -> list[dict[str, Seen]]:
    """What JAX gives for some calls, in one program."""
    library = peer("jax")
    jax = library.jax
    results: list[dict[str, Seen]] = []

    def program(argss: Any) -> Any:
        results.clear()
        for call, args in zip(calls, argss, strict=True):
            results.append({})
            for aspect in aspects_of(call, aspects, args) if call.traced else ():
                results[-1][aspect] = see(library, namespace, call, aspect, args)
        return [{a: seen.arrays for a, seen in result.items()} for result in results]

    try:
        outs = jax.jit(program, compiler_options=quick_compiler())(list(argss))
    except REFUSALS as error:
        # What JAX traces and cannot compile: found among the others by halves.
        if len(calls) == 1 and len(aspects) == 1:
            return [{aspect: Seen(error=error) for aspect in results[0]}]
        if len(calls) == 1:
            alone = [theirs(namespace, calls, (aspect,), argss)[0] for aspect in aspects]
            return [{aspect: seen for one in alone for aspect, seen in one.items()}]
        half = len(calls) // 2
        parts = (slice(None, half), slice(half, None))
        return [r for p in parts for r in theirs(namespace, calls[p], aspects, argss[p])]
    for call, args, result, out in zip(calls, argss, results, outs, strict=True):
        for aspect, arrays in out.items():
            result[aspect].arrays = arrays
        if not call.traced:
            result["value"] = see(
                library, namespace, call, "value", list(map(jax.numpy.asarray, args))
            )
    return results


def ours(
    namespace: str,
    calls: Sequence[Call],
    aspects: Sequence[Sequence[str]],
    argss: Sequence[Sequence[Any]],
    backend: str,
) -> list[dict[str, Seen]]:
    """What this library gives for some calls, and for each some aspects.

    Eagerly for backend "", else jitted, all in one program.
    """
    library = peer("funcdl")
    results: list[dict[str, Seen]] = []

    def program(argss: Any) -> Any:
        results.clear()
        for call, chosen, args in zip(calls, aspects, argss, strict=True):
            results.append({a: see(library, namespace, call, a, args) for a in chosen})
        return [{a: seen.arrays for a, seen in result.items()} for result in results]

    if not backend:
        program([[fd.numpy.asarray(x) for x in args] for args in argss])
        return results
    try:
        with fd.config.override(backend=backend):
            outs = fd.jit(program)([list(args) for args in argss])
    except REFUSALS as error:
        # Some refusals come when the program is compiled, and are one call's and one aspect's own.
        if len(calls) > 1:
            half = len(calls) // 2
            parts = (slice(None, half), slice(half, None))
            return [
                r for p in parts for r in ours(namespace, calls[p], aspects[p], argss[p], backend)
            ]
        if len(aspects[0]) == 1:
            return [{aspects[0][0]: Seen(error=error)}]
        alone = [ours(namespace, calls, [[aspect]], argss, backend)[0] for aspect in aspects[0]]
        return [{aspect: seen for one in alone for aspect, seen in one.items()}]
    for result, out in zip(results, outs, strict=True):
        for aspect, arrays in out.items():
            result[aspect].arrays = arrays
    return results


def described(seen: Seen) -> str:
    if seen.error is not None:
        return f"{type(seen.error).__name__}: {str(seen.error).splitlines()[0][:150]}"
    return f"{[getattr(x, 'aval', x) for x in seen.arrays]} {seen.others}"


def plain(peer: Peer, x: Any) -> np.ndarray[Any, Any]:
    if is_key(x):
        x = peer.modules["random"].key_data(x)
    return np.asarray(x)


def difference(found: Seen, wanted: Seen, aspect: str, factor: float) -> tuple[str, str] | None:
    """What differs (a word) and how, or None."""
    if found.error is not None or wanted.error is not None:
        if found.error is not None and wanted.error is not None:
            return None
        word = "refused" if found.error is not None else "accepted"
        return word, f"{described(found)}, in JAX {described(wanted)}"
    if [*map(str, found.others)] != [*map(str, wanted.others)]:
        return "value", f"{found.others}, in JAX {wanted.others}"
    if len(found.arrays) != len(wanted.arrays):
        return "shape", f"{len(found.arrays)} arrays, in JAX {len(wanted.arrays)}"
    for x, y in zip(found.arrays, wanted.arrays, strict=True):
        a, b = plain(peer("funcdl"), x), plain(peer("jax"), y)
        if a.shape != b.shape:
            return "shape", f"{a.shape}, in JAX {b.shape}"
        if a.dtype != b.dtype:
            return "dtype", f"{a.dtype}, in JAX {b.dtype}"
        weak = [bool(getattr(v, "weak_type", False)) for v in (x, y)]
        if aspect == "value" and weak[0] != weak[1]:
            return "weak", f"{a.dtype} weak: {weak[0]}, in JAX {weak[1]}"
        if message := unequal(a, b, factor):
            return "value", message
    return None


def unequal(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], factor: float) -> str | None:
    if a.dtype == dtypes.float0:
        return None
    exact = not dtypes.is_inexact(a.dtype)
    if exact:
        return None if np.array_equal(a, b) else f"{a.ravel()[:6]}, in JAX {b.ravel()[:6]}"
    tolerance = factor * TOLERANCE[dtypes.short_name(dtypes.real_dtype(a.dtype))]
    x, y = a.astype(np.complex128), b.astype(np.complex128)
    scale = max(1.0, float(np.abs(y[np.isfinite(y)]).max(initial=0.0)))
    close = np.isclose(x, y, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    if close.all():
        return None
    i = tuple(np.argwhere(~close)[0])
    return f"{a[i]} at {i}, in JAX {b[i]} ({(~close).sum()} of {close.size})"


@dataclass
class Report:
    """Differences that are not known, and the patterns of those that are."""

    unknown: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)


def runs(calls: Sequence[Call], modes: Modes) -> Iterator[tuple[str, Aspects, list[int]]]:
    """Which calls are made at once: back end, what is compared, places among the calls."""
    traced = [i for i, call in enumerate(calls) if call.traced]
    for backend, some in modes.items():
        for start in range(0, len(traced), TOGETHER):
            yield backend, some, traced[start : start + TOGETHER]
    if len(traced) < len(calls):
        yield "", ALL, [i for i, call in enumerate(calls) if not call.traced]


def compare(
    namespace: str,
    calls: Sequence[Call],
    *,
    modes: Modes = EAGERLY,
    kind: str = "f32",
    sizes: Sizes = USUAL,
) -> Report:
    """Compare calls with JAX.

    Args:
      modes: for each back end what is compared: ``value``, ``jvp``, ``vjp``, ``vmap``.
      kind: the short name of the dtype under test.
    """
    report = Report()
    aspects = tuple(a for a in ALL if any(a in some for some in modes.values()))
    with types(kind), np.errstate(all="ignore"):
        argss = [call.operands(kind, sizes) for call in calls]
        wanted = theirs(namespace, calls, aspects, argss)
        for backend, some, at in runs(calls, modes):
            chosen = [[aspect for aspect in wanted[i] if aspect in some] for i in at]
            found = ours(namespace, [calls[i] for i in at], chosen, [argss[i] for i in at], backend)
            for i, result in zip(at, found, strict=True):
                name = f"{namespace}.{calls[i].name}"
                factor = TOLERANCES.get(name, 1.0)
                for aspect, seen in result.items():
                    how = difference(seen, wanted[i][aspect], aspect, factor)
                    if how is None:
                        continue
                    where = f"{name} {kind} {aspect} {how[0]}"
                    matching = [p for p in KNOWN if fnmatch.fnmatchcase(where, p)]
                    report.used.update(matching)
                    if not matching:
                        report.unknown.append(
                            f"{where}: {calls[i].text} {dict(sizes)} {backend}: {how[1]}"
                        )
    return report
