"""What a custom derivative is: a function with its rule, both of flat arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core.records import record

Values = Sequence[Any]
FlatFun = Callable[..., list[Any]]


@record
class CustomCall:
    """A function of flat arguments with a derivative rule of its own.

    Its first `num_captured` operands are values that the functions close over, in their order the
    first parameter of all rules; a `Differentiated` stands for one that must not be used.

    `owner` is what the user has defined, by which calls of the same function are recognised.

    * ``fun(*captured, *args)`` returns the outputs.
    * `kind` ``"jvp"``: ``rule(captured, primals, tangents)`` returns outputs and their tangents.
    * `kind` ``"vjp"``: ``rule(captured, primals, nonzero)`` returns outputs and residuals, given
      which arguments have tangents; ``pullback(captured, residuals, cotangents)`` a cotangent for
      each argument.

    Tangents and cotangents given to rules are arrays, unless `symbolic_zeros`; those that rules
    return may be `Zero`.
    """

    name: str
    kind: str
    fun: FlatFun
    rule: Callable[..., tuple[list[Any], list[Any]]]
    pullback: Callable[[Values, Values, Values], list[Any]] | None = None
    num_captured: int = 0
    symbolic_zeros: bool = False
    owner: object = None

    def __str__(self) -> str:
        return self.name
