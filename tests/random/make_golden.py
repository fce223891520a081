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
    lines = ",\n".join(f"  {json.dumps(text)}: {json.dumps(x)}" for text, x in drawn.items())
    version = json.dumps(jax.__version__)
    GOLDEN.write_text(f'{{\n "jax": {version},\n "drawn": {{\n{lines}\n }}\n}}\n')


if __name__ == "__main__":
    main()
