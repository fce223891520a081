"""Profiles: exact counts of calls, bytes and operations; times that add up; traces."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core import profiler
from funcdl.errors import ArgumentError
from funcdl.kernels.cpu_c.machine_peaks import MachinePeaks
from funcdl.kernels.cpu_c.program.profile import render_profiled_program
from funcdl.kernels.cpu_c.render import render_program
from funcdl.profiling import Profile, ProfileRow
from funcdl.runtime.toolchain import find_compiler

PEAKS = MachinePeaks(threads=1, flops=1e9, bandwidth=1e9)

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@fd.jit
def step(x: Any, w: Any) -> Any:
    y, _ = lax.scan(lambda c, _: (fnp.tanh(c @ w), None), x, None, length=5)
    return fd.pure_callback(np.sort, ROW, y.sum(1)), y * 2


ROW = fd.ShapeDtypeStruct((4,), np.dtype(np.float32))
ARGS = fnp.ones((4, 4)), fnp.eye(4)


@pytest.fixture(autouse=True)
def cpu() -> Any:
    with fd.config.override(backend="cpu"):
        yield


def rows(p: Profile, kind: str) -> dict[str, ProfileRow]:
    found = [row for row in p.rows if row.kind == kind]
    assert len({row.name for row in found}) == len(found)
    return {row.name: row for row in found}


def test_calls_of_a_library_have_rows() -> None:
    x = fnp.ones((1, 128, 1, 4))
    attend = fd.jit(lambda x: fd.nn.dot_product_attention(x, x, x))
    with fd.profile(peaks=PEAKS) as p:
        for _ in range(2):
            attend(x)
    (row,) = (row for name, row in rows(p, "kernel").items() if "attention" in name)
    assert row.calls == 2
    assert row.flops >= 2 * 128 * 128 * (4 * 4 + 1)
    assert row.nbytes >= 2 * 2 * x.nbytes


def test_every_kernel_call_is_counted() -> None:
    with fd.profile(peaks=PEAKS) as p:
        for _ in range(3):
            step(*ARGS)
    kernels = rows(p, "kernel")
    product = next(row for name, row in kernels.items() if "dot_tanh" in name)
    assert product.calls == 15
    assert product.nbytes == 15 * 4 * (16 + 16 + 16)
    assert product.flops == 15 * (2 * 4 * 4 * 4 + 16)
    assert product.operations == 15 * (2 * 4 * 4 * 4 + 16 * 14)
    assert product.source is not None
    assert "fnp.tanh(c @ w)" in product.source.text
    assert all(row.calls in (3, 15) for row in kernels.values())
    assert rows(p, "host")["callback"].calls == 3
    assert rows(p, "host")["callback"].nbytes == 3 * 32
    assert rows(p, "call")["step"].calls == 3
    assert rows(p, "python")["outside of programs"].calls == 1


def test_times_add_up() -> None:
    with fd.profile(peaks=PEAKS) as p:
        for _ in range(3):
            step(*ARGS)
    assert sum(row.seconds for row in p.rows) == pytest.approx(p.seconds, rel=1e-6)
    for row in p.rows:
        assert 0 <= row.min_seconds <= row.mean_seconds * (1 + 1e-9)
        assert row.mean_seconds == row.seconds / row.calls
    assert [row.seconds for row in p.rows] == sorted((r.seconds for r in p.rows), reverse=True)


def test_writing_times_down_is_no_time_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    with fd.profile(peaks=PEAKS):
        step(*ARGS)
    add = profiler.add_inside

    def add_slowly(*arguments: Any) -> None:
        add(*arguments)
        time.sleep(0.5)

    monkeypatch.setattr(profiler, "add_inside", add_slowly)
    with fd.profile(peaks=PEAKS) as p:
        step(*ARGS)
    (outside,) = rows(p, "python").values()
    assert outside.seconds > 0.5 > p.seconds - outside.seconds


def test_compilation_is_a_row_of_its_own_and_happens_once() -> None:
    @fd.jit
    def fresh(x: Any) -> Any:
        return x * 3 + 1

    fresh(ARGS[0])  # not profiled: another variant
    for wanted in ({"fresh was compiled": 1}, {}):
        with fd.profile(peaks=PEAKS) as p:
            fresh(ARGS[0])
            fresh(ARGS[0])
        assert {name: row.calls for name, row in rows(p, "compile").items()} == wanted
        assert sum(row.calls for row in rows(p, "kernel").values()) == 2


def test_results_are_those_of_the_unprofiled_program() -> None:
    before = step(*ARGS)
    with fd.profile(peaks=PEAKS):
        during = step(*ARGS)
    after = step(*ARGS)
    for found in (during, after):
        for x, y in zip(found, before, strict=True):
            np.testing.assert_array_equal(x, y)


def test_nothing_is_recorded_outside() -> None:
    step(*ARGS)
    with fd.profile(peaks=PEAKS) as p:
        pass
    step(*ARGS)
    assert [row.kind for row in p.rows] == ["python"]
    assert profiler.active == ()


def test_profiles_nest() -> None:
    with fd.profile(peaks=PEAKS) as outer:
        step(*ARGS)
        with fd.profile(peaks=PEAKS) as inner:
            step(*ARGS)
        step(*ARGS)
    assert rows(outer, "call")["step"].calls == 3
    assert rows(inner, "call")["step"].calls == 1
    with pytest.raises(ArgumentError, match="open already"), outer, outer:
        pass
    assert profiler.active == ()


def test_a_profile_can_be_opened_again() -> None:
    p = fd.profile(peaks=PEAKS)
    for _ in range(2):
        with p:
            step(*ARGS)
    assert rows(p, "call")["step"].calls == 2
    assert sum(row.seconds for row in p.rows) == pytest.approx(p.seconds, rel=1e-6)


def test_an_error_ends_the_profile() -> None:
    with pytest.raises(ZeroDivisionError), fd.profile(peaks=PEAKS):
        raise ZeroDivisionError
    assert profiler.active == ()


def test_programs_of_all_threads_are_counted() -> None:
    x, w = ARGS

    def work() -> None:
        for _ in range(20):
            step(x, w)

    with fd.profile(peaks=PEAKS) as p:
        step(x, w)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert rows(p, "call")["step"].calls == 81
    product = next(row for name, row in rows(p, "kernel").items() if "dot_tanh" in name)
    assert product.calls == 5 * 81


def test_while_loops_and_branches_count_what_ran() -> None:
    @fd.jit
    def f(n: Any, x: Any) -> Any:
        y = lax.fori_loop(0, n, lambda i, v: fnp.sin(v), x)
        return lax.cond(n > 5, lambda v: fnp.exp(v), lambda v: v * 2 + 1, y)

    for n, called in ((3, "cond2_body0_k0_add"), (7, "cond2_body1_k0_exp")):
        with fd.profile(peaks=PEAKS) as p:
            f(n, fnp.ones(3))
        calls = {name: row.calls for name, row in rows(p, "kernel").items()}
        assert sum(count for name, count in calls.items() if "sin" in name) == n
        assert calls["while0_body0_k0_lt"] == n + 1
        assert {name: count for name, count in calls.items() if "cond" in name} == {called: 1}


def test_a_compiled_program_is_profiled_too() -> None:
    compiled = step.lower(*ARGS).compile()
    wanted = compiled(*ARGS)
    with fd.profile(peaks=PEAKS) as p:
        for x, y in zip(compiled(*ARGS), wanted, strict=True):
            np.testing.assert_array_equal(x, y)
    assert rows(p, "call")["step"].calls == 1


def test_derivatives_and_batches_are_profiled() -> None:
    @fd.jit
    def f(x: Any) -> Any:
        return fnp.sum(fnp.sin(x))

    with fd.profile(peaks=PEAKS) as p:
        fd.vmap(fd.grad(f))(ARGS[0])
    assert sum(row.calls for row in rows(p, "kernel").values()) > 0


def test_the_reference_back_end_is_timed_by_equation() -> None:
    with fd.config.override(backend="reference"), fd.profile(peaks=PEAKS) as p:
        step(*ARGS)
    found = rows(p, "equation")
    assert {name: found[name].calls for name in ("scan", "tanh", "dot_general", "callback")} == {
        "scan": 1,
        "tanh": 5,
        "dot_general": 5,
        "callback": 1,
    }
    assert found["tanh"].nbytes == 5 * 128
    assert found["tanh"].program == "step"
    assert rows(p, "kernel") == {}
    assert sum(row.seconds for row in p.rows) == pytest.approx(p.seconds, rel=1e-6)


def test_the_trace_has_one_event_for_each_call(tmp_path: Path) -> None:
    with fd.profile(peaks=PEAKS) as p:
        step(*ARGS)
        step(*ARGS)
    path = tmp_path / "trace.json"
    p.trace(path)
    events = json.loads(path.read_text())["traceEvents"]
    counts = Counter((event["cat"], event["name"]) for event in events)
    wanted = {(r.kind, r.name): r.calls for r in p.rows if r.kind != "python"}
    assert counts == wanted
    assert all(event["ph"] == "X" and event["dur"] >= 0 for event in events)
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)
    calls = [event for event in events if event["cat"] == "call"]
    kernels = [event for event in events if event["cat"] == "kernel"]
    for kernel in kernels:
        assert any(
            call["ts"] <= kernel["ts"]
            and kernel["ts"] + kernel["dur"] <= call["ts"] + call["dur"] + 0.001
            for call in calls
        )
    assert any("fnp.tanh" not in k["name"] and "source" in k["args"] for k in kernels)


@pytest.mark.parametrize("limit", [0, 1, 7, 1000])
def test_old_events_make_room_for_new_ones(limit: int, tmp_path: Path) -> None:
    step(*ARGS)
    with fd.profile(peaks=PEAKS, max_events=limit) as p:
        for _ in range(4):
            step(*ARGS)
    path = tmp_path / "trace.json"
    p.trace(path)
    events = json.loads(path.read_text())["traceEvents"]
    total = sum(row.calls for row in p.rows if row.kind != "python")
    assert len(events) == min(limit, total)


def test_a_long_loop_keeps_its_latest_events(tmp_path: Path) -> None:
    @fd.jit
    def f(x: Any) -> Any:
        return lax.while_loop(lambda v: v[0] < 20_000, lambda v: v + 1, x)

    with fd.profile(peaks=PEAKS) as p:
        f(fnp.zeros(2))
    assert sum(row.calls for row in rows(p, "kernel").values()) == 40_001
    path = tmp_path / "trace.json"
    p.trace(path)
    events = json.loads(path.read_text())["traceEvents"]
    kernels = [event for event in events if event["cat"] == "kernel"]
    assert len(kernels) == 1 << 14
    (loop,) = [event for event in events if event["cat"] == "loops"]
    assert loop["ts"] + loop["dur"] / 2 < kernels[0]["ts"] + loop["dur"]
    assert kernels[-1]["ts"] > kernels[0]["ts"]


def test_shares_of_the_peak() -> None:
    row = ProfileRow("kernel", "k", "f", None, 2, 2.0, 1.0, int(1e9), int(5e8), int(6e8))
    p = fd.profile(peaks=PEAKS)
    assert p.peak_share(row) == pytest.approx(0.5)
    busy = ProfileRow("kernel", "k", "f", None, 2, 2.0, 1.0, int(1e8), int(1e9), int(1.5e9))
    assert p.peak_share(busy) == pytest.approx(0.75)
    unknown = ProfileRow("host", "k", "f", None, 2, 2.0, 1.0, 0, 0, 0)
    assert p.peak_share(unknown) is None


def test_the_table_shows_every_row() -> None:
    with fd.profile(peaks=PEAKS) as p:
        step(*ARGS)
    text = str(p)
    assert text == p.table()
    assert "peak on 1 thread: 1 GFLOP/s of float32, 1.0 GB/s from memory\n" in text
    for row in p.rows:
        assert row.name in text
    assert "test_profile.py" in text
    assert "lax.scan(lambda c, _: (fnp.tanh(c @ w), None)" in text
    short = p.table(limit=1)
    assert f"and {len(p.rows) - 1} more rows" in short


def given_rows(monkeypatch: pytest.MonkeyPatch, *rows: ProfileRow) -> Profile:
    """A profile that has these rows."""
    monkeypatch.setattr(Profile, "rows", list(rows))
    monkeypatch.setattr(Profile, "seconds", sum(row.seconds for row in rows))
    return fd.profile()


def made_row(kind: Any, name: str, seconds: float, nbytes: int = 0, flops: int = 0) -> ProfileRow:
    return ProfileRow(kind, name, "f", None, 2, seconds, seconds / 2, nbytes, flops, flops)


def faked_peaks(monkeypatch: pytest.MonkeyPatch, *found: MachinePeaks) -> list[bool]:
    """Let the measurements find these peaks; returns the list of `again` of all calls."""
    asked: list[bool] = []

    def machine_peaks(*, again: bool = False) -> MachinePeaks:
        asked.append(again)
        return found[sum(asked)]

    monkeypatch.setattr("funcdl.kernels.cpu_c.machine_peaks.machine_peaks", machine_peaks)
    return asked


MEASURED = MachinePeaks(2, 1e9, 1e9, ((1000, 8e9), (4000, 4e9)))


def test_work_that_fits_in_a_cache_is_compared_with_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = faked_peaks(monkeypatch, MEASURED)
    small = made_row("kernel", "small", 2 * 1e-6, 2 * 2000)
    large = made_row("kernel", "large", 2 * 20e-6, 2 * 16000)
    p = given_rows(monkeypatch, large, small)
    assert p.peak_share(small) == pytest.approx(0.25)
    assert p.peak_share(large) == pytest.approx(0.8)
    assert "1 GFLOP/s of float32, 1.0 GB/s from memory, 8 GB/s from caches" in p.table()
    assert not any(asked)


def test_a_row_beyond_the_peak_lets_it_be_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = faked_peaks(monkeypatch, MEASURED, MachinePeaks(2, 4e9, 1e9, MEASURED.cached))
    fast = made_row("kernel", "fast", 1.0, flops=int(2e9))
    p = given_rows(monkeypatch, fast)
    assert p.peak_share(fast) == pytest.approx(0.5)
    assert sum(asked) == 1
    assert "raised" not in p.table()


def test_a_row_beyond_the_peak_raises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = faked_peaks(monkeypatch, MEASURED, MEASURED)
    fast = made_row("kernel", "fast", 1.0, flops=int(2e9))
    slow = made_row("kernel", "slow", 1.0, flops=int(1e9))
    p = given_rows(monkeypatch, fast, slow)
    assert p.peak_share(fast) == pytest.approx(1.0)
    assert p.peak_share(slow) == pytest.approx(0.5)
    text = p.table()
    assert "went beyond the measured peak, and so raised it: f: fast\n" in text
    assert "2 GFLOP/s of float32" in text
    assert sum(asked) == 1


def test_given_peaks_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = made_row("kernel", "fast", 1.0, flops=int(2e9))
    given_rows(monkeypatch, fast)
    p = fd.profile(peaks=PEAKS)
    assert p.peaks == PEAKS
    assert p.peak_share(fast) == pytest.approx(2.0)


def test_shares_of_the_time_leave_compilation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made_row("compile", "f was compiled", 6.0), made_row("kernel", "k", 3.0)
    p = given_rows(monkeypatch, *rows, made_row("call", "f", 1.0))
    faked_peaks(monkeypatch, MEASURED)
    first, _, _, heads, *lines = p.table().splitlines()
    assert first == (
        "10000.000 ms, of which compile 6000.000 ms; the rest by kind: kernel 75.0 %, call 25.0 %"
    )
    assert heads.split()[:2] == ["ms", "%"]
    assert [line.split()[:2] for line in lines] == [
        ["6000.000", "2"],  # no share: the number of calls follows
        ["3000.000", "75.0"],
        ["1000.000", "25.0"],
    ]


@pytest.mark.parametrize("bad", [-1, 1.5, True, "many"])
def test_a_bad_number_of_events_is_refused(bad: Any) -> None:
    with pytest.raises(ArgumentError, match="max_events must be an integer >= 0"):
        fd.profile(max_events=bad)


def test_the_profiled_text_is_the_program_and_what_takes_times() -> None:
    from funcdl.compiler.cpu.schedule import schedule_cpu
    from funcdl.compiler.pipeline import Pipeline, native_segments

    closed = fd.make_jaxpr(step)(*ARGS)
    pipeline = Pipeline(
        closed,
        name="step",
        donated=[False] * 2,
        scheduler=schedule_cpu,
        renderer=("c", render_program),
    )
    for segment in native_segments(pipeline.program):
        plain = render_program(segment).splitlines()
        profiled = render_profiled_program(segment).splitlines()
        added = list((Counter(profiled) - Counter(plain)).elements())
        kept = iter(profiled)
        assert all(line in kept for line in plain)
        assert '#include "fd_profile.h"' in added
        assert any("_profiled" in line for line in added)
