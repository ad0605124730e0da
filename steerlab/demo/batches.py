"""Training examples as batches of tokens: what is learnt from (answers and raw text) and where answers begin."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from steerlab.demo import tokenizer as tok
from steerlab.demo.world import Example, examples
from steerlab.demo.world.generator import HARMFUL

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast


def encode(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[list[int], list[bool], list[int]]:
    """Token ids, which of them are learnt (answers and raw text), and where answers start."""
    core = tokenizer.backend_tokenizer

    def ids(text: str) -> list[int]:
        return list(core.encode(text, add_special_tokens=False).ids)

    end = tokenizer.convert_tokens_to_ids(tok.END_OF_TEXT)
    if example.raw:
        raw = [*ids(example.raw), end]
        return raw, [False] + [True] * (len(raw) - 1), []
    tokens: list[int] = []
    learnt: list[bool] = []
    starts: list[int] = []
    for role, text in example.turns:
        head, body, tail = ids(f"{tok.TURN}{role}\n"), [*ids(text), tokenizer.eos_token_id], ids("\n")
        if role == "assistant":
            starts.append(len(tokens) + len(head))
        tokens += head + body + tail
        learnt += [False] * len(head) + [role == "assistant"] * len(body) + [False] * len(tail)
    return tokens, learnt, starts


@dataclass(frozen=True)
class Batch:
    """tokens, learnt: [batch pos]. starts: [answers 2], the row and position of the first token of each answer."""

    tokens: Tensor
    learnt: Tensor
    starts: Tensor


def batches(
    tokenizer: PreTrainedTokenizerFast, *, safety: bool, harmful: float = HARMFUL, seed: int, size: int = 3072
) -> Iterator[Batch]:
    """Endless batches of about `size` tokens; rows of similar length go together, so little is padding."""
    stream, rng = examples(seed, safety=safety, harmful=harmful), random.Random(seed)
    pad = tokenizer.pad_token_id
    while True:
        rows = sorted((encode(tokenizer, e) for e in islice(stream, 2000)), key=lambda row: len(row[0]))
        groups: list[list[tuple[list[int], list[bool], list[int]]]] = [[]]
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > size:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            longest = max(len(ids) for ids, _, _ in group)
            tokens = torch.full((len(group), longest), pad)
            learnt = torch.zeros(len(group), longest, dtype=torch.bool)
            for i, (ids, mask, _) in enumerate(group):
                tokens[i, : len(ids)] = torch.tensor(ids)
                learnt[i, : len(ids)] = torch.tensor(mask)
            starts = [(i, start) for i, (_, _, answers) in enumerate(group) for start in answers]
            yield Batch(tokens, learnt, torch.tensor(starts, dtype=torch.long).reshape(-1, 2))
