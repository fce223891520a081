from __future__ import annotations

import pytest
from tests.examples.script import number, numbers, output


def test_carried_state_helps_to_count() -> None:
    text = output("characters.py", "--steps", 200)
    carried, empty = numbers(r"with a state [\w ]+: (\S+) nats", text)
    assert carried < 0.3 < empty


@pytest.mark.slow
def test_counts_on_without_a_mistake() -> None:
    text = output("characters.py")
    assert number(r"right characters: (\d+) of 400", text) == 400


@pytest.mark.parametrize(
    ("steps", "share"), [(200, 0.1), pytest.param(1500, 0.97, marks=pytest.mark.slow)]
)
def test_writes_new_words_backwards(steps: int, share: float) -> None:
    assert (
        number(r"right words among 1000 new ones: (\S+)", output("seq2seq.py", "--steps", steps))
        > share
    )


def test_learns_about_sums() -> None:
    first, *_, last = numbers(r"loss (\S+)", output("transformer.py", "--steps", 40))
    assert last < 1.9 < first


@pytest.mark.slow
def test_adds_numbers_that_it_has_not_seen() -> None:
    assert number(r"right sums among 1000 new ones: (\S+)", output("transformer.py")) > 0.95
