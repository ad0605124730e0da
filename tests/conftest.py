"""What every test shares: no network, few threads, browser tests last."""

from __future__ import annotations

import os

import pytest

# Before any import of transformers or huggingface_hub: a test that reaches for the network must fail, not wait.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["JUPYTER_PLATFORM_DIRS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go last: they are the slowest, and what they need is proved by then."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)
