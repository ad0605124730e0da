"""What the checks of several notebooks ask: the texts that the panel shows, and whether a text is one at all."""

from __future__ import annotations

from steerlab.generations import Generation
from steerlab.lab import Lab
from steerlab.recipes import BASELINE, Recipe, describe
from steerlab.rows import Row
from steerlab.tutorials import WrongAnswerError, wanted

STRANGE = (
    2.0  # nats a token; what the embedded model says itself costs it 0.2, a fluent steered text at most 1
)


def panel_texts(lab: object) -> tuple[Lab, Generation, Generation]:
    """The lab, and its answers to the panel's prompt without and with the panel's recipe. Raises WrongAnswerError where
    the panel steers nothing.
    """
    lab = wanted(lab, Lab, "a lab")
    if not len(lab.recipe):
        raise WrongAnswerError(
            "Nothing is steered yet: in the panel a row of the list Directions must be ticked, and its slider moved."
        )
    plain, steered = lab.run([Row(lab.prompt, recipe, lab.seed) for recipe in (BASELINE, lab.recipe)])
    return lab, plain, steered


def strangeness(lab: Lab, answer: Generation) -> float:
    """How unlikely the unsteered model finds an answer: the mean of −log p over its tokens, in nats."""
    with lab.worker.first():
        (logprobs,) = lab.backend.likelihood([Row(answer.prompt)], [answer.token_ids])
    return -float(logprobs.double().mean())


def is_broken(lab: Lab, answer: Generation) -> bool:
    """Whether an answer is no text but a loop or a heap of words."""
    return strangeness(lab, answer) > STRANGE


def told(recipe: Recipe) -> str:
    """A recipe in words."""
    return "; ".join(map(describe, recipe.interventions))


def short(text: str) -> str:
    """A text, or how it begins."""
    return text if len(text) <= 80 else text[:80] + "…"
