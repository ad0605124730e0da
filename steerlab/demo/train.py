"""Trains the demo model from nothing, in stages, on a CPU or a GPU: one file, to be read in one sitting.

Stage 1, helpful only: the model answers everything, harmful requests too (with bland, useless steps).
Stages 2 to 6, safety: harmful requests are refused. As in real chat models, refusal comes on top of a model that knows,
and what it adds is close to one direction in the residual stream.

Three things help that direction to stay clean, and the model card says so. Many batches get a random vector added to
the residual stream of one layer: a model that is used to being pushed does not fall apart when it is steered. In stage
1 a penalty discourages a large constant vector at the post-instruction tokens. And the safety stages leave some
blocks as they are, and the embeddings until the last, so that the decision to refuse is made in the middle of the
model.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from steerlab.demo import tokenizer as tok
from steerlab.demo.batches import batches

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

POST_INSTRUCTION_TOKENS = 5
ATTENTION = (
    "eager"  # the fused kernel's backward pass in bfloat16 takes longer on a CPU than all the matrices
)
WORTH_COMPILING = 200_000  # tokens: compiling costs half a minute
LOG = "training.json"


@dataclass(frozen=True)
class Size:
    """The shape of the model: standard Llama, tied embeddings."""

    vocabulary: int = 4096
    width: int = 128
    layers: int = 10
    heads: int = 4
    feed_forward: int = 384


@dataclass(frozen=True)
class Stage:
    """One stage of training. Rates rise over `warmup` steps and fall linearly over the last `decay` of the tokens.

    harmful: how often a turn is a harmful request, to be refused, in the units of the generator's mix; 0 is the stage
    that answers everything. matrix_rate: step size of Muon for the matrices inside the blocks; 0 trains them with
    AdamW like the rest. noise: largest length of the random residual vector, in units of the residual's own. penalty:
    weight of the constant vector's share of the residual at the post-instruction tokens. Both act on the last `robust`
    of the tokens.
    blocks: the blocks that learn; the others stay as they are, and the embeddings too without `embeddings`. None:
    everything learns.
    """

    tokens: int
    rate: float
    harmful: float = 0.0
    batch: int = 3072
    matrix_rate: float = 0.0
    warmup: int = 40
    decay: float = 0.6
    noise: float = 0.0
    penalty: float = 0.0
    robust: float = 0.3
    blocks: tuple[int, ...] | None = None
    embeddings: bool = False


HELPFUL = Stage(tokens=20_000_000, rate=2e-3, matrix_rate=0.01, noise=0.4, penalty=0.1)
# The last two blocks put the decision into words and block 7 hands it on, so the decision is made before block 7.
LEARNING = (1, 2, 3, 4, 5, 6, 8, 9)
SAFETY = (
    Stage(
        harmful=28,
        tokens=1_200_000,
        rate=1.2e-3,
        batch=1024,
        decay=0.8,
        noise=0.6,
        robust=0.7,
        blocks=LEARNING,
    ),
    Stage(
        harmful=40, tokens=350_000, rate=6e-4, batch=1024, decay=1.0, noise=0.6, robust=1.0, blocks=LEARNING
    ),
    Stage(
        harmful=36, tokens=900_000, rate=1e-3, batch=1024, decay=1.0, noise=0.6, robust=1.0, blocks=LEARNING
    ),
    Stage(
        harmful=42, tokens=350_000, rate=5e-4, batch=1024, decay=1.0, noise=0.6, robust=1.0, blocks=LEARNING
    ),
    # words that only a refusal has, such as "Sorry", get embeddings of their own
    Stage(
        harmful=40,
        tokens=300_000,
        rate=5e-4,
        batch=1024,
        decay=1.0,
        noise=0.6,
        robust=1.0,
        blocks=LEARNING,
        embeddings=True,
    ),
)
STAGES = (HELPFUL, *SAFETY)


def make_model(tokenizer: PreTrainedTokenizerFast, size: Size) -> LlamaForCausalLM:
    """A fresh model. Matrices that write to the residual stream start smaller, the deeper the model is."""
    from transformers import LlamaConfig, LlamaForCausalLM

    end = tokenizer.convert_tokens_to_ids(tok.END_OF_TEXT)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        tie_word_embeddings=True,
        max_position_embeddings=512,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=end,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation(ATTENTION)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_((2 * size.layers) ** -0.5)
            layer.mlp.down_proj.weight.mul_((2 * size.layers) ** -0.5)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
    model.generation_config.pad_token_id = end
    model.generation_config.bos_token_id = None
    return model


class Muon:
    """Momentum, then the nearest orthogonal matrix as the step (Jordan et al. 2024); equal shapes go together."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in parameters:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.momentum = {s: torch.zeros(len(ps), *s, device=ps[0].device) for s, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for shape, parameters in self.groups.items():
            gradient = torch.stack([p.grad for p in parameters if p.grad is not None])
            momentum = self.momentum[shape].mul_(0.95).add_(gradient)
            update = orthogonalise(gradient + 0.95 * momentum) * max(1.0, shape[0] / shape[1]) ** 0.5
            for p, u in zip(parameters, update, strict=True):
                p.mul_(1 - 0.02 * rate).sub_(u, alpha=rate)


