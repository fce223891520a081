"""Examples in the documents run and print what they show; links and paths lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs import documents
from tests.docs.documents import DOCS, ROOT

from funcdl import errors

PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "README.md"]
PAGES.append(ROOT / "examples" / "README.md")
FILES = [path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.*")]
BY_NAME = {path.name for path in FILES}
# The README runs in a process of its own, in tests/test_project.py.
CHECKED = [path for path in PAGES if path.stem not in ("architecture", "README")]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def exists(name: str) -> bool:
    return (ROOT / name).exists() or (ROOT / "src" / "funcdl" / name).exists()


@pytest.mark.parametrize("path", CHECKED, ids=relative)
def test_examples_print_what_is_shown(path: Path) -> None:
    documents.check(path)


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    local = [target for target in targets if not target.startswith("https://")]
    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_files_that_are_named_exist(path: Path) -> None:
    """With a folder in front, from the root or from `src/funcdl`; alone, anywhere."""
    text = path.read_text()
    names = re.findall(r"`((?:[\w.]+/)+(?:\w+\.(?:py|c|h|txt|md|json|toml))?)`", text)
    assert [name for name in names if not exists(name)] == []
    names = re.findall(r"`(\w+\.(?:py|c|h|txt|json|toml))`", text)
    assert [name for name in names if not (name in BY_NAME or exists(name))] == []


def test_files_of_the_overview_exist() -> None:
    """Those that the drawing at the top of the architecture's page names."""
    drawing = (DOCS / "architecture.md").read_text().split("```")[1]
    names = re.findall(r"\w+/(?:[\w./]*\w\.py|[\w/]*)", drawing)
    assert len(names) > 10
    assert [name for name in names if not exists(name)] == []


def test_parts_are_chosen_by_pattern() -> None:
    text = "first\nline\n\nsecond\n\nthird line\n"
    assert documents.parts_with(text, "line") == "first\nline\n\nthird line\n"
    with pytest.raises(AssertionError, match="no part"):
        documents.parts_with(text, "fourth")


def test_a_stale_output_is_replaced(tmp_path: Path) -> None:
    page = "```python\nprint(1)\n```\n\n<!-- output{} -->\n```text\n{}```\n"
    path = tmp_path / "page.md"
    path.write_text(page.format("", "2\n"))
    assert documents.renewed(path) == page.format("", "1\n")


def test_every_kind_of_mistake_is_listed() -> None:
    listed = set(re.findall(r"`(\w+(?:Error|Warning))`", (DOCS / "errors.md").read_text()))
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert listed == kinds | {"TypeError"}
