from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.runtime.cuda.environment import StubGpu, installed


@pytest.fixture
def gpu() -> Iterator[StubGpu]:
    with installed(StubGpu()) as stub:
        yield stub
