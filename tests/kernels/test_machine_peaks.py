"""The machine's peaks: measured until settled, kept on disk, measured again when stale or asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl.config import config
from funcdl.kernels.cpu_c import machine_peaks as module
from funcdl.kernels.cpu_c.machine_peaks import MachinePeaks, machine_peaks, measure_peaks
from funcdl.runtime.toolchain import CompilerError, find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

CACHED = MachinePeaks(2, 100.0, 10.0, ((1000, 80.0), (4000, 40.0), (16000, 9.0)))


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1e9

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    with config.override(cache_dir=str(tmp_path)):
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_peaks_are_those_of_a_computer(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS", 1000)
    monkeypatch.setattr(module, "_ARRAY_ELEMENTS", 1 << 18)
    monkeypatch.setattr(module, "_CACHED_ELEMENTS", (1 << 12, 1 << 14))
    monkeypatch.setattr(module, "_BYTES_A_RUN", 1 << 18)
    monkeypatch.setattr(module, "_SECONDS", 1e-3)
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)
    found = measure_peaks(threads)
    assert found.threads == threads
    # From a single lane at 100 MHz to more than any chip has.
    assert 1e8 < found.flops < 1e14
    assert 1e8 < found.bandwidth < 1e13
    assert [size for size, _ in found.cached] == [3 * 4 << 12, 3 * 4 << 14]
    assert all(1e8 < rate < 1e13 for _, rate in found.cached)


def faked(
    monkeypatch: pytest.MonkeyPatch, *answers: tuple[float, float], settled: bool = True
) -> list[int]:
    """Let the measurements find these figures; how many there were is the list's length."""
    asked: list[int] = []

    def measure(threads: int) -> tuple[MachinePeaks, bool]:
        asked.append(threads)
        return MachinePeaks(threads, *answers[len(asked) - 1], ((8, 1.0),)), settled

    monkeypatch.setattr(module, "_measure", measure)
    return asked


def test_they_are_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = faked(monkeypatch, (3.0, 10.0), (5.0, 7.0), (4.0, 8.0))
    assert machine_peaks(2) == machine_peaks(2) == MachinePeaks(2, 3.0, 10.0, ((8, 1.0),))
    better = MachinePeaks(2, 5.0, 10.0, ((8, 1.0),))
    assert machine_peaks(2, again=True) == machine_peaks(2) == better
    assert machine_peaks(1) == MachinePeaks(1, 4.0, 8.0, ((8, 1.0),))
    assert asked == [2, 2, 1]


@pytest.mark.parametrize(("settled", "seconds"), [(True, 86400), (False, 60)])
def test_stale_figures_are_measured_again_and_the_better_kept(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, settled: bool, seconds: float
) -> None:
    asked = faked(monkeypatch, (3.0, 10.0), (2.0, 12.0), settled=settled)
    machine_peaks(2)
    clock.now += seconds - 1
    assert machine_peaks(2) == MachinePeaks(2, 3.0, 10.0, ((8, 1.0),))
    assert len(asked) == 1
    clock.now += 2
    assert machine_peaks(2) == MachinePeaks(2, 3.0, 12.0, ((8, 1.0),))
    assert len(asked) == 2


def test_without_a_compiler_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_compiler", lambda: None)
    assert machine_peaks(1) is None
    with pytest.raises(CompilerError, match="no C compiler"):
        measure_peaks(1)


# Rounds: flops found by two threads, and the rounds that it takes.
@pytest.mark.parametrize(
    ("rounds", "wanted", "count", "settled"),
    [
        ([200.0, 200.0, 900.0], 200.0, 2, True),
        ([200.0, 150.0, 900.0], 200.0, 2, True),  # the second round was disturbed
        ([160.0, 200.0, 201.0, 900.0], 201.0, 3, True),
        ([100.0, 100.0, 100.0, 190.0, 190.0], 190.0, 5, True),  # no processor for each at first
        ([110.0] * 8, 110.0, 8, False),  # two threads of one core, or a busy machine
    ],
)
def test_rounds_go_on_until_one_finds_nothing_better(
    clock: Clock, rounds: list[float], wanted: float, count: int, settled: bool
) -> None:
    flops = iter(rounds)
    left = len(rounds)

    def measure() -> MachinePeaks:
        nonlocal left
        left -= 1
        return MachinePeaks(2, next(flops), 10.0, ((8, 1.0),))

    found, was_settled = module._until_settled(measure, lambda: 100.0)
    assert (found.flops, len(rounds) - left, was_settled) == (wanted, count, settled)


@pytest.mark.parametrize(
    ("nbytes", "wanted"),
    [(1, 80.0), (3999, 80.0), (4000, 40.0), (15999, 40.0), (16000, 10.0), (1e9, 10.0)],
)
def test_the_bandwidth_is_that_of_as_many_bytes(nbytes: float, wanted: float) -> None:
    assert CACHED.bandwidth_of(nbytes) == wanted


def test_the_share_is_the_larger_one() -> None:
    peaks = MachinePeaks(1, 100.0, 10.0)
    assert peaks.share(2.0, 100.0, 5.0) == 0.5
    assert peaks.share(2.0, 20.0, 10.0) == 0.5
    assert peaks.share(0.0, 20.0, 10.0) == 0.0
    assert CACHED.share(2.0, 0.0, 80.0) == 0.5
    assert CACHED.share(2000.0, 0.0, 20000.0) == 1.0


positive = st.floats(1e-6, 1e6)


@given(st.lists(st.tuples(positive, positive, positive), min_size=1, max_size=5))
def test_no_work_is_beyond_the_peaks_that_it_raised(works: list[tuple[float, ...]]) -> None:
    peaks = CACHED
    for seconds, operations, nbytes in works:
        peaks = peaks.raised(seconds, operations, nbytes)
    for seconds, operations, nbytes in works:
        assert 0 <= peaks.share(seconds, operations, nbytes) <= 1 + 1e-9
    slow = CACHED.raised(1e6, 1e6, 1e6)
    assert slow is CACHED


def test_better_takes_each_figure_from_the_faster_measurement() -> None:
    other = MachinePeaks(2, 90.0, 12.0, ((1000, 70.0), (4000, 50.0), (16000, 9.0)))
    best = CACHED.better(other)
    assert best == MachinePeaks(2, 100.0, 12.0, ((1000, 80.0), (4000, 50.0), (16000, 9.0)))
    assert CACHED.rises_to(best) == 1.25
