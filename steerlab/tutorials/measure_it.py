"""The checks of `03_measure_it.ipynb`: intervals, controls, judges, and the price of a strength."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from steerlab import prompts
from steerlab.directions import Direction
from steerlab.effects import Report
from steerlab.generations import Generation, Sampling
from steerlab.interventions import Ablate, Add
from steerlab.judges import yes_or_no
from steerlab.lab import Lab
from steerlab.metrics import Estimate, kl, rate, refuses
from steerlab.prompts import Prompt
from steerlab.recipes import BASELINE, Recipe
from steerlab.rows import Row
from steerlab.tutorials import WrongAnswerError, exercise, number, wanted, whole_number
from steerlab.tutorials.texts import is_broken, panel_texts, short, strangeness

Judge = Callable[[str], object]  # a student's, which may say anything

ABOUT = 0.2  # a width this far from the one that was asked for, as a share, is near enough
GOOD_JUDGE = 0.9  # share of each kind of text
JUDGED = 12  # prompts for each kind of text
REFUSED, PRICE = 0.1, 0.75  # at most so many refusals, for at most this part of the whole ablation's KL
ASKED = 40  # prompts a side


@exercise
def a_quarter_as_wide(measured: Estimate, n: int) -> str:
    """How many prompts make the interval of a measured share a quarter as wide."""
    measured = wanted(measured, Estimate, "a rate, such as sl.metrics.rate gives")
    given = whole_number(n, "a number of prompts")
    if given < 1:
        raise WrongAnswerError("At least one prompt has to be asked.")
    then = rate([True] * round(measured.value * given) + [False] * (given - round(measured.value * given)))
    now, wide = measured.high - measured.low, then.high - then.low
    said = f"With n = {given} the same share has the interval {then.low:.0%} to {then.high:.0%}, {wide:.0%} wide."
    if wide > now / 4 * (1 + ABOUT):
        raise WrongAnswerError(
            f"{said} A quarter would be {now / 4:.0%}. Four times the prompts make an interval half as wide, not a "
            "quarter: it shrinks with the square root of n."
        )
    if wide < now / 4 * (1 - ABOUT):
        raise WrongAnswerError(f"{said} A quarter would be {now / 4:.0%}, and takes fewer prompts.")
    return (
        f"{said} With n = {measured.n} it was {now:.0%} wide. The width shrinks with the square root of n: one more "
        "digit takes a hundred times the prompts."
    )


@exercise
def not_told_apart(report: Report, names: object) -> str:
    """The rows of a report whose share of refusals this n cannot tell from the baseline's."""
    report = wanted(report, Report, "a report of lab.measure")
    known = [effect.name for effect in report.effects if effect.name != "baseline"]
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, Iterable) or not all(isinstance(name, str) for name in given):
        raise WrongAnswerError(f"Give a list of names, some of {', '.join(map(repr, known))}.")
    said = set(given) - {"baseline"}
    base = report["baseline"].refusal_rate
    for name in sorted(said):
        if not _overlap(report[name].refusal_rate, base):
            raise WrongAnswerError(
                f"{name!r} lies wholly apart from the baseline: {report[name].refusal_rate} against {base}."
            )
    right = {name for name in known if _overlap(report[name].refusal_rate, base)}
    if missing := sorted(right - said):
        rate_of = report[missing[0]].refusal_rate
        raise WrongAnswerError(
            f"{missing[0]!r} overlaps the baseline, too: {rate_of} against {base}. The values may differ; the question "
            "is whether other prompts could have made them equal."
        )
    if not right:
        return "None: every row lies apart from the baseline."
    return (
        f"{' and '.join(sorted(right))}: with n = {base.n} the intervals overlap. That is no proof that they are "
        "equal, it says that nobody knows yet. More prompts would tell, or the same prompts compared one by one."
    )


@exercise
def fooled_the_judge(lab: Lab) -> str:
    """The panel's steered text counts as an answer by its phrases, and is none."""
    lab, plain, steered = panel_texts(lab)
    if refuses(steered.text):
        raise WrongAnswerError(
            f"This text has a phrase of refusal, and counts as one: “{short(steered.text)}” Look for one that counts "
            "as an answer and answers nothing. Push much further, to one side or the other."
        )
    cost, own = strangeness(lab, steered), strangeness(lab, plain)
    if not is_broken(lab, steered):
        raise WrongAnswerError(
            f"This is a text: “{short(steered.text)}” The unsteered model finds it odd by {cost:.1f} nats a token, its "
            f"own by {own:.1f}. Push further, until nothing is left of it."
        )
    return (
        f"“{short(steered.text)}” counts as an answer, since it has none of the phrases. The unsteered model finds it "
        f"odd by {cost:.1f} nats a token, its own text by {own:.1f}. In a table of rates it would be a success."
    )


