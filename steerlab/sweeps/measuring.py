"""Measuring: a batch of rows to the numbers that the metrics ask for, and not a forward pass more."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from steerlab import metrics
from steerlab.backends.base import Backend
from steerlab.errors import PromptError
from steerlab.generations import NOT_FINITE, Generation, Sampling
from steerlab.judges import Asked, Verdict, code_hash, name_of
from steerlab.prompts import harmful, harmless
from steerlab.recipes import BASELINE
from steerlab.rows import Row

T = TypeVar("T")

# A metric: a name of NAMES, the function of steerlab.metrics of that name, or a judge of an answer.
Metric = str | Callable[..., Any]

OF_LOGITS = ("refusal_score", "kl")
OF_TEXT: dict[str, Callable[[Generation], Verdict]] = {
    "refusal_rate": lambda answer: metrics.refuses(answer.text),
    "repetition": lambda answer: metrics.repetition(answer.text),
}
NAMES = (*OF_LOGITS, *OF_TEXT, "cross_entropy")  # the last: of the baseline's own answers, nats a token
NO_NUMBER = {
    **dict.fromkeys((*OF_LOGITS, "cross_entropy"), NOT_FINITE),
    "repetition": metrics.FEW_WORDS,
}


class Measured(NamedTuple):
    """What one row gave: a value per metric, NaN where there is none, the reason for each NaN, and the answer where one
    was generated.
    """

    values: dict[str, Verdict]
    why: dict[str, str]
    text: str | None


class Meter:
    """Measures rows batch by batch. It holds what the baseline made of the prompts of one batch, no more.

    names: of the metrics, in their order. generates: whether they need answers. times: how often the model goes through
    the rows. own: the metrics that are functions which a person brought, with their `judges.code_hash`. refusal_tokens:
    None unless the refusal score is asked for. taken: names that no metric may have. Raises PromptError for a metric
    that is not known, one whose name is taken, or two of one name.
    """

    def __init__(
        self,
        backend: Backend,
        given: Sequence[Metric],
        sampling: Sampling,
        *,
        refusal_tokens: Sequence[int] | None = None,
        taken: Collection[str] = (),
    ) -> None:
        if isinstance(given, str) or not given:
            raise PromptError(f"metrics={given!r} is no list of metrics", f"Give some of {', '.join(NAMES)}.")
        tokens = metrics.checked_tokens(refusal_tokens, len(backend.tokenizer))
        pairs = [_named(metric) for metric in given]
        self.names = tuple(name for name, _ in pairs)
        for name in self.names:
            if self.names.count(name) > 1:
                raise PromptError(
                    f"two metrics are named {name!r}", "Give functions that have names of their own."
                )
            if name in taken:
                raise PromptError(
                    f"a metric is named {name!r}, as a column of the table is",
                    "Give the function another name.",
                )
        self.judges = [Asked(judge, name) for name, judge in pairs if judge is not None]
        self.own = {name: code_hash(judge) for name, judge in pairs if judge not in (None, OF_TEXT.get(name))}
        self.generates = bool(self.judges) or "cross_entropy" in self.names
        of_logits = any(name in OF_LOGITS for name in self.names)
        self.times = of_logits + self.generates + ("cross_entropy" in self.names)
        self._backend, self._sampling = backend, sampling
        self._logits: dict[int, Tensor] = {}
        self._answers: dict[int, Generation] = {}
        self.refusal_tokens: tuple[int, ...] | None = None
        if "refusal_score" in self.names:
            self.refusal_tokens = tokens or tuple(_refusal_tokens(backend))

    def __call__(
        self, rows: Sequence[Row], prompts: Sequence[int], cancel: threading.Event | None = None
    ) -> list[Measured] | None:
        """The rows' measures, in order; None where `cancel` came in between. prompts: a number for each row's prompt,
        by which rows share their baseline.
        """
        found: list[dict[str, float]] = [{} for _ in rows]
        if any(name in OF_LOGITS for name in self.names):
            logits = self._run(self._backend.score, self._logits, rows, prompts, beside="kl" in self.names)
            # cloned, because a view would keep the logits of the whole batch
            self._logits = {p: one.clone() for p, one in self._logits.items()}
            for i, p in enumerate(prompts):
                for name in self.names:
                    if name in OF_LOGITS:
                        found[i][name] = self._of_logits(name, self._logits.get(p), logits[i])
        answers: dict[int, Generation] = {}
        if self.generates:
            steered, beside = bool(self.judges), "cross_entropy" in self.names

            def generate(new: list[Row]) -> list[Generation]:
                return self._backend.generate(new, self._sampling, cancel=cancel)

            answers = self._run(generate, self._answers, rows, prompts, beside=beside, steered=steered)
            if any(answer.finish == "cancelled" for answer in (*answers.values(), *self._answers.values())):
                self._answers.clear()
                return None
        if "cross_entropy" in self.names:
            own = [self._answers[p] for p in prompts]
            likelihood = self._backend.likelihood(rows, [answer.token_ids for answer in own])
            for values, answer, logprobs in zip(found, own, likelihood, strict=True):
                values["cross_entropy"] = math.nan if answer.fault else metrics.cross_entropy(logprobs)
        return [self._judged(values, answers.get(i)) for i, values in enumerate(found)]

    def _run(
        self,
        run: Callable[[list[Row]], Iterable[T]],
        baseline: dict[int, T],
        rows: Sequence[Row],
        prompts: Sequence[int],
        *,
        beside: bool,
        steered: bool = True,
    ) -> dict[int, T]:
        """What `run` makes of the rows, by their numbers; without `steered`, of none but the baseline.

        baseline: by prompt, what it made of the baseline; what the last batch left there is not run again. Afterwards
        it has the prompts of these rows: all of them with `beside`, else those whose baseline is itself a row.
        """
        bare = {
            p: replace(row, recipe=BASELINE)
            for p, row in zip(prompts, rows, strict=True)
            if beside or not row.recipe
        }
        # (prompt, row), and (prompt, -1) for its baseline: those of a prompt together
        wanted = [(p, i) for i, p in enumerate(prompts) if steered and rows[i].recipe]
        wanted = sorted(wanted + [(p, -1) for p in bare if p not in baseline])
        new = [bare[p] if i < 0 else rows[i] for p, i in wanted]
        made = dict(zip(wanted, run(new) if new else (), strict=True))
        for p in set(baseline) - set(bare):
            del baseline[p]
        baseline |= {p: one for (p, i), one in made.items() if i < 0}
        return {i: one for (_, i), one in made.items() if i >= 0} | {
            i: baseline[p] for i, p in enumerate(prompts) if not rows[i].recipe
        }

    def _of_logits(self, name: str, baseline: Tensor | None, steered: Tensor) -> float:
        if name == "refusal_score":
            assert self.refusal_tokens is not None
            return float(metrics.refusal_score(steered[None], self.refusal_tokens))
        assert baseline is not None
        return float(metrics.kl(baseline[None], steered[None]))

    def _judged(self, values: dict[str, float], answer: Generation | None) -> Measured:
        found: dict[str, Verdict] = {**values}
        why = {}
        for judge in self.judges:
            assert answer is not None
            verdict = None if answer.fault else judge(answer)
            found[judge.name] = math.nan if verdict is None else verdict
            if verdict is None:
                why[judge.name] = answer.fault or judge.why
        for name, value in found.items():
            if not math.isfinite(value):
                found[name] = math.nan
                why.setdefault(name, NO_NUMBER.get(name, f"the judge gave {value}"))
        return Measured({name: found[name] for name in self.names}, why, answer.text if answer else None)


def _named(metric: Metric) -> tuple[str, Callable[[Generation], Any] | None]:
    """A metric's name, and the judge behind it where it is one of answers."""
    if metric is metrics.refuses:
        metric = metrics.refusal_rate
    for name in NAMES:
        if metric == name or metric is getattr(metrics, name, name):
            return name, OF_TEXT.get(name)
    if not callable(metric):
        raise PromptError(
            f"there is no metric {metric!r}",
            f"The metrics are {', '.join(NAMES)}, and any function of a Generation.",
        )
    return name_of(metric), metric


def _refusal_tokens(backend: Backend) -> list[int]:
    logits = backend.score([Row(p) for p in (*harmful(32), *harmless(32))])
    return metrics.refusal_tokens(*logits.split(32))
