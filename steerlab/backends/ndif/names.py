"""The names that models have on a server."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

from steerlab.demo import WEIGHTS

DEMO = "steerlab/tiny-chat"  # the embedded model
LONGEST = 60  # letters of a folder's name that are kept
# what the Hugging Face hub allows for the second part of a name; both ends of a connection must agree on it
ALLOWED = re.compile(r"(?!.*(--|\.\.|\.git$))\w([\w.-]{0,94}\w)?", re.ASCII)


def repository(model: str | Path) -> str:
    """A Hugging Face id is its own name; a folder's model is "local/" and the folder's name."""
    folder = Path(model)
    if not folder.is_dir():
        return str(model)
    return DEMO if folder.resolve() == WEIGHTS.resolve() else f"local/{allowed(folder.resolve().name)}"


def allowed(name: str) -> str:
    """A folder's name where a hub allows it, else what it allows of it, with eight letters that no other name has."""
    if ALLOWED.fullmatch(name):
        return name
    whole = unicodedata.normalize("NFC", name)  # one name, whether of a Mac or of Linux
    tail = hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:8]
    return "-".join([*re.findall("[A-Za-z0-9]+", whole[:LONGEST]), tail])
