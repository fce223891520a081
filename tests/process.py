"""Python in a process of its own, for what must be chosen before Triton's first import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def answer(*arguments: str, interpret: bool) -> Any:
    """The last line that Python prints, which is JSON.

    Args:
      arguments: of the command ``python``.
      interpret: whether Triton is its interpreter there; else it compiles.
    """
    environment = dict(os.environ)
    environment.pop("TRITON_INTERPRET", None)
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return json.loads(done.stdout.splitlines()[-1])
