"""Calls of kernels that take working memory, made where memory is refused (`refuse_memory.c`).

Run as a program, with that library before all others, it prints JSON: for each case the C text of
its program, the errors of its calls, and whether those after them were right.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn
from funcdl.runtime import cpu_memory

NDArray = np.ndarray[Any, Any]

# Everything from this size on that is asked for is refused; what is smaller comes from NumPy.
LEAST_BYTES = cpu_memory.SMALL_BYTES


def normal(*shape: int) -> NDArray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def conv(x: Any, k: Any) -> Any:
    return lax.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def attention(query: Any, key: Any) -> Any:
    return nn.dot_product_attention(query, key, key)


def product(x: Any, y: Any) -> Any:
    return nn.relu(x @ y.T + 1)


def in_scan(x: Any, y: Any) -> Any:
    return lax.scan(lambda h, _: (product(h, y) * 0.01, h.sum()), x, None, 4)


def in_condition(x: Any, y: Any) -> Any:
    return lax.while_loop(
        lambda c: (product(c[0], y).sum() > -1) & (c[1] < 3), lambda c: (c[0] * 2, c[1] + 1), (x, 0)
    )


def in_branch(x: Any, y: Any) -> Any:
    return lax.cond(x[0, 0] > -100, lambda: product(x, y), lambda: fnp.zeros((len(x), len(y))))


def eigenvalues_of_all(xs: Any) -> Any:
    return lax.scan(lambda c, x: (c + 1, fnp.linalg.eigh(x + x.T + c)), 0.0, xs)[1]


SQUARE = normal(260, 260), normal(260, 260)
IMAGE = normal(1, 6, 6, 128), normal(3, 3, 128, 128)
TILES = normal(2, 10, 8, 64), normal(3, 3, 64, 72)
LARGE = normal(800, 800)  # from the pool's huge pages, of which Python code has a twin
QUERIES = normal(1, 70, 2, 16), normal(1, 4000, 2, 16)
CASES: dict[str, tuple[Callable[..., Any], tuple[NDArray, ...]]] = {
    "product": (product, SQUARE),
    "shared product": (product, (LARGE, LARGE)),
    "long product": (product, (normal(70, 3000), normal(40, 3000))),
    "products of a batch": (lambda x, y: x @ y.swapaxes(1, 2),
                            (normal(9, 40, 260), normal(9, 260, 260))),
    "convolution": (conv, IMAGE),
    "gradients of a convolution": (fd.grad(lambda x, k: (conv(x, k) ** 2).sum(), (0, 1)), IMAGE),
    "convolution in tiles": (conv, TILES),
    "gradients of a convolution in tiles": (
        fd.grad(lambda x, k: (conv(x, k) ** 2).sum(), (0, 1)), TILES),
    "singular values": (lambda x: fnp.linalg.svd(x, compute_uv=False), (normal(5, 70, 70),)),
    "eigenvalues in a loop": (eigenvalues_of_all, (normal(3, 66, 66),)),
    "sort": (lambda x: (fnp.sort(x), fnp.argsort(-x)), (normal(4, 5001),)),
    "sort by two keys": (lambda x, y: fnp.lexsort((x, y)), (normal(9001), normal(9001).round(1))),
    "attention": (attention, QUERIES),
    "attention in half precision": (lambda x, y: attention(*(a.astype("bfloat16") for a in (x, y))),
                                    QUERIES),
    "gradients of attention": (fd.grad(lambda x, y: attention(x, y).sum(), (0, 1)), QUERIES),
    "scan": (in_scan, SQUARE),
    "condition of a loop": (in_condition, SQUARE),
    "branch": (in_branch, SQUARE),
}  # fmt: skip


@contextmanager
def refusing(passed: int) -> Iterator[None]:
    """Refuse all memory after so many requests; what the pool kept is not there either."""
    refuse_memory = ctypes.CDLL(None).refuse_memory
    cpu_memory.pool.clear()
    refuse_memory(ctypes.c_long(passed), ctypes.c_long(1 << 40), ctypes.c_size_t(LEAST_BYTES))
    try:
        yield
    finally:
        refuse_memory(ctypes.c_long(0), ctypes.c_long(0), ctypes.c_size_t(-1))


def numbers(tree: Any) -> list[NDArray]:
    return [np.array(x) for x in fd.tree.leaves(tree)]


def same(left: list[NDArray], right: list[NDArray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(left, right, strict=True))


def errors_of(call: Callable[[], Any]) -> tuple[list[str], bool]:
    """The errors where ever later requests are refused, and whether all else is right."""
    want, used = numbers(call()), cpu_memory.stats().used_bytes
    errors: list[str] = []
    right, passed = True, 0
    while passed < 10_000:
        try:
            with refusing(passed):
                got = numbers(call())
        except MemoryError as error:
            errors.append(f"{type(error).__name__}: {error}")
            right &= same(numbers(call()), want)
            passed += 1 + passed // 8
        else:
            return errors, right and same(got, want) and cpu_memory.stats().used_bytes == used
    return errors, False


def states_of_donated() -> dict[str, list[str]]:
    """What becomes of a donated argument, by how calls are made and by what they miss: a result,
    a kernel's memory, nothing."""

    def function(w: Any, x: Any) -> Any:
        return w * 2, product(x, x)

    jitted = fd.jit(function, donate_argnums=0)
    w = x = LARGE
    jitted(fnp.array(w), x)
    calls = {"jitted": jitted, "compiled": jitted.lower(w, x).compile()}
    states: dict[str, list[str]] = {}
    for name, call in calls.items():
        states[name] = []
        for passed in (0, 1, 1000):
            donated = fnp.array(w)
            try:
                with refusing(passed):
                    call(donated, x)
            except MemoryError as error:
                state = type(error).__name__
            else:
                state = "done"
            if donated.is_deleted():
                state += ", deleted"
            elif not np.array_equal(donated, w):
                state += ", overwritten"
            states[name].append(state)
    return states


def profiled_error() -> str:
    """The error of a call while a profile is taken."""
    jitted = fd.jit(product)
    with fd.profile():
        jitted(LARGE, LARGE)
        try:
            with refusing(1):
                jitted(LARGE, LARGE)
        except MemoryError as error:
            return f"{type(error).__name__}: {error}"
    return "none"


def main() -> None:
    for name, (function, args) in CASES.items():
        jitted = fd.jit(function)
        errors, right = errors_of(lambda jitted=jitted, args=args: jitted(*args))
        text = jitted.lower(*args).as_text("c")
        print(json.dumps({"name": name, "text": text, "errors": errors, "right": right}))
    print(json.dumps({"name": "donated", "states": states_of_donated()}))
    print(json.dumps({"name": "profiled", "error": profiled_error()}))


if __name__ == "__main__":
    main()
