"""The fake backend: a tiny exact language model of random matrices, for tests and for the documentation.

It has every point, answers at once, needs neither nnsight nor a checkpoint, and keeps the whole contract of
`base.Backend`. Its arithmetic fits on one screen:

    attn_out  = a decaying sum of resid_pre over the tokens so far, through a matrix
    resid_mid = resid_pre + attn_out
    mlp_out   = tanh of resid_mid, through a matrix
    logits    = resid_post of the last block against the embeddings
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from steerlab import edits
from steerlab.backends.base import (
    Activations,
    Linearised,
    ModelInfo,
    OnTokens,
    Table,
    before_pass,
    continued,
    encode_row,
    in_order,
    nudge,
    readers,
    rows_done,
)
from steerlab.backends.cells import Look, looked
from steerlab.backends.decoding import Decoding, left_padded, token_index
from steerlab.backends.tables import by_cosine
from steerlab.edits import Operand
from steerlab.generations import Generation, Sampling
from steerlab.prompts import Positions
from steerlab.recipes import Recipe
from steerlab.rows import Plan, Row
from steerlab.sites import POINTS, Site

# One forward pass: new token ids [rows new], a mask [rows pos] over all tokens so far (0 for padding on the left), and
# what to do at which site; returns the logits of the last positions [rows _ vocab] and the sites where edits were made.
Forward = Callable[[Tensor, Tensor, dict[Site, list[Operand]]], tuple[Tensor, set[Site]]]

DECAY = 0.8
TEMPLATE = (
    "{% for turn in messages %}<{{ turn['role'] }}>\n{{ turn['content'] }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
ROLES = ["<user>", "<assistant>", "<system>"]


@functools.cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token per byte, a few special ones, and a chat template with four post-instruction tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    of_bytes = Tokenizer(BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=of_bytes, pad_token="<pad>", eos_token="</turn>", additional_special_tokens=ROLES
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


class FakeBackend:
    """A model of random matrices, the same for the same seed."""

    def __init__(self, *, n_layers: int = 4, d_model: int = 16, context: int = 256, seed: int = 0) -> None:
        self.tokenizer = byte_tokenizer()
        self.stop_tokens: set[int] = {self.tokenizer.eos_token_id}
        self.device = torch.device("cpu")
        self.info = ModelInfo("fake", "fake", "cpu", "float32", n_layers, d_model, POINTS, context)
        noise = torch.Generator().manual_seed(seed)

        def matrix(rows: int, scale: float) -> Tensor:
            numbers: Tensor = torch.randn(rows, d_model, generator=noise) * (scale / d_model**0.5)
            return numbers

        self._embeddings = matrix(len(self.tokenizer), scale=d_model**0.5)
        self._blocks = [(matrix(d_model, 0.5), matrix(d_model, 2.0)) for _ in range(n_layers)]

    # ------------------------------------------------------------------------------------------------ the three verbs

    def check(self, recipe: Recipe) -> None:
        """Raise the SteerlabError that running the recipe would raise."""
        self._plan([recipe])

    def capture(
        self,
        rows: Sequence[Row],
        sites: Sequence[Site],
        positions: Positions,
        *,
        values: bool = False,
        continuations: Sequence[Sequence[int]] | None = None,
    ) -> Activations:
        """Read the residual stream at sites x positions of the rows' prompts, or of the continuations that follow them,
        after their recipes acted there.
        """
        seen: dict[Site, Tensor] = {}
        _, encoded = self._prefill(rows, seen, continuations)
        weights = readers(self.tokenizer, rows, encoded, positions, continuations)

        def read(streams: dict[Site, Tensor]) -> Tensor:
            of_site = ([w @ streams[site][i, -w.shape[1] :] for i, w in enumerate(weights)] for site in sites)
            return torch.stack([torch.stack(rows) for rows in of_site], 1)

        x = read(seen)
        lengths = read({site: stream.norm(dim=-1, keepdim=True) for site, stream in seen.items()})
        rows_done.get()(len(rows))
        return Activations(x.double().mean(0), lengths[..., 0].double().mean(0), x if values else None)

    def score(self, rows: Sequence[Row]) -> Tensor:
        """The logits at the last position of each row's prompt, `[rows vocab]`, float32."""
        logits = self._prefill(rows, {})[0][:, -1]
        rows_done.get()(len(rows))
        return logits

    def likelihood(self, rows: Sequence[Row], continuations: Sequence[Sequence[int]]) -> list[Tensor]:
        """The log-probability of every token of a continuation after its row's prompt: a tensor `[tokens]` a row."""
        out = []
        for row, tail in zip(rows, continuations, strict=True):
            logits, (ids,) = self._prefill([row], {}, [tail])
            logprobs = logits[0, :-1].log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
            out.append(logprobs[len(logprobs) - len(tail) :])
            rows_done.get()(1)
        return out

    def decode(self, resid: Tensor) -> Tensor:
        """What the head makes of a stream: logits `[... vocab]`; there is no final norm."""
        return resid.float() @ self._embeddings.T

    def look(self, asked: Sequence[Look]) -> list[list[Tensor]]:
        """What functions of `looks` make of cells: of each, its tensors `[sites positions ...]`."""
        return looked(self, asked)

    def token_rows(self, ids: Sequence[int], table: Table) -> Tensor:
        """The rows of some tokens, `[tokens d_model]`: the two matrices are one."""
        return self._embeddings[list(ids)]

    def nearest(self, vector: Tensor, table: Table, k: int) -> tuple[Tensor, Tensor]:
        """The cosines and the ids of the k tokens nearest to a vector, and to its opposite, each `[2 k]`."""
        return by_cosine(self._embeddings, vector, k)

    def linearise(self, row: Row, source: Site, position: int, target: Site) -> Linearised:
        """How the stream at `target` and the last token depends on the stream at `source` and a position."""
        in_order(source, target)
        ids = torch.tensor([encode_row(self.tokenizer, row, self.info.context)])
        added, seen = nudge(ids, position, self.info.d_model), dict[Site, Tensor]()
        self._forward(seen)(ids, torch.ones_like(ids), {source: [added]})
        at, value = seen[source][0, position], seen[target][0, -1]
        ways = torch.eye(self.info.d_model)
        (jacobian,) = torch.autograd.grad(value, added.vectors, ways, is_grads_batched=True)
        return Linearised(at.detach().double(), value.detach().double(), jacobian[:, 0, 0].double())

    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        """Answer every row. `cancel`, once set, ends all of them within one token; what came so far is returned."""
        encoded = [encode_row(self.tokenizer, row, self.info.context) for row in rows]
        passes = _Passes(self._forward(), self._plan([row.recipe for row in rows]), encoded)
        decoding = Decoding(self, [[numbered] for numbered in enumerate(rows)], encoded, sampling)
        answers = decoding.run(passes, on_tokens, cancel)
        return [answers[i] for i in range(len(rows))]

    # ----------------------------------------------------------------------------------------------------- the model

    def _plan(self, recipes: Sequence[Recipe]) -> Plan:
        info = self.info
        return Plan(recipes, n_layers=info.n_layers, d_model=info.d_model, model=info.name)

    def _prefill(
        self,
        rows: Sequence[Row],
        seen: dict[Site, Tensor],
        continuations: Sequence[Sequence[int]] | None = None,
    ) -> tuple[Tensor, list[list[int]]]:
        """One pass over prompts and what follows them: the logits `[rows pos vocab]` and the rows' tokens."""
        tails = continuations or [()] * len(rows)
        context = self.info.context
        encoded = continued([encode_row(self.tokenizer, row, context) for row in rows], tails, context)
        ids, mask = left_padded(self.tokenizer, encoded)
        operands = self._plan([row.recipe for row in rows]).operands(
            token_index(mask, [len(tail) for tail in tails]), "cpu"
        )
        return self._forward(seen)(ids, mask, operands)[0], encoded

    def _forward(self, seen: dict[Site, Tensor] | None = None) -> Forward:
        """Forward passes that share a memory: each block's decaying sum. `seen` receives the tensor at every site."""
        sums = [torch.zeros(1, self.info.d_model) for _ in self._blocks]

        def forward(
            ids: Tensor, mask: Tensor, operands: dict[Site, list[Operand]]
        ) -> tuple[Tensor, set[Site]]:
            before_pass.get()()
            edited: set[Site] = set()

            def pass_by(site: Site, x: Tensor) -> Tensor:
                if site in operands:
                    x = edits.apply(x, operands[site])
                    edited.add(site)
                if seen is not None:
                    seen[site] = x
                return x

            real = mask[:, -ids.shape[1] :, None].bool()
            x = self._embeddings[ids]
            for i, (attention, mlp) in enumerate(self._blocks):
                x = pass_by(Site(i, "resid_pre"), x)
                memory = []
                for t in range(ids.shape[1]):
                    sums[i] = torch.where(real[:, t], DECAY * sums[i] + (1 - DECAY) * x[:, t], sums[i])
                    memory.append(sums[i])
                x = x + pass_by(Site(i, "attn_out"), torch.stack(memory, 1) @ attention)
                x = pass_by(Site(i, "resid_mid"), x)
                x = x + pass_by(Site(i, "mlp_out"), x.tanh() @ mlp)
                x = pass_by(Site(i, "resid_post"), x)
            return x @ self._embeddings.T, edited

        return forward


