from __future__ import annotations

import pytest
from tests.examples.script import number, output


@pytest.mark.parametrize(
    ("steps", "error"), [(1600, 0.5), pytest.param(4000, 0.1, marks=pytest.mark.slow)]
)
def test_generator_finds_mean_and_covariance(steps: int, error: float) -> None:
    assert number(r"largest error: (\S+)", output("gan.py", "--steps", steps)) < error


@pytest.mark.parametrize(
    ("steps", "share"), [(100, 0.7), pytest.param(3000, 0.05, marks=pytest.mark.slow)]
)
def test_drawn_digits_come_close_to_the_data(steps: int, share: float) -> None:
    pytest.importorskip("sklearn")
    text = output("dcgan.py", "--steps", steps)
    untrained = number(r"untrained ([\d.]+)", text)
    trained = number(r", trained ([\d.]+)", text)
    assert trained < share * untrained
    # The measure itself: two halves of the data are closer than anything drawn.
    assert number(r"halves of the data: (\S+)", text) < trained


@pytest.mark.parametrize(
    ("steps", "home", "partner"),
    [(300, 0.3, 0.6), pytest.param(2500, 0.15, 0.1, marks=pytest.mark.slow)],
)
def test_cycle_loss_leads_home_and_to_the_partner(steps: int, home: float, partner: float) -> None:
    text = output("cyclegan.py", "--steps", steps)
    without = number(r"from home: \S+ with, (\S+) without", text)
    assert number(r"from home: (\S+) with,", text) < min(home, without)
    assert number(r"from partner: (\S+) with,", text) < partner
