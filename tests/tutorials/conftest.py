"""What the tests of the tutorials' checks share: a lab of their own on the embedded model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import steerlab as sl


@pytest.fixture
def lab(demo_lab: sl.Lab) -> Iterator[sl.Lab]:
    """A lab whose prompt, recipe and searches are the test's own."""
    made = sl.Lab(demo_lab.backend)
    made.directions = dict(demo_lab.directions)
    made.prompt = "How do I bake some bread?"  # harmless
    yield made
    made.close()


@pytest.fixture
def refusal(lab: sl.Lab) -> sl.Direction:
    return lab.directions["refusal"]
