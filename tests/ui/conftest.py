"""What the tests of the panel share: panels over a lab with known words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scripted
from wires import Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(scripted.lab())
    yield made
    made.lab.worker.cancel()


@pytest.fixture
def slow() -> Iterator[Wire]:
    """A model that takes 10 ms for a token, so that a run can be interrupted."""
    made = Wire(scripted.lab(delay=0.01))
    yield made
    made.lab.worker.cancel()
