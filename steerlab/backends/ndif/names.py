"""The names that models have on a server."""

from __future__ import annotations

from pathlib import Path

from steerlab.demo import WEIGHTS

DEMO = "steerlab/tiny-chat"  # the embedded model


def repository(model: str | Path) -> str:
    """A Hugging Face id is its own name; a folder's model is "local/" and the folder's name."""
    folder = Path(model)
    if not folder.is_dir():
        return str(model)
    return DEMO if folder.resolve() == WEIGHTS.resolve() else f"local/{folder.resolve().name}"
