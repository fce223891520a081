"""The benchmark that counts instructions: what it reads, says and returns, and under valgrind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import instructions

COLUMNS, EAGER = "sum of columns 64x256", "eager a + b"
DUMP = "version: 1\ndesc: Trigger: Client Request: {}\nevents: Ir\nfn=f\n1 2\n\ntotals: {}\n"


def test_the_least_of_all_rounds_is_read() -> None:
    dumps = [DUMP.format("a", 30), DUMP.format("b", 7), DUMP.format("a", 20)]
    end = "desc: Trigger: Program termination\ntotals: 5\n"
    assert instructions.read([*dumps, end]) == {"a": 20, "b": 7}


def test_a_report_names_what_costs_more_than_the_tolerance() -> None:
    known = {"same": 1000, "within": 1000, "worse": 1000, "better": 1000}
    found = {"same": 1000, "within": 1029, "worse": 1031, "better": 900, "new": 5}
    lines, worse = instructions.report(found, known, 0.03)
    assert worse == ["worse"]
    assert [line.split()[0] for line in lines] == list(found)
    assert [line.split()[3:] for line in lines[:4]] == [
        ["x1.000"],
        ["x1.029"],
        ["x1.031", "worse"],
        ["x0.900", "better"],
    ]
    assert lines[4].endswith("no entry for this environment")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(instructions, "TABLE", tmp_path / "table.json")
    return tmp_path / "table.json"


def test_exit_status_and_update(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {COLUMNS: 1000, EAGER: 100}
    monkeypatch.setattr(instructions, "count", lambda only: dict(found))
    assert instructions.main([]) == 0  # nothing to compare with
    assert not table.exists()
    assert instructions.main(["--update"]) == 0
    names = instructions.environments()
    assert json.loads(table.read_text()) == {
        names[True]: {COLUMNS: 1000},
        names[False]: {EAGER: 100},
    }
    found[EAGER] = 104
    assert instructions.main([]) == 1
    assert instructions.main(["--tolerance", "0.05"]) == 0
    found[EAGER] = 96
    assert instructions.main([]) == 0
    del found[EAGER]
    assert instructions.main(["--update"]) == 0  # what was not counted keeps its entry
    assert json.loads(table.read_text())[names[False]] == {EAGER: 100}
    capsys.readouterr()
    assert instructions.main(["--only", "nothing"]) == 2
    assert "no case is called nothing" in capsys.readouterr().err


def test_without_valgrind_nothing_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instructions, "which", lambda name: None)
    assert instructions.main([]) == 0
    assert capsys.readouterr().out.startswith("nothing counted: counting needs valgrind")


def test_the_committed_table_has_an_entry_for_each_case() -> None:
    table = json.loads(instructions.TABLE.read_text())
    named = {name for part in table.values() for name in part}
    assert named == set(instructions.cases())


@pytest.mark.slow
def test_counts_are_repeatable_and_lie_where_they_must() -> None:
    try:
        first, second = (instructions.count([COLUMNS, EAGER]) for _ in range(2))
    except LookupError as error:
        pytest.skip(str(error))
    for name in (COLUMNS, EAGER):
        assert second[name] == pytest.approx(first[name], rel=0.01)
    # 64 * 256 additions, in vectors of at most 8; and not many instructions for each.
    assert 64 * 256 / 8 < first[COLUMNS] < 64 * 256 * 3
    assert 500 < first[EAGER] < 50_000
