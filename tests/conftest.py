"""What every test shares: no network, few threads, browser tests first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import steerlab

pytest_plugins = ["ndif_server"]

# Before any import of transformers or huggingface_hub: a test that reaches for the network must fail, not wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny: threads would only wait for each other
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["JUPYTER_PLATFORM_DIRS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go first: they take longest, and mostly wait."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("e2e", "ndif")])


@pytest.fixture(scope="session")
def demo_lab() -> steerlab.Lab:
    """A lab on the embedded model, loaded once. A test that sets its prompt or recipe sets them for itself alone."""
    import steerlab

    return steerlab.Lab()
