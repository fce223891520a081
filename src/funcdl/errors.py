"""One exception class for each kind of user mistake.

Each class also derives from the built-in exception that Python users expect, so that ``except
TypeError`` keeps working.
"""

from __future__ import annotations

import sys


class FuncdlError(Exception):
    """Base class of all errors that a user's program can cause."""

    @property
    def reason(self) -> str:
        """The message, without the name that `OperandError` gives it."""
        return str(self)


class OperandError(FuncdlError):
    """Base class of errors in what a function was given.

    A message that names another function than the user called, because that one is made of others,
    gets the name of the user's in its place: ``hstack: shapes must be ...``, of `concatenate`.
    """

    def __init__(self, *args: object) -> None:
        """As of any exception; the first argument is the message."""
        self._reason = str(args[0]) if args else ""
        if args and isinstance(args[0], str):
            from funcdl.called import named

            args = (named(args[0], sys._getframe(1)), *args[1:])
        super().__init__(*args)

    @property
    def reason(self) -> str:
        """The message as it was made."""
        return self._reason


class ShapeError(OperandError, TypeError, ValueError):
    """Operands whose shapes do not fit the operation (NumPy raises the one, JAX either)."""


class DtypeError(OperandError, TypeError):
    """Operands whose element types do not fit the operation."""


class ArgumentError(OperandError, ValueError):
    """An argument with a value that the function does not take."""


class IndexingError(OperandError, IndexError):
    """An index outside of its dimension, or one that does not fit the dimensions."""


class IntegerRangeError(OperandError, OverflowError):
    """A Python integer that the wanted dtype cannot hold."""


class UnhashableArrayError(OperandError, TypeError):
    """An array used as a dict key, a member of a set or a static argument."""


class AxisNameError(FuncdlError, NameError):
    """A collective over an axis whose name is not in scope."""


class LeafTypeError(OperandError, TypeError):
    """A pytree leaf that is no array and cannot become one."""


class TreeError(FuncdlError, ValueError):
    """Pytrees whose structures should match and do not."""


class ConcretizationError(FuncdlError, TypeError):
    """A concrete value asked of a traced one (``int(x)``, ``range(x)``, a static argument)."""


class TracerBoolError(ConcretizationError):
    """A truth value asked of a traced array (``if x > 0:`` under `jit`)."""


class TracerArrayError(ConcretizationError):
    """A NumPy array asked of a traced one (``np.sin(x)`` under `jit`)."""


class LeakedTracerError(FuncdlError, RuntimeError):
    """A traced value used after the transform that made it had ended."""


class NotDifferentiableError(FuncdlError, TypeError):
    """A derivative asked where there is none."""


class StaticArgumentError(FuncdlError, ValueError):
    """A static argument that cannot be hashed."""


class NonFiniteError(FuncdlError, FloatingPointError):
    """A NaN or an infinity, while ``config.debug_nans`` or ``debug_infs`` looks for them."""


class KeyReuseError(FuncdlError, RuntimeError):
    """A random key used twice, while ``config.debug_key_reuse`` looks for that."""


class ImmutableArrayError(FuncdlError, TypeError):
    """Item assignment on an array."""


class DeletedArrayError(FuncdlError, RuntimeError):
    """An array used after its memory was donated or deleted."""


class DeviceError(FuncdlError, RuntimeError):
    """A device that cannot be used: no driver, no GPU, or code that does not run on it."""


class DeviceMemoryError(FuncdlError, MemoryError):
    """More memory asked of a device than it has, or than may be used."""


class WorkingMemoryError(FuncdlError, MemoryError):
    """A kernel that asked for more memory while it ran than there was; its program ended there."""


class CudaError(FuncdlError, RuntimeError):
    """A call of the CUDA driver that failed."""


class DistributedError(FuncdlError, RuntimeError):
    """Processes that do not fit together, or the use of a group of them that there is not."""


class PeerError(DistributedError):
    """Another process of the group that ended, failed, or broke its connection."""


class DistributedTimeoutError(DistributedError, TimeoutError):
    """Another process of the group that lets this one wait for too long."""


class MissingRuleError(FuncdlError, NotImplementedError):
    """A primitive without the rule that a transform needs."""


class JaxprTypeError(FuncdlError, TypeError):
    """A jaxpr that breaks a typing rule; always a bug of the code that built it."""


class CompilerWarning(UserWarning):
    """The C back end cannot be used, and the reference back end serves instead."""
