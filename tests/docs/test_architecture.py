"""The dumps in docs/architecture.md are what the compiler prints, and it speaks of every flag."""

from __future__ import annotations

import re

from tests.docs import documents

from funcdl.config import FLAGS

PATH = documents.DOCS / "architecture.md"


def test_dumps_are_up_to_date() -> None:
    documents.check(PATH)


def test_every_stage_is_shown() -> None:
    shown = set(re.findall(r'as_text\("(\w+)"\)', PATH.read_text()))
    stages = ["jaxpr", "simplified", "groups", "kernels", "schedule", "memory", "c", "triton"]
    assert shown == set(stages)


def test_every_flag_is_named() -> None:
    text = PATH.read_text()
    assert [flag.variable for flag in FLAGS.values() if f"`{flag.variable}`" not in text] == []
