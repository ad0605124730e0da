"""Opens a backend for whatever a person names a model by. Heavy imports stay inside: a Lab may be given a ready one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from steerlab.backends.base import Backend
from steerlab.demo import WEIGHTS
from steerlab.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from steerlab.backends.architectures import GivenSites

    Model = str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase] | Backend | None


def here(model: Model, sites: GivenSites | None = None) -> Backend:
    """A model in this process: the embedded one, a Hugging Face id, a folder, a pair; or a backend, as it is."""
    if not isinstance(model, str | Path | tuple | None):
        return model
    from steerlab.backends.loading import load, revision
    from steerlab.backends.local import LocalBackend

    if model is None:
        return LocalBackend(*load(WEIGHTS, progress=False), name="tiny-chat", sites=sites, loaded=True)
    if isinstance(model, tuple):
        if len(model) != 2:
            raise ModelError(f"a model is given with its tokenizer, as a pair, not as {len(model)} things")
        return LocalBackend(*model, sites=sites)
    name = Path(model).resolve().name if Path(model).is_dir() else str(model)
    return LocalBackend(*load(model), name=name, revision=revision(model), sites=sites, loaded=True)


def on_server(model: Model, host: str | None, sites: GivenSites | None = None) -> Backend:
    """A model on an NDIF server: the embedded one, a Hugging Face id or a folder. Warns where it has to be loaded."""
    if not isinstance(model, str | Path | None):
        raise ModelError(
            "a model on a server is named, not handed over",
            "Give a Hugging Face id, or a folder of its files.",
        )
    from steerlab.backends.ndif.backend import NdifBackend

    made = NdifBackend(WEIGHTS if model is None else model, host=host, sites=sites)
    if made.waits:
        usual = "10 to 20 seconds for a small model and minutes for a large one"
        if made.loads_in is not None:
            usual = f"which took {made.loads_in:.0f} s the last time"
        warnings.warn(
            f"{made.info.name} is not loaded at {made.info.device}: the first job waits until it is, {usual}; "
            "lab.remote_models() says what is up",
            stacklevel=4,
        )
    return made
