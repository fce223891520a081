"""Candidates, the estimate and the shipped table of GPU schedules."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.gpu_defaults import typical_kernels
from hypothesis import given
from hypothesis import strategies as st
from tests.kir.kernels import all_example_kernels

from funcdl.compiler.cuda.candidates import candidates, from_json, refinements, to_json
from funcdl.compiler.cuda.defaults import _table, default_knobs, kernel_class
from funcdl.compiler.cuda.roofline import MODELS, estimate, model_of, shared_bytes
from funcdl.compiler.cuda.schedule import Knobs, schedule_gpu
from funcdl.kernels.triton.blocks import UnsupportedKernel
from funcdl.kernels.triton.compile import REGISTERS
from funcdl.kernels.triton.compile_pool import compile_all
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir import index as kindex
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.canonical import canonical_kernel
from funcdl.kir.ir import Dot, Kernel
from funcdl.kir.printer import format_kernel
from funcdl.runtime.disk_cache import CacheDir

EXAMPLES = {name: kernel for name, (kernel, _) in all_example_kernels().items()}
F32 = np.dtype(np.float32)


def rows(count: int, length: int, axis: str = "j") -> Kernel:
    """The sum of each row, or of each column where the axis is ``i``."""
    builder = KernelBuilder("rows")
    i, j = builder.axis("i", count), builder.axis("j", length)
    builder.buffer("x", F32, count * length, "in")
    builder.buffer("out", F32, count if axis == "j" else length, "out")
    place = kindex.combine([(i, length), (j, 1)])
    total = builder.reduce("sum", builder.load("x", place), [axis])
    builder.store("out", i if axis == "j" else j, total)
    return builder.build()


def product(m: int, n: int, k: int, dtype: np.dtype = F32, wide: np.dtype = F32) -> Kernel:
    builder = KernelBuilder("product")
    at = {name: builder.axis(name, size) for name, size in (("m", m), ("n", n), ("k", k))}
    builder.buffer("x", dtype, m * k, "in")
    builder.buffer("y", dtype, k * n, "in")
    builder.buffer("out", wide, m * n, "out")
    x = builder.load("x", kindex.combine([(at["m"], k), (at["k"], 1)]))
    y = builder.load("y", kindex.combine([(at["k"], n), (at["n"], 1)]))
    dot = builder.dot(builder.cast(x, wide), builder.cast(y, wide), "m", "n", "k")
    builder.store("out", kindex.combine([(at["m"], n), (at["n"], 1)]), dot)
    return builder.build()


@pytest.mark.parametrize("name", EXAMPLES)
def test_candidates_can_be_written_and_are_distinct(name: str) -> None:
    kernel = EXAMPLES[name]
    found = candidates(kernel, Knobs())
    assert found[0].schedule == schedule_gpu(kernel)
    assert len({c.schedule for c in found}) == len(found)
    try:
        render_kernel(kernel, found[0].schedule)
    except UnsupportedKernel:
        return
    for candidate in found:
        rendered = render_kernel(kernel, candidate.schedule)
        assert rendered.num_warps == candidate.schedule.num_warps
        assert 0 <= estimate(kernel, candidate.schedule, model_of(90)) < 1


def test_exhaustive_candidates_are_more() -> None:
    for kernel in (product(512, 512, 512), rows(64, 4096)):
        some = {c.schedule for c in candidates(kernel, Knobs())}
        every = {c.schedule for c in candidates(kernel, Knobs(), exhaustive=True)}
        assert len(every) > 1.5 * len(some)


def test_refinements_change_the_order_and_the_number_of_programs() -> None:
    kernel = product(2048, 2048, 256)
    tiles = Knobs(m=128, n=128, k=32, warps=8)
    found = refinements(kernel, tiles, 100)
    assert found[0].knobs == tiles
    changes = [(c.schedule.group, c.schedule.programs) for c in found[1:]]
    assert changes == [(8, 100), (8, 200), (1, 0), (4, 0), (16, 0)]
    assert {c.schedule.steps for c in found} == {found[0].schedule.steps}
    every = refinements(kernel, tiles, 100, exhaustive=True)
    assert len(every) == 12 and {c.schedule for c in found} < {c.schedule for c in every}
    texts = {render_kernel(kernel, c.schedule).source for c in every}
    assert len(texts) == len(every)
    # Tiles in one row or column have one order; few tiles are all launched.
    assert len(refinements(product(128, 4096, 256), tiles, 100)) == 1
    assert len(refinements(product(4096, 128, 256), tiles, 100)) == 1
    assert len(refinements(rows(64, 4096), Knobs(lanes=1024), 100)) == 1


def test_estimate_of_large_products_prefers_squares_of_tiles() -> None:
    half = np.dtype(np.float16)
    kernel, model = product(16384, 16384, 16384, half), model_of(90)
    tiles = Knobs(m=64, n=64, k=64)
    square, row = (
        estimate(kernel, schedule_gpu(kernel, replace(tiles, group=g)), model) for g in (8, 1)
    )
    assert square < row


def test_rounded_products_have_candidates_and_rates_of_tensor_cores() -> None:
    def rounded(precision: Any) -> Kernel:
        kernel = product(4096, 4096, 4096)
        body = [replace(i, precision=precision) if isinstance(i, Dot) else i for i in kernel.body]
        return replace(kernel, body=tuple(body))

    exact, tf32, thrice = (rounded(p) for p in ("ieee", "tf32", "tf32x3"))
    tiles = {(c.knobs.m, c.knobs.n, c.knobs.k) for c in candidates(tf32, Knobs())}
    assert (128, 256, 32) in tiles
    for capability in MODELS:
        assert default_knobs(exact, capability) != Knobs() == default_knobs(tf32, capability)
    classes = {kernel_class(kernel) for kernel in (exact, tf32, thrice)}
    assert len(classes) == 3
    knobs = Knobs(m=128, n=128, k=32)
    seconds = [estimate(k, schedule_gpu(k, knobs), model_of(90)) for k in (tf32, thrice, exact)]
    assert seconds == sorted(seconds) and seconds[0] < seconds[2] / 2


def test_first_candidate_is_the_given_one() -> None:
    first = Knobs(m=32, n=32, k=32, warps=2)
    assert candidates(product(512, 512, 512), first)[0].knobs == first


@given(st.builds(Knobs, *[st.none() | st.integers(1, 512)] * 6))
def test_knobs_survive_json(knobs: Knobs) -> None:
    record: Any = to_json(knobs)
    assert from_json(record) == knobs


def test_unknown_knobs_are_an_error() -> None:
    with pytest.raises(TypeError):
        from_json({"colour": 3})


@pytest.mark.parametrize("capability", MODELS)
def test_estimate_is_no_less_than_the_roofline_and_prefers_full_blocks(capability: int) -> None:
    model = model_of(capability)
    kernel = rows(4096, 4096)
    seconds = estimate(kernel, schedule_gpu(kernel), model)
    assert 4 * 4096 * 4096 / model.bandwidth <= seconds < 10e-3
    big = product(4096, 4096, 4096)
    good, small = (schedule_gpu(big, Knobs(m=s, n=s, k=32)) for s in (128, 16))
    assert 2 * 4096**3 / model.float_rate <= estimate(big, good, model)
    assert estimate(big, good, model) < estimate(big, small, model)
    few = rows(1, 4096)
    assert estimate(few, schedule_gpu(few), model) < seconds


def test_shared_memory_grows_with_blocks_and_stages() -> None:
    kernel = product(1024, 1024, 1024)
    sizes = [
        shared_bytes(kernel, schedule_gpu(kernel, Knobs(m=m, n=m, k=32, stages=stages)))
        for m, stages in itertools.product((64, 128), (2, 4))
    ]
    assert sizes == [(2 * m * 32 * 4) * (s - 1) for m in (64, 128) for s in (2, 4)]
    half = product(1024, 1024, 1024, np.dtype(np.float16))
    assert shared_bytes(half, schedule_gpu(half, Knobs(m=64, n=64, k=32, stages=2))) == 2 * 64 * 64
    narrowed = product(1024, 1024, 1024, np.dtype(np.float64))
    knobs = Knobs(m=64, n=64, k=32, stages=2)
    assert shared_bytes(narrowed, schedule_gpu(narrowed, knobs)) == 2 * 64 * 32 * 8
    assert shared_bytes(rows(8, 8), schedule_gpu(rows(8, 8))) == 0


def test_products_of_integers_are_sums() -> None:
    kernel = product(64, 48, 200, np.dtype(np.int8), np.dtype(np.int32))
    assert kernel_class(kernel) != kernel_class(product(64, 48, 200))
    for candidate in candidates(kernel, default_knobs(kernel, 80)):
        assert "tl.dot" not in render_kernel(kernel, candidate.schedule).source
        assert estimate(kernel, candidate.schedule, model_of(80)) > 0
        assert shared_bytes(kernel, candidate.schedule) == 0


def test_classes() -> None:
    found = {
        "rows": kernel_class(rows(8, 1000)),
        "dot32": kernel_class(product(64, 32, 100)),
        "dot16": kernel_class(product(64, 32, 100, np.dtype(np.float16))),
        "pointwise": kernel_class(EXAMPLES["elementwise_flat"]),
        "columns": kernel_class(rows(300, 64, "i")),
        "running": kernel_class(EXAMPLES["running_rows"]),
    }
    assert {name: c.name for name, c in found.items() if c is not None} == {n: n for n in found}
    assert found["rows"] is not None and found["rows"].sizes == (10,)
    assert found["dot32"] is not None and found["dot32"].sizes == (11, 7)
    assert kernel_class(EXAMPLES["scatter_add"]) is kernel_class(EXAMPLES["order_rows"]) is None


def blocks(kernel: Kernel, capability: int) -> tuple[int, int, int]:
    schedule = schedule_gpu(kernel, default_knobs(kernel, capability))
    size = {step.axis: step.size for step in schedule.steps if step.kind == "vector"}
    return size["m"], size["n"], size["k"]


def test_rows_of_the_table_serve_other_sizes_where_their_blocks_are_enough() -> None:
    half = np.dtype(np.float16)
    assert blocks(product(8192, 2304, 768, half), 90) == (128, 256, 64)
    assert blocks(product(768, 3072, 8192, half), 90) == (128, 128, 64)  # 72 of the large ones


@pytest.mark.parametrize("capability", MODELS)
def test_shipped_table_serves_typical_kernels(capability: int) -> None:
    half = np.dtype(np.float16)
    typical = [rows(4096, 1024), product(1024, 1024, 1024), product(4096, 4096, 4096, half)]
    assert all(default_knobs(kernel, capability) != Knobs() for kernel in typical[1:])
    for kernel in typical:
        knobs = default_knobs(kernel, capability)
        render_kernel(kernel, schedule_gpu(kernel, knobs))
        schedule = schedule_gpu(kernel, knobs)
        assert shared_bytes(kernel, schedule) <= model_of(capability).shared_bytes


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("capability", MODELS)
def test_shipped_table_makes_code_that_spills_nothing(capability: int, tmp_path: Path) -> None:
    kernels = typical_kernels()
    schedules = [schedule_gpu(kernel, default_knobs(kernel, capability)) for kernel in kernels]
    rendered = list(map(render_kernel, kernels, schedules))
    for cubin in compile_all(rendered, capability, cache=CacheDir(tmp_path)):
        report = cubin.metadata
        assert report["spill_bytes"] == 0
        assert report["shared"] <= model_of(capability).shared_bytes
        assert report["registers"] * 32 * report["num_warps"] <= REGISTERS


def test_other_devices_and_sizes_far_away_get_the_heuristics() -> None:
    kernel = rows(4096, 1024)
    assert default_knobs(kernel, 75) == Knobs()
    assert default_knobs(EXAMPLES["scatter_add"], 90) == Knobs()
    assert set(_table()) == {"80", "90"}


def test_canonical_kernels_have_no_names_of_their_program() -> None:
    kernel = rows(8, 50)
    text = format_kernel(canonical_kernel(kernel))
    assert text.startswith("kernel k(b0: f32[400] in, b1: f32[8] out)") and "rows" not in text
    for other in EXAMPLES.values():
        again = canonical_kernel(other)
        assert canonical_kernel(again) == again
        assert [b.size for b in again.buffers] == [b.size for b in other.buffers]
