"""The peers: packages that do a part of what steerlab does, as oracles. Where one is missing its tests are skipped with
the line that installs it, or fail where STEERLAB_PEERS=required.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np
import pytest


def peer(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        if os.environ.get("STEERLAB_PEERS") == "required":
            raise
        return pytest.skip(
            f"{error}: pip install -e '.[peers]' && pip install --no-deps -r tests/peers/requirements.txt"
        )


@pytest.fixture(scope="session")
def repeng() -> Any:
    """repeng 0.4.0 names np.float_ in annotations, which NumPy 2 removed: it is there while repeng is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "float_", np.float64, raising=False)
        return peer("repeng")


@pytest.fixture(scope="session")
def steering_vectors() -> Any:
    return peer("steering_vectors")


@pytest.fixture
def vector_request(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of neuronpedia that sends a new vector."""
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "1")  # it looks for an .env file when it is imported
    return peer("neuronpedia.requests.vector_request").VectorRequest
