"""The bars in a cell: which verbs show one, that it ends where the work ends, and what stays where it breaks off."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tqdm import tqdm

from steerlab import Ablate, Direction, Lab, Recipe, Row, Sampling, Site, progress, prompts, remote
from steerlab.backends.fake import FakeBackend
from steerlab.backends.ndif.messages import JobStatus
from steerlab.judges import Asked
from steerlab.progress import bar, counted
from steerlab.worker import Worker

HARMFUL, HARMLESS = prompts.harmful(12), prompts.harmless(12)
RECIPE = Recipe([Ablate(Direction([1.0] * 16, Site(1, "resid_pre")))])


class Seen(tqdm):  # type: ignore[type-arg]
    """A bar that keeps how far it came, out of how much, and whether it went."""

    all: list[Seen] = []  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "file": io.StringIO(), "mininterval": 0})
        Seen.all.append(self)
        self.most, self.farthest, self.gone = self.total, 0, False

    def update(self, n: float | None = 1) -> bool | None:
        done = super().update(n)
        self.most, self.farthest = self.total, max(self.farthest, self.n)
        return done

    def close(self) -> None:
        super().close()
        self.gone = True


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Seen]]:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "tqdm", Seen)
    monkeypatch.setattr(remote, "DELAY", 0.0)
    Seen.all.clear()
    yield Seen.all
    assert all(one.gone for one in Seen.all)


@pytest.fixture
def lab() -> Lab:
    made = Lab(FakeBackend())
    made.sampling = Sampling(4)
    return made


VERBS: dict[str, tuple[Callable[[Lab], object], list[str]]] = {
    "generate": (lambda lab: lab.generate("Hi"), ["generating"]),
    "run": (lambda lab: lab.run([Row(p) for p in HARMLESS]), ["generating"]),
    "compare": (lambda lab: lab.compare(HARMLESS, [RECIPE]), ["generating"]),
    "measure": (
        lambda lab: lab.measure(
            RECIPE, HARMFUL, HARMLESS[:5], prompting="Never refuse.", texts=["A text of words."]
        ),
        ["measuring"],
    ),
    "means": (lambda lab: lab.difference_in_means(HARMFUL, HARMLESS), ["reading the stream"]),
    "component": (lambda lab: lab.principal_component(HARMFUL, HARMLESS), ["reading the stream"]),
    "logistic": (lambda lab: lab.logistic_probe(HARMFUL, HARMLESS), ["reading the stream"]),
    "caa": (lambda lab: lab.caa([("Is it so?", " yes", " no.")] * 3), ["reading the stream"]),
    "probe": (lambda lab: lab.probe(HARMFUL + HARMLESS, [1] * 12 + [0] * 12), ["reading the stream"]),
    "projection": (
        lambda lab: lab.mean_projection(RECIPE.interventions[0].directions[0], HARMLESS),
        ["reading the stream"],
    ),
    "relation": (
        lambda lab: lab.linear_relation(
            [(f"The capital of {land} is", land, city) for land, city in (("Aa", "Bb"), ("Cc", "Dd"))]
        ),
        ["linearising"],
    ),
    "surgical": (
        lambda lab: lab.surgical(
            RECIPE.interventions[0].directions[0], HARMFUL, HARMLESS, refusal_tokens=[65]
        ),
        ["ablating subsets of layers"],
    ),
    "find": (
        lambda lab: lab.find_direction(
            HARMFUL, HARMLESS, refusal_tokens=[65], drop=False, max_kl=1e9, min_induce=-1e9
        ),
        ["asking the model without steering", "reading the stream", "trying every candidate"],
    ),
}


class Counting(FakeBackend):
    """Counts the rows that it was given, but for those of a Jacobian."""

    given = 0

    def capture(self, rows: Any, *args: Any, **kwargs: Any) -> Any:
        self.given += len(rows)
        return super().capture(rows, *args, **kwargs)

    def score(self, rows: Any) -> Any:
        self.given += len(rows)
        return super().score(rows)

    def likelihood(self, rows: Any, continuations: Any) -> Any:
        self.given += len(rows)
        return super().likelihood(rows, continuations)

    def generate(self, rows: Any, *args: Any, **kwargs: Any) -> Any:
        self.given += len(rows)
        return super().generate(rows, *args, **kwargs)


@pytest.mark.parametrize("verb", [verb for verb, (_, phases) in VERBS.items() if len(phases) == 1])
def test_a_bar_has_as_much_to_do_as_the_verb_asks_of_the_model(seen: list[Seen], verb: str) -> None:
    lab = Lab(Counting())
    lab.sampling = Sampling(4)
    VERBS[verb][0](lab)
    (one,) = seen
    each = {" token": 64 if verb in ("generate", "compare") else 4, " row": 1}.get(one.unit)
    if each:  # not of steps of another kind
        assert one.most == each * lab.backend.given  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_shows_how_far_it_is_and_takes_the_bar_away(lab: Lab, seen: list[Seen], verb: str) -> None:
    call, phases = VERBS[verb]
    call(lab)
    assert [one.desc.removesuffix(": ") for one in seen] == phases
    for one in seen:
        assert one.most == one.farthest > 0, "all that was to be done is done"
        assert one.leave is False


def test_a_search_for_a_strength_takes_the_bar_away_where_it_ends_early(lab: Lab, seen: list[Seen]) -> None:
    lab.calibrate(Direction([0.1] * 16, Site(1, "resid_pre"), residual_norm=1.0), HARMLESS, kl=1e6, most=0.1)
    (one,) = seen
    assert one.farthest < one.most
    assert one.n == one.total, "in a notebook a bar that ends before its total stays, as a failure"


def test_what_breaks_off_leaves_its_bar_where_it_was(lab: Lab, seen: list[Seen]) -> None:
    class Broken(FakeBackend):
        def score(self, rows: Any) -> Any:
            raise KeyboardInterrupt

    lab.backend = Broken()
    with pytest.raises(KeyboardInterrupt):
        lab.measure(RECIPE, HARMFUL, HARMLESS)
    (one,) = seen
    assert one.n < one.total


def test_nothing_is_shown_of_what_is_quick_or_told_otherwise(
    lab: Lab, seen: list[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run([Row("Hi")], on_tokens=lambda _: None)  # who asked hears the tokens
    done = []
    lab.worker.submit(lambda _: done.append(lab.run([Row("How do I bake bread?")])))  # the panel
    assert lab.worker.join(10)
    assert done
    monkeypatch.setattr(progress, "DELAY", 60.0)
    lab.measure(RECIPE, HARMFUL, HARMLESS)
    assert seen == []


def test_a_phase_begins_anew_and_a_late_bar_begins_where_the_work_is(
    seen: list[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bar("step") as shown:
        for done, total, text in ((0, 3, "one"), (3, 3, "one"), (1, 4, "two"), (4, 4, "two")):
            shown(done, total, text)
        monkeypatch.setattr(progress, "DELAY", 60.0)
        shown(1, 2, "three")
        monkeypatch.setattr(progress, "DELAY", 0.0)
        shown(2, 4, "three")
        shown(4, 4, "three")
    assert [(one.desc.removesuffix(": "), one.initial, one.farthest, one.most) for one in seen] == [
        ("one", 0, 3, 3),
        ("two", 1, 4, 4),
        ("three", 2, 4, 4),
    ]


def test_the_rows_of_a_judge_and_of_the_panel_are_not_the_bar_s(lab: Lab, seen: list[Seen]) -> None:
    def judge(text: str) -> bool:
        lab.backend.score([Row("Is this a refusal?")] * 9)
        lab.worker.submit(lambda _: lab.backend.score([Row("Hi")] * 9))
        assert lab.worker.join(10)
        return False

    counts: list[float] = []
    before = progress.rows_done.set(counts.append)
    judging = Asked(lambda answer: judge(answer.text), "mine")
    judging(lab.generate("Hi"))
    progress.rows_done.reset(before)
    assert sum(counts) == 0, "an answer's own rows are the bar's of generate"


def test_rows_are_counted_within_and_not_after(lab: Lab) -> None:
    told: list[tuple[int, int]] = []
    with counted(lambda done, total: told.append((done, total)), 3, each=2):
        lab.backend.score([Row("Hi")] * 2)
        lab.backend.score([Row("Hi")] * 2)  # more than was said: never more than all
    lab.backend.score([Row("Hi")])
    assert told == [(0, 6), (4, 6), (6, 6)]


def test_a_job_on_a_server_has_a_line_until_it_is_over(lab: Lab, seen: list[Seen]) -> None:
    show = remote.JobLines()
    show(JobStatus("sending", seconds=1.0))
    assert seen == []  # it has no id yet
    show(JobStatus("queued", "abcdefgh-1", 3, 1.5))
    (one,) = seen
    assert one.desc == "job abcdefgh: queued at position 3, 2 s"
    show(JobStatus("running", "abcdefgh-1", None, 4.0))
    assert one.desc == "job abcdefgh: running, 4 s"
    assert not one.gone
    show(JobStatus("completed", "abcdefgh-1", None, 5.0))
    assert one.gone
    show(JobStatus("queued", "left", 1, 9.0, left=True))  # nobody waits for it
    other = Worker()
    for worker in (lab.worker, other):  # a panel's header has it, of this lab or another one
        worker.submit(lambda _: show(JobStatus("queued", "panel", 1, 9.0)))
        assert worker.join(10)
    assert len(seen) == 1
