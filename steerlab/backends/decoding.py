"""Decoding: the loop that turns forward passes into generations, for backends that run one pass per token.

A backend brings `Passes`; streaming, cancelling, stop tokens, per-row noise and the count of applied steps are here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from steerlab.backends.base import ModelInfo, OnTokens, rows_done, wide
from steerlab.generations import (
    NOT_FINITE,
    Applied,
    Finish,
    Generation,
    Sampling,
    TextStream,
    Token,
    pieces,
)
from steerlab.noise import seeded
from steerlab.reach import finds, touches
from steerlab.rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What `generate` of transformers is told: the likeliest token, without what a model's own settings may add to that.
PLAIN: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "use_cache": True,
    "num_return_sequences": 1,
    "token_healing": False,
    "remove_invalid_values": False,
    **dict.fromkeys(
        (
            "bad_words_ids",
            "begin_suppress_tokens",
            "exponential_decay_length_penalty",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "guidance_scale",
            "max_time",
            "prompt_lookup_num_tokens",
            "sequence_bias",
            "stop_strings",
            "suppress_tokens",
            "watermarking_config",
        )
    ),
}


class Passes(Protocol):
    """The forward passes of a batch of lanes. Each gives the logits of the lanes' last tokens [lanes vocab], and for
    each lane whether everything was done that its recipe asks for in this pass.
    """

    def prompt(self) -> tuple[Tensor, Sequence[bool]]:
        """The pass over the prompts, of all lanes."""
        ...

    def next(self, ids: Sequence[int], lanes: Sequence[int]) -> tuple[Tensor, Sequence[bool]]:
        """The pass over one new token of each of some lanes; the others have ended."""
        ...


class Decoder(Protocol):
    """What the loop needs to know of a backend."""

    info: ModelInfo
    tokenizer: PreTrainedTokenizerBase

    @property
    def stop_tokens(self) -> AbstractSet[int]:
        """The ids that end an answer."""
        ...


def left_padded(tokenizer: PreTrainedTokenizerBase, encoded: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask `[rows pos]`, padded on the left, so that the last column is every row's last token."""
    width = max(map(len, encoded))
    pad = tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(e)) + e for e in encoded])
    return ids, torch.tensor([[0] * (width - len(e)) + [1] * len(e) for e in encoded])


def token_index(mask: Tensor, continued: Sequence[int] = (0,)) -> Tensor:
    """`index` for `Plan.operands` in a pass over whole left-padded rows, `[rows pos]`, or `[1 pos]` for prompts alone.

    continued: how many of each row's tokens follow its prompt.
    """
    return torch.arange(-mask.shape[1], 0) + torch.tensor(continued)[:, None]


