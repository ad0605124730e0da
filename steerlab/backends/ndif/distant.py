"""A model known from its configuration alone: its tree, sites, width, tokenizer and template, and no weights.

The sites of a model are found by their arithmetic (`architectures`), which needs numbers. So a small copy is built,
of the same architecture and number of layers with narrow random weights, and the sites are found in it; they hold for
the model because the trees of the two are the same, which is checked.
"""

from __future__ import annotations

import contextlib
import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nnsight
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from steerlab.backends.architectures import PROBE, GivenSites, Hook, SiteMap, find_sites, taken
from steerlab.backends.base import Table
from steerlab.backends.loading import look_for, not_loaded
from steerlab.backends.ndif.names import repository
from steerlab.errors import ModelError

# The width of the small copy, by the names that configurations have for it; each is set where a configuration has it.
# Heads that are not all alike in number, and widths that differ, keep axes from being taken for one another.
NARROW: dict[str, int] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_attention_heads": 4,
    "head_dim": 12,
    "vocab_size": 128,
    "num_local_experts": 4,
    "num_experts": 4,
    "n_routed_experts": 4,
    "moe_intermediate_size": 40,
    "shared_expert_intermediate_size": 40,
    "ffn_dim": 80,
    "word_embed_proj_dim": 48,
    "query_pre_attn_scalar": 12,
}


class Matrix(NamedTuple):
    """A matrix with a row for every token. scale: by what an embedding multiplies its rows, None for a head."""

    path: str
    rows: int
    scale: float | None


@dataclass(frozen=True)
class Distant:
    """A model that is elsewhere. source: the Hugging Face id or the folder (an absolute path) that it is known from.
    key: what a server knows it by. model: nnsight's, on the meta device. accepts: what its forward takes. entries: of
    every layer, the output that is its block's input; None where there is none. tables: the modules that have a matrix
    with a row for every token.
    """

    name: str
    source: str
    key: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    sites: SiteMap
    entries: list[Hook | None]
    tables: dict[Table, Matrix]
    stop_tokens: set[int]
    d_model: int
    context: int
    dtype: str
    accepts: set[str]


