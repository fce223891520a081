"""Every flag of the library, declared once.

A flag is read from the environment variable ``FUNCDL_<NAME>`` when this module is imported, and
can be assigned later: ``config.x64 = "on"``. Reading a flag is a plain slot read, since hot paths
do it on every call. Flags are global to the process, not to a thread.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

__all__ = ["Config", "Flag", "config"]

X64Mode = Literal["explicit", "off", "on"]
BackendName = Literal["auto", "cpu", "gpu", "reference"]
MatmulPrecision = Literal["ieee", "tf32", "tf32x3"]
DispatchName = Literal["auto", "python"]
AutotuneMode = Literal["0", "1", "exhaustive"]

# Precisions by the names of JAX's flag, and what each lets a GPU round float32 factors to: nothing,
# the 10 bits of tensor cores, or the sum of two such numbers.
_ROUNDINGS: dict[str, MatmulPrecision] = {
    "default": "ieee",
    "highest": "ieee",
    "float32": "ieee",
    "high": "tf32x3",
    "bfloat16_3x": "tf32x3",
    "tensorfloat32": "tf32",
    "bfloat16": "tf32",
    "fastest": "tf32",
}


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        raise ValueError

    return parse


_BOOL_WORDS = {"1": True, "true": True, "on": True, "yes": True}
_BOOL_WORDS |= {"0": False, "false": False, "off": False, "no": False}


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in _BOOL_WORDS:
        return _BOOL_WORDS[value.lower()]
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    raise ValueError


def _autotune(value: Any) -> str:
    text = str(int(value)) if isinstance(value, (bool, int)) else value
    return _one_of("0", "1", "exhaustive")(text)


# More than any machine has cores. Starting 100 000 threads takes half a minute.
_MAX_THREADS = 4096


def _thread_count(value: Any) -> int:
    if not isinstance(value, bool) and isinstance(value, (int, str)):
        number = int(value)
        if 0 <= number <= _MAX_THREADS:
            return number
    raise ValueError


def _fraction(value: Any) -> float:
    if not isinstance(value, bool) and isinstance(value, (int, float, str)):
        number = float(value)
        if 0 < number <= 1:
            return number
    raise ValueError


def _seconds(value: Any) -> float:
    if not isinstance(value, bool) and isinstance(value, (int, float, str)):
        number = float(value)
        if 0 <= number < math.inf:
            return number
    raise ValueError


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _path(value: Any) -> str:
    return _text(os.fspath(value) if isinstance(value, os.PathLike) else value)


class Flag(NamedTuple):
    """One row of the table: ``parse`` returns the stored value or raises ``ValueError``."""

    name: str
    default: Any
    parse: Callable[[Any], Any]
    allowed: str
    help: str

    @property
    def variable(self) -> str:
        """The environment variable that holds the initial value."""
        return f"FUNCDL_{self.name.upper()}"


def _flag(
    name: str, default: Any, parse: Callable[[Any], Any], allowed: str, help: str
) -> tuple[str, Flag]:
    return name, Flag(name, default, parse, allowed, help)


FLAGS: dict[str, Flag] = dict(
    [
        _flag(
            "x64",
            "explicit",
            _one_of("explicit", "off", "on"),
            "'explicit', 'off' or 'on'",
            "64-bit types: only where asked for, never, or as the default",
        ),
        _flag(
            "backend",
            "auto",
            _one_of("auto", "cpu", "gpu", "reference"),
            "'auto', 'cpu', 'gpu' or 'reference'",
            "which back end runs jitted functions",
        ),
        _flag("check", False, _boolean, "True or False", "re-check the IR between passes"),
        _flag("dump", "", _path, "a folder or ''", "write the text of every compiler stage here"),
        _flag("cc", "", _text, "a command or ''", "C compiler; '' tries gcc, clang, cc"),
        _flag(
            "cache_dir",
            "",
            _path,
            "a folder or ''",
            "compiled code; '' is funcdl/ in $XDG_CACHE_HOME or ~/.cache",
        ),
        _flag(
            "gpu_mem_fraction",
            0.9,
            _fraction,
            "a number above 0, at most 1",
            "how much of a GPU's memory may be used",
        ),
        _flag(
            "default_matmul_precision",
            "default",
            _one_of(*_ROUNDINGS),
            ", ".join(map(repr, _ROUNDINGS)),
            "how exactly a GPU multiplies float32 matrices where a call does not say",
        ),
        _flag(
            "autotune",
            "0",
            _autotune,
            "0, 1 or 'exhaustive'",
            "time schedules of GPU kernels when they are compiled, and keep the best",
        ),
        _flag(
            "num_threads",
            0,
            _thread_count,
            f"an integer from 0 to {_MAX_THREADS}",
            "CPU threads; 0 is one per core",
        ),
        _flag(
            "traceback_filtering",
            True,
            _boolean,
            "True or False",
            "hide the library's own frames in tracebacks",
        ),
        _flag(
            "compile_seconds",
            600.0,
            _seconds,
            "a number of seconds, or 0 for no limit",
            "a run of the C compiler that takes longer is ended",
        ),
        _flag("keep_source", False, _boolean, "True or False", "keep the generated source files"),
        _flag("debug_nans", False, _boolean, "True or False", "raise where the first NaN is made"),
        _flag(
            "debug_infs", False, _boolean, "True or False", "raise where the first infinity is made"
        ),
        _flag("disable_jit", False, _boolean, "True or False", "run jitted functions eagerly"),
        _flag(
            "dispatch",
            "auto",
            _one_of("auto", "python"),
            "'auto' or 'python'",
            "what serves cached calls: the compiled extension where it was built, or Python code",
        ),
        _flag("log_compiles", False, _boolean, "True or False", "log every trace and compilation"),
        _flag(
            "explain_cache_misses",
            False,
            _boolean,
            "True or False",
            "log why a jitted function is traced again",
        ),
        _flag(
            "check_tracer_leaks",
            False,
            _boolean,
            "True or False",
            "raise where a traced value outlives its trace",
        ),
        _flag(
            "debug_key_reuse",
            False,
            _boolean,
            "True or False",
            "raise where a random key is used a second time",
        ),
    ]
)


def _parse(flag: Flag, value: Any, name: str) -> Any:
    try:
        return flag.parse(value)
    except ValueError:
        raise ValueError(f"{name} must be {flag.allowed}; got {value!r}") from None


def _x64(value: Any) -> str:
    return "on" if _boolean(value) else "off"


def _platform(value: Any) -> str:
    """The back end of a device, of a platform's name, or of the first of several names."""
    if value is None or value == "":
        return "auto"
    first = str(getattr(value, "platform", value)).split(",")[0]
    return {"cuda": "gpu", "rocm": "gpu"}.get(first, first)


