"""The default code of the GPU benchmark's kernels is what docs/gpu_kernels.md says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from tests.kernels.machine_code import Row, run

DOCUMENT = Path(__file__).parents[2] / "docs" / "gpu_kernels.md"


def cells(row: Row, names: Counter[str]) -> list[str]:
    """A row of the document's table, without the number of programs."""
    name = row["case"]
    if names[name] > 1:
        name += f": `{row['kernel']}`"
    cores = ", ".join(f"`{shape}`" for shape in row["tensor cores"]) or "none"
    reads = f"{row['reads']}{' asynchronously' if row['asynchronous'] else ''}"
    return [name, cores, reads, str(row["writes"])]


def documented() -> dict[str, list[str]]:
    """The rows of the table, by their first cell."""
    section = DOCUMENT.read_text().split("## What the code is made of")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return {row.split(" | ")[0]: row.split(" | ") for row in rows[1:]}


@pytest.mark.triton
@pytest.mark.slow
def test_the_table_says_what_code_for_hopper_is_made_of() -> None:
    found = run(90)
    names = Counter(row["case"] for row in found)
    table = documented()
    assert [cells(row, names) for row in found] == [row[:4] for row in table.values()]
    for row, (*_, programs) in zip(found, table.values(), strict=True):
        assert row["programs"] >= int(programs), row
        assert row["stack"] == 0, row


@pytest.mark.triton
@pytest.mark.slow
def test_code_for_ampere_uses_tensor_cores_and_wide_accesses() -> None:
    for row in run(80):
        if "bfloat16" in row["case"] and row["asynchronous"]:
            assert row["tensor cores"] == ["mma m16n8k16"], row
        assert row["reads"] == 16, row


@pytest.mark.triton
def test_padded_convolutions_of_half_types_use_tensor_cores() -> None:
    (row,) = run(90, "convolution bfloat16")
    assert row["tensor cores"] == ["wgmma m64n64k16"]
    assert (row["reads"], row["asynchronous"], row["writes"]) == (16, True, 16)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90])
def test_rows_of_odd_lengths_are_moved_by_16_bytes(arch: int) -> None:
    found = {row["kernel"]: row for row in run(arch, "last layer")}
    products = [row for row in found.values() if row["tensor cores"]]
    assert len(products) == 3  # the logits, and the gradients of both of their factors
    for row in products:
        assert row["tensor cores"][0].startswith("wgmma" if arch == 90 else "mma"), row
        assert row["asynchronous"] and row["narrowest"] == 16, row
    (loss,) = (row for row in found.values() if "_max_" in row["kernel"])
    assert (loss["reads"], loss["writes"]) == (16, 16)
