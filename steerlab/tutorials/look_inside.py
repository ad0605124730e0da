"""The checks of `04_look_inside.ipynb`: at which layer words, facts and refusal are found, and where ablation acts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from steerlab.demo.world.facts import CLASSES
from steerlab.directions import Direction
from steerlab.estimators import DirectionMap
from steerlab.generations import Sampling
from steerlab.interventions import Ablate
from steerlab.lab import Lab
from steerlab.lens import Probe
from steerlab.metrics import Share, refusal_rate, refuses
from steerlab.prompts import Prompt, harmful, harmless
from steerlab.recipes import BASELINE, Recipe, describe
from steerlab.rows import Row
from steerlab.sites import whole
from steerlab.surgical import Bench
from steerlab.tutorials import WrongAnswerError, exercise, wanted

BRIEF = Sampling(max_new_tokens=20)  # a refusal shows in its first sentence
UNSEEN = 40  # prompts on which a layer's direction is tried
ALIKE = 0.05  # by how much two cosines may differ
FEW = 3  # layers
WITHIN = 0.05  # share of refusals that few layers may miss
# wordings and combinations that neither the model nor the notebook's searches have seen
FRESH = slice(500, 800)


@exercise
def settled(lab: Lab, baseline: object, steered: object) -> str:
    """From which layer on the lens has the first token of the answer to the panel's prompt: without the panel's
    ablation, and with it.
    """
    wanted(lab, Lab, "a lab")
    _only_ablates(lab.recipe)
    plain, ablated = lab.run([Row(lab.prompt, recipe) for recipe in (BASELINE, lab.recipe)], BRIEF)
    if not refuses(plain.text):
        raise WrongAnswerError("The model answers this prompt anyway: choose one that it refuses.")
    if refuses(ablated.text):
        raise WrongAnswerError(
            f"Ablated, it still refuses: “{ablated.text}” Press the preset Paper’s ablation under Where."
        )
    said = [
        _settled(lab, name, recipe, layer)
        for name, recipe, layer in (("Baseline", BASELINE, baseline), ("Steered", lab.recipe, steered))
    ]
    return (
        f"{said[0]}; {said[1]}. Further down the lens has only words that are never said. It shows words, and what "
        "decides is no word yet: the next exercises look for it there."
    )


def _settled(lab: Lab, name: str, recipe: Recipe, given: object) -> str:
    """What is said of the right layer. Raises WrongAnswerError for another."""
    layer = _layer(given, lab.info.n_layers, f"the layer of {name}")
    likeliest = [cells[-1][0] for cells in lab.logit_lens(lab.prompt, recipe).top(1).texts]
    last = likeliest[-1]
    others = [number for number, word in enumerate(likeliest) if word != last]
    if above := [number for number in others if number >= layer]:
        raise WrongAnswerError(
            f"{name}: at layer {above[0]} the model would still say “{likeliest[above[0]]}”, and “{last}” only "
            "further up. Go through the column of the prompt’s last token from the bottom to the top."
        )
    if layer and likeliest[layer - 1] == last:
        raise WrongAnswerError(
            f"{name}: the layer below says “{last}” already. Asked for is the first from which on it stays."
        )
    return f"{name} has “{last}” from layer {layer} on"


@exercise
def about_to_say_a_fact(lab: Lab, prompt: Prompt) -> str:
    """The likeliest token after the prompt is the answer to a fact that the prompt asks for."""
    wanted(lab, Lab, "a lab")
    lens = lab.logit_lens(prompt)
    token = int(lens.top(1).ids[-1, -1, 0])
    word = lab.tokenizer.decode([token]).strip()
    text = prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)
    if not any(_stands(key, text) and _begins(value, word) for key, value in _facts()):
        raise WrongAnswerError(
            f"After this prompt it would say “{word}”. The lens shows the next token and no other, and answers "
            "begin with words like “The”. Write the beginning yourself, up to the word that you want to see: "
            "sl.prompts.answered(question, beginning)."
        )
    if _stands(word, text):
        raise WrongAnswerError(f"It would say “{word}”, which stands in your prompt: that may be a copy.")
    ranks = ", ".join(str(int(rank)) for rank in lens.rank(token)[:, -1])
    return (
        f"It is about to say “{word}”. So many tokens are likelier, from the first layer to the last: {ranks}. A fact "
        "does not stand in one place: layer by layer it comes up."
    )


@exercise
def readable(probes: Sequence[Probe], layer: object) -> str:
    """The first layer at which a probe is better than chance, by its interval."""
    given = _layer(layer, len(probes), "the layer")
    one = probes[given]
    if one.accuracy.low <= one.chance:
        raise WrongAnswerError(
            f"At layer {given} the probe is right on {one.accuracy}. Who always says the commonest label is right on "
            f"{one.chance:.1%}, which lies within the interval: nothing is shown. Compare with chance, not with half."
        )
    if any(other.accuracy.low > other.chance for other in probes[:given]):
        raise WrongAnswerError(
            f"It can be read off layer {given}, and off one further down as well: asked for is the first whose whole "
            "interval lies above chance."
        )
    return (
        f"Layer {given} is right on {one.accuracy}, and chance is {one.chance:.1%}. Layer 0 has "
        f"{probes[0].accuracy.value:.0%} without having read a thing. That harm can be read here does not mean that "
        "the model reads it here."
    )


def still_refused(lab: Lab, direction: Direction) -> Share:
    """How many held-out harmful prompts are refused while a direction is ablated at every layer."""
    drop = Recipe([Ablate(direction)])
    answers = lab.run([Row(prompt, drop) for prompt in harmful(UNSEEN, split="heldout")], BRIEF)
    return refusal_rate([answer.text for answer in answers])


@exercise
def alike_but_for_the_effect(lab: Lab, found: DirectionMap, works: object, fails: object) -> str:
    """Two layers whose directions have nearly the same cosine with refusal, of which one, ablated, takes away more
    refusals than the other.
    """
    wanted(found, DirectionMap, "the map of directions")
    refusal, position = wanted(lab, Lab, "a lab").directions["refusal"], found.positions[-1]
    layers = [_layer(one, found.n_layers, what) for one, what in ((works, "works"), (fails, "fails"))]
    directions = [found.at(position, layer) for layer in layers]
    cosines = [direction.cosine(refusal) for direction in directions]
    if abs(cosines[0] - cosines[1]) > ALIKE:
        raise WrongAnswerError(
            f"The cosines with refusal are {cosines[0]:.2f} for layer {layers[0]} and {cosines[1]:.2f} for layer "
            f"{layers[1]}. Find two that differ by {ALIKE} at most: one below layer 6, one above."
        )
    left = [still_refused(lab, direction) for direction in directions]
    told = (
        f"Ablated, layer {layers[0]}’s direction leaves refused {left[0]}, and layer {layers[1]}’s {left[1]}"
    )
    if left[0].low > left[1].high:
        raise WrongAnswerError(f"{told}. It is the other way round.")
    if left[0].high >= left[1].low:
        raise WrongAnswerError(
            f"{told}. The intervals overlap, so these two do not differ for certain. Try another pair."
        )
    return (
        f"{told}, with cosines of {cosines[0]:.2f} and {cosines[1]:.2f}. A cosine says how much two directions share, "
        "and not whether it is the part that the model acts on: that takes an intervention."
    )


@exercise
def few_layers_suffice(lab: Lab) -> str:
    """The panel's ablation acts at few layers, and does on fresh prompts what it does at every layer, for less."""
    n = wanted(lab, Lab, "a lab").info.n_layers
    recipe, refusal = lab.recipe, lab.directions["refusal"]
    _only_ablates(recipe)
    layers = tuple(sorted({site.layer for step in recipe.interventions for site in step.resolve(n)}))
    if not layers:
        raise WrongAnswerError("The panel ablates at no layer at all: choose a point of the frontier.")
    if len(layers) > FEW:
        raise WrongAnswerError(
            f"The panel ablates at {len(layers)} layers. Choose a point of the frontier with {FEW} or fewer."
        )
    every = tuple(range(n))

    def ablation(at: tuple[int, ...]) -> Recipe:
        return Recipe([Ablate(refusal)]) if at == every else recipe

    sides = [draw(FRESH.stop, split="heldout")[FRESH] for draw in (harmful, harmless)]
    with lab.worker.first():
        bench = Bench(lab.backend, sides[0], sides[1], ablation, every, None)
        found = next(bench.measure([layers]))[0]
    where = f"ablation at layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"
    if found.missed.high > WITHIN:
        raise WrongAnswerError(
            f"On fresh prompts {where} misses too much: refused here and not under ablation at every layer are "
            f"{found.missed}. What looks good in a small search is partly luck: take a point that lies further down."
        )
    if found.saved.low <= 0:
        raise WrongAnswerError(
            f"On fresh prompts {where} costs as much as at every layer: the KL is lower by {found.saved}. Take "
            "fewer layers, or ablate less."
        )
    return (
        f"On fresh prompts {where} does what it does at every layer: refused here and not there are {found.missed}, "
        f"and the KL on harmless prompts is lower by {found.saved}."
    )


def _only_ablates(recipe: Recipe) -> None:
    """Raise WrongAnswerError for a recipe that does nothing, or anything else."""
    if not len(recipe):
        raise WrongAnswerError("Nothing is steered yet: in the row of refusal choose ablate.")
    if other := [step for step in recipe.interventions if not isinstance(step, Ablate)]:
        raise WrongAnswerError(
            f"The panel has a step that does not ablate: {describe(other[0])}. Choose ablate in its row, or untick it."
        )


def _layer(given: object, n: int, what: str) -> int:
    number = whole(given)
    if number is None or not 0 <= number < n:
        raise WrongAnswerError(f"{what} is a whole number from 0 to {n - 1}, not {given!r}.")
    return number


def _facts() -> list[tuple[str, str]]:
    """Keys and values that are one word, such as France and Paris."""
    return [(key, value) for one in CLASSES for key, value in one.table.items() if " " not in value]


def _begins(value: str, word: str) -> bool:
    """Whether a token is the beginning of a value, which may be of several."""
    return bool(word) and value.lower().startswith(word.lower())


def _stands(words: str, text: str) -> bool:
    """Whether words stand in a text, by themselves."""
    return bool(words) and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None
