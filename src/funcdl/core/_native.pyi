"""The compiled extension of `funcdl.core.dispatch`, built from the C files in ``native/``."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

INTERFACE: int

def setup(
    array_type: type[Any],
    context: Any,
    eval_trace: Any,
    trace_type: type[Any],
    classify: Callable[[type[Any]], Any],
    errors_variable: Any,
    ignoring_errors: Any,
    primitive_type: type[Any],
    all_weak: Callable[..., bool],
    never_weak: Callable[..., bool],
) -> None: ...
def set_mode(mode: Any) -> None: ...
def forget_nodes() -> None: ...

class Binder:
    __wrapped__: Callable[..., Any]
    def __init__(self, method: Callable[..., Any]) -> None: ...
    def __call__(self, primitive: Any, /, *operands: Any, **params: Any) -> Any: ...

class Operator:
    __wrapped__: Callable[..., Any]
    def __init__(
        self,
        ufunc: np.ufunc,
        method: Callable[..., Any],
        num_operands: int,
        kinds: str,
        yields_bools: bool,
        is_reflected: bool = False,
    ) -> None: ...
    def __call__(self, *operands: Any) -> Any: ...

class Pool:
    max_cached_bytes: int
    def __init__(self, max_cached_bytes: int) -> None: ...
    def empty(self, nbytes: int) -> npt.NDArray[np.uint8]: ...
    def empty_array(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]: ...
    def clear(self) -> None: ...
    def counters(self) -> tuple[int, ...]: ...
    def reset_peak(self) -> None: ...

class Program:
    def __init__(
        self,
        function: int,
        in_avals: tuple[Any, ...],
        donated: tuple[bool, ...],
        consts: tuple[npt.NDArray[Any], ...],
        outputs: tuple[tuple[Sequence[int], np.dtype[Any], int], ...],
        results: tuple[int | npt.NDArray[Any], ...],
        out_avals: tuple[Any, ...],
        pool: Any,
        arena_bytes: int,
        template: Any,
        unflatten: Callable[[Any], Any] | None,
        words: npt.NDArray[np.int64],
        fail: Callable[[int, int], object],
    ) -> None: ...

class Table:
    hits: int
    def __init__(self, positions: frozenset[int], names: frozenset[str]) -> None: ...
    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any: ...
    def learn(self, args: tuple[Any, ...], kwargs: dict[str, Any], program: Program, /) -> bool: ...
    def clear(self) -> None: ...
    def __len__(self) -> int: ...
