"""A recipe as code: a cell of steerlab, and a cell that needs torch, transformers and nnsight alone.

Both load the model as it was loaded, or ask the server that has it (`places`), and answer one prompt with the sampling
and the seed given, so that their text is that of `lab.generate`. Nothing runs here, and no model is needed: only where
its sites are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from steerlab import as_python
from steerlab._version import __version__
from steerlab.backends.base import Backend, ModelInfo, encode_row
from steerlab.directions import Direction, bundled
from steerlab.export.edit_code import steering
from steerlab.export.helpers import AROUND_MID, BASIS, KEEP_NORM, VECTOR
from steerlab.export.places import Asked, place_of
from steerlab.generations import Sampling
from steerlab.interventions import Add
from steerlab.prompts import Prompt
from steerlab.rows import Row
from steerlab.sites import POINTS

# What the nnsight cell defines: no direction may be called so.
DEFINED = (
    "answer around_mid at base64 baseline basis block encoded gate generator hf inputs keep_norm key layer messages "
    "model np out plain prompt remote sample start steer steered step stop stream text tokenizer torch u vector "
    "warnings x y"
).split()


def steerlab_code(
    backend: Backend,
    row: Row,
    sampling: Sampling,
    *,
    directions: Mapping[str, Direction] | None = None,
    here: str | None = None,
    folder: str | Path | None = None,
) -> str:
    """A cell that answers a row with steerlab: model, recipe, prompt, sampling and seed, all of it to be changed.

    here: the name of the lab where the cell will run ("lab"), whose model and `directions` it then uses; without, the
    cell makes a lab of its own, which has the bundled directions alone. Directions that are not known there are written
    into the cell, vectors included, or, with `folder`, saved there as safetensors files that the cell loads. Raises
    ModelError where a model was given in memory and `here` is not said.
    """
    steps = row.recipe.interventions
    used = as_python.vectors(steps)
    place = place_of(backend, "code that loads the model") if here is None else None
    there = directions or {} if place is None else bundled() if place.embedded else {}
    lab = here or "lab"
    taken = {
        "base64",
        "generation",
        "model",
        "np",
        "prompt",
        "recipe",
        "sl",
        "tokenizer",
        "vector",
        "AutoModelForCausalLM",
        "torch",
    }
    known = as_python.names(used, taken={*taken, "AutoTokenizer", lab})
    lines, inline = [], False
    for one in used:
        name, key = known[id(one)], next((k for k, d in there.items() if _same(d, one)), None)
        if key is not None:
            lines.append(f"{name} = {lab}.directions[{as_python.literal(key)}]")
        elif folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            path = one.save(Path(folder) / f"{name}.safetensors")
            lines.append(f"{name} = sl.Direction.load({as_python.literal(str(path))})")
        else:
            inline = True
            lines.append(f"{name} = {as_python.direction(one)}")
    loads, opened = place.lab() if place else ([], [])
    third = [*(["import numpy as np"] if inline else []), *loads]
    return _text(
        f"# {_about(backend.info, row)}",
        *(["import base64", ""] if inline else []),
        *([*third, ""] if third else []),
        "import steerlab as sl",
        *(["", as_python.READ_VECTOR, ""] if inline else [""]),
        *opened,
        *lines,
        f"recipe = {as_python.recipe(steps, known)}",
        f"prompt = {_prompt(row.prompt)}",
        f"generation = {lab}.generate({_arguments(row, sampling)})",
        "print(generation)",
    )


def nnsight_code(backend: Backend, row: Row, sampling: Sampling, *, source: str | None = None) -> str:
    """A cell that answers a row with torch, transformers and nnsight alone, beside the baseline; it needs no steerlab.

    It steers every forward pass of `model.generate`, prompt and generated tokens alike or as the recipe's token scopes
    say, and its tokens are those of `lab.generate`. Vectors stand in it as base64 of float32, bit for bit. source: the
    Hugging Face id or the folder that it loads, by default what the model was loaded from. Raises ModelError where that
    is not known, or where the backend does not know the modules of its sites.
    """
    backend.check(row.recipe)
    info, steps = backend.info, row.recipe.interventions
    place = place_of(backend, "code for nnsight", source)
    used = as_python.vectors(steps)
    known = as_python.names(
        used, taken={*DEFINED, *(f"edit_{i}" for i in range(1, len(POINTS) * info.n_layers + 1))}
    )
    edits, steer = steering(place, info.n_layers, steps, known)
    ids = encode_row(backend.tokenizer, row, info.context)
    asked = Asked(min(sampling.max_new_tokens, info.context - len(ids)), row.seed, sampling.temperature)
    uses = [BASIS] * any(len(s.directions) > 1 for s in steps)
    uses += [KEEP_NORM] * any(isinstance(s, Add) and s.keep_norm for s in steps)
    uses += [AROUND_MID] * any("around_mid(" in line for line in steer)
    own, others = place.imports(asked, bool(steps))
    own = [*(["import base64"] if steps else []), *own]
    return _text(
        f"# {_about(info, row)}",
        "# It needs torch, transformers and nnsight, and no steerlab.",
        *(f"# {line}" for line in place.about),
        *([*own, ""] if own else []),
        *(["import numpy as np"] if steps else []),
        *others,
        "",
        *place.opened(),
        "",
        *_reading(row, backend.tokenizer.chat_template is not None, place.device),
        *([VECTOR] if steps else []),
        *uses,
        *place.noise(asked),
        "",
        *(f"{known[id(d)]} = {as_python.encoded(d)}" for d in used),
        "",
        *edits,
        *steer,
        "",
        "def answer(steer=None):",
        '    """The ids of the new tokens, steered or not."""',
        *(f"    {line}" for line in place.generate(asked)),
        "        with tracer.invoke():",
        "            out = tracer.result.save()",
        '    return out[0, inputs["input_ids"].shape[1] :].tolist()',
        "",
        "",
        "baseline = answer()",
        f"steered = answer({'steer' if steer else ''})",
        'print("BASELINE:", tokenizer.decode(baseline, skip_special_tokens=True))',
        'print("STEERED: ", tokenizer.decode(steered, skip_special_tokens=True))',
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- the model, the prompt


def _same(one: Direction, other: Direction) -> bool:
    return one is other or (
        (one.site, one.model, one.vector.shape) == (other.site, other.model, other.vector.shape)
        and bool(torch.equal(one.vector, other.vector))
    )


def _about(info: ModelInfo, row: Row) -> str:
    return f"{' '.join(info.name.split())} steered, recipe {row.recipe.fingerprint}; written by steerlab {__version__}."


def _prompt(prompt: Prompt) -> str:
    return as_python.literal(prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt])


def _arguments(row: Row, sampling: Sampling) -> str:
    options = [f"max_new_tokens={sampling.max_new_tokens}"]
    if sampling.temperature:
        options += [f"temperature={sampling.temperature!r}", f"seed={row.seed}"]
    return ", ".join(["prompt", "recipe", *options, *([] if row.chat else ["chat=False"])])


def _reading(row: Row, template: bool, device: str) -> list[str]:
    """The lines that turn the prompt into `inputs`, as `prompts.encode` does."""
    if not (row.chat and template):
        return [f"prompt = {_prompt(row.prompt)}", *_inputs("prompt", "", device)]
    turns = [{"role": "user", "content": row.prompt}] if isinstance(row.prompt, str) else row.prompt
    begun = turns[-1].get("role") == "assistant"
    if isinstance(row.prompt, str):
        lines = [f"prompt = {_prompt(row.prompt)}", 'messages = [{"role": "user", "content": prompt}]']
    else:
        lines = [f"messages = {_prompt(row.prompt)}"]
    ending = "continue_final_message" if begun else "add_generation_prompt"
    return [
        *lines,
        f"text = tokenizer.apply_chat_template(messages, {ending}=True, tokenize=False)",
        *_inputs("text", ", add_special_tokens=False", device),
    ]


def _inputs(text: str, options: str, device: str) -> list[str]:
    return [
        f'encoded = tokenizer({text}{options}, return_tensors="pt")',
        f'inputs = {{name: encoded[name]{device} for name in ("input_ids", "attention_mask")}}',
        "",
    ]


def _text(*lines: str) -> str:
    """Lines as a file: two blank lines at most, none at the end."""
    text = "\n".join(lines)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n"
