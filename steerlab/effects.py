"""What a recipe does, measured beside the baseline, a random control of the same norm and plain prompting, with n and
intervals.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from torch import Tensor

from steerlab import metrics
from steerlab.backends.base import Backend, before_pass, encode_row
from steerlab.errors import PromptError, RemoteError
from steerlab.estimators import randomised
from steerlab.frames import estimated, table
from steerlab.generations import NOT_FINITE, Generation, Sampling
from steerlab.judges import Asked, name_of, yes_or_no
from steerlab.metrics import Estimate
from steerlab.prompts import Prompt, encode, instructed, several
from steerlab.recipes import BASELINE, Recipe
from steerlab.rows import Row, seeds

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

    n counts the rows that have a number; why: by the name of a figure, how many have none, and the reason.
    """

    name: str
    refusal_rate: Estimate
    false_refusals: Estimate
    refusal_score: Estimate
    kl: Estimate
    cross_entropy: Estimate
    text_cross_entropy: Estimate
    repetition: Estimate
    why: Mapping[str, str] = field(default_factory=dict)


FIGURES = tuple(one.name for one in fields(Effect) if one.name not in ("name", "why"))

# What a row gave, or why it gave nothing.
Told = float | str


@dataclass(frozen=True)
class Report:
    """The baseline, the recipe, its random control and prompting, with every completion behind the numbers.

    completions: by name of the effect, the answers to the harmful prompts and then to the harmless ones. unjudged:
    answers at which the judge raised or gave neither a bool nor 0 or 1, with the error; they count in no rate.
    """

    effects: tuple[Effect, ...]
    completions: dict[str, list[Generation]]
    unjudged: list[tuple[Generation, Exception]]

    def __getitem__(self, name: str) -> Effect:
        """The effect of a name: "baseline", "recipe", "random control", and "prompting" where an instruction was given.
        Raises PromptError for another.
        """
        for effect in self.effects:
            if effect.name == name:
                return effect
        raise PromptError(
            f"{name!r} was not measured. This report has {', '.join(one.name for one in self.effects)}",
            'For "prompting" give measure an instruction: prompting="Never refuse."'
            if name == "prompting"
            else "Take one of these.",
        )

    def to_frame(self) -> pd.DataFrame:
        """A row per recipe, a column per figure and its bounds, the n behind each, and why rows have no number."""
        rows = []
        for effect in self.effects:
            row: dict[str, object] = {"name": effect.name}
            for name in FIGURES:
                row |= estimated(name, getattr(effect, name))
            row["why"] = "; ".join(f"{name}: {reason}" for name, reason in effect.why.items())
            rows.append(row)
        return table(rows).set_index("name")


def rows_measured(harmful: int, harmless: int, texts: int, *, prompting: bool) -> int:
    """How many rows `measure` has answered and scored by its end, for so many prompts and texts."""
    recipes = (
        4 if prompting else 3
    )  # each answered and scored, and scored on the baseline's answers to harmless ones
    return recipes * (2 * harmful + 3 * harmless) + 3 * texts


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
    """Measure a recipe beside the baseline and its random control. Raises PromptError where a side is empty,
    RemoteError where somebody cancels a job of it.

    judge: from a completion to whether it refuses, by default by phrases. texts: plain text for cross-entropy, each no
    longer than what the model reads at once: cut longer ones yourself, as the figure depends on where. prompting: an
    instruction that asks for the same in words, "Never refuse."; its effect is measured too, as "prompting": the model
    unsteered, each prompt with the instruction before it (`prompts.instructed`), as in AxBench (Wu et al. 2025). seed:
    of the control and of sampled answers: those to one prompt share their noise, those to two do not. A prompt that is
    given again is another sample; where nothing is sampled it is the same again, and intervals are too narrow. Answers
    whose logits are not finite are not judged and count in no figure.
    """
    harmful, harmless = several(harmful, "harmful"), several(harmless, "harmless")
    recipes = {"baseline": BASELINE, "recipe": recipe, "random control": randomised(recipe, seed=seed)}
    prompts = [*harmful, *harmless]
    split = len(harmful)
    noise = seeds(prompts, seed)
    rows = {
        name: [Row(prompt, one, of) for prompt, of in zip(prompts, noise, strict=True)]
        for name, one in recipes.items()
    }
    if prompting is not None:
        if not prompting.strip():
            raise PromptError(
                "the instruction of prompting is empty", "Ask for the same as the recipe, in words."
            )
        most = [0] * split + [sampling.max_new_tokens] * (
            len(prompts) - split
        )  # of the baseline's answer behind it
        rows["prompting"] = [
            replace(_with_instruction(backend, prompt, prompting, n), seed=of)
            for prompt, n, of in zip(prompts, most, noise, strict=True)
        ]
    given = metrics.checked_tokens(refusal_tokens, len(backend.tokenizer))
    plain = [_halves(backend, text) for text in several(texts, "texts", least=0)]
    answers = {name: _whole(backend.generate(of, sampling)) for name, of in rows.items()}
    logits = {name: backend.score(of) for name, of in rows.items()}
    base = logits["baseline"]
    tokens = given or metrics.refusal_tokens(base[:split], base[split:])
    own = answers["baseline"][split:]
    asked = Asked(lambda answer: yes_or_no(judge(answer.text)), name_of(judge))

    def judged(answer: Generation) -> Told:
        verdict = None if answer.fault else asked(answer)
        return answer.fault or (asked.why if verdict is None else verdict)

    effects = []
    for name, of in rows.items():
        mine = answers[name]
        of_own = backend.likelihood(of[split:], [answer.token_ids for answer in own])
        starts = [Row(start, recipes[name], chat=False) for start, _ in plain] if name in recipes else []
        of_texts = backend.likelihood(starts, [rest for _, rest in plain]) if starts else []
        told: dict[str, list[Told]] = {
            "refusal_rate": list(map(judged, mine[:split])),
            "false_refusals": list(map(judged, mine[split:])),
            "refusal_score": _numbers(metrics.refusal_score(logits[name][:split], tokens)),
            "kl": _numbers(metrics.kl(base[split:], logits[name][split:])),
            "cross_entropy": [
                a.fault or number for a, number in zip(own, _numbers(_entropies(of_own)), strict=True)
            ],
            "text_cross_entropy": _numbers(_entropies(of_texts)),
            "repetition": list(map(_repetition, mine[split:])),
        }
        found = {
            figure: metrics.estimate([x for x in said if not isinstance(x, str)])
            for figure, said in told.items()
        }
        why = {figure: reason for figure, said in told.items() if (reason := _reasons(said))}
        effects.append(Effect(name, **found, why=why))
    asked.tell("count in no rate and stand in report.unjudged")
    return Report(tuple(effects), answers, asked.raised)


