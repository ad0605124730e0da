"""The wheel carries everything a person needs who has no Node, no checkout and no network."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The files of a wheel built from this checkout, with their sizes. The front end is not built here, but carried."""
    if not (ROOT / "steerlab" / "static" / "widget.js").is_file():
        pytest.fail("build the front end first: cd js && npm ci && npm run build")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def test_it_carries_the_panel_and_the_extension_where_jupyterlab_looks(files: dict[str, int]) -> None:
    assert files["steerlab/static/widget.js"] > 10_000
    assert files["steerlab/static/widget.css"] > 0
    shared = {name.partition(".data/data/")[2] for name in files}
    extension = "share/jupyter/labextensions/@steerlab/lab"
    settings = "schemas/@steerlab/lab/settings.json"
    assert {f"{extension}/{name}" for name in ("package.json", "install.json", settings)} <= shared
    assert any(name.startswith(f"{extension}/static/remoteEntry.") for name in shared)
    assert not any(name.startswith("steerlab/labextension") for name in files), "once is enough"


def test_it_carries_the_tutorials_for_the_command_line_and_for_the_menu(files: dict[str, int]) -> None:
    of_menu = {name.rpartition("/@steerlab/lab/tutorials/")[2]: size for name, size in files.items()}
    for notebook in (ROOT / "examples").glob("*.ipynb"):
        assert files[f"steerlab/examples/{notebook.name}"] == notebook.stat().st_size
        assert of_menu.get(notebook.name) == notebook.stat().st_size, (
            "build the front end again: npm run build in js/"
        )


def test_it_carries_the_embedded_model_and_its_direction(files: dict[str, int]) -> None:
    weights = "steerlab/demo/weights"
    for name in ("model.safetensors", "config.json", "tokenizer.json", "refusal.safetensors"):
        assert files[f"{weights}/{name}"] > 0
    assert sum(size for name, size in files.items() if name.startswith(weights)) <= 8_000_000


def test_it_is_typed_and_carries_no_tests(files: dict[str, int]) -> None:
    assert "steerlab/py.typed" in files
    tops = {name.partition("/")[0] for name in files}
    assert {top for top in tops if not top.startswith("steerlab-")} == {"steerlab"}
