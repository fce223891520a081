"""Hide the library's own frames in the traceback of an exception that nobody caught.

What remains ends at the user's line, with the message below it. `config.traceback_filtering`
(``FUNCDL_TRACEBACK_FILTERING=0``) turns it off.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, TracebackType
from typing import Any

from funcdl.config import config
from funcdl.core.source import is_internal
from funcdl.errors import FuncdlError

NOTE = "(internal frames hidden; set FUNCDL_TRACEBACK_FILTERING=0 to show them)"

# Frames of these packages are hidden as well where the library called them, and never count as
# the user's.
_HELPERS = frozenset(
    {
        "IPython",
        "cffi",
        "contextlib",
        "functools",
        "ml_dtypes",
        "numpy",
        "optree",
        "runpy",
        "threading",
    }
)


def filter_traceback(tb: TracebackType | None) -> TracebackType | None:
    """The traceback without the library's frames; as it was, where no user's frame would stay."""
    kept, has_user_frame = _without_internal(tb)
    return kept if has_user_frame else tb


def _without_internal(tb: TracebackType | None) -> tuple[TracebackType | None, bool]:
    kept: list[TracebackType] = []
    has_user_frame = hidden = False
    while tb is not None:
        helper = _is_helper(tb.tb_frame)
        hidden = is_internal(tb.tb_frame.f_code.co_filename) or (hidden and helper)
        if not hidden:
            kept.append(tb)
            has_user_frame |= not helper
        tb = tb.tb_next
    linked = None
    for entry in reversed(kept):
        linked = TracebackType(linked, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return linked, has_user_frame


def _is_helper(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__")
    return isinstance(module, str) and module.partition(".")[0] in _HELPERS


@contextmanager
def _filtered(error: BaseException | None) -> Iterator[None]:
    """Show an exception, and those that led to it, without internal frames for a while.

    Tracebacks are put back at the end, for post-mortem debuggers.
    """
    if error is None or not config.traceback_filtering:
        yield
        return
    originals = [(e, e.__traceback__) for e in _chain(error)]
    call = call_at_fault(error)
    if call is not None:
        error.add_note(call)
    _, has_user_frame = _without_internal(error.__traceback__)
    changed = False
    if has_user_frame:
        for e, tb in originals:
            # A cause that was raised and caught within the library has no user's frame: its
            # message alone is shown.
            e.__traceback__, _ = _without_internal(tb)
            changed |= _length(e.__traceback__) != _length(tb)
    if changed:
        error.add_note(NOTE)
    try:
        yield
    finally:
        for e, tb in originals:
            e.__traceback__ = tb
        if changed:
            error.__notes__.remove(NOTE)
        if call is not None:
            error.__notes__.remove(call)


def call_at_fault(error: BaseException) -> str | None:
    """For an error of Python or NumPy from within the library: the call that the user made.

    Such an error speaks of values that the user does not know of, where no check found that an
    argument is not what the function takes.
    """
    if isinstance(error, FuncdlError) or not isinstance(error, _BARE):
        return None
    from funcdl.called import is_public

    called: FrameType | None = None
    last, tb = None, error.__traceback__
    while tb is not None:
        frame, last = tb.tb_frame, tb
        if is_internal(frame.f_code.co_filename):
            called = called or frame
        elif called is not None and not _is_helper(frame):
            called = None
        tb = tb.tb_next
    # Control flow calls the user's functions, and what those raise at once is theirs.
    if last is None or called is None or _module(called).startswith("funcdl.control."):
        return None
    if not is_public(_module(called), called) or _raised_here(last):
        return None
    replaced = _replaced(called.f_code)
    given = ", ".join(
        name if name in replaced else _shown(called, name) for name in _parameters(called)
    )
    return f"This came of the arguments of {called.f_code.co_name}({given})"


_BARE = (TypeError, ValueError, AttributeError, LookupError, OverflowError)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _raised_here(tb: TracebackType) -> bool:
    """Whether an error is one that a statement of the library's raises, in its own words."""
    import opcode

    code = tb.tb_frame.f_code
    is_raise = code.co_code[tb.tb_lasti] == opcode.opmap["RAISE_VARARGS"]
    return is_raise and is_internal(code.co_filename)


def _parameters(frame: FrameType) -> list[str]:
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    return [name for name in code.co_varnames[:count] if name != "self"]


def _replaced(code: CodeType) -> set[str]:
    """Names that a function assigns to: what it was given for them is gone."""
    import dis

    stores = (i.argval for i in dis.get_instructions(code) if i.opname.startswith("STORE_FAST"))
    return {name for names in stores for name in ([names] if isinstance(names, str) else names)}


def _shown(frame: FrameType, name: str) -> str:
    value = frame.f_locals.get(name)
    aval = getattr(value, "aval", None)
    if aval is not None:
        return f"{name}: {aval}"
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return f"{name}={text if len(text) <= 60 else text[:59] + '…'}"


def _chain(error: BaseException) -> list[BaseException]:
    found: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        e = waiting.pop()
        if e is None or id(e) in found:
            continue
        found[id(e)] = e
        waiting += [e.__cause__, e.__context__]
        if isinstance(e, BaseExceptionGroup):
            waiting += e.exceptions
    return list(found.values())


def _length(tb: TracebackType | None) -> int:
    length = 0
    while tb is not None:
        length += 1
        tb = tb.tb_next
    return length


_installed = False
_filtered_shell: Any = None


def install() -> None:
    """Filter what `sys.excepthook`, `threading.excepthook` and a running IPython shell show.

    The hooks that are there now are called in turn. Calling it again only adds what was not there
    before, such as a shell started since.
    """
    global _installed, _filtered_shell
    if not _installed:
        _installed = True
        sys.excepthook = _filtering_hook(sys.excepthook)
        threading.excepthook = _filtering_thread_hook(threading.excepthook)
    shell = _ipython_shell()
    if shell is not None and shell is not _filtered_shell:
        _filtered_shell = shell
        shell.showtraceback = _filtering_showtraceback(shell.showtraceback)


Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


def _filtering_hook(previous: Hook) -> Hook:
    def excepthook(
        kind: type[BaseException], error: BaseException, tb: TracebackType | None
    ) -> None:
        with _filtered(error):
            previous(kind, error, error.__traceback__)

    return excepthook


ThreadHook = Callable[[threading.ExceptHookArgs], Any]


def _filtering_thread_hook(previous: ThreadHook) -> ThreadHook:
    def excepthook(args: threading.ExceptHookArgs) -> None:
        error = args.exc_value
        with _filtered(error):
            tb = args.exc_traceback if error is None else error.__traceback__
            previous(threading.ExceptHookArgs((args.exc_type, error, tb, args.thread)))

    return excepthook


def _ipython_shell() -> Any:
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def _filtering_showtraceback(show: Callable[..., Any]) -> Callable[..., Any]:
    def showtraceback(exc_tuple: Any = None, *args: Any, **options: Any) -> Any:
        kind, error, tb = exc_tuple or sys.exc_info()
        with _filtered(error):
            if error is not None:
                tb = error.__traceback__
            return show((kind, error, tb), *args, **options)

    return showtraceback
