from __future__ import annotations

from steerlab import BASELINE, Add, Direction, Recipe, Row, Sampling, Site
from steerlab.answers import Answers, answer_key, told_again
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


def test_a_kept_answer_is_told_again_with_what_was_applied_by_each_token() -> None:
    push = Direction([1.0, 2.0], Site(0, "resid_pre"))

    def counts(tokens: str, steps: int, of: int) -> list[tuple[int, int]]:
        recipe = Recipe([Add(push, tokens=tokens)])
        kept = Generation("a", recipe, (5, 6, 7), ("x", "y", "z"), "length", Applied(steps, of))
        told = told_again(kept, 2)
        assert [token[:3] for token in told] == [(2, 5, "x"), (2, 6, "y"), (2, 7, "z")]
        return [token.applied for token in told]

    assert counts("all", 3, 3) == [(1, 1), (2, 2), (3, 3)]
    assert counts("prompt", 1, 1) == [(1, 1), (1, 1), (1, 1)]
    assert counts("generated", 2, 2) == [(0, 0), (1, 1), (2, 2)]
    assert counts("all", 2, 3) == [(1, 1), (2, 2), (2, 3)], "not applied once"


def test_the_seed_counts_only_where_tokens_are_drawn() -> None:
    rows = [Row("a", seed=0), Row("a", seed=1)]
    assert len({answer_key(row, SAMPLING) for row in rows}) == 1
    assert len({answer_key(row, Sampling(8, 1.0)) for row in rows}) == 2
    add = Recipe([Add(Direction([1.0, 2.0], Site(0, "resid_pre")), 1.0)])
    assert answer_key(Row("a", add), SAMPLING) != answer_key(Row("a"), SAMPLING)
