"""The checks of `05_your_own_concept.ipynb`: moods, styles and topics that are steered, with their controls."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from steerlab.demo import world
from steerlab.demo.world import stories
from steerlab.directions import Direction
from steerlab.estimators import random_like, randomised
from steerlab.generations import Sampling
from steerlab.interventions import Add
from steerlab.judges import yes_or_no
from steerlab.lab import Lab
from steerlab.metrics import Share, rate, repetition
from steerlab.prompts import harmless
from steerlab.recipes import BASELINE, Recipe
from steerlab.rows import Row
from steerlab.tutorials import WrongAnswerError, exercise, number, wanted
from steerlab.tutorials.texts import short, told

WHOLE = Sampling(max_new_tokens=56)  # a story
JUDGED = 60  # texts whose mood is known
RELIABLE = 0.9  # share of them
LOOPING = 0.2  # share of repeated word triples, as the notebook's table has it
ENOUGH, BROKEN = 0.75, 0.05  # shares of the answers under a strength
BOTH = 0.6  # share of the stories that are happy and in a castle
PUSH = 0.8  # norms with which sums of directions are tried

# none of them stands in the notebook
QUESTIONS = [
    "Do you like the sea?",
    "What do you think of snow?",
    "What is your opinion of music?",
    "Is the weekend good?",
    "Do you like the film?",
    "What do you think of Monday?",
    "How do you feel?",
    "How are you today?",
    "Are you okay?",
    "What's up?",
    "Tell me a story about a cat.",
    "Write a short story.",
    "Can you tell me a tale?",
    "Write me a story about a friend.",
    "Make up a story.",
    "Tell me a story about Anna.",
    "What do you think of the baker?",
    "Do you like the piano?",
    "Tell me what you think about summer.",
    "Is the king good?",
]
STORIES = [
    "Write a short story.",
    "Can you tell me a tale?",
    "Write me a story.",
    "Make up a story.",
    "I want to hear a story.",
    "Please tell me a story.",
    "Tell me a tale.",
    "Tell me a story about a dog.",
    "Write a story about Anna.",
    "Tell me a short story about a child.",
    "Write a tale about a friend.",
    "Please write me a short tale.",
    "Make up a story about a teacher.",
    "Tell me a story about Tom.",
    "I want to hear a tale about my sister.",
    "Write a story about two brothers.",
]
happy, sad = world.shows("happy"), world.shows("sad")


@exercise
def turned_the_mood(lab: Lab) -> str:
    """The panel's prompt is answered sadly by the model, and happily under what the panel adds."""
    recipe = wanted(lab, Lab, "a lab").recipe
    if not len(recipe):
        raise WrongAnswerError(
            "Nothing is steered yet: move the slider of happy. A direction of lab.directions that has no row in the "
            "panel is under “+ add a direction”."
        )
    added = [step for step in recipe.interventions if isinstance(step, Add)]
    if len(added) < len(recipe):
        raise WrongAnswerError(f"Here directions are added, and nothing else. You have {told(recipe)}.")
    plain, steered = (
        answer.text for answer in lab.run([Row(lab.prompt, r) for r in (BASELINE, recipe)], WHOLE)
    )
    if not sad(plain):
        raise WrongAnswerError(
            f"Without steering it says “{short(plain)}” That is not sad: choose a prompt with a sad answer."
        )
    if broken(steered):
        raise WrongAnswerError(f"The text has broken: “{short(steered)}” Push less.")
    if not happy(steered):
        raise WrongAnswerError(
            f"It says “{short(steered)}” That is not happy yet. Is the slider to the right of 0? Push a little further."
        )
    return f"From “{short(plain)}” to “{short(steered)}” under {'; '.join(map(_strength, added))}."


