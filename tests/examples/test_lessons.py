from __future__ import annotations

import re

import pytest
from tests.examples.script import number, numbers, output


@pytest.mark.parametrize(
    ("steps", "wanted"), [(80, 0.8), pytest.param(800, 0.98, marks=pytest.mark.slow)]
)
def test_residual_network_reads_digits_with_norms_and_without(steps: int, wanted: float) -> None:
    pytest.importorskip("sklearn")
    text = output("resnet.py", "--steps", steps)
    accuracy = number(r"unseen images: (\S+)", text)
    assert accuracy > wanted
    assert number(r"folded away: (\S+)", text) == pytest.approx(accuracy, abs=0.003)
    assert number(r"difference of a logit: (\S+)", text) < 1e-4


def test_memory_grows_with_the_root_of_the_depth() -> None:
    text = output("checkpoint.py", "--steps", 2)
    rows = re.findall(r"^ +(\d+) +(\S+) +\d+ +(\S+) +\d+$", text, flags=re.MULTILINE)
    memory = {int(depth): (float(plain), float(less)) for depth, plain, less in rows}
    assert set(memory) == {16, 64, 256}
    for depth, (plain, less) in memory.items():
        assert 2 * depth <= plain < 2 * depth + 16
        assert less < 3 * depth**0.5 + 16
    plain, checkpointed = numbers(r"(?:plain|checkpointed)  (\d\.\d{6})", text)
    assert plain == pytest.approx(checkpointed, rel=1e-5)
    kept, donated = re.findall(r"(?:keeping|donating) +(\S+) +(\S+)", text)
    assert float(kept[1]) == 0
    assert donated[0] == donated[1]


def test_variance_by_depth_follows_the_gain() -> None:
    text = output("initialisation.py", "--steps", 1)
    relu, tanh = (
        {
            float(row.split()[0]): [float(x) for x in row.split()[1:]]
            for row in part.splitlines()[2:6]
        }
        for part in re.split(r"^(?:relu|tanh)", text, flags=re.MULTILINE)[1:]
    )
    for gain, (first, _, last, _, _, slope, _) in relu.items():
        assert first == pytest.approx(gain / 2, rel=0.1)
        assert last / first == pytest.approx((gain / 2) ** 29, rel=0.8)
        assert slope == pytest.approx((gain / 2) ** 29, rel=0.8)
    assert tanh[0.5][2] < 1e-8 < 1e-3 < tanh[1.0][2]
    assert tanh[1.0][5] < 1 < tanh[2.0][5]


@pytest.mark.slow
def test_only_the_right_gain_trains_a_deep_relu_network() -> None:
    text = output("initialisation.py").split("tanh")[0]
    losses = {gain: number(rf"\n{gain} .* (\S+)", text) for gain in ("0.5", "1.0", "2.0")}
    assert losses["2.0"] < 0.3 < 0.68 < min(losses["0.5"], losses["1.0"])


def test_newton_takes_eight_steps_with_a_matrix_and_without() -> None:
    pytest.importorskip("sklearn")
    text = output("newton.py", "--steps", 200)
    exact, products, descent = (
        part.split("\n\n")[0].splitlines()[-1].split()
        for part in text.split("length of the gradient\n")[1:]
    )
    assert (exact[0], products[0], descent[0]) == ("8", "8", "200")
    assert max(float(exact[2]), float(products[2])) < 1e-6 < float(descent[2])
    assert exact[1] == products[1] < descent[1]
    assert number(r"length of the mean (\S+)", text) < 1e-6 * number(
        r"mean of lengths ([\d.]+)", text
    )


@pytest.mark.parametrize("columns", [512, 1000])
def test_softmax_is_one_kernel_in_c_and_in_triton(columns: int) -> None:
    text = output("kernels.py", "--rows", 64, "--columns", columns)
    sections = re.split(r"^## (\w+)$", text, flags=re.MULTILINE)[1:]
    stages = dict(zip(sections[::2], sections[1::2], strict=True))
    assert re.findall(r"group \d+", stages["groups"]) == ["group 0"]
    assert stages["c"].count("static void k") == 1
    assert re.findall(r"def k\w+", stages["triton"]) == ["def k0_max_sub_exp_div"]
    # What the explanations name is there.
    for name in ("v1", "v4", "keep3", "size1", "n_i"):
        assert re.search(rf"\b{name}\b", stages["c"].split("    /* program")[1]), name
    assert ("j_in" in stages["triton"].split("@triton.jit")[-1]) == (columns == 1000)
    size, moved = numbers(
        r"(\d[\d,]*)(?= bytes|\.)", stages["Traffic"].split("\n")[2].replace(",", "")
    )
    assert moved == 2 * size
    assert number(r"in float64: (\S+)", text) < 1e-6
