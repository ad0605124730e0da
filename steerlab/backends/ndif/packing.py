"""Packs rows for a server: which share a forward pass, which share a job, and where a pass is edited and read.

Nothing is sent here, and no server is needed: all of it follows from what is known of a model without its weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from steerlab.backends.base import ModelInfo, Table, continued, encode_row, nudge, readable
from steerlab.backends.cells import Look, texts
from steerlab.backends.decoding import left_padded, token_index
from steerlab.backends.ndif import jobs
from steerlab.backends.ndif.distant import Distant
from steerlab.backends.ndif.jobs import Inputs, Matrix, Point
from steerlab.backends.visits import visits
from steerlab.edits import Operand
from steerlab.errors import ModelError
from steerlab.generations import Sampling
from steerlab.recipes import Recipe
from steerlab.rows import Plan, Row
from steerlab.sites import Site

T = TypeVar("T")

# Rows of a job without tokens, for what is lost where it fails; fewer where their logits weigh more than so many bytes.
JOB_ROWS, LOGIT_BYTES = 512, 2**28


class Packer:
    """What a server is asked about a model. there: the model. host: of its server, for `info`. dtype: of its weights
    there, where that is known. batch_rows: the most rows that share a forward pass.
    """

    def __init__(self, there: Distant, *, host: str, dtype: str | None = None, batch_rows: int = 64) -> None:
        self.there, self.batch_rows = there, batch_rows
        self.model, self.tokenizer, self.stop_tokens = there.model, there.tokenizer, there.stop_tokens
        self.device = torch.device("cpu")  # where operands begin: they travel
        self.info = ModelInfo(
            name=there.name,
            backend="ndif",
            device=host,
            dtype=dtype or there.dtype,
            n_layers=there.sites.n_layers,
            d_model=there.d_model,
            points=there.sites.points,
            context=there.context,
        )

    def encode(self, rows: Sequence[Row]) -> list[list[int]]:
        return [encode_row(self.tokenizer, row, self.info.context) for row in rows]

    def plan(self, recipes: Sequence[Recipe]) -> Plan:
        info = self.info
        plan = Plan(recipes, n_layers=info.n_layers, d_model=info.d_model, model=info.name)
        for site in plan.sites:
            self.there.sites.hook(site)
        return plan

    def jobs(
        self, encoded: Sequence[list[int]], which: Iterable[int] | None = None, *, most: int = 64
    ) -> Iterator[list[list[int]]]:
        """Rows in batches of one forward pass, and those in jobs of about JOB_ROWS. Short and long prompts apart, for
        less padding.
        """
        order = sorted(range(len(encoded)) if which is None else which, key=lambda i: len(encoded[i]))
        batches = list(chunks(order, min(self.batch_rows, most)))
        n_jobs = max(1, round(len(batches) * min(self.batch_rows, most) / JOB_ROWS))
        yield from chunks(batches, max(1, math.ceil(len(batches) / n_jobs)))

    def batches(self, encoded: Sequence[list[int]], sampling: Sampling) -> Iterator[list[int]]:
        """Rows in batches that generate together: in order, and apart where the context leaves less room than asked."""
        groups: dict[int, list[int]] = {}
        for i, ids in enumerate(encoded):
            groups.setdefault(min(sampling.max_new_tokens, self.info.context - len(ids)), []).append(i)
        for group in groups.values():
            yield from chunks(group, self.batch_rows)

    @property
    def pad(self) -> int:
        """The token that fills rows on the left, and those that have ended."""
        return self.tokenizer.pad_token_id or 0

    def whole(
        self,
        rows: Sequence[Row],
        encoded: Sequence[list[int]],
        batch: list[int],
        tails: Sequence[Sequence[int]] | None = None,
        *,
        keep: int = 1,
    ) -> tuple[Inputs, dict[Site, list[Operand]]]:
        """A pass over whole rows: prompts, and the tails that follow them."""
        ids, mask = left_padded(self.tokenizer, [encoded[i] for i in batch])
        index = token_index(mask, [len(tails[i]) for i in batch] if tails else (0,))
        operands = self.plan([rows[i].recipe for i in batch]).operands(index, self.device)
        return self.inputs(ids, mask, keep=keep), operands

    def inputs(self, ids: Tensor, mask: Tensor, *, keep: int = 1) -> Inputs:
        inputs: Inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp_min(0),
            "logits_to_keep": keep,
            "use_cache": False,
        }
        return {name: value for name, value in inputs.items() if name in self.there.accepts}

    def blank(self, rows: int = 1) -> Inputs:
        """A pass over one token a row, whichever: for what the model does besides."""
        ones = torch.ones(rows, 1, dtype=torch.long)
        return self.inputs(0 * ones, ones)

    def matrix(self, table: Table) -> Matrix:
        """Where the rows of tokens are (`travelling.rows_of`). Raises ModelError where the model has none."""
        if table not in self.there.tables:
            raise ModelError(f"{self.info.name} has no {table} matrix")
        found = self.there.tables[table]
        # a tokenizer may know more tokens than the model
        return found.path, found.scale, self.info.d_model, min(found.rows, len(self.there.tokenizer))

    def jacobian(self, row: Row, source: Site, position: int, target: Site) -> bytes:
        """The job that differentiates (`base.Backend.linearise`): a pass for as many rows of the Jacobian as it has."""
        d_model = self.info.d_model
        ids = torch.tensor(self.encode([row])).expand(min(self.batch_rows, 32, d_model), -1).clone()
        added = nudge(ids, position, d_model)
        return jobs.linearise(
            self.model,
            self.inputs(ids, torch.ones_like(ids)),
            self.visits({source: [added]}, [source, target]),
            (str(source), str(target)),
            position,
            added.vectors,
        )

    def look(self, asked: Sequence[Look]) -> bytes:
        """The job that reads texts and looks at their cells (`base.Backend.look`). Each cells of a look has a place."""
        every = [(look, cells) for look in asked for cells in look.cells]
        together = texts([cells for _, cells in every])
        firsts = [every[places[0]][1] for places in together]
        rows, tails = [cells.row for cells in firsts], [cells.continuation for cells in firsts]
        encoded = continued(self.encode(rows), tails, self.info.context)
        passes = []
        for batch in chunks([*range(len(rows))], self.batch_rows):
            inputs, operands = self.whole(rows, encoded, batch, tails)
            wanted: dict[Site, list[Any]] = {}
            for row, text in enumerate(batch):
                for place in together[text]:
                    look, cells = every[place]
                    columns = torch.tensor(readable(cells.positions, [encoded[text]]))
                    made = (None, ()) if look.decodes else (look.how, look.given)
                    for number, site in enumerate(cells.sites):
                        self.there.sites.hook(site)
                        wanted.setdefault(site, []).append((place, number, row, columns, *made))
            points = self.reading(operands, sorted(wanted))
            passes.append((inputs, points, {str(site): kept for site, kept in wanted.items()}))
        places = iter(range(len(every)))
        questions = []
        for look in asked:
            parts = [
                (self.blank(part.stop - part.start), part, given)
                for part, given in look.portions(len(self.tokenizer))
                if look.decodes
            ]
            questions.append((look.how, [next(places) for _ in look.cells], parts))
        sizes = [len(cells.sites) for _, cells in every]
        return jobs.look(self.model, passes, sizes, questions, self.outputs())

    def outputs(self) -> list[Point]:
        """Where every block is left, for passes that skip them all."""
        blocks = [Site(i, "resid_post") for i in range(self.info.n_layers)]
        return [point for _, point in self.visits({}, blocks)]

    def points(self, operands: dict[Site, list[Operand]]) -> list[Point]:
        return [point for _, point in self.visits(operands, ())]

    def reading(self, operands: dict[Site, list[Operand]], read: Sequence[Site]) -> list[tuple[str, Point]]:
        """What to visit in a pass in which sites are read, in forward order: no edit comes after the last of them."""
        return self.visits({site: given for site, given in operands.items() if not read[-1] < site}, read)

    def visits(
        self, operands: dict[Site, list[Operand]], read: Sequence[Site], *, flowing: bool = False
    ) -> list[tuple[str, Point]]:
        """Where to edit and where to read in one pass (`backends.visits`): the names of sites, and their points."""
        plain: dict[int, tuple[Any, ...]] = {}  # the same operand at many sites travels once
        made = {
            s: [plain.setdefault(id(one), tuple(one._replace(scaled=None, turned=None))) for one in given]
            for s, given in operands.items()
        }
        found = visits(self.there.sites, self.there.entries, made, read, flowing=flowing)
        return [
            (
                str(v.site),
                (v.hook.path, v.hook.side, v.hook.wrapped, v.given, v.middle, v.keep, len(v.edited)),
            )
            for v in found
        ]

    def envelope(self) -> dict[str, Any]:
        """What a server needs to know of a job before it reads it."""
        return {
            "model_key": self.there.key,
            "session_id": "",
            "compress": True,
            "env": self.model._remoteable_get_env(),
        }


def chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
