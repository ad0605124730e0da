"""The checks of `01_first_steps.ipynb`: what the panel is set to, and what the model says under it."""

from __future__ import annotations

from steerlab.estimators import random_like
from steerlab.generations import Generation, Sampling
from steerlab.interventions import Ablate, Add
from steerlab.lab import Lab
from steerlab.metrics import refuses
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.tutorials import WrongAnswerError, exercise, whole_number
from steerlab.tutorials.texts import is_broken, panel_texts, short, told

CONTROLS = 10


@exercise
def made_it_refuse(lab: Lab) -> str:
    """The panel's prompt is answered by the model and refused under the panel's recipe."""
    lab, plain, steered = panel_texts(lab)
    if refuses(plain.text):
        raise WrongAnswerError("The model refuses this prompt without any steering: choose a harmless one.")
    if not refuses(steered.text):
        raise WrongAnswerError(
            f"It still answers: “{short(steered.text)}” Push further along refusal: move its slider to the right."
        )
    return f"It answers this prompt, and refuses it under {told(lab.recipe)}. How small can the number be?"


@exercise
def made_it_answer(lab: Lab) -> str:
    """The panel's prompt is refused by the model and answered under the panel's recipe, by ablation alone."""
    lab, plain, steered = panel_texts(lab)
    if not refuses(plain.text):
        raise WrongAnswerError("The model answers this prompt anyway: choose one that it refuses.")
    if not all(isinstance(step, Ablate) for step in lab.recipe.interventions):
        raise WrongAnswerError(
            f"Your recipe is {told(lab.recipe)}. Here the direction is to be taken out: choose ablate."
        )
    if refuses(steered.text):
        raise WrongAnswerError(
            f"It still refuses: “{short(steered.text)}” Is refusal ablated at every layer?"
        )
    if is_broken(lab, steered):
        raise WrongAnswerError(
            f"It does not refuse, but nor does it answer: “{short(steered.text)}” Ablate less."
        )
    return f"It refuses this prompt, and answers it under {told(lab.recipe)}."


def control_texts(lab: Lab, prompt: str) -> list[Generation]:
    """Answers to a prompt under ten random directions, each as long as refusal and added with coefficient 1."""
    refusal = lab.directions["refusal"]
    randoms = [random_like(refusal, seed=seed) for seed in range(CONTROLS)]
    return lab.run([Row(prompt, Recipe([Add(one)])) for one in randoms], Sampling(48))


@exercise
def counted(texts: list[Generation], refused: int) -> str:
    """How many of the texts refuse."""
    given = whole_number(refused, "a number, such as 3")
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
