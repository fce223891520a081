"""docs/coverage.md is what the libraries are, and every name left out has its reason."""

from __future__ import annotations

import fnmatch
import json
import subprocess
import sys
import tomllib

import pytest
from tests.docs import coverage
from tests.golden import UPDATE


@pytest.mark.peers
def test_the_names_are_those_of_jax() -> None:
    """In a fresh process: submodules that other tests import are names of `jax` from then on."""
    pytest.importorskip("jax")
    code = "import json; from tests.docs import coverage; print(json.dumps(coverage.jax_names()))"
    names = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    if UPDATE:
        coverage.NAMES.write_text(json.dumps(names, indent=1) + "\n")
    if names["version"] != coverage.stored_names()["version"]:
        pytest.skip("another version of JAX than the page's")
    assert coverage.stored_names() == names


def test_the_page_is_current() -> None:
    if UPDATE:
        coverage.PAGE.write_text(coverage.page())
    assert coverage.PAGE.read_text() == coverage.page(), (
        "docs/coverage.md is not what the namespaces are: FUNCDL_UPDATE_GOLDEN=1 writes it anew"
    )


@pytest.mark.parametrize("namespace", coverage.NAMESPACES)
def test_every_name_left_out_has_a_reason(namespace: str) -> None:
    notes = tomllib.loads(coverage.NOTES.read_text())
    gap = coverage.missing(namespace, coverage.stored_names()[namespace])
    assert [name for name in gap if coverage.reason(namespace, name, notes) is None] == []


def test_no_note_is_stale() -> None:
    """Notes are on names that are missing; patterns match some."""
    notes = tomllib.loads(coverage.NOTES.read_text())
    names = coverage.stored_names()
    del notes["arguments"]
    notes = {name: table for name, table in notes.items() if not name.startswith("funcdl")}
    assert set(notes) <= set(coverage.NAMESPACES)
    for namespace, table in notes.items():
        gap = coverage.missing(namespace, names[namespace])
        assert [key for key in table if not fnmatch.filter(gap, key)] == [], namespace