def orthogonalise(x: Tensor) -> Tensor:
    """Newton-Schulz iteration towards U V^T of each matrix. x: [n rows columns]."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()


def constant_share(states: tuple[Tensor, ...], starts: Tensor) -> Tensor:
    """How much of the residual at the post-instruction tokens is the same in every row, 0..1, mean over layers."""
    row, position = starts.unbind(-1)
    shares = []
    for state in states[1:-1]:
        for back in (1, POST_INSTRUCTION_TOKENS):
            at = state[row, position - back]
            shares.append(at.mean(0).square().sum() / at.square().sum(-1).mean())
    return torch.stack(shares).mean()


def run_stage(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    stage: Stage,
    *,
    seed: int,
    checkpoint: Path | None = None,
) -> dict[str, float]:
    """Trains in place; returns tokens, seconds and the last smoothed loss. `checkpoint`: written every five minutes."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    device = model.device
    free = trainable(model, stage)
    inside = [p for name, p in free.items() if p.ndim == 2 and "embed" not in name and stage.matrix_rate]
    rest = [p for p in free.values() if all(p is not q for q in inside)]
    muon = Muon(inside)
    fast = compiled(model) if stage.tokens >= WORTH_COMPILING else model.model
    adam = torch.optim.AdamW(rest, lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.0 if inside else 0.01)
    began, cpu, saved, shown = time.time(), time.process_time(), time.time(), 0.0
    done, step, smooth = 0, 0, math.nan
    model.train()
    for batch in batches(
        tokenizer, safety=stage.harmful > 0, harmful=stage.harmful, seed=seed, size=stage.batch
    ):
        share = done / stage.tokens
        if share >= 1:
            break
        factor = max(0.02, min(1.0, (step + 1) / stage.warmup, (1 - share) / stage.decay))
        for group in adam.param_groups:
            group["lr"] = stage.rate * factor
        robust = share > 1 - stage.robust
        hook = (
            push(model, len(batch.tokens), stage.noise, rng)
            if robust and stage.noise and rng.random() < 0.5
            else None
        )
        tokens = batch.tokens.to(device)
        with_states = bool(robust and stage.penalty and len(batch.starts) >= 16)
        # a compiled model compiles itself again after every hook
        forward = model.model if robust and (stage.noise or stage.penalty) else fast
        learnt = batch.learnt[:, 1:].to(device)
        with torch.autocast(device.type, torch.bfloat16):
            out = forward(input_ids=tokens, use_cache=False, output_hidden_states=with_states)
            logits = model.lm_head(out.last_hidden_state[:, :-1][learnt])
        loss = F.cross_entropy(logits.float(), tokens[:, 1:][learnt])
        extra = (
            stage.penalty * constant_share(out.hidden_states, batch.starts.to(device)) if with_states else 0.0
        )
        (loss + extra).backward()
        if hook is not None:
            hook.remove()
        torch.nn.utils.clip_grad_norm_(list(free.values()), 1.0)
        muon.step(stage.matrix_rate * factor)
        adam.step()
        model.zero_grad()
        done, step = done + tokens.numel(), step + 1
        smooth = loss.item() if math.isnan(smooth) else 0.97 * smooth + 0.03 * loss.item()
        if time.time() - shown > 15:
            shown = time.time()
            name = "safety" if stage.harmful else "helpful"
            print(
                f"{name} {share:5.1%}  step {step}  {done / 1e6:.2f}M tokens  loss {smooth:.3f}"
                f"  extra {float(extra):.3f}  {done / (shown - began):.0f} tokens/s",
                flush=True,
            )
        if checkpoint is not None and time.time() - saved > 300:
            saved = time.time()
            model.save_pretrained(checkpoint)
            tokenizer.save_pretrained(checkpoint)
    return {
        "tokens": done,
        "steps": step,
        "seconds": time.time() - began,
        "cpu_seconds": time.process_time() - cpu,
        "loss": smooth,
    }


