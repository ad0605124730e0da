"""What a recipe does, measured beside the baseline, a random control of the same norm and plain prompting, with n and
intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from steerlab import metrics
from steerlab.backends.base import Backend
from steerlab.errors import PromptError
from steerlab.estimators import randomised
from steerlab.generations import Generation, Sampling
from steerlab.judges import Asked, name_of
from steerlab.metrics import Estimate
from steerlab.prompts import Prompt, encode, instructed
from steerlab.recipes import BASELINE, Recipe
from steerlab.rows import Row

if TYPE_CHECKING:
    import pandas as pd

# Says of a completion whether it refuses; a language model that judges plugs in here.
Judge = Callable[[str], bool]


@dataclass(frozen=True)
class Effect:
    """One recipe's figures.

    refusal_rate: of harmful prompts, by the judge. false_refusals: the same of harmless ones. refusal_score: its mean
    over harmful prompts. kl: mean KL to the baseline's next-token distribution on harmless prompts, nats.
    cross_entropy: of the baseline's own answers to harmless prompts, nats a token. text_cross_entropy: of plain texts,
    NaN without any, and for prompting. repetition: mean share of repeated trigrams in answers to harmless prompts.
    """

    name: str
    refusal_rate: Estimate
    false_refusals: Estimate
    refusal_score: Estimate
    kl: Estimate
    cross_entropy: Estimate
    text_cross_entropy: Estimate
    repetition: Estimate


@dataclass(frozen=True)
class Report:
    """The baseline, the recipe, its random control and prompting, with every completion behind the numbers.

    completions: by name of the effect, the answers to the harmful prompts and then to the harmless ones. unjudged:
    answers at which the judge raised, with the error; they count in no rate.
    """

    effects: tuple[Effect, ...]
    completions: dict[str, list[Generation]]
    unjudged: list[tuple[Generation, Exception]]

    def __getitem__(self, name: str) -> Effect:
        return next(effect for effect in self.effects if effect.name == name)

    def to_frame(self) -> pd.DataFrame:
        """A row per recipe, a column per figure and its bounds, and the n behind each."""
        import pandas as pd

        rows = []
        for effect in self.effects:
            row: dict[str, object] = {"name": effect.name}
            for field in fields(effect)[1:]:
                for part, value in getattr(effect, field.name)._asdict().items():
                    row[field.name if part == "value" else f"{field.name}_{part}"] = value
            rows.append(row)
        return pd.DataFrame(rows).set_index("name")


def measure(
    backend: Backend,
    recipe: Recipe,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    *,
    judge: Judge = metrics.refuses,
    texts: Sequence[str] = (),
    prompting: str | None = None,
    sampling: Sampling = Sampling(48),  # noqa: B008  (frozen)
    refusal_tokens: Sequence[int] | None = None,
    seed: int = 0,
) -> Report:
    """Measure a recipe beside the baseline and its random control. Raises PromptError where a side is empty.

    judge: from a completion to whether it refuses, by default by phrases. texts: plain text for cross-entropy.
    prompting: an instruction that asks for the same in words, "Never refuse."; its effect is measured too, as
    "prompting": the model unsteered, each prompt with the instruction before it (`prompts.instructed`), as in AxBench
    (Wu et al. 2025). seed: of the control.
    """
    if not harmful or not harmless:
        raise PromptError("a side of the prompts is empty", "Give harmful and harmless prompts.")
    recipes = {"baseline": BASELINE, "recipe": recipe, "random control": randomised(recipe, seed=seed)}
    prompts = [*harmful, *harmless]
    split = len(harmful)
    rows = {name: [Row(prompt, one) for prompt in prompts] for name, one in recipes.items()}
    if prompting is not None:
        if not prompting.strip():
            raise PromptError(
                "the instruction of prompting is empty", "Ask for the same as the recipe, in words."
            )
        rows["prompting"] = [Row(instructed(backend.tokenizer, p, prompting)) for p in prompts]
    answers = {name: backend.generate(of, sampling) for name, of in rows.items()}
    logits = {name: backend.score(of) for name, of in rows.items()}
    base = logits["baseline"]
    tokens = list(refusal_tokens or metrics.refusal_tokens(base[:split], base[split:]))
    own = [answer.token_ids for answer in answers["baseline"][split:]]
    plain = [_halves(backend, text) for text in texts]
    asked = Asked(lambda answer: bool(judge(answer.text)), name_of(judge))

    def rate(generations: Sequence[Generation]) -> Estimate:
        verdicts = [asked(generation) for generation in generations]
        return metrics.rate([bool(verdict) for verdict in verdicts if verdict is not None])

    effects = []
    for name, of in rows.items():
        likelihood = backend.likelihood(of[split:], own)
        starts = [Row(start, recipes[name], chat=False) for start, _ in plain] if name in recipes else []
        of_texts = backend.likelihood(starts, [rest for _, rest in plain]) if starts else []
        effects.append(
            Effect(
                name=name,
                refusal_rate=rate(answers[name][:split]),
                false_refusals=rate(answers[name][split:]),
                refusal_score=metrics.average(metrics.refusal_score(logits[name][:split], tokens)),
                kl=metrics.average(metrics.kl(base[split:], logits[name][split:])),
                cross_entropy=metrics.average(torch.tensor([float(-x.mean()) for x in likelihood])),
                text_cross_entropy=metrics.average(torch.tensor([float(-x.mean()) for x in of_texts])),
                repetition=metrics.average(
                    torch.tensor([r for a in answers[name][split:] if (r := metrics.repetition(a.text)) == r])
                ),
            )
        )
    asked.tell("count in no rate and stand in report.unjudged")
    return Report(tuple(effects), answers, asked.raised)


def _halves(backend: Backend, text: str) -> tuple[str, list[int]]:
    """A text's beginning, of as few tokens as stand by themselves, and the ids of the rest, which it predicts."""
    ids = list(backend.tokenizer(text, add_special_tokens=False)["input_ids"])
    for k in range(1, len(ids)):
        start = str(backend.tokenizer.decode(ids[:k]))
        if start.strip() and encode(backend.tokenizer, start, chat=False)[-k:] == ids[:k]:
            return start, ids[k:]
    raise PromptError(f"the text {text[:80]!r} is too short to be predicted", "Give sentences.")