def describe(model: str | Path, given: GivenSites | None = None) -> Distant:
    """What there is to know of a model without its weights: from the hub, its cache or a folder, a few files.

    given: where points are that are not found by arithmetic. Raises ModelError where neither a folder nor the hub has
    it, or where its sites cannot be found so.
    """
    look_for(model)
    try:
        config = AutoConfig.from_pretrained(model)
        tokenizer = AutoTokenizer.from_pretrained(model)
        # nnsight turns the padding of its tokenizer round
        wrapped = nnsight.TransformersModel(
            str(model), tokenizer=copy.deepcopy(tokenizer), task="text-generation"
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise not_loaded(model, error) from error
    tree: PreTrainedModel = wrapped._module
    text = config.get_text_config()
    sites, entries = sites_without_weights(tree, config, given)
    return Distant(
        name=str(model) if not Path(model).is_dir() else Path(repository(model)).name,
        source=str(Path(model).resolve()) if Path(model).is_dir() else str(model),
        key=model_key(repository(model)),
        model=wrapped,
        tokenizer=tokenizer,
        sites=sites,
        entries=entries,
        tables=find_tables(tree),
        stop_tokens=_stop_tokens(model, config, tokenizer),
        d_model=text.hidden_size,
        context=getattr(text, "max_position_embeddings", None) or 2**31,
        dtype=str(getattr(config, "dtype", None) or torch.float32).removeprefix("torch."),
        accepts=taken(type(tree).forward, config),
    )


def find_tables(tree: PreTrainedModel) -> dict[Table, Matrix]:
    """Where a model's embedding and its head are."""
    paths = {module: name for name, module in tree.named_modules()}
    embedding, head = tree.get_input_embeddings(), tree.get_output_embeddings()
    scale = getattr(embedding, "scalar_embed_scale", getattr(embedding, "embed_scale", 1.0))
    found: dict[Table, Matrix] = {
        "embedding": Matrix(paths[embedding], embedding.num_embeddings, float(scale))
    }
    if head is not None:
        found["unembedding"] = Matrix(paths[head], head.out_features, None)
    return found


def model_key(name: str) -> str:
    """What a server knows a model by. nnsight makes the same one, with a question to the hub."""
    data = {"repo_id": name, "revision": None, "task": "text-generation"}
    return f"nnsight.modeling.transformers.TransformersModel:{json.dumps(data)}"


def sites_without_weights(
    model: PreTrainedModel, config: PretrainedConfig, given: GivenSites | None = None
) -> tuple[SiteMap, list[Hook | None]]:
    """The sites of a model on the meta device, found in a narrow copy of it, and `Distant.entries`."""
    copied = narrow(config)
    try:
        # the generator is put back: a person's own random numbers are not touched
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            small = AutoModelForCausalLM.from_config(copied, dtype=torch.float32).eval()
            for name, parameter in small.named_parameters():
                if (
                    parameter.ndim == 1
                ):  # biases and norms begin at 0 and 1, where different modules look alike
                    torch.nn.init.normal_(parameter, mean=0.0 if name.endswith("bias") else 1.0, std=0.1)
            found = find_sites(small, given)
            entries = find_entries(small, found)
    except (ValueError, RuntimeError, TypeError, AttributeError, IndexError, StopIteration) as error:
        raise _unknown(config, f"a small copy of it does not run: {type(error).__name__}: {error}") from error
    there, here = dict(small.named_modules()), dict(model.named_modules())
    for path in {hook.path for hook in found.hooks}:
        if type(here.get(path)).__name__ != type(there[path]).__name__:
            raise _unknown(config, f"its small copy has {path}, which the model has not")
    return found.shown_as(model), entries


@torch.no_grad()
def find_entries(model: PreTrainedModel, sites: SiteMap) -> list[Hook | None]:
    """For every layer, the output that is its block's input: of the block before, or of what stands before the first.

    Found by equality in one short forward pass. None where no module's output is what the block reads.
    """
    blocks = {f"{sites.path}.{i}": i for i in range(sites.n_layers)}
    starts: dict[int, Tensor] = {}
    written: list[tuple[Hook, Tensor]] = []
    handles = []
    for name, module in model.named_modules():
        if name in blocks:

            def before(_: Any, args: Any, kwargs: Any, layer: int = blocks[name]) -> None:
                starts[layer] = next(
                    v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.ndim == 3
                )

            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        if name in blocks or not (name.startswith(sites.path + ".") or (sites.path + ".").startswith(name)):

            def after(_: Any, __: Any, output: Any, name: str = name) -> None:
                wrapped = isinstance(output, tuple)
                value = output[0] if wrapped else output
                if isinstance(value, Tensor):
                    written.append((Hook(name, "output", wrapped), value.clone()))

            handles.append(module.register_forward_hook(after))
    try:
        model(input_ids=torch.tensor([PROBE]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return [
        next((hook for hook, value in written if hook.path not in blocks or blocks[hook.path] < layer
              if value.shape == start.shape and torch.equal(value, start)), None)
        for layer, start in sorted(starts.items())
    ]  # fmt: skip


def narrow(config: PretrainedConfig) -> PretrainedConfig:
    """The same architecture with as many layers, as narrow as `NARROW`."""
    made = copy.deepcopy(config)
    text = made.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    groups = {n: getattr(text, n, None) for n in ("num_key_value_heads", "num_kv_heads")}
    for name, size in NARROW.items():
        if getattr(text, name, None) is not None:
            with contextlib.suppress(AttributeError):  # where it follows from the others
                setattr(text, name, size)
    for name, given in groups.items():
        if given is not None:
            setattr(text, name, 4 if given == heads else 1 if given == 1 else 2)
    for name in ("num_experts_per_tok", "moe_topk", "top_k_experts"):
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, min(2, getattr(text, name)))
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(text, name, None) is not None:
            setattr(text, name, 0)
    if hasattr(text, "initializer_range"):
        text.initializer_range = 0.2  # wide enough for every module to leave its mark
    return made


def _stop_tokens(model: str | Path, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    try:
        stop = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:  # not every model has one
        stop = config.get_text_config().eos_token_id
    stop = tokenizer.eos_token_id if stop is None else stop
    return {stop} if isinstance(stop, int) else set(stop or ())


def _unknown(config: PretrainedConfig, why: str) -> ModelError:
    kind = getattr(config, "model_type", type(config).__name__)
    return ModelError(
        f"the sites of a {kind} model cannot be found without its weights: {why}",
        "Load it here, where they are found with the weights: Lab(model).",
    )