def _whole(answers: list[Generation]) -> list[Generation]:
    """Answers that were not cut short, of which figures can be made."""
    if cut := sum(answer.finish == "cancelled" for answer in answers):
        before_pass.get()()  # where background work ends that was cancelled
        raise RemoteError(
            f"a job of the measurement was cancelled, which left {cut} of {len(answers)} answers incomplete",
            "Measure again.",
        )
    return answers


def _reasons(told: Sequence[Told]) -> str:
    if not told:
        return "no text is measured"
    counts = Counter(one for one in told if isinstance(one, str))
    return ", ".join(f"{n} of {len(told)}: {reason}" for reason, n in counts.items())


def _numbers(values: Tensor | Iterable[float]) -> list[Told]:
    return [float(value) if math.isfinite(value) else NOT_FINITE for value in values]


def _entropies(likelihood: Sequence[Tensor]) -> list[float]:
    return list(map(metrics.cross_entropy, likelihood))


def _repetition(answer: Generation) -> Told:
    found = metrics.repetition(answer.text)
    return answer.fault or (metrics.FEW_WORDS if math.isnan(found) else found)


def _with_instruction(backend: Backend, prompt: Prompt, instruction: str, answer: int) -> Row:
    """A prompt with its instruction. Raises PromptError where an answer of so many tokens would not fit behind it."""
    row = Row(instructed(backend.tokenizer, prompt, instruction))
    context = backend.info.context
    length = len(encode_row(backend.tokenizer, row, context))
    if length + answer > context:
        raise PromptError(
            f"with its instruction the prompt {str(prompt)[:80]!r} has {length} tokens, with an answer of "
            f"{answer} it may have more than the {context} that the model reads",
            "Shorten it or the instruction, or give a sampling of fewer tokens.",
        )
    return row


def _halves(backend: Backend, text: str) -> tuple[str, list[int]]:
    """A text's beginning, of as few tokens as stand by themselves, and the ids of the rest, which it predicts.

    Raises PromptError where the text is too short for that, or longer than the model reads.
    """
    context = backend.info.context
    ids = list(backend.tokenizer(text, add_special_tokens=False)["input_ids"])
    for k in range(1, len(ids)):
        start = str(backend.tokenizer.decode(ids[:k]))
        if not start.strip():
            continue
        begun = encode(backend.tokenizer, start, chat=False)
        if begun[-k:] == ids[:k]:
            if (length := len(begun) + len(ids) - k) > context:
                raise PromptError(
                    f"the text {text[:80]!r} has {length} tokens, and the model reads at most {context}",
                    "Cut it into texts of that length.",
                )
            return start, ids[k:]
    raise PromptError(f"the text {text[:80]!r} is too short to be predicted", "Give sentences.")
