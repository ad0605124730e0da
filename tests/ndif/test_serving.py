"""Where a server can be reached."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ndif_server import SERVED, far_lab

from steerlab import Row, Sampling
from steerlab.serving.server import Server, serve


@pytest.mark.ndif
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only 127.0.0.1 is an address of every machine")
def test_a_server_at_one_address_of_the_machine_answers_there(
    ndif_server: Server, model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.2")
    folder = model_folders[SERVED[0]]
    with serve([folder], threads=1, host="127.0.0.2") as own:
        assert own.url.startswith("http://127.0.0.2:")
        lab = far_lab(own, folder)
        job = lab.submit([Row("Hi")], Sampling(3))  # its answers come from the object store
        [answer] = lab.fetch(job, timeout=60) or []
        assert answer.finish
