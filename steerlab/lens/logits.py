"""The logit lens: what each layer would say next, with a recipe and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from steerlab.backends import looks
from steerlab.backends.base import Backend
from steerlab.backends.cells import Look
from steerlab.errors import PromptError, SiteError
from steerlab.generations import Generation
from steerlab.interventions import GivenLayers
from steerlab.lens.reading import Reading, how_many, layers_of, read
from steerlab.prompts import Prompt, token_id
from steerlab.recipes import BASELINE, Recipe
from steerlab.sites import Point

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase


How = Callable[..., Sequence[Tensor]]  # a function of `looks`


class Top(NamedTuple):
    """The first k tokens of every cell. ids: [layers tokens k]; values: their probabilities, or what these changed by;
    texts: nested lists of the same shape. Where there are no layers, [tokens k].
    """

    ids: Tensor
    values: Tensor
    texts: Any


@dataclass(frozen=True, eq=False)
class Lens(Reading):
    """What the model would say next if a layer were its last: the final norm and the head on the stream of every layer
    (nostalgebraist 2020). Every cell of layers x tokens is a distribution over the token that follows.

    Cells are decoded when they are asked for; on a server that is a job. `steered - baseline` is a LensDifference.
    """

    def logits(self, layer: int) -> Tensor:
        """The logits at every token of one layer, `[tokens vocab]`. Raises SiteError for a layer that was not read."""
        if layer not in self.layers:
            raise SiteError(f"layer {layer} was not read", f"This lens has the layers {list(self.layers)}.")
        at = self.layers.index(layer)
        return self.backend.look([Look(looks.whole, [self.cells.part(slice(at, at + 1))])])[0][0][0]

    def top(self, k: int = 5) -> Top:
        """The k likeliest tokens of every cell, at most all there are, and their probabilities."""
        values, ids = self._look(looks.likeliest, how_many(k))
        return Top(ids, values, texts_of(self.backend.tokenizer, ids))

    def probability(self, token: int | str) -> Tensor:
        """The probability of a token in every cell, `[layers tokens]`."""
        return self._look(looks.chance, token_id(self.backend.tokenizer, token))[0]

    def rank(self, token: int | str) -> Tensor:
        """The rank of a token in every cell, `[layers tokens]`; 0 is the likeliest."""
        return self._look(looks.rank, token_id(self.backend.tokenizer, token))[0]

    def to_frame(self, k: int = 1) -> pd.DataFrame:
        """A row per cell and rank: layer, position, token, rank, next token, probability. Needs pandas."""
        top = self.top(k)
        frames = [
            self.frame(rank=rank, next=_column(top, rank), probability=top.values[..., rank])
            for rank in range(top.ids.shape[-1])
        ]
        import pandas as pd

        table: pd.DataFrame = pd.concat(frames, ignore_index=True)
        return table.sort_values(["layer", "position", "rank"], ignore_index=True)

    def __sub__(self, baseline: Lens) -> LensDifference:
        return LensDifference(self, baseline)

    def _look(self, how: How, *given: Any) -> list[Tensor]:
        return self.backend.look([Look(how, [self.cells], given)])[0]


class Overview(NamedTuple):
    """Every cell of a lens under a recipe beside the baseline's, each a Top `[layers tokens k]`.

    baseline, steered: the likeliest tokens and their probabilities. gained: the tokens whose probability rose most, and
    by how much. kl: KL(baseline || steered) in nats, [layers tokens], float64.
    """

    baseline: Top
    steered: Top
    gained: Top
    kl: Tensor


@dataclass(frozen=True, eq=False)
class LensDifference:
    """A lens under a recipe beside the baseline's, over the same tokens."""

    steered: Lens
    baseline: Lens

    def __post_init__(self) -> None:
        a, b = ((lens.token_ids, lens.layers, lens.point) for lens in (self.steered, self.baseline))
        if a != b:
            raise PromptError(
                "the two lenses do not read the same tokens at the same sites",
                "Read one text twice: logit_lens(backend, text, recipe) - logit_lens(backend, text).",
            )

    def kl(self) -> Tensor:
        """KL(baseline || steered) of every cell in nats, `[layers tokens]`, float64 (`metrics.kl`)."""
        return self._look(looks.divergence)[0]

    def probability(self, token: int | str) -> Tensor:
        """By how much the probability of a token rose in every cell, `[layers tokens]`."""
        given = (token_id(self.steered.backend.tokenizer, token),)
        both = [Look(looks.chance, [lens.cells], given) for lens in (self.steered, self.baseline)]
        (steered,), (baseline,) = self.steered.backend.look(both)
        return steered - baseline

    def gained(self, k: int = 5) -> Top:
        """The k tokens of every cell whose probability rose most, and by how much."""
        return self._shifted(k, largest=True)

    def lost(self, k: int = 5) -> Top:
        """The k tokens of every cell whose probability fell most, and by how much."""
        return self._shifted(k, largest=False)

    def overview(self, k: int = 1, *, tokens: slice = slice(None)) -> Overview:
        """Both lenses and their difference, every cell decoded once. tokens: which of the text's, by default all."""
        *found, kl = self._look(looks.beside, how_many(k), tokens=tokens)
        baseline, steered, gained = (
            Top(ids, values, texts_of(self.steered.backend.tokenizer, ids))
            for values, ids in zip(found[::2], found[1::2], strict=True)
        )
        return Overview(baseline, steered, gained, kl)

    def to_frame(self) -> pd.DataFrame:
        """A row per cell: layer, position, token, kl, and the next token that gained most. Needs pandas."""
        top = self.gained(1)
        return self.steered.frame(kl=self.kl(), gained=_column(top, 0), by=top.values[..., 0])

    def _shifted(self, k: int, *, largest: bool) -> Top:
        values, ids = self._look(looks.shifted, how_many(k), largest)
        return Top(ids, values, texts_of(self.steered.backend.tokenizer, ids))

    def _look(self, how: How, *given: Any, tokens: slice = slice(None)) -> list[Tensor]:
        cells = [lens.cells.part(positions=tokens) for lens in (self.steered, self.baseline)]
        return self.steered.backend.look([Look(how, cells, given)])[0]


