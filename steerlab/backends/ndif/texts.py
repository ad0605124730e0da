"""The texts that a server generates: the job that asks for them, and its tokens as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from steerlab.backends.base import nobody, rows_done
from steerlab.backends.decoding import PLAIN, Decoding, left_padded, token_index
from steerlab.backends.ndif import jobs
from steerlab.backends.ndif.packing import Packer
from steerlab.generations import NOT_FINITE, Sampling, Token
from steerlab.rows import Row


class Heard(Decoding):
    """A batch's texts, from the tokens that a server tells. rows: by their numbers in the request."""

    def __init__(
        self, packer: Packer, rows: dict[int, Row], encoded: Sequence[list[int]], sampling: Sampling
    ) -> None:
        super().__init__(packer, [[(number, row)] for number, row in rows.items()], encoded, sampling)
        self._listen()
        self._told: list[tuple[int, list[int], list[int]]] = []
        self._seeds = [row.seed for row in rows.values()]
        self._packer = packer
        plan = packer.plan([row.recipe for row in rows.values()])
        self._tokens, self._mask = left_padded(packer.tokenizer, encoded)
        # what to do in the pass over the prompts, and in every later one
        self._operands = (
            plan.operands(token_index(self._mask), packer.device),
            plan.operands(torch.zeros(1, 1, dtype=torch.long), packer.device),
        )

    @property
    def steps(self) -> int:
        """How many it has heard."""
        return len(self._told)

    @property
    def done(self) -> bool:
        """Whether every row has ended."""
        return all(self._finish)

    def heard(self, saved: Mapping[str, Any]) -> list[tuple[int, list[int], list[int]]]:
        """What `hear` takes of every step, from a job's result; the last pass may have made no tokens. Jobs of earlier
        versions tell of no broken rows.
        """
        broken = saved.get("broken") or [[]] * len(saved["tokens"])
        return list(zip(saved["edited"], saved["tokens"], broken, strict=False))

    def settled(self, steps: Sequence[tuple[int, list[int], list[int]]]) -> Heard:
        """These texts, where what was heard is how a job's steps began. Else others, at the same step: a server that
        begins a job again may make another text of it, and the one that was saved counts.
        """
        if self._told == list(steps[: self.steps]):
            return self
        rows = dict(row for lane in self._rows for row in lane)
        other = Heard(self._packer, rows, [list(ids) for ids in self._prompts], self._sampling)
        counted = rows_done.set(nobody)  # these steps were
        try:
            for step in steps[: self.steps]:
                other.hear(*step)
        finally:
            rows_done.reset(counted)
        return other

    def payload(self) -> bytes:
        """The job that answers the batch."""
        far = self._packer
        prompt, later = ([p for _, p in far.visits(o, (), flowing=True)] for o in self._operands)
        return jobs.generate(
            far.model,
            {"input_ids": self._tokens, "attention_mask": self._mask},
            prompt,
            later,
            min(self._sampling.max_new_tokens, far.info.context - self._tokens.shape[1]),
            temperature=self._sampling.temperature,
            seeds=self._seeds,
            options={**PLAIN, "eos_token_id": sorted(far.stop_tokens) or None, "pad_token_id": far.pad},
        )

    def hear(self, edited: int, chosen: Sequence[int], broken: Sequence[int] = ()) -> list[Token]:
        """Add a step's tokens, one a row, made by a pass that edited at so many sites: at all that it should, or the
        step counts as not applied. broken: the rows of which it made no token. Returns those of the rows that were
        still going.
        """
        whole = edited == len(self._operands[self.steps > 0])
        going = [lane for lane, finish in enumerate(self._finish) if not finish]
        self._count(going, [whole] * len(going), generated=self.steps > 0)
        self._told.append((edited, list(chosen), list(broken)))
        for lane in set(broken).intersection(going):
            self._faults[lane] = NOT_FINITE
        return sorted(self._take(going, [chosen[lane] for lane in going]))