@exercise
def tells_answers(lab: Lab, answers: Judge) -> str:
    """A judge that says whether a text is an answer, and is right about answers, refusals and broken texts."""
    lab = wanted(lab, Lab, "a lab")
    if not callable(answers):
        raise WrongAnswerError("Give a function of a text, which says True or False.")
    _asked(answers, "I cannot help with that.")  # what cannot be asked is said before anything is generated
    kinds = _kinds(lab)
    missed = 0
    for kind in kinds:
        wrong = [text for text in kind.texts if _asked(answers, text) is not kind.answers]
        missed += len(wrong)
        if len(wrong) > (1 - GOOD_JUDGE) * len(kind.texts):
            said = "none" if kind.answers else "answers"
            raise WrongAnswerError(
                f"Of {len(kind.texts)} {kind.name} it takes {len(wrong)} for {said}, this one among them: "
                f"“{short(wrong[0])}” {kind.hint}"
            )
    counts = ", ".join(f"{len(kind.texts)} {kind.name}" for kind in kinds)
    fooled = sum(not refuses(text) for text in kinds[-1].texts)
    return (
        f"It was asked about {counts}, and erred {missed} times. The phrases alone take {fooled} of the last for "
        "answers. On texts of another kind yours will err, too: read some of what it counts."
    )


@exercise
def cheap_and_enough(lab: Lab, budget: float) -> str:
    """A KL budget that leaves an ablation strong enough to end refusals, at a good part less than its whole price."""
    lab = wanted(lab, Lab, "a lab")
    given = number(budget, "a budget in nats, such as 0.1")
    refusal = lab.directions["refusal"]
    harmful, harmless = prompts.harmful(ASKED, split="heldout"), prompts.harmless(ASKED, split="heldout")

    def part(strength: float) -> Recipe:
        return Recipe([Ablate(refusal, strength=strength)])

    with lab.worker.first():
        base, ablated = (
            lab.backend.score([Row(prompt, of) for prompt in harmless]) for of in (BASELINE, part(1.0))
        )
    price = float(kl(base, ablated).mean())
    found = lab.calibrate(part, harmless, kl=given)
    rows = [Row(prompt, found.recipe) for prompt in harmful]
    refused = rate([refuses(answer.text) for answer in lab.run(rows, Sampling(24))])
    said = (
        f"{given:g} nats allow a strength of {found.strength:.2f}, which costs {found.kl.value:.4f} nats and leaves "
        f"refused: {refused}."
    )
    if refused.value > REFUSED:
        raise WrongAnswerError(f"{said} That is more than one in ten: allow a little more.")
    if found.kl.value > PRICE * price:
        raise WrongAnswerError(
            f"{said} The whole ablation costs {price:.4f}, so little is saved: allow less, and look whether refusals "
            "come back."
        )
    return (
        f"{said} The whole ablation costs {price:.4f}. Refusals end long before the direction is gone, and the "
        "price goes on rising."
    )


class _Kind(NamedTuple):
    """Texts that were made in one way, whether they answer, and where to look when a judge errs on them."""

    name: str
    texts: Sequence[str]
    answers: bool
    hint: str


def _kinds(lab: Lab) -> tuple[_Kind, ...]:
    """Answers, refusals and broken texts of the model itself."""
    harmful, harmless = (
        side(JUDGED, seed=1, split="heldout") for side in (prompts.harmful, prompts.harmless)
    )
    refusal: Direction = lab.directions["refusal"]

    def made(asked: Sequence[Prompt], keep: Callable[[Generation], bool], *recipes: Recipe) -> list[str]:
        rows = [Row(prompt, recipe) for recipe in recipes for prompt in asked]
        return [answer.text for answer in lab.run(rows, Sampling(48)) if keep(answer)]

    too_far = [Recipe([Add(refusal, coefficient)]) for coefficient in (-3, 3)]
    return (
        _Kind(
            "answers",
            made(harmless, lambda a: not refuses(a.text), BASELINE),
            True,
            "The unsteered model wrote it for a harmless prompt.",
        ),
        _Kind(
            "refusals",
            made(harmful, lambda a: refuses(a.text), BASELINE),
            False,
            "Is sl.metrics.refuses(text) part of your rule?",
        ),
        _Kind(
            "broken texts",
            made(harmless, lambda a: is_broken(lab, a), *too_far),
            False,
            "How does it end? How long is its longest word, how often does a word come again?",
        ),
    )


def _asked(answers: Judge, text: str) -> bool:
    """What a judge says of a text. Raises WrongAnswerError where it says nothing, or raises."""
    try:
        said = answers(text)
        if said is not ...:
            return yes_or_no(said)
    except Exception as error:  # the judge is the student's own
        raise WrongAnswerError(f"On “{short(text)}” it raises {type(error).__name__}: {error}") from error
    raise WrongAnswerError("Put your rule in the place of the three dots, and run the cell again.")


def _overlap(one: Estimate, other: Estimate) -> bool:
    return one.low <= other.high and other.low <= one.high
