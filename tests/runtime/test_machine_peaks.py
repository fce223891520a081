"""The machine's peaks: measured, kept on disk, measured again when asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from funcdl.config import config
from funcdl.runtime import machine_peaks as module
from funcdl.runtime.machine_peaks import MachinePeaks, machine_peaks, measure_peaks
from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_STEPS", 1000)
    monkeypatch.setattr(module, "_TRIAD_ELEMENTS", 1 << 16)
    monkeypatch.setattr(module, "_REPETITIONS", 3)
    with config.override(cache_dir=str(tmp_path)):
        yield


@pytest.mark.parametrize("threads", [1, 2])
def test_peaks_are_those_of_a_computer(threads: int) -> None:
    found = measure_peaks(threads)
    assert found.threads == threads
    # From a single lane at 100 MHz to more than any chip has.
    assert 1e8 < found.flops < 1e14
    assert 1e8 < found.bandwidth < 1e13


def test_they_are_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(3.0, 10.0), (5.0, 7.0), (4.0, 8.0)]
    asked = iter(answers)
    monkeypatch.setattr(
        module, "measure_peaks", lambda threads: MachinePeaks(threads, *next(asked))
    )
    assert machine_peaks(2) == machine_peaks(2) == MachinePeaks(2, 3.0, 10.0)
    assert machine_peaks(2, again=True) == machine_peaks(2) == MachinePeaks(2, 5.0, 10.0)
    assert machine_peaks(1) == MachinePeaks(1, 4.0, 8.0)


def test_the_share_is_the_larger_one() -> None:
    peaks = MachinePeaks(1, 100.0, 10.0)
    assert peaks.share(2.0, 100.0, 5.0) == 0.5
    assert peaks.share(2.0, 20.0, 10.0) == 0.5
    assert peaks.share(0.0, 20.0, 10.0) == 0.0


def test_without_a_compiler_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_compiler", lambda: None)
    assert machine_peaks(1) is None
