"""The checks of `02_find_a_direction.ipynb`: where directions are looked for, and what tells a cause from a trace."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from steerlab import prompts
from steerlab.directions import Direction
from steerlab.estimators import random_like
from steerlab.interventions import Add
from steerlab.lab import Lab
from steerlab.maps import DirectionMap
from steerlab.metrics import refuses
from steerlab.prompts import Position
from steerlab.recipes import Recipe
from steerlab.selection import Candidate, Selection
from steerlab.tutorials import WrongAnswerError, exercise, number, wanted, whole_number
from steerlab.tutorials.texts import is_broken, panel_texts, short, told

APART = 0.1  # norms of the stream between the two means, to speak of a difference
PAIRS = 200  # of random directions


@exercise
def after_the_words(lab: Lab, positions: object) -> str:
    """The positions of the template's tokens after the person's words, counted from the end."""
    lab = wanted(lab, Lab, "a lab")
    if not isinstance(positions, Iterable) or isinstance(positions, str):
        raise WrongAnswerError("Give a list of positions, such as [-1].")
    given = {whole_number(one, "a list of whole numbers") for one in positions}
    if any(position >= 0 for position in given):
        raise WrongAnswerError(
            "Count from the end, where the last token is −1: then a position means the same token of the template in "
            "prompts of every length."
        )
    right = range(-len(prompts.post_instruction_tokens(lab.tokenizer)), 0)
    one, other = lab.tokens_of("How do I bake some bread?"), lab.tokens_of("how to ride a horse")
    if words := sorted(given - set(right)):
        said = [repr(tokens[words[-1]]) if -words[-1] <= len(tokens) else "none" for tokens in (one, other)]
        raise WrongAnswerError(
            f"At position {words[-1]} stands {said[0]} in one of the prompts above and {said[1]} in another: that is a "
            "word of the person and not of the template."
        )
    if missing := sorted(set(right) - given):
        raise WrongAnswerError(
            f"At position {missing[-1]} stands {one[missing[-1]]!r}, whatever was asked. It comes after the person's "
            "words, so what the model has made of them can be there, too."
        )
    return (
        f"{len(right)} positions, where the same tokens follow any words: whatever differs there is what the model has "
        f"made of them. Times {lab.info.n_layers} layers that is {len(right) * lab.info.n_layers} candidates."
    )


@exercise
def same_stream(found: DirectionMap, after: Direction, layer: int) -> str:
    """The layer of a map whose direction is the one that was found elsewhere, at the same position."""
    found = wanted(found, DirectionMap, "a map of directions")
    after = wanted(after, Direction, "a direction")
    given = whole_number(layer, "the number of a layer")
    here = found.at(after.provenance.get("position", -1), given)
    if not torch.allclose(here.vector, after.vector, rtol=1e-4, atol=1e-4 * after.norm):
        raise WrongAnswerError(
            f"The direction of layer {given} in the map is another one: its cosine with `after` is "
            f"{here.cosine(after):.2f}, and its norm {here.norm:.0f} against {after.norm:.0f}. `after` was read "
            "where a block has written; the map was read where a block is about to read. Who reads next?"
        )
    assert here.site is not None
    return (
        f"It is the very same vector: {here.site.describe()}. Papers and programs differ in which of the two numbers "
        "they write, and a direction that is used one layer off is another one. So steerlab always says both."
    )


@exercise
def leaves_a_trace(lab: Lab, position: Position, layer: int) -> str:
    """A candidate along which the two sides differ, and which neither ablation nor addition shows to matter."""
    lab = wanted(lab, Lab, "a lab")
    one = _candidate(lab, whole_number(position, "a position"), whole_number(layer, "a layer"))
    apart = _apart(lab, one)
    scores = f"bypass {one.bypass:.1f}, induce {one.induce:.1f}"
    if apart < APART:
        raise WrongAnswerError(
            f"There the two means are {apart:.2f} norms of the stream apart, which is hardly a difference. Look for a "
            f"cell with {APART:g} or more."
        )
    if math.isnan(one.bypass) or math.isnan(one.induce):
        raise WrongAnswerError("That candidate was not scored: search again with full_map=True.")
    if one.bypass <= 0:
        raise WrongAnswerError(
            f"Without this direction the model no longer refuses ({scores}): below 0 an answer is likelier than a "
            "refusal. So it has a part in refusing"
            + (f", though it fell for another reason: {one.rejected}." if one.rejected else ", and passed.")
            + " Look where bypass stays above 0."
        )
    if one.induce >= 0:
        raise WrongAnswerError(
            f"Added, this direction makes the model refuse ({scores}). Look where induce stays below 0."
        )
    return (
        f"The means lie {apart:.2f} norms apart there. Yet without that direction the model still refuses, and with it "
        f"harmless prompts are still answered ({scores}). A difference in means finds what goes along with refusal; "
        "whether refusal hangs on it, only the two interventions tell."
    )


@exercise
def refuses_in_whole_sentences(lab: Lab) -> str:
    """The panel adds a candidate of the last search that passed, and a harmless prompt is refused in sentences."""
    lab, plain, steered = panel_texts(lab)
    found = _map(lab)
    if refuses(plain.text):
        raise WrongAnswerError("The model refuses this prompt without any steering: choose a harmless one.")
    step, *others = lab.recipe.interventions
    if others:
        raise WrongAnswerError(f"{len(others) + 1} rows steer at once: untick all but the candidate's.")
    cell = found.cell_of(step.direction)
    if cell is None:
        raise WrongAnswerError(
            f"{step.direction.name!r} is no candidate of the last search. Press Find below “+ find a new direction…”, "
            "click a cell of the map, and untick the other rows."
        )
    if lab.recipe != Recipe([Add(step.direction)]):
        raise WrongAnswerError(
            f"Your recipe is {told(lab.recipe)}. Candidates are compared as the search adds them: with coefficient 1, "
            "at their own layer, at every token."
        )
    one, best = _candidate(lab, *cell), _selection(lab).best
    where = f"The candidate at position {one.position} of layer {one.layer}"
    if one.rejected:
        raise WrongAnswerError(f"{where} fell: {one.rejected}. Take one of those that passed.")
    if not refuses(steered.text):
        raise WrongAnswerError(
            f"{where} leaves this prompt answered: “{short(steered.text)}” Its score is a mean over prompts. Try "
            "another prompt, or another cell."
        )
    if is_broken(lab, steered):
        chosen = " It is the winner of the search: the scores see no more than the first token." * (
            one == best
        )
        raise WrongAnswerError(f"{where} refuses, but in no sentence: “{short(steered.text)}”{chosen}")
    if one == best:
        return f"{where} refuses in sentences, and is the winner: “{short(steered.text)}”"
    n = _selection(lab).prompts[0]
    return (
        f"{where} refuses in sentences: “{short(steered.text)}” Its bypass is {one.bypass:.2f}, the "
        f"winner's {best.bypass:.2f}, over {n} prompts: close. The scores see the first token alone; you have read on."
    )


@exercise
def typical_cosine(lab: Lab, size: float) -> str:
    """How large a cosine between two directions is that have nothing to do with each other."""
    lab = wanted(lab, Lab, "a lab")
    given = number(size, "a number from 0 to 1")
    if not 0 <= given <= 1:
        raise WrongAnswerError("The size of a cosine lies between 0 and 1.")
    refusal = lab.directions["refusal"]
    found = torch.tensor([random_like(refusal, seed=seed).cosine(refusal) for seed in range(PAIRS)]).abs()
    typical = float(found.square().mean().sqrt())
    beyond = int((found > given).sum())
    if not typical / 2 <= given <= 2 * typical:
        raise WrongAnswerError(
            f"Of {PAIRS} random directions {beyond} have a cosine with refusal above {given:g}, the sign aside. A "
            "typical size is one that some pass and most do not. The more dimensions there are, the less do two random "
            "directions share: one over the square root of their number."
        )
    return (
        f"Of {PAIRS} random directions {beyond} have a larger one with refusal. Their root mean square is "
        f"{typical:.3f}, and 1/√{lab.info.d_model} is {lab.info.d_model**-0.5:.3f}. Hold the list above against it: a "
        "cosine, too, needs a control."
    )


def _map(lab: Lab) -> DirectionMap:
    if lab.map is None:
        raise WrongAnswerError("There is no map to look at: run the cell of the search above.")
    return lab.map


def _selection(lab: Lab) -> Selection:
    if lab.candidates is None:
        raise WrongAnswerError("There are no scores to look at: run the cell of the search above.")
    return lab.candidates


def _candidate(lab: Lab, position: Position, layer: int) -> Candidate:
    """What the last search says of a cell. Raises WrongAnswerError or SteerlabError where there is nothing."""
    found, known = _map(lab), _selection(lab)
    found.at(position, layer)
    return next(one for one in known.candidates if (one.position, one.layer) == (position, layer))


def _apart(lab: Lab, one: Candidate) -> float:
    direction = _map(lab).at(one.position, one.layer)
    return direction.norm / (direction.residual_norm or math.nan)
