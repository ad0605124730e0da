from __future__ import annotations

import json

import models
import pytest
import torch

from steerlab import (
    BASELINE,
    Ablate,
    Add,
    Direction,
    Lab,
    Recipe,
    Row,
    Sampling,
    Site,
    Snapshot,
    errors,
    snapshots,
)
from steerlab.backends.fake import FakeBackend


def direction(seed: int = 0) -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Direction(3 * noise, Site(2, "resid_pre"), name=f"random {seed}")


SEVERAL = [
    Snapshot("plain", "Hi\n“ü” 🙂"),
    Snapshot("push", "Hi", Recipe([Add(direction())]), Sampling(5, 0.7), seed=3),
    Snapshot("drop", "Hi", Recipe([Ablate([direction(), direction(1)])]), Sampling(5, 0.7), seed=4),
]


@pytest.fixture
def lab() -> Lab:
    return Lab(FakeBackend(d_model=models.D_MODEL))


def test_json_gives_back_the_same_snapshots() -> None:
    read = snapshots.from_json(snapshots.to_json(SEVERAL))
    assert read == SEVERAL
    assert [s.name for s in read] == ["plain", "push", "drop"]
    assert read[2].recipe.to_json() == SEVERAL[2].recipe.to_json()
    assert snapshots.from_json(snapshots.to_json([])) == []


def altered(change: str) -> str:
    data = json.loads(snapshots.to_json(SEVERAL))
    first = data["snapshots"][1]
    match change:
        case "seed":
            first["seed"] = "3"
        case "recipe":
            first["recipe"]["interventions"][0]["coefficient"] = 9.0
        case "sampling":
            first["sampling"]["temperature"] = -1
        case "gone":
            del first["prompt"]
        case "kind":
            data["snapshots"][1] = [1]
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (snapshots.to_json(SEVERAL)[:-30], "no complete JSON"),
        ("[]", "but 'list'"),
        ('{"format": "steerlab.snapshots/9", "snapshots": []}', "snapshots/9"),
        (altered("seed"), "whole number"),
        (altered("recipe"), "altered"),
        (altered("sampling"), "temperature"),
        (altered("gone"), "'prompt'"),
        (altered("kind"), "damaged"),
    ],
)
def test_other_text_is_refused(text: str, says: str) -> None:
    with pytest.raises(errors.FileError, match=says):
        snapshots.from_json(text)


def test_a_snapshot_has_a_name() -> None:
    with pytest.raises(errors.PromptError, match="a name"):
        Snapshot(" ", "Hi")


def test_a_lab_goes_back_to_a_snapshot(lab: Lab) -> None:
    before = lab.snapshot("before")
    lab.restore(SEVERAL[1])
    assert (lab.prompt, lab.recipe, lab.sampling, lab.seed) == ("Hi", SEVERAL[1].recipe, Sampling(5, 0.7), 3)
    assert lab.snapshot("push") == SEVERAL[1]
    lab.restore(before)
    assert (lab.snapshot("before"), lab.recipe) == (before, BASELINE)


def test_a_snapshot_that_does_not_fit_changes_nothing(lab: Lab) -> None:
    before = lab.snapshot("before")
    with pytest.raises(errors.DirectionError, match="d_model 2"):
        lab.restore(Snapshot("other", "Hi", Recipe([Add(Direction([1.0, 2.0], Site(1, "resid_pre")))])))
    assert lab.snapshot("before") == before


def test_several_are_compared_each_with_its_own_sampling_and_seed(lab: Lab) -> None:
    answers = snapshots.compare(lab.run, SEVERAL)
    for snapshot, answer in zip(SEVERAL, answers, strict=True):
        assert (answer.prompt, answer.recipe, answer.seed) == (
            snapshot.prompt,
            snapshot.recipe,
            snapshot.seed,
        )
        alone = lab.backend.generate(
            [Row(snapshot.prompt, snapshot.recipe, snapshot.seed)], snapshot.sampling
        )[0]
        assert answer.token_ids == alone.token_ids
    assert snapshots.compare(lab.run, []) == []
