"""A lab whose backend counts."""

from __future__ import annotations

import pytest
from counting import Counting

from steerlab import (
    Lab,
)


@pytest.fixture
def backend() -> Counting:
    return Counting()


@pytest.fixture
def lab(backend: Counting) -> Lab:
    return Lab(backend)