@exercise
def judges_well(judge: Callable[[str], object]) -> str:
    """A person's own judge of a text's mood agrees with the mood that the text was made with."""
    if not callable(judge):
        raise WrongAnswerError(f"This is {type(judge).__name__}; wanted is a function of a text.")
    texts = moody_texts()
    verdicts = [_verdict(judge, text) for text, _ in texts]
    if len(set(verdicts)) == 1:
        raise WrongAnswerError(f"It says {verdicts[0]} of every text, the sad and the happy ones.")
    wrong = [
        (verdict, text)
        for verdict, (text, is_happy) in zip(verdicts, texts, strict=True)
        if verdict != is_happy
    ]
    share = rate([True] * (len(texts) - len(wrong)) + [False] * len(wrong))
    if share.value < RELIABLE:
        verdict, text = wrong[0]
        raise WrongAnswerError(
            f"It is right on {share} of texts whose mood is known. It says {verdict} of “{text}” Which words of it "
            "does your judge not know?"
        )
    return (
        f"It is right on {share} of texts whose mood is known, as they were made with it. What it says of a text that "
        "has broken, or of irony, nobody knows: read some of what it judges."
    )


def moody_texts() -> list[tuple[str, bool]]:
    """Stories, opinions and feelings, and whether each is a happy one."""
    rng = random.Random("texts for a judge")
    makers = (stories.story_request, stories.opinion_request, stories.feeling_request)
    moods = [world.MOODS[i // len(makers) % 2] for i in range(JUDGED)]
    return [(makers[i % len(makers)](rng, mood)[1], mood == "happy") for i, mood in enumerate(moods)]


@exercise
def strong_but_whole(lab: Lab, direction: Direction, norms: object) -> str:
    """A strength, in multiples of the stream's norm, that makes answers happy and leaves them whole."""
    wanted(lab, Lab, "a lab")
    direction = wanted(direction, Direction, "a direction")
    amount = number(norms, "a number, such as 0.3")
    control = random_like(direction)
    texts = [
        _texts(lab, QUESTIONS, recipe)
        for recipe in (BASELINE, _push(direction, amount), _push(control, amount))
    ]
    plain, steered, random_ = (rate([happy(text) for text in some]) for some in texts)
    garbled = rate([broken(text) for text in texts[1]])
    said = f"On {len(QUESTIONS)} other questions {steered.value:.0%} of the answers are happy"
    if garbled.value > BROKEN:
        example = next(text for text in texts[1] if broken(text))
        raise WrongAnswerError(
            f"{said}, but {garbled.value:.0%} have broken, such as “{short(example)}” Happy words in a loop are no "
            "happy answer: push less."
        )
    if steered.value < ENOUGH:
        raise WrongAnswerError(f"{said}; without steering it is {plain.value:.0%}. Push harder.")
    return (
        f"{said}, and {garbled.value:.0%} are broken. Without steering it is {plain.value:.0%}, and under a random "
        f"direction pushed as hard {random_.value:.0%}: it is the direction, and not the push."
    )


@exercise
def happy_in_a_castle(lab: Lab, direction: Direction) -> str:
    """A sum of directions makes stories that are happy and in a castle."""
    wanted(lab, Lab, "a lab")
    direction = wanted(direction, Direction, "a direction, such as 2 * happy")
    castle = world.shows("castle")
    if direction.site is None:
        raise WrongAnswerError(
            "This sum has no site: its parts were read at different layers. Take both at layer 7."
        )
    texts = _texts(lab, STORIES, _push(direction, PUSH))
    whole = [text for text in texts if not broken(text)]
    both = rate([text in whole and happy(text) and castle(text) for text in texts])
    said = (
        f"At {PUSH} norms {sum(map(happy, texts))} of {len(texts)} stories are happy, {sum(map(castle, texts))} are "
        f"in a castle, {len(texts) - len(whole)} have broken"
    )
    if both.value < BOTH:
        raise WrongAnswerError(
            f"{said}, and {both.value:.0%} are happy, in a castle and whole. Of what is missing the sum needs more, of "
            f"the rest less. One says: “{short(texts[0])}”"
        )
    return f"{said}, and {both.value:.0%} are all that they should be. One says: “{texts[0]}”"


@exercise
def steers_a_concept(lab: Lab, concept: str, direction: Direction) -> str:
    """A direction that the panel adds makes answers show a concept that they do not show without it."""
    recipe = wanted(lab, Lab, "a lab").recipe
    direction = wanted(direction, Direction, "a direction")
    name = wanted(concept, str, "the name of a concept, in quotation marks")
    try:
        shows = world.shows(name)
    except ValueError as error:
        raise WrongAnswerError(f"{error}.") from error
    if name == "happy":
        raise WrongAnswerError("happy was the example: choose another concept.")
    if not any(direction.same(known) for known in lab.directions.values()):
        raise WrongAnswerError(
            "The lab does not know your direction yet, so the panel cannot have it: lab.directions = "
            "{**lab.directions, mine.name: mine}."
        )
    if not any(direction.same(used) for step in recipe.interventions for used in step.directions):
        raise WrongAnswerError(
            f"The panel does not steer with {direction.name}: move its slider. Where it has no row, choose it under "
            "“+ add a direction”."
        )
    asked = _asked(name)
    texts = [_texts(lab, asked, one) for one in (BASELINE, recipe, randomised(recipe))]
    plain, steered, random_ = (_whole_and(shows, some) for some in texts)
    said = (
        f"{name} shows in {steered} of the answers that have not broken; without steering in {plain.value:.0%}, under "
        f"random directions pushed as hard in {random_.value:.0%}"
    )
    if steered.low <= max(plain.high, random_.high):
        gone = sum(map(broken, texts[1]))
        advice = (
            "Push less." if gone > len(asked) / 4 else "Push harder, or read the direction at another layer."
        )
        raise WrongAnswerError(
            f"{said}. The intervals overlap. {gone} of {len(asked)} answers have broken; the first says "
            f"“{short(texts[1][0])}” {advice}"
        )
    return f"{said}. The first says: “{texts[1][0]}”"


def broken(text: str) -> bool:
    """Whether a text goes round in circles, or ended before there were three words."""
    share = repetition(text)
    return math.isnan(share) or share > LOOPING


def _asked(concept: str) -> list[str]:
    """Prompts whose answers can show a concept."""
    if concept in world.TOPICS:
        return STORIES
    if concept in world.MOODS:
        return QUESTIONS
    return harmless(16, split="heldout")


def _push(direction: Direction, norms: float) -> Recipe:
    return Recipe([Add(direction, direction.coefficient(norms=norms), tokens="generated")])


def _texts(lab: Lab, prompts: Sequence[str], recipe: Recipe) -> list[str]:
    return [answer.text for answer in lab.run([Row(prompt, recipe) for prompt in prompts], WHOLE)]


def _whole_and(shows: Callable[[str], bool], texts: Sequence[str]) -> Share:
    return rate([shows(text) and not broken(text) for text in texts])


def _strength(step: Add) -> str:
    """An addition in words, with its strength in the stream's norms where these are known."""
    direction, norm = step.direction, step.direction.residual_norm
    said = f"{step.coefficient:+.3g} × {direction.name}"
    return f"{said}, {step.coefficient * direction.norm / norm:+.2f} norms of the stream" if norm else said


def _verdict(judge: Callable[[str], object], text: str) -> bool:
    """What a person's judge says of a text. Raises WrongAnswerError where it raises, or says neither yes nor no."""
    try:
        given = judge(text)
    except Exception as error:  # the judge is the person's own
        raise WrongAnswerError(f"It raised {type(error).__name__}: {error}, on “{text}”") from error
    if given is ...:
        raise WrongAnswerError("Put your answer in the place of the three dots, and run the cell again.")
    try:
        return yes_or_no(given)
    except TypeError as error:
        raise WrongAnswerError(
            f"It gives {given!r}; wanted is True for a happy text and False for a sad one. Is there a return?"
        ) from error
