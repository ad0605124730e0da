"""What is installed and whether it works: the checks behind `steerlab doctor`.

Each check is a function that answers with a Check and never raises. Nothing is fixed here, only named.
"""

from __future__ import annotations

import importlib
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

Verdict = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Check:
    """One line of the report. verdict: ok, note (works, with a limit) or broken (something needed does not work)."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


def examine() -> Iterator[Check]:
    """Every check in order, each as soon as it is done."""
    yield _guarded("python", python)
    for package in ("torch", "nnsight", "transformers", "safetensors", "ipywidgets", "anywidget"):
        yield _guarded(package, partial(needed, package))
    yield _guarded("accelerator", accelerator)
    yield _guarded("panel", panel)
    yield _guarded("jupyterlab", jupyterlab)
    yield _guarded("lab extension", lab_extension)
    yield _guarded("embedded model", embedded_model)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a doctor reports, whatever the illness
        return Check(name, "broken", f"{type(error).__name__}: {error}".splitlines()[0][:300])


def python() -> Check:
    """Python itself and the environment it runs in."""
    return Check("python", "ok", f"{platform.python_version()} in {sys.prefix}")


def needed(package: str) -> Check:
    """A package without which steerlab does not work: installed, and importable."""
    try:
        found = version(package)
    except PackageNotFoundError:
        return Check(package, "broken", "not installed", f"pip install {package}")
    try:
        importlib.import_module(package)
    except Exception as error:
        what = f"{found} is installed but does not import: {error}".splitlines()[0][:300]
        return Check(package, "broken", what, f"pip install --force-reinstall {package}=={found}")
    return Check(package, "ok", found)


def accelerator() -> Check:
    """What a model can run on, besides the CPU."""
    import torch

    if torch.cuda.is_available():
        return Check("accelerator", "ok", f"cuda: {torch.cuda.get_device_name(0)}")
    if torch.backends.mps.is_available():
        return Check("accelerator", "ok", "mps")
    return Check("accelerator", "note", f"none: models run on the CPU, {torch.get_num_threads()} threads")


def panel() -> Check:
    """The built front end of the panel."""
    widget = Path(__file__).parent / "static" / "widget.js"
    if not widget.is_file():
        return Check(
            "panel",
            "broken",
            f"not built ({widget} is missing)",
            "in a checkout: cd js && npm ci && npm run build; else install steerlab again",
        )
    return Check("panel", "ok", f"built, {widget.stat().st_size / 1000:.0f} kB")


def jupyterlab() -> Check:
    """JupyterLab, which only `steerlab lab` needs."""
    try:
        return Check("jupyterlab", "ok", version("jupyterlab"))
    except PackageNotFoundError:
        return Check(
            "jupyterlab", "note", "not installed: steerlab lab needs it", 'pip install "jupyterlab>=4.4,<5"'
        )


def lab_extension() -> Check:
    """The launcher card and menu of JupyterLab, found where JupyterLab looks."""
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return Check("lab extension", "note", "Jupyter is not installed")
    for folder in jupyter_path("labextensions", "@steerlab", "lab"):
        if (Path(folder) / "package.json").is_file():
            return Check("lab extension", "ok", folder)
    return Check(
        "lab extension", "note", "not found: no launcher card; the panel works", "install steerlab again"
    )


def embedded_model() -> Check:
    """The model in the package loads and writes."""
    import steerlab as sl

    start = time.perf_counter()
    lab = sl.Lab()
    text = lab.generate("Hello", max_new_tokens=4).text
    seconds = time.perf_counter() - start
    return Check("embedded model", "ok", f"{lab.info.name} loaded and wrote {text!r} in {seconds:.1f} s")