class Decoding:
    """Lanes that are generated together: their texts so far, their noise, and how often their rows were steered.

    A lane is computed once and answers one row or several. rows: for each lane its rows, each with its number in the
    request, by which tokens are named. prompts: the lanes' token ids.
    """

    def __init__(
        self,
        backend: Decoder,
        rows: Sequence[Sequence[tuple[int, Row]]],
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
    ) -> None:
        self._backend, self._rows, self._prompts, self._sampling = backend, rows, prompts, sampling
        self._ids: list[list[int]] = [[] for _ in rows]
        # told as the tokens come, where somebody listens; else once at the end
        self._streams: list[TextStream] = []
        self._pieces: list[list[str]] = [[] for _ in rows]
        self._finish: list[Finish | None] = [None] * len(rows)
        self._faults = [""] * len(rows)
        self._applied = {number: Applied(0, 0) for lane in rows for number, _ in lane}
        self._noise = [seeded(lane[0][1].seed) for lane in rows]
        self._wanted = {
            number: [touches(row.recipe, generated=generated) for generated in (False, True)]
            for lane in rows
            for number, row in lane
        }
        self._finds = {
            number: finds(row.recipe, len(ids))
            for lane, ids in zip(rows, prompts, strict=True)
            for number, row in lane
        }

    def run(
        self, passes: Passes, on_tokens: OnTokens | None, cancel: threading.Event | None
    ) -> dict[int, Generation]:
        """Generate until every lane has ended, or until `cancel` is set; the rows' answers by their numbers."""
        if on_tokens:
            self._listen()
        going = list(range(len(self._rows)))
        chosen: list[int] = []
        while going and not (cancel and cancel.is_set()):
            logits, done = passes.next(chosen, going) if chosen else passes.prompt()
            self._count(going, done, generated=bool(chosen))
            chosen = self._choose(going, logits)
            tokens = self._take(going, chosen)
            if on_tokens:
                on_tokens(sorted(tokens))
            chosen = [token for lane, token in zip(going, chosen, strict=True) if not self._finish[lane]]
            going = [lane for lane in going if not self._finish[lane]]
        return self.answers()

    def answers(self) -> dict[int, Generation]:
        """What has come of every row, by its number; one that has not ended counts as cancelled."""
        texts = self._texts()
        return {
            number: Generation(
                prompt=row.prompt,
                recipe=row.recipe,
                token_ids=tuple(self._ids[lane]),
                pieces=texts[lane],
                finish=self._finish[lane] or "cancelled",
                applied=self._applied[number],
                seed=row.seed,
                fault=self._faults[lane],
            )
            for lane, mine in enumerate(self._rows)
            for number, row in mine
        }

    def _listen(self) -> None:
        """From now on each token's text is told as it comes."""
        self._streams = [TextStream(self._backend.tokenizer) for _ in self._rows]

    def _count(self, going: Sequence[int], done: Sequence[bool], *, generated: bool) -> None:
        for lane, whole in zip(going, done, strict=True):
            for number, _ in self._rows[lane]:
                if self._wanted[number][generated]:
                    steps, of = self._applied[number]
                    applied = whole and (generated or self._finds[number])
                    self._applied[number] = Applied(steps + applied, of + 1)

    def _choose(self, going: Sequence[int], logits: Tensor) -> list[int]:
        """The next token of each lane: the likeliest, or with Gumbel noise from the row's own seed a sample."""
        if self._sampling.temperature:
            vocab = logits.shape[-1]
            uniform = torch.stack(
                [torch.rand(vocab, generator=self._noise[lane], dtype=torch.float64) for lane in going]
            )
            gumbel = -(-uniform.clamp_min(1e-300).log()).log()
            logits = wide(logits).cpu() / self._sampling.temperature + gumbel
        # on a CPU NumPy finds it in a tenth of torch's time: 360 rows of 4096 logits in 0.3 ms
        scores = logits.numpy() if logits.device.type == "cpu" else logits
        found = torch.as_tensor(scores.argmax(-1))
        sound = logits.gather(-1, found[:, None]).isfinite()  # NaN and infinity are taken for the largest
        if not sound.all():
            for lane, good in zip(going, sound[:, 0].tolist(), strict=True):
                self._faults[lane] = "" if good else NOT_FINITE
        chosen: list[int] = found.tolist()
        return chosen

    def _take(self, going: Sequence[int], chosen: Sequence[int]) -> list[Token]:
        tokens, worked = [], 0.0
        for lane, token_id in zip(going, chosen, strict=True):
            ids = self._ids[lane]
            ids.append(token_id)
            most = min(self._sampling.max_new_tokens, self._backend.info.context - len(self._prompts[lane]))
            if token_id in self._backend.stop_tokens and not self._faults[lane]:
                self._finish[lane] = "stop"
            elif self._faults[lane] or len(ids) >= most:
                self._finish[lane] = "length"
            left = most - len(ids) + 1  # before this token, which may be the last
            worked += len(self._rows[lane]) * (left if self._finish[lane] else 1) / most
            if self._streams:
                last = self._finish[lane] is not None
                text = "" if self._faults[lane] else self._streams[lane].push(token_id, last=last)
                self._pieces[lane].append(text)
                tokens += [
                    Token(number, token_id, text, self._applied[number]) for number, _ in self._rows[lane]
                ]
        rows_done.get()(worked)
        return tokens

    def _texts(self) -> list[tuple[str, ...]]:
        """The pieces of every lane; many a lane has the tokens of another one."""
        if self._streams:
            return [tuple(mine) for mine in self._pieces]
        known: dict[tuple[int, ...], str] = {}
        found: dict[tuple[tuple[int, ...], bool, bool], tuple[str, ...]] = {}
        texts = []
        for ids, finish, fault in zip(self._ids, self._finish, self._faults, strict=True):
            key = tuple(ids), finish is not None, bool(fault)
            if key not in found:
                said = ids[:-1] if fault else ids
                of_ids = pieces(self._backend.tokenizer, said, ended=bool(finish and not fault), known=known)
                found[key] = (*of_ids, "") if fault else of_ids
            texts.append(found[key])
        return texts
