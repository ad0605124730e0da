"""What the tests of jobs on a real server share."""

from __future__ import annotations

from pathlib import Path

import pytest
from ndif_server import SERVED, far_lab

from steerlab import Lab
from steerlab.serving.server import Server


@pytest.fixture
def jobs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of jobs here is the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.fixture
def lab(ndif_server: Server, model_folders: dict[str, Path]) -> Lab:
    """A lab on the first model of the server."""
    return far_lab(ndif_server, model_folders[SERVED[0]])
