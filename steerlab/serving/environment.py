"""The server's own virtual environment: made once, kept in the cache, made again when its requirements change.

It shares torch, nnsight, transformers and accelerate with the environment of steerlab, which it sees behind its own
packages; so both ends have the same versions. steerlab itself it does not need.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

import steerlab
from steerlab.errors import SteerlabError

NDIF = "ndif==0.1.2"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
RAY = Path(__file__).with_name("requirements-ray.txt")


def environment(tell: Callable[[str], None] = lambda text: None, *, ray: bool = False) -> Path:
    """The Python of the server's environment, which is made where it is missing (half a minute, 0.5 GB).

    tell: is told when it is made. ray: whether Ray shall run in it, for which a few packages are added. Raises
    SteerlabError where a package cannot be installed.
    """
    text = f"{NDIF}\n{REQUIREMENTS.read_text()}\n{sys.version}\n{sys.prefix}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steerlab"
    folder = cache / f"ndif-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = folder / "complete"
    added = folder / f"ray-{hashlib.sha256(RAY.read_bytes()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # two processes may want it at once
        if not done.exists():
            tell(f"installing {NDIF} in {folder} (half a minute, once) …")
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, python)
            done.touch()
        if ray and not added.exists():
            tell(f"installing what Ray needs in {folder} …")
            _install(python, "-r", str(RAY))
            added.touch()
    return python


def _make(folder: Path, python: Path) -> None:
    try:
        venv.create(folder, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SteerlabError(
            f"a virtual environment cannot be made in {folder} ({error})",
            "On Debian and Ubuntu: sudo apt-get install python3-venv.",
        ) from error
    _install(python, "-r", str(REQUIREMENTS))
    # ndif asks for Python 3.12, and runs on 3.11 as well
    _install(python, "--no-deps", "--ignore-requires-python", NDIF)
    _share(python)


def _install(python: Path, *what: str) -> None:
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *what]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        last = [line for line in made.stderr.splitlines() if line.strip()][-3:]
        raise SteerlabError(
            f"the server's packages cannot be installed: {' '.join(last)}",
            "It needs a package index that pip can reach; the command was: " + " ".join(command),
        )


def _share(python: Path) -> None:
    """Let the environment see the packages of this one, behind its own."""
    import torch

    shared = {Path(torch.__file__).parents[1], *(Path(p) for p in sys.path if p.endswith("site-packages"))}
    found = [p for p in shared if p.is_dir() and not (p / Path(steerlab.__file__).parent.name).is_dir()]
    where = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    paths = found or sorted(shared)
    Path(where, "shared_with_steerlab.pth").write_text("\n".join(map(str, paths)) + "\n")
