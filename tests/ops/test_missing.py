"""The list of what primitives lack, kept as text so that every change of it is seen."""

from __future__ import annotations

from pathlib import Path

from tests.golden import assert_golden
from tests.ops.table import OPS, reason_missing

GOLDEN = Path(__file__).parent / "golden_missing.txt"
COLUMNS = ("jvp", "vmap", "c", "triton")


def missing_columns() -> str:
    """One line for each primitive, column and reason; the dtypes where it is not all of them."""
    lines = []
    for name, op in sorted(OPS.items()):
        for column in COLUMNS:
            reasons: dict[str, list[str]] = {}
            for dtype in op.dtypes:
                reason = reason_missing(name, dtype, column)
                if reason is not None and reason != "kernels have no complex numbers":
                    reasons.setdefault(reason, []).append(dtype)
            for reason, found in reasons.items():
                where = "" if len(found) == len(op.dtypes) else f" [{' '.join(found)}]"
                lines.append(f"{name} {column}{where}: {reason}\n")
    return "".join(lines)


def test_missing_columns_are_those_on_record() -> None:
    assert_golden(GOLDEN, missing_columns())


def test_every_primitive_has_the_rules_that_it_does_not_list() -> None:
    for name, op in OPS.items():
        primitive = op.primitive
        assert primitive.impl is not None and primitive.shape is not None, name
        assert ("vmap" in op.missing) == (primitive.batch is None), name
        if "jvp" not in op.missing:
            assert primitive.jvp is not None, name
        assert ("c" in op.missing) == (primitive.lower is None), name
        for column, reason in op.missing.items():
            assert column in COLUMNS and reason, name