_FILTERING = ("auto", "tracebackhide", "remove_frames", "quiet_remove_frames")


def _filtering(value: Any) -> bool:
    return value in _FILTERING or _boolean(value)


# JAX's settings that have a counterpart: its flag, and what makes the flag's value of JAX's.
_OF_JAX: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "jax_check_tracer_leaks": ("check_tracer_leaks", _boolean),
    "jax_compilation_cache_dir": ("cache_dir", lambda value: "" if value is None else value),
    "jax_debug_infs": ("debug_infs", _boolean),
    "jax_debug_key_reuse": ("debug_key_reuse", _boolean),
    "jax_debug_nans": ("debug_nans", _boolean),
    "jax_default_device": ("backend", _platform),
    "jax_default_matmul_precision": (
        "default_matmul_precision",
        lambda value: "default" if value is None else value,
    ),
    "jax_disable_jit": ("disable_jit", _boolean),
    "jax_dump_ir_to": ("dump", lambda value: "" if value is None else value),
    "jax_enable_checks": ("check", _boolean),
    "jax_enable_x64": ("x64", _x64),
    "jax_explain_cache_misses": ("explain_cache_misses", _boolean),
    "jax_log_compiles": ("log_compiles", _boolean),
    "jax_platform_name": ("backend", _platform),
    "jax_platforms": ("backend", _platform),
    "jax_traceback_filtering": ("traceback_filtering", _filtering),
}