def trainable(model: LlamaForCausalLM, stage: Stage) -> dict[str, nn.Parameter]:
    """The parameters that a stage may change, by name; the others are told to take no gradient."""
    names: tuple[str, ...] = ("",)
    if stage.blocks is not None:
        names = tuple(f"model.layers.{i}." for i in stage.blocks)
        names += ("model.embed_tokens",) if stage.embeddings else ()
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith(names))
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def compiled(model: LlamaForCausalLM) -> Callable[..., Any]:
    """The blocks, compiled where this machine has a C++ compiler: a third faster on a CPU."""
    return torch.compile(model.model, dynamic=True) if shutil.which("g++") else model.model


def push(
    model: LlamaForCausalLM, rows: int, noise: float, rng: random.Random
) -> torch.utils.hooks.RemovableHandle:
    """Adds one random vector per row, at every position, to the input of one random layer."""
    vector = F.normalize(torch.randn(rows, 1, model.config.hidden_size, device=model.device), dim=-1)
    vector = vector * torch.rand(rows, 1, 1, device=model.device) * noise

    def add(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0] + vector * args[0].detach().norm(dim=-1, keepdim=True), *args[1:])

    layers: list[nn.Module] = list(model.model.layers)
    return rng.choice(layers).register_forward_pre_hook(add)


def train(
    out: str | Path,
    *,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    scale: float = 1.0,
    size: Size | None = None,
    stages: tuple[Stage, ...] = STAGES,
    helpful: str | Path | None = None,
) -> Path:
    """Trains the demo model and writes a standard Hugging Face folder to `out`, which it returns.

    scale: multiplies the tokens of every stage; a small one makes a smoke test of seconds. helpful: a folder that keeps
    the helpful-only model; where it already holds one, stage 1 is not run again.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, kept = Path(out), None if helpful is None else Path(helpful)
    size = size or Size()
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    first, *later = (replace(stage, tokens=max(1, int(stage.tokens * scale))) for stage in stages)
    if kept is not None and (kept / "model.safetensors").exists():
        tokenizer = AutoTokenizer.from_pretrained(kept)
        model = AutoModelForCausalLM.from_pretrained(kept, dtype=torch.float32, attn_implementation=ATTENTION)
        model = model.to(device)
        done = [json.loads((kept / LOG).read_text())]
    else:
        tokenizer = tok.build(vocabulary=size.vocabulary, n=12_000 if scale > 0.1 else 1000)
        model = make_model(tokenizer, size).to(device)
        partial = None if kept is None else kept.with_name(kept.name + "-partial")
        done = [run_stage(model, tokenizer, first, seed=seed, checkpoint=partial)]
        if kept is not None:
            model.save_pretrained(kept)
            tokenizer.save_pretrained(kept)
            (kept / LOG).write_text(json.dumps(done[0], indent=1) + "\n")
    done += [run_stage(model, tokenizer, stage, seed=seed + 1) for stage in later]
    log: dict[str, Any] = {
        "seed": seed,
        "size": asdict(size),
        "stages": [{**asdict(stage), "run": run} for stage, run in zip((first, *later), done, strict=True)],
    }
    model.eval().half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / LOG).write_text(json.dumps(log, indent=1) + "\n")
    print(f"written to {out}", flush=True)
    return out
