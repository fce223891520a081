"""From a Python function to C and to Triton: every stage of a softmax, and how to read it.

    python examples/kernels.py
    python examples/kernels.py --columns 1000    # rows that do not divide into vectors

The function below is five operations on whole arrays, each of which would read its operands from
memory and write its result there. The compiler makes one loop over rows of them, in which a row is
read and written once. Neither a C compiler nor a GPU is needed to look at the code.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp


def softmax(x: Any) -> Any:
    """Each row as positive numbers that add up to 1."""
    shifted = fnp.exp(x - fnp.max(x, axis=1, keepdims=True))
    return shifted / fnp.sum(shifted, axis=1, keepdims=True)


STAGES = {
    "jaxpr": """What the function does, recorded by calling it once without data. Every line is one
        primitive operation with the type of its result; `grad` and `vmap` take such programs and
        make others.""",
    "groups": """Fusion. All of it is one group: one kernel. Broadcasts and reshapes are gone, since
        they only say which element is read. Were there several groups, each would say why it ends
        where it ends.""",
    "kernels": """The kernel as loops without an order. The type of a value names the loops that it
        depends on: %3 differs in every i and j, the sum %4 in every i only. Nothing but x and out0
        is in memory.""",
    "schedule": """How a CPU runs it: threads share the rows, and vector instructions take several j
        at once. Sizes and loops decide this, not the operation.""",
    "c": """The same as C, numbered alike: v1 is the maximum, v4 the sum. Both are kept in 32 parts,
        which the C compiler puts into vector registers; the exponentials of a row wait in keep3, on
        the stack. size1 finds NaN, which a maximum must return and `>` would skip. The number of
        rows is an argument, so that another batch size needs no compiling.""",
    "triton": """The same for a GPU: each program takes BI rows, or one, and holds them in registers
        as a block of BJ columns. BJ is a power of two: where there are fewer columns, a mask j_in
        leaves out what is too much.""",
}


def main() -> None:
    """Print every stage; then run the kernel, and compare it with NumPy."""
    parser = argparse.ArgumentParser(description="The stages of a compiled softmax.")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=512)
    args = parser.parse_args()

    compiled = fd.jit(softmax)
    lowered = compiled.lower(fd.ShapeDtypeStruct((args.rows, args.columns), np.float32))
    for stage, meaning in STAGES.items():
        print(f"\n## {stage}\n")
        print(textwrap.fill(" ".join(meaning.split()), 100), end="\n\n")
        print(textwrap.indent(lowered.as_text(stage).strip(), "    "))

    cost = lowered.cost_analysis()
    size = 4 * args.rows * args.columns
    print("\n## Traffic\n")
    print(
        f"The input has {size:,} bytes; the kernel reads and writes {cost['bytes accessed']:,.0f}."
    )

    x = np.random.default_rng(0).standard_normal((args.rows, args.columns), dtype=np.float32)
    exponentials = np.exp(x.astype(np.float64))
    wanted = exponentials / exponentials.sum(axis=1, keepdims=True)
    error = np.abs(compiled(x) / wanted - 1).max()
    print(f"Largest relative error against NumPy in float64: {error:.1e}")


if __name__ == "__main__":
    main()
