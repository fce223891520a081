"""What of a GPU's programs runs on the host, and why: the table of docs/gpu_kernels.md.

Every primitive is lowered and rendered on its samples, which needs no GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.golden import UPDATE
from tests.ops.table import OPS, samples

from funcdl.compiler.steps import HostStep
from funcdl.config import config
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.kernels.triton.blocks import UnsupportedKernel
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir.program import all_kernels
from funcdl.ops.lowering import reason_for_host
from funcdl.ops.registry import Sample
from funcdl.transforms import jit

DOCS = Path(__file__).parents[3] / "docs/gpu_kernels.md"
HEAD = "| primitives | element types | why |\n|---|---|---|\n"
ORDER = [dtypes.short_name(dtype) for dtype in dtypes.SUPPORTED]

# Programs that look at keys run on the reference back end.
LOOKED_AT = {"key_use"}


def reasons(name: str, sample: Sample) -> Iterator[tuple[str, str]]:
    """Why parts of a primitive's program run on the host, and the element type that it is about."""
    primitive = OPS[name].primitive
    operands = [Array(x) for x in sample.args]
    with config.override(backend="gpu"):
        lowered: Any = jit(lambda *xs: primitive(*xs, **sample.params)).lower(*operands)
    pipeline = lowered._lowered._pipeline
    given = dtypes.short_name(operands[0].dtype)
    for step in pipeline.steps:
        if isinstance(step, HostStep):
            types = [atom.aval.dtype for atom in (*step.eqn.invars, *step.eqn.outvars)]
            complex_types = [dtypes.short_name(t) for t in types if dtypes.is_complex(t)]
            reason = reason_for_host(step.eqn.primitive.lower, types)
            yield reason, complex_types[0] if "complex" in reason else given
    for segment in pipeline.program.segments:
        for kernel, schedule in all_kernels(segment) if hasattr(segment, "kernels") else ():
            try:
                render_kernel(kernel, schedule)
            except UnsupportedKernel as error:
                yield re.sub(r"^kernel \w+(, \w+ %\d+)?: ", "", str(error)), given


def table(count: int | None) -> str:
    """The rows, from the first `count` samples with elements of each primitive and type."""
    found: dict[str, dict[str, set[str]]] = {}
    for name, op in sorted(OPS.items()):
        for dtype in op.dtypes if name not in LOOKED_AT else ():
            good = (s for s in samples(name, dtype) if s.args and all(x.size for x in s.args))
            for sample in islice(good, count):
                for reason, about in reasons(name, sample):
                    found.setdefault(name, {}).setdefault(reason, set()).add(about)
    rows: dict[tuple[str, str], list[str]] = {}
    for name, why in found.items():
        for reason, about in why.items():
            types = " ".join(sorted(about, key=ORDER.index))
            rows.setdefault((types, reason), []).append(f"`{name}`")
    lines = [f"| {', '.join(names)} | {types} | {why} |\n" for (types, why), names in rows.items()]
    return "".join(sorted(lines, key=len))


def documented() -> str:
    _, _, rest = DOCS.read_text().partition(HEAD)
    return rest[: rest.index("\n\n") + 1]


def check(made: str) -> None:
    if UPDATE:
        DOCS.write_text(DOCS.read_text().replace(HEAD + documented(), HEAD + made))
    assert documented() == made


def test_table_is_what_first_samples_show() -> None:
    check(table(1))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_table_is_what_every_sample_shows() -> None:
    check(table(None))