class Config:
    """The values of all flags; see ``describe()`` for what each of them means.

    Args:
        environ: where the initial values come from, ``FUNCDL_<NAME>`` each; an empty one counts
            as unset.

    Raises:
        ValueError: a variable, or later an assigned value, is not allowed for its flag.
        AttributeError: an assignment to a name that is not a flag.
    """

    __slots__ = (*FLAGS, "_listeners")

    x64: X64Mode
    backend: BackendName
    check: bool
    dump: str
    cc: str
    cache_dir: str
    gpu_mem_fraction: float
    default_matmul_precision: str
    autotune: AutotuneMode
    num_threads: int
    traceback_filtering: bool
    compile_seconds: float
    keep_source: bool
    debug_nans: bool
    debug_infs: bool
    disable_jit: bool
    dispatch: DispatchName
    log_compiles: bool
    explain_cache_misses: bool
    check_tracer_leaks: bool
    debug_key_reuse: bool
    _listeners: dict[str, list[Callable[[Any], None]]]

    def __init__(self, environ: Mapping[str, str]) -> None:
        object.__setattr__(self, "_listeners", {name: [] for name in FLAGS})
        for name, flag in FLAGS.items():
            text = environ.get(flag.variable)
            value = _parse(flag, text, flag.variable) if text else flag.default
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        new = _parse(_find(name), value, f"config.{name}")
        if new == getattr(self, name):
            return
        object.__setattr__(self, name, new)
        for listener in self._listeners[name]:
            listener(new)

    @property
    def matmul_precision(self) -> MatmulPrecision:
        """What ``default_matmul_precision`` lets a GPU round the factors of products to."""
        return _ROUNDINGS[self.default_matmul_precision]

    def on_change(self, name: str, listener: Callable[[Any], None]) -> Callable[[], None]:
        """Call ``listener(new_value)`` after each change of flag ``name``.

        Returns a function that ends the subscription. Raises ``AttributeError`` for an unknown
        flag.
        """
        listeners = self._listeners[_find(name).name]
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    @contextmanager
    def override(self, **flags: Any) -> Iterator[Config]:
        """Set flags for the length of a ``with`` block, then restore the values they had.

        All values are checked before the first one is set, so that an error changes nothing.
        """
        new = {name: _parse(_find(name), value, f"config.{name}") for name, value in flags.items()}
        old = {name: getattr(self, name) for name in new}
        try:
            for name, value in new.items():
                setattr(self, name, value)
            yield self
        finally:
            for name, value in old.items():
                setattr(self, name, value)

    def update(self, name: str, value: Any) -> None:
        """Set a flag by its name, or by that of JAX's setting that it is the counterpart of.

        So ``config.update("jax_enable_x64", True)`` sets ``x64`` to ``"on"``.

        Raises:
            AttributeError: there is no such flag or setting; the message lists those there are.
            ValueError: the value is not allowed.
        """
        if name in FLAGS:
            setattr(self, name, value)
            return
        if name not in _OF_JAX:
            close = difflib.get_close_matches(name, [*FLAGS, *_OF_JAX], n=1)
            raise AttributeError(
                f"config.update: no setting is called {name!r}"
                + (f"; did you mean {close[0]!r}?" if close else ".")
                + f"\nFlags are: {', '.join(FLAGS)}.\nOf JAX's settings: {', '.join(_OF_JAX)}."
            )
        flag, translated = _OF_JAX[name]
        try:
            new = FLAGS[flag].parse(translated(value))
        except ValueError:
            raise ValueError(
                f"config.update: {name} sets the flag {flag}, which must be {FLAGS[flag].allowed}; "
                f"got {value!r}"
            ) from None
        setattr(self, flag, new)

    def describe(self) -> str:
        """Return a text table: one line a flag, with value, variable, allowed values, meaning."""
        rows = [("flag", "value", "variable", "allowed", "meaning")]
        rows += [
            (flag.name, repr(getattr(self, flag.name)), flag.variable, flag.allowed, flag.help)
            for flag in FLAGS.values()
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={getattr(self, name)!r}' for name in FLAGS)})"


def _find(name: str) -> Flag:
    if name in FLAGS:
        return FLAGS[name]
    close = difflib.get_close_matches(name, FLAGS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"flags are: {', '.join(FLAGS)}"
    raise AttributeError(f"config has no flag {name!r}; {hint}")


config = Config(os.environ)
