from __future__ import annotations

from steerlab import BASELINE, Add, Direction, Recipe, Row, Sampling, Site
from steerlab.answers import Answers, answer_key
from steerlab.generations import Applied, Generation

SAMPLING = Sampling(8)


def answer(prompt: str, recipe: Recipe = BASELINE, tokens: int = 50, finish: str = "length") -> Generation:
    return Generation(prompt, recipe, (1,) * tokens, ("a",) * tokens, finish, Applied(0, 0))


def test_the_answers_asked_for_last_stay_within_the_budget() -> None:
    keys = [answer_key(Row(f"prompt {i}"), SAMPLING) for i in range(5)]
    answers = Answers(budget=4 * 6000)
    for i, key in enumerate(keys[:4]):
        answers.keep(key, answer(f"prompt {i}"))
    assert answers.get(keys[0]) == answer("prompt 0")
    answers.keep(keys[4], answer("prompt 4"))
    assert [answers.get(key) is not None for key in keys] == [True, False, True, True, True]
    assert 0 < answers.nbytes <= answers.budget
    answers.keep(keys[1], answer("prompt 1", tokens=1000))
    assert answers.nbytes <= answers.budget
    assert len(answers) == 0, "what is larger than the budget is not kept"


def test_cancelled_answers_are_not_kept() -> None:
    answers, key = Answers(), answer_key(Row("a"), SAMPLING)
    answers.keep(key, answer("a", finish="cancelled"))
    assert answers.get(key) is None


def test_the_seed_counts_only_where_tokens_are_drawn() -> None:
    rows = [Row("a", seed=0), Row("a", seed=1)]
    assert len({answer_key(row, SAMPLING) for row in rows}) == 1
    assert len({answer_key(row, Sampling(8, 1.0)) for row in rows}) == 2
    add = Recipe([Add(Direction([1.0, 2.0], Site(0, "resid_pre")), 1.0)])
    assert answer_key(Row("a", add), SAMPLING) != answer_key(Row("a"), SAMPLING)
