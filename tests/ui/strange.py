"""A lab whose model says what no page should be led by: markup, marks that turn the text, a word without end."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence

import torch

from steerlab import Direction, Lab, Row, Sampling, Site
from steerlab.backends.base import OnTokens
from steerlab.backends.fake import FakeBackend
from steerlab.generations import Applied, Generation, Token

TOKENS = {
    "script": "<script>document.title='broken in'</script>",
    "image": "<img src=x onerror=\"document.title='broken in'\">",
    "one long word": "x" * 10_000,
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd",
    "emoji": "👩‍👩‍👧‍👦🇫🇷",
    "control": "\x07\x1b[31m\x00",
}


class Strange(FakeBackend):
    """Says TOKENS, one after the other. Their embeddings are longer than all others: the lens shows them too."""

    def __init__(self, *, n_layers: int = 4) -> None:
        super().__init__(n_layers=n_layers)
        self.tokenizer = copy.deepcopy(self.tokenizer)
        self.tokenizer.add_tokens(list(TOKENS.values()))
        noise = torch.Generator().manual_seed(1)
        long = 4 * torch.randn(len(TOKENS), self.info.d_model, generator=noise)
        self._embeddings = torch.cat([self._embeddings, long])

    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        ids = (*self.tokenizer.convert_tokens_to_ids(list(TOKENS.values())), self.tokenizer.eos_token_id)
        pieces = (*TOKENS.values(), "")
        for i, piece in enumerate(pieces):
            if on_tokens:
                on_tokens([Token(row, ids[i], piece, Applied(i + 1, i + 1)) for row in range(len(rows))])
        steps = Applied(len(ids), len(ids))
        return [Generation(r.prompt, r.recipe, ids, pieces, "stop", steps, r.seed) for r in rows]


def lab(*, n_layers: int = 4) -> Lab:
    """A lab over Strange that pushes a direction with a name like its tokens."""
    made = Lab(Strange(n_layers=n_layers))
    noise = torch.randn(16, generator=torch.Generator().manual_seed(0))
    name = TOKENS["image"]
    made.directions = {name: Direction(noise, Site(2, "resid_pre"), name=name, residual_norm=9.0)}
    made.prompt = f"{TOKENS['script']} {TOKENS['right to left']}"
    made.panel.examples = list(TOKENS.values())
    return made
