"""Loading a model and its tokenizer from the Hugging Face hub or from a folder, with errors in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants, try_to_load_from_cache
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from steerlab.errors import ModelError

SECONDS = (
    10.0  # for the hub's first answer; transformers itself would try for a minute where there is no network
)


def load(
    model: str | Path, *, dtype: torch.dtype | None = None, progress: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a Hugging Face id or a local folder: on all the GPUs there are, else on the CPU in float32.

    dtype: by default that of the checkpoint on a GPU. progress: whether the bars of transformers are shown, which stay
    in a notebook's output.
    Raises ModelError where neither a folder nor the hub has it.
    """
    where: dict[str, Any] = {"dtype": dtype or torch.float32}
    if torch.cuda.is_available():
        where = {"dtype": dtype or "auto", "device_map": "auto"}
    elif torch.backends.mps.is_available():
        where = {"dtype": dtype or "auto", "device_map": "mps"}
    look_for(model)
    try:
        with nullcontext() if progress else _quietly():
            tokenizer = AutoTokenizer.from_pretrained(model)
            return AutoModelForCausalLM.from_pretrained(model, **where), tokenizer
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise not_loaded(model, error) from error


def quantised(model: PreTrainedModel) -> bool:
    """Whether the weights of a model, or some of them, are quantised."""
    whole = all(p.is_floating_point() for p in model.parameters())
    return not whole or bool(getattr(model, "quantization_method", None))


@contextmanager
def _quietly() -> Iterator[None]:
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def look_for(model: str | Path) -> None:
    """Raise ModelError at once where there is no such folder, no such model on the hub, or no way to the hub."""
    name = str(model)
    if Path(model).is_dir():
        return
    if isinstance(model, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"there is no folder {name}", "Look at the path: it is read from where the kernel runs."
        )
    if constants.is_offline_mode() or isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        HfApi().model_info(name, timeout=SECONDS)
    except Exception as error:  # the hub's client has errors of several libraries, all with a reason to read
        raise not_loaded(model, error) from error


def revision(model: str | Path) -> str | None:
    """The commit of the hub's repository that `load` takes from the cache; None for a folder."""
    found = None if Path(model).is_dir() else try_to_load_from_cache(str(model), "config.json")
    return Path(found).parent.name if isinstance(found, str) else None


def not_loaded(model: str | Path, error: Exception) -> ModelError:
    """What to say of a folder or a model of the hub that was not read."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    kind = "folder" if Path(model).is_dir() else "model"
    return ModelError(
        f"the {kind} {str(model)!r} could not be loaded: {type(error).__name__}: {lines[0].rstrip('.')}",
        "Give a Hugging Face id that this machine can reach or has in its cache, a folder with a model and its "
        "tokenizer, or a (model, tokenizer) pair; Lab() without arguments needs nothing.",
    )