def logit_lens(
    backend: Backend,
    text: Prompt | Generation,
    recipe: Recipe | None = None,
    *,
    point: Point = "resid_post",
    layers: GivenLayers | None = None,
    chat: bool = True,
) -> Lens:
    """Read a prompt, or a generation with its prompt, through the lens of every layer under a recipe.

    recipe: by default none for a prompt, and a generation's own; it acts on the tokens that it says, of the prompt or
    generated ones. chat: as the generation was made. point: resid_post, the output of each block, where the
    last layer gives the model's own logits; or resid_pre, resid_mid. layers: by default all.
    """
    if point in ("attn_out", "mlp_out"):
        raise SiteError(
            f"{point} is a part of the stream, not the stream, which is what the head reads",
            "Take resid_pre, resid_mid or resid_post.",
        )
    return Lens(*read(backend, text, recipe, point, layers, chat))


def lens_difference(
    backend: Backend,
    text: Prompt | Generation,
    recipe: Recipe | None = None,
    *,
    point: Point = "resid_post",
    layers: GivenLayers | None = None,
    chat: bool = True,
) -> LensDifference:
    """The lens of a text under a recipe, by default a generation's own, beside its lens under the baseline."""
    which = layers_of(backend, layers)
    return logit_lens(backend, text, recipe, point=point, layers=which, chat=chat) - logit_lens(
        backend, text, BASELINE, point=point, layers=which, chat=chat
    )


def texts_of(tokenizer: PreTrainedTokenizerBase, ids: Tensor) -> Any:
    """The texts of token ids, as nested lists of the same shape."""
    words = {i: tokenizer.decode([i]) for i in ids.unique().tolist()}

    def texts(nested: Any) -> Any:
        return [texts(one) for one in nested] if isinstance(nested, list) else words[nested]

    return texts(ids.tolist())


def _column(top: Top, rank: int) -> list[str]:
    return [cell[rank] for layer in top.texts for cell in layer]
