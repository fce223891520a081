"""Write golden.json: numbers that `jax.random` draws (run by hand where JAX is installed)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tests.random.draws import DRAWS, call

GOLDEN = Path(__file__).parent / "golden.json"


def main() -> None:
    import jax

    drawn = {text: np.asarray(call(jax.random, text)).astype(float).tolist() for text in DRAWS}
    GOLDEN.write_text(json.dumps({"jax": jax.__version__, "drawn": drawn}, indent=1) + "\n")


if __name__ == "__main__":
    main()
