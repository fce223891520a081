"""Tracing and compiling by depth of a transformer: ``python -m benchmarks.trace``.

Times the tracing of the forward pass, its gradient, the gradient with checkpoints, per-example
gradients and an Adam step, and the compiler's passes up to C source (no C compiler runs), for a
model of width 768 and 2 to 128 layers. Time is processor time of this one process, the best of
several rounds. The last column is the exponent of time against depth by least squares over the
depths from 8 on: 1 is linear. With ``--jax``, JAX's time to trace the same programs is beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.transformer import Sizes, adam_step, loss, parameters

DEPTHS = (2, 4, 8, 16, 32, 64, 128)


def stages(framework: str, sizes: Sizes) -> dict[str, Callable[[], Any]]:
    """What is timed, by name: each call traces a new function, so that no cache answers."""
    if framework == "jax":
        import jax as fd
        import jax.numpy as fnp
        from jax import nn
    else:
        import funcdl as fd
        import funcdl.numpy as fnp
        from funcdl import nn

    one = parameters(Sizes(depth=1))
    one["blocks"] = one["blocks"] * sizes.depth
    p = fd.tree.map(lambda x: fd.ShapeDtypeStruct(x.shape, x.dtype), one)
    ids = fd.ShapeDtypeStruct((sizes.batch, sizes.length + 1), np.int32)
    examples = fd.ShapeDtypeStruct((8, *ids.shape), np.int32)
    count = fd.ShapeDtypeStruct((), np.float32)

    def traced(remat: bool = False) -> Callable[[Any, Any], Any]:
        return lambda q, x: loss(fd, fnp, nn, sizes, q, x, remat)

    def step() -> Any:
        return fd.jit(adam_step(fd, fnp, nn, sizes)).trace(p, p, p, count, ids)

    result: dict[str, Callable[[], Any]] = {
        "forward": lambda: fd.make_jaxpr(traced())(p, ids),
        "grad": lambda: fd.make_jaxpr(fd.grad(traced()))(p, ids),
        "grad, checkpointed": lambda: fd.make_jaxpr(fd.grad(traced(remat=True)))(p, ids),
        "vmap of grad": lambda: fd.make_jaxpr(fd.vmap(fd.grad(traced()), (None, 0)))(p, examples),
        "training step": step,
    }
    if framework == "funcdl":
        result["step to C source"] = lambda: step().lower().as_text("c")
    return result


def best(call: Callable[[], Any], rounds: int) -> float:
    """Seconds of processor time."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def exponent(depths: list[int], times: list[float]) -> float:
    """The slope of log time against log depth."""
    return float(np.polyfit(np.log(depths), np.log(times), 1)[0])


def main() -> None:
    """Time every stage at every depth and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jax", action="store_true", help="time JAX too")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()

    figures: dict[str, dict[str, dict[int, float]]] = {}
    for framework in ["funcdl", *(["jax"] if options.jax else [])]:
        table = figures.setdefault(framework, {})
        for depth in options.depths:
            for name, call in stages(framework, Sizes(depth=depth)).items():
                table.setdefault(name, {})[depth] = best(call, options.rounds)
    print(f"{'seconds by depth':28}" + "".join(f"{d:>9}" for d in options.depths) + "  exponent")
    for framework, table in figures.items():
        for name, times in table.items():
            deep = [d for d in times if d >= 8]
            slope = f"{exponent(deep, [times[d] for d in deep]):.2f}" if len(deep) > 1 else ""
            cells = "".join(f"{times[d]:9.3f}" for d in times)
            print(f"{framework + ': ' + name:28}{cells}  {slope:>8}", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
