"""Run generated Triton source on NumPy memory, in Triton's interpreter, to debug it without a GPU.

The environment variable ``TRITON_INTERPRET`` must be 1 before Triton is first imported, which for
the rest of the process turns Triton's compiler off: use a process of its own. A program instance
takes about 3 ms. An access out of bounds corrupts the process, as on a GPU; `interpret` guards each
buffer with a margin of NaN, and says when a margin was written to.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from funcdl.kernels.triton.compile import load_function
from funcdl.kernels.triton.text import pointer_type
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir import elementwise

Array = np.ndarray[Any, np.dtype[Any]]

MARGIN = 4096
"""Bytes before and after each buffer that a kernel must leave alone."""

GUARDED = 1 << 30
"""Bytes of a buffer that is not guarded but used where it lies: it may be larger than the memory,
most of it never touched."""

# A float of such bytes is NaN and an integer -1, so that reads out of bounds show in the result.
_CANARY = 0xFF

# Library functions whose primitive has another name; the others share theirs.
_PRIMITIVES = {
    "div_rn": "div",
    "erfinv": "erf_inv",
    "fmod": "rem",
    "popc": "population_count",
    "nearbyint": "round_even",
    "rint": "round_even",
    "llrint": "round_even",
    "round": "round_away",
}


def interpret(kernel: TritonKernel, arrays: Mapping[str, Array]) -> None:
    """Run every program of `kernel` on `arrays`, which it reads and writes in place.

    Args:
        arrays: a C-contiguous array for each buffer, by the buffer's name; one may be several.

    Raises:
        RuntimeError: Triton was imported as a compiler; or the kernel wrote out of bounds.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("set TRITON_INTERPRET=1 before Triton is first imported")
    _patch()

    guarded: dict[tuple[int, int], tuple[str, Array, Array]] = {}
    arguments = []
    for parameter, type in kernel.signature.items():
        array = arrays[parameter.removesuffix("_ptr")]
        if pointer_type(array.dtype) != type:
            raise ValueError(f"{parameter} is {type} in {kernel.name}, got {array.dtype.name}")
        if array.nbytes >= GUARDED:
            arguments.append(_pointer(array.ctypes.data, type))
            continue
        place = array.ctypes.data, array.nbytes
        if place not in guarded:
            content = array.reshape(-1).view(np.uint8)
            memory = np.full(array.nbytes + 2 * MARGIN, _CANARY, np.uint8)
            memory[MARGIN : MARGIN + array.nbytes] = content
            guarded[place] = parameter, content, memory
        *_, memory = guarded[place]
        arguments.append(_pointer(memory.ctypes.data + MARGIN, type))
    function: Any = load_function(kernel)
    function.fn.__globals__["libdevice"] = _Library()
    if all(kernel.grid):
        with np.errstate(all="ignore"):
            function[kernel.grid](*arguments)
    for parameter, content, memory in guarded.values():
        if (memory[:MARGIN] != _CANARY).any() or (memory[-MARGIN:] != _CANARY).any():
            raise RuntimeError(f"kernel {kernel.name} wrote out of bounds of {parameter}")
        content[:] = memory[MARGIN:-MARGIN]


def _pointer(address: int, type: str) -> Any:
    """An argument that points to memory."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    pointer = tl.pointer_type(tl.str_to_ty(type, None).element_ty)
    return tl.tensor(TensorHandle(np.array([address], np.uint64), pointer), pointer)


@cache
def _patch() -> None:
    """Correct and complete Triton's interpreter.

    It keeps bfloat16 as bits and multiplies those as integers, truncates where hardware rounds,
    repeats a scalar truth value as an integer, and runs a reduction by a function that it does not
    know in Python, one element at a time. Triton 3.6's inverts no unsigned integers with NumPy 2.
    """
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    builder.cast_impl = _cast(interpreter)
    builder.create_fp_to_fp = lambda self, src, dst, rounding: self.cast_impl(src, dst)
    builder.create_dot = _dot(interpreter)
    builder.create_splat = _splat(interpreter)
    builder.get_all_ones_value = _all_ones(interpreter)
    interpreter.ReduceOps.generic_reduce = _reduce(interpreter.ReduceOps.generic_reduce)
    interpreter.ScanOps.generic_scan = _scan(interpreter.ScanOps.generic_scan)
    interpreter._patch_lang = _patch_lang(interpreter._patch_lang)


def _patch_lang(patch: Callable[..., Any]) -> Callable[..., Any]:
    """Index by a one-element tensor, which NumPy 2.4 allows for arrays without axes only."""

    def patched(fn: Callable[..., Any]) -> Any:
        import triton.language as tl

        scope = patch(fn)
        tl.tensor.__index__ = lambda self: int(self.handle.data.item())
        return scope

    return patched


def _values(handle: Any) -> Array:
    """A block's numbers, where the interpreter may hold bits."""
    data: Array = handle.data
    return data.view(ml_dtypes.bfloat16) if handle.dtype.scalar.name == "bf16" else data


