"""From a kernel written as a Python function to Triton source for given shapes and tiles.

Parameters annotated `Pointer` stay parameters; those annotated `Constant` become constants at the
top of the body, so that Triton decides branches on them when it compiles. So a kernel for one shape
is a text with a launch record, as those of the renderer are.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.kernels.triton import text
from funcdl.kernels.triton.triton_kernel import TritonKernel

HEADER = "import triton\nimport triton.language as tl\n\n\n"


@dataclass(frozen=True, slots=True)
class Tiles:
    """What an autotuner may choose: sides of blocks by name, and how wide and deep to work.

    `blocks` are the constants of the kernel that say how large its blocks are; powers of two.
    """

    blocks: tuple[tuple[str, int], ...]
    num_warps: int = 4
    num_stages: int = 2

    def __getitem__(self, name: str) -> int:
        return dict(self.blocks)[name]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a roofline is drawn from: bytes to and from memory once, and operations.

    `shared` are the bytes of shared memory that the pipeline's stages fill, which the compiler may
    exceed a little.
    """

    bytes: int
    flops: int
    shared: int = 0


def tiles(num_warps: int, num_stages: int, **blocks: int) -> Tiles:
    """Tiles by the names of their sides."""
    return Tiles(tuple(blocks.items()), num_warps, num_stages)


def instantiate(
    function: Callable[..., Any],
    *,
    name: str = "",
    buffers: Mapping[str, np.dtype[Any]],
    constants: Mapping[str, Any],
    programs: int,
    chosen: Tiles,
    helpers: Sequence[Callable[..., Any]] = (),
    subnormal: bool = True,
) -> TritonKernel:
    """The source and launch record of a kernel.

    Args:
        function: the kernel.
        name: of the result; by default the function's.
        buffers: element types by name, in the order of the result's parameters. Those that the
            kernel does not touch with these constants may be left out.
        constants: a value for each `Constant` but the sides of blocks, which `chosen` holds.
        programs: program instances.
        helpers: functions that the kernel calls, each after those that it calls itself.
        subnormal: whether library functions keep numbers below 2**-126.

    Raises:
        TypeError: a constant is missing, or no parameter of the kernel has its name.
    """
    values = {**constants, **dict(chosen.blocks)}
    tree, body = _parsed(function)
    wanted = {a.arg for a in tree.args.args if ast.unparse(a.annotation or a) == "Constant"}
    pointers = {a.arg for a in tree.args.args} - wanted
    parameters = [f"{buffer}_ptr" for buffer in buffers]
    if wanted != set(values) or not pointers >= set(parameters):
        found = sorted(wanted ^ set(values)) + sorted(set(parameters) - pointers)
        raise TypeError(f"{function.__name__} and its arguments disagree about {', '.join(found)}")
    name = name or function.__name__
    head = [f"    {key}: tl.constexpr = {_literal(values[key])}" for key in values]
    functions = [(name, parameters, [*head, *body])]
    for helper in helpers:
        own, lines = _parsed(helper)
        taken = [
            f"{a.arg}: tl.constexpr" if ast.unparse(a.annotation or a) == "Constant" else a.arg
            for a in own.args.args
        ]
        functions.insert(-1, (helper.__name__, taken, lines))
    text_ = "\n\n\n".join(
        "\n".join([f"@triton.jit\ndef {own_name}({', '.join(given)}):", *lines])
        for own_name, given, lines in functions
    )
    return TritonKernel(
        source=f"{HEADER}{text_}\n",
        name=name,
        grid=(programs,),
        num_warps=chosen.num_warps,
        num_stages=chosen.num_stages,
        signature={f"{b}_ptr": text.pointer_type(dtype) for b, dtype in buffers.items()},
        subnormal=subnormal,
    )


def _parsed(function: Callable[..., Any]) -> tuple[ast.FunctionDef, list[str]]:
    """A function's syntax, and the lines of its body without the docstring."""
    source = textwrap.dedent(inspect.getsource(function))
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.FunctionDef)
    lines = source.splitlines()[tree.body[0].end_lineno :]
    while lines and not lines[0].strip():
        lines.pop(0)
    return tree, lines


def _literal(value: Any) -> str:
    if isinstance(value, np.dtype):
        return text.type_name(value)
    if isinstance(value, float):
        return text.literal(value, np.dtype(np.float64))
    return repr(value)
