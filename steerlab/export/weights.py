"""Weight orthogonalisation: a recipe of ablations as a Hugging Face checkpoint that needs no steerlab.

Every matrix and bias that writes to the residual stream loses the direction, `W <- W - u u^T W` (Arditi et al. 2024,
section 4.1 and appendix E), which is the same function as ablating it from what they write.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from steerlab._version import __version__
from steerlab.backends.architectures import find_sites
from steerlab.backends.loading import quantised
from steerlab.backends.local import name_of
from steerlab.errors import FileError, ModelError
from steerlab.export.projections import EMBEDDINGS, projections
from steerlab.export.writers import Changed, orthogonalise
from steerlab.recipes import Recipe


def weights(model: Any, recipe: Recipe, folder: str | Path) -> Path:
    """Write a checkpoint whose plain forward pass is the model's under `recipe`, with tokenizer, generation config and
    a README.md that holds the recipe. Returns the folder.

    model: a Lab, `lab.model`, or a `(model, tokenizer)` pair of transformers; it is not changed. recipe: Ablate alone,
    of strength 1 and at all tokens, and at the stream itself (resid_pre, resid_mid, resid_post) only where the writers
    before have lost the direction too: the paper's set, or attn_out and mlp_out of some layers, with resid_pre at
    layer 0 for the embeddings. folder: a new or an empty one.

    Raises RecipeError where weights cannot express the recipe, ModelError where the model's cannot (a norm with weights
    between matrix and stream, quantised weights), FileError where the folder has something in it.
    """
    hf, tokenizer, name = _opened(model)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileError(
            f"{folder} is there already and not an empty folder", "Give the name of a new folder."
        )
    twin = _twin(hf)
    sites = find_sites(twin, getattr(getattr(model, "backend", None), "given_sites", None))
    wanted = projections(recipe, sites, twin.config.get_text_config().hidden_size, name)
    changed = orthogonalise(twin, sites, wanted)
    if (
        EMBEDDINGS in changed.writers
    ):  # the head reads the stream and stays as it was, so it is no longer the same
        _untie(twin)
    else:
        twin.tie_weights()
    with _whole(folder) as part:
        twin.save_pretrained(part)
        if twin.can_generate() and hf.generation_config:
            hf.generation_config.to_json_file(part / "generation_config.json")
        tokenizer.save_pretrained(part)
        card = _card(name or name_of(hf), hf, recipe, changed)
        (part / "README.md").write_text(card, encoding="utf-8")
    return folder


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write to, whose files are in `folder` afterwards: all of them, or none where something fails."""
    there = folder.exists()
    where = folder if there else folder.parent
    where.mkdir(parents=True, exist_ok=True)
    part = where / f".{folder.name}-partial-{os.getpid()}"
    part.mkdir()
    try:
        yield part
        if not there:
            part.rename(folder)
            return
        for file in part.iterdir():
            file.rename(folder / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _opened(given: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str | None]:
    """The model of transformers, its tokenizer, and the name under which directions know it, where there is one."""
    model, tokenizer = given if isinstance(given, tuple) else (given, getattr(given, "tokenizer", None))
    for within in (
        "_module",
        "model",
        "_module",
    ):  # a Lab holds nnsight's model, which holds that of transformers
        if not isinstance(model, PreTrainedModel):
            model = getattr(model, within, model)
    if not isinstance(model, PreTrainedModel) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(
            f"an export needs a model and its tokenizer, not {type(given).__name__}",
            "Give a Lab of a model in this process, lab.model, or a pair: weights((model, tokenizer), recipe, folder).",
        )
    return model, tokenizer, getattr(getattr(given, "info", None), "name", None)


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same class around the same tensors: it costs no memory, and hooks and wrappers stay behind."""
    state = model.state_dict()
    if quantised(model):
        raise ModelError(
            "the weights are quantised", "Load the model in bfloat16 or float32, and export that."
        )
    if any(p.is_meta for p in model.parameters()):
        raise ModelError(
            "a part of the weights is not in memory", "Load the model without offloading, on the CPU."
        )
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"  # others do not all run in float32
    config._experts_implementation = "eager"
    with torch.device("meta"):
        twin = type(model)(config)
    try:
        twin.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"the weights of this {type(model).__name__} are not those of its class ({error})",
            "Where it has adapters, merge them first: model = model.merge_and_unload().",
        ) from error
    buffers = dict(model.named_buffers())
    for name, _ in list(twin.named_buffers()):
        module, _, own = name.rpartition(".")
        twin.get_submodule(module)._buffers[own] = buffers[name].clone()
    if len({p.device for p in twin.parameters()}) > 1:
        twin.to("cpu")
    twin.generation_config = GenerationConfig()  # the model's own may be one that transformers does not save
    return twin.eval()


def _untie(model: PreTrainedModel) -> None:
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = False
    model.all_tied_weights_keys = {}


def _card(source: str, model: PreTrainedModel, recipe: Recipe, changed: Changed) -> str:
    """The README.md of the checkpoint: what it is, what was measured, and the recipe to read back."""
    dtype = str(model.dtype).removeprefix("torch.")
    writers = "\n".join(
        f"- {site.describe()}: {', '.join(f'`{axis.name}`' for axis in axes)}"
        for site, axes in sorted(changed.writers.items())
    )
    names = ", ".join(dict.fromkeys(f"`{step.direction.name}`" for step in recipe.interventions))
    base = f"base_model: {source}\n" if source.count("/") == 1 and not Path(source).exists() else ""
    return f"""---
library_name: transformers
{base}tags: [steerlab, abliterated, directional-ablation]
---

# {Path(source).name} without {names}

This is {source} with a direction taken out of every weight that writes it to the residual stream,
`W <- W - u u^T W` (Arditi et al. 2024, arXiv 2406.11717). It loads with transformers alone, and computes what
{source} computes under the recipe below.

|  |  |
|---|---|
| recipe | `{recipe!r}`, fingerprint `{recipe.fingerprint}` |
| weights changed | {sum(map(len, changed.writers.values()))} |
| largest share of a norm left along a direction, in float32 | {changed.left:.1e} |
| the same with the weights as saved, in {dtype} | {changed.saved:.1e} |
| written by | steerlab {__version__}, torch {torch.__version__}, transformers {transformers.__version__} |

## Weights changed, by what they write

{writers}

## The recipe

`steerlab.Recipe.from_json` reads it back.

```json
{recipe.to_json()}
```
"""
