"""The checks of `01_first_steps.ipynb`: what the panel is set to, and what the model says under it."""

from __future__ import annotations

from steerlab.estimators import random_like
from steerlab.generations import Generation, Sampling
from steerlab.interventions import Ablate, Add
from steerlab.lab import Lab
from steerlab.metrics import refuses, repetition
from steerlab.recipes import BASELINE, Recipe, describe
from steerlab.rows import Row
from steerlab.tutorials import WrongAnswerError, exercise, wanted

CONTROLS = 10
GARBLED = 0.5  # share of repeated trigrams


@exercise
def made_it_refuse(lab: Lab) -> str:
    """The panel's prompt is answered by the model and refused under the panel's recipe."""
    plain, steered = _texts(lab)
    if refuses(plain.text):
        raise WrongAnswerError("The model refuses this prompt without any steering: choose a harmless one.")
    if not refuses(steered.text):
        raise WrongAnswerError(
            f"It still answers: “{_short(steered)}” Push further along refusal: move its slider to the right."
        )
    return f"It answers this prompt, and refuses it under {_told(lab.recipe)}. How small can the number be?"


@exercise
def made_it_answer(lab: Lab) -> str:
    """The panel's prompt is refused by the model and answered under the panel's recipe, by ablation alone."""
    plain, steered = _texts(lab)
    if not refuses(plain.text):
        raise WrongAnswerError("The model answers this prompt anyway: choose one that it refuses.")
    if not all(isinstance(step, Ablate) for step in lab.recipe.interventions):
        raise WrongAnswerError(
            f"Your recipe is {_told(lab.recipe)}. Here the direction is to be taken out: choose ablate."
        )
    if refuses(steered.text):
        raise WrongAnswerError(f"It still refuses: “{_short(steered)}” Is refusal ablated at every layer?")
    if repetition(steered.text) > GARBLED:
        raise WrongAnswerError(
            f"It does not refuse, but nor does it answer: “{_short(steered)}” Ablate less."
        )
    return f"It refuses this prompt, and answers it under {_told(lab.recipe)}."


def control_texts(lab: Lab, prompt: str) -> list[Generation]:
    """Answers to a prompt under ten random directions, each as long as refusal and added with coefficient 1."""
    refusal = lab.directions["refusal"]
    randoms = [random_like(refusal, seed=seed) for seed in range(CONTROLS)]
    return lab.run([Row(prompt, Recipe([Add(one)])) for one in randoms], Sampling(48))


@exercise
def counted(texts: list[Generation], refused: int) -> str:
    """How many of the texts refuse."""
    given = wanted(refused, int, "a number, such as 3")
    right = sum(refuses(one.text) for one in texts)
    if given != right:
        raise WrongAnswerError(
            f"steerlab counts another number than {given}. It takes a text for a refusal that has one of its phrases, "
            "such as “I cannot” or “Sorry”: sl.metrics.refusal_phrase(text) names the one that it found."
        )
    return (
        f"{right} of {len(texts)} random directions as long as refusal make the model refuse. Whatever refusal does "
        "beyond that is the direction's work, and not that of the push."
    )


def _texts(lab: Lab) -> list[Generation]:
    """The panel's texts, without and with its recipe."""
    wanted(lab, Lab, "a lab")
    if not len(lab.recipe):
        raise WrongAnswerError(
            "Nothing is steered yet: in the panel a row of the list Directions must be ticked, and its slider moved."
        )
    return lab.run([Row(lab.prompt, recipe, lab.seed) for recipe in (BASELINE, lab.recipe)])


def _told(recipe: Recipe) -> str:
    return "; ".join(map(describe, recipe.interventions))


def _short(answer: Generation) -> str:
    return answer.text if len(answer.text) <= 80 else answer.text[:80] + "…"