class _Passes:
    """Every row goes through every pass; what comes after a row's end is not looked at."""

    def __init__(self, forward: Forward, plan: Plan, encoded: list[list[int]]) -> None:
        self._forward, self._plan = forward, plan
        self._ids, self._mask = left_padded(byte_tokenizer(), encoded)

    def prompt(self) -> tuple[Tensor, list[bool]]:
        """The pass over the prompts."""
        return self._pass(self._ids, token_index(self._mask), range(len(self._ids)), generated=False)

    def next(self, ids: Sequence[int], lanes: Sequence[int]) -> tuple[Tensor, list[bool]]:
        """The pass over one new token of some rows."""
        tokens = torch.zeros(len(self._ids), 1, dtype=torch.long)
        tokens[list(lanes), 0] = torch.tensor(list(ids))
        self._mask = torch.cat([self._mask, torch.ones_like(tokens)], 1)
        return self._pass(tokens, torch.zeros(1, 1, dtype=torch.long), lanes, generated=True)

    def _pass(
        self, ids: Tensor, index: Tensor, lanes: Sequence[int], *, generated: bool
    ) -> tuple[Tensor, list[bool]]:
        logits, edited = self._forward(ids, self._mask, self._plan.operands(index, "cpu"))
        return logits[list(lanes), -1], [self._plan.touched(lane, generated) <= edited for lane in lanes]
