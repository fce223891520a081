"""Context managers for looking into programs; each sets a flag of `config` for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from funcdl.config import config
from funcdl.core.source import place
from funcdl.errors import ArgumentError


def disable_jit(disable: bool = True) -> AbstractContextManager[Any]:
    """Run jitted functions as plain Python, so that every value can be seen (`jax.disable_jit`).

    So do control flow functions (scan, cond, while_loop and their like): loops are run by Python,
    where their conditions have values, that is not under vmap.
    """
    return config.override(disable_jit=disable)


def debug_nans(enable: bool = True) -> AbstractContextManager[Any]:
    """Raise `NonFiniteError`, a FloatingPointError, where the first NaN is made (`jax.debug_nans`).

    The message names the primitive, its equation, its operands and the user's line. Jitted
    programs whose results have a NaN are run again, equation by equation, to find it; a NaN that
    reaches no result is not seen. Meanwhile donated arguments are not reused.
    """
    return config.override(debug_nans=enable)


def debug_infs(enable: bool = True) -> AbstractContextManager[Any]:
    """Like `debug_nans`, for infinities (`jax.debug_infs`).

    A context manager; `enable` is a bool.
    """
    return config.override(debug_infs=enable)


def debug_key_reuse(enable: bool = True) -> AbstractContextManager[Any]:
    """Raise `KeyReuseError` where a random key is used a second time (`jax.debug_key_reuse`).

    Drawing from a key and splitting it use it up. The message shows the lines of both uses, those
    inside of jitted functions and loops too: programs that use keys run on the reference evaluator
    meanwhile, which is slow. `random.clone` allows one more use, as does making the key anew, by
    `random.key`, `split`, `fold_in` or `wrap_key_data`. Under vmap, branches and steps of loops
    that an element does not take count as well. Setting the flag forgets all compiled programs.
    """
    return config.override(debug_key_reuse=enable)


def log_compiles(enable: bool = True) -> AbstractContextManager[Any]:
    """Log every trace and compilation with its argument types (`jax.log_compiles`).

    Messages go to the logger ``funcdl`` as warnings.

    A context manager; `enable` is a bool.
    """
    return config.override(log_compiles=enable)


def explain_cache_misses(enable: bool = True) -> AbstractContextManager[Any]:
    """Log why jitted functions are traced again (`jax.explain_cache_misses`)."""
    return config.override(explain_cache_misses=enable)


def checking_leaks() -> AbstractContextManager[Any]:
    """Raise `LeakedTracerError` where a traced value outlives its trace (`jax.checking_leaks`).

    The check searches the whole heap after every trace, and so is slow.

    A context manager.
    """
    return config.override(check_tracer_leaks=True)


@contextmanager
def named_scope(name: str) -> Iterator[None]:
    """Add a name to the source lines of the equations traced meanwhile (`jax.named_scope`).

    Also a decorator. Scopes nest: ``encoder/attention``.

    Raises:
      ArgumentError: `name` is no string, or empty.
    """
    given: Any = name
    if not isinstance(given, str) or not given:
        raise ArgumentError(f"named_scope requires a string that is not empty, got {given!r}")
    outer = place.scope
    place.scope = f"{outer}/{name}" if outer else name
    try:
        yield
    finally:
        place.scope = outer
