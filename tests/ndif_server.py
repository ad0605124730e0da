"""A real NDIF server for the tests, started once: NDIF's API, Redis and model deployment, with random-weight models.

Where its packages cannot be installed the tests that need it are skipped, with the reason; STEERLAB_NDIF=required makes
that a failure.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import models
import pytest

from steerlab import Lab
from steerlab.backends.fake import byte_tokenizer
from steerlab.demo import WEIGHTS
from steerlab.errors import SteerlabError
from steerlab.serving.environment import environment
from steerlab.serving.server import Server, serve

SERVED = models.ARCHITECTURES


def folder(root: Path, architecture: str) -> Path:
    """Where a random-weight model was put."""
    return root / f"random-{architecture}"


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with random-weight models, by architecture."""
    root = tmp_path_factory.mktemp("models")
    for architecture in SERVED:
        models.build(architecture).save_pretrained(folder(root, architecture))
        byte_tokenizer().save_pretrained(folder(root, architecture))
    return {architecture: folder(root, architecture) for architecture in SERVED}


@pytest.fixture(scope="session")
def ndif_server(model_folders: dict[str, Path]) -> Iterator[Server]:
    """The server, with the embedded model and the random ones."""
    try:
        environment()
    except SteerlabError as error:
        if os.environ.get("STEERLAB_NDIF"):
            raise
        pytest.skip(f"no NDIF server here: {error}")
    with serve([WEIGHTS, *model_folders.values()], threads=1, lazy=True, job_seconds=60) as server:
        yield server


def far_lab(server: Server, model: Path | None = None) -> Lab:
    """A Lab of a model on the server, which loads it with the first job; what it says of its models may be old."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is not loaded at")
        return Lab(model, host=server.url)