def _cast(interpreter: Any) -> Callable[..., Any]:
    def cast_impl(self: Any, src: Any, dst_type: Any) -> Any:
        target = dst_type.scalar
        if target.name == "bf16":
            data = _values(src).astype(ml_dtypes.bfloat16).view(np.uint16)
        else:
            data = _values(src).astype(interpreter._get_np_dtype(target))
        return interpreter.TensorHandle(data, target)

    return cast_impl


def _dot(interpreter: Any) -> Callable[..., Any]:
    def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, imprecise: Any) -> Any:
        wide = d.data.dtype
        product = np.matmul(_values(a).astype(wide), _values(b).astype(wide))
        return interpreter.TensorHandle(product + d.data, d.dtype.scalar)

    return create_dot


def _splat(interpreter: Any) -> Callable[..., Any]:
    def create_splat(self: Any, type: Any, arg: Any) -> Any:
        data = np.full(type.shape, arg.data.reshape(-1)[0], arg.data.dtype)
        return interpreter.TensorHandle(data, arg.dtype.scalar)

    return create_splat


def _all_ones(interpreter: Any) -> Callable[..., Any]:
    def get_all_ones_value(self: Any, type: Any) -> Any:
        zero = np.zeros(1, interpreter._get_np_dtype(type))
        return interpreter.TensorHandle(~zero, type.scalar)

    return get_all_ones_value


class _Library:
    """Stands in for libdevice: each function as the NumPy meaning of the primitive of its name."""

    def __getattr__(self, function: str) -> Callable[..., Any]:
        name = _PRIMITIVES.get(function, function)
        if function == "tgamma":
            return self._calling(np.vectorize(math.gamma, otypes=[np.float64]))
        if name not in elementwise.names():
            raise NotImplementedError(f"no primitive says what libdevice.{function} means")

        return self._calling(elementwise.lookup(name).numpy)

    def _calling(self, meaning: Callable[..., Array]) -> Callable[..., Any]:
        import triton.language as tl
        from triton.runtime.interpreter import TensorHandle

        def call(*args: Any) -> Any:
            dtype = args[0].dtype
            data = meaning(*(arg.handle.data for arg in args))
            shape = np.broadcast_shapes(*(tuple(map(int, arg.shape)) for arg in args))
            type = tl.block_type(dtype, list(shape)) if shape else dtype
            return tl.tensor(TensorHandle(data.astype(args[0].handle.data.dtype), dtype), type)

        return call


def _scan(generic: Callable[..., Any]) -> Callable[..., Any]:
    """The renderer's combining functions as whole-array NumPy accumulations."""
    whole: dict[str, np.ufunc] = {
        "combine_sum": np.add,
        "combine_prod": np.multiply,
        "combine_max": np.maximum,
        "combine_min": np.minimum,
        "combine_logsumexp": np.logaddexp,
    }

    def scan(self: Any, input: Any) -> Any:
        function = whole.get(getattr(self.combine_fn, "__name__", ""))
        if function is None:
            return generic(self, input)
        data = input[0].handle.data
        return [self.to_tensor(function.accumulate(data, self.axis, data.dtype), input[0].dtype)]

    return scan


def _reduce(generic: Callable[..., Any]) -> Callable[..., Any]:
    """The renderer's combining functions as whole-array NumPy reductions."""
    whole: dict[str, Callable[..., Any]] = {
        "combine_sum": np.add.reduce,
        "combine_logsumexp": np.logaddexp.reduce,
        "combine_prod": np.multiply.reduce,
        "combine_max": np.maximum.reduce,
        "combine_min": np.minimum.reduce,
        "combine_and": np.bitwise_and.reduce,
        "combine_or": np.bitwise_or.reduce,
    }

    def reduce(self: Any, input: Any) -> Any:
        combine = getattr(self.combine_fn, "__name__", "")
        if combine in ("combine_argmax", "combine_argmin"):
            values, at = (x.handle.data for x in input)
            best = (np.maximum if combine == "combine_argmax" else np.minimum).reduce(
                values, axis=self.axis, keepdims=True
            )
            equal = (values == best) | ((values != values) & (best != best))
            last = np.iinfo(at.dtype).max
            first = np.where(equal, at, last).min(axis=self.axis, keepdims=self.keep_dims)
            best = best if self.keep_dims else best.squeeze(self.axis)
            return [self.to_tensor(x, i.dtype) for x, i in zip((best, first), input, strict=True)]
        function = whole.get(combine)
        if function is None:
            return generic(self, input)
        block = input[0]
        data = function(block.handle.data, axis=self.axis, keepdims=self.keep_dims)
        return [self.to_tensor(data, block.dtype)]

    return reduce
