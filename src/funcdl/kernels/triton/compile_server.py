"""The program of a worker, which `compile_workers` starts.

Each line of its input is a kernel, each line of its output a cubin, both as JSON.
"""

from __future__ import annotations

import base64
import json
import select
import sys
from typing import IO, Any

from funcdl.kernels.triton.compile import compile_cubin
from funcdl.kernels.triton.triton_kernel import TritonKernel

IDLE_SECONDS = 300.0
"""How long a worker waits for the next request before it ends."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Compile one kernel; what goes wrong is an answer too."""
    fields = request["kernel"] | {"grid": tuple(request["kernel"]["grid"])}
    try:
        cubin = compile_cubin(TritonKernel(**fields), request["arch"], aligned=request["aligned"])
    except ImportError:
        return {"error": "Triton is not installed: pip install 'funcdl[gpu]'"}
    except Exception as error:  # the process serves on, and its parent reports
        return {"error": f"{type(error).__name__}: {error}"}
    return {"code": base64.b64encode(cubin.data).decode(), "metadata": cubin.metadata}


def serve(requests: IO[str], answers: IO[str], idle_seconds: float = IDLE_SECONDS) -> None:
    """Answer until the input ends, or nothing comes for so long.

    A request follows the answer to the one before it, so that none waits in the file's buffer.
    """
    while select.select([requests], [], [], idle_seconds)[0] and (line := requests.readline()):
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    # Whatever libraries print must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    serve(sys.stdin, answers)
