"""What can go wrong with jobs that were left: those that a server lost, that failed in part, or whose file is odd."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from misbehaving import Misbehaving, misbehave
from test_troubles import QUICK, result, said

from steerlab import Generation, Row, Sampling, errors
from steerlab.backends.ndif import kept
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.ui.jobs import NewestJob
from steerlab.ui.protocol import Job

EVICTED = said("ERROR", "Replica was evicted while processing your request. Please try again later.")

pytestmark = pytest.mark.usefixtures("jobs_folder")


def test_a_job_that_is_never_heard_of_is_waited_for_no_longer_than_the_patience(
    model_folders: dict[str, Path],
) -> None:
    with misbehave(Misbehaving()) as server:
        there = NdifBackend(model_folders["llama"], host=server.url, patience=QUICK)
        told: list[float] = []
        there.watchers.append(lambda status: told.append(status.seconds))
        job = there.left.submit([Row("Hi")], Sampling(3))
        began = time.monotonic()
        with pytest.raises(
            errors.RemoteError, match="knows no job 'j' any more.*Fetch it again in some minutes"
        ):
            there.left.fetch(job, timeout=20)
        assert time.monotonic() - began < QUICK.answer + 3
    assert told[0] < 0.9 < told[-1], "its seconds are counted meanwhile"


class Parts:
    """A job of three rows, each of them a job of its own on the server: "a", "b" and "c"."""

    def __init__(self, server: Misbehaving, folder: Path) -> None:
        posted = [(200, said("RECEIVED").replace('"j"', f'"{name}"')) for name in "abc"]
        server.answers.update({"/request": posted, "/result": [(200, result(72, 73))]})
        self.done = said("COMPLETED", data=f"{server.url}/result")
        self.server = server
        self.there = NdifBackend(folder, host=server.url, patience=QUICK, batch_rows=1)
        self.job = self.there.left.submit([Row("One"), Row("Two"), Row("Three")], Sampling(2))

    def say(self, **words: str) -> None:
        """The last words about some parts."""
        self.server.answers.update({f"/response/{part}": [(200, word)] for part, word in words.items()})

    def fails(self, match: str) -> list[Generation]:
        """What the error of a fetch has."""
        with pytest.raises(errors.RemoteError, match=match) as caught:
            self.there.left.fetch(self.job, timeout=5)
        answers: Any = caught.value.generations
        assert all((one.token_ids, one.finish) == ((72, 73), "length") for one in answers)
        return answers


def test_a_part_that_failed_loses_none_of_the_others(model_folders: dict[str, Path]) -> None:
    with misbehave(Misbehaving()) as server:
        parts = Parts(server, model_folders["llama"])
        parts.say(a=EVICTED, b=parts.done, c=said("RUNNING"))
        assert [one.prompt for one in parts.fails("lost the job while it ran .*was evicted")] == ["Two"]
        parts.say(c=parts.done)
        assert [one.prompt for one in parts.fails("lost the job")] == ["Two", "Three"], "asked again"


def test_a_part_that_the_server_forgot_loses_none_of_the_others(model_folders: dict[str, Path]) -> None:
    with misbehave(Misbehaving()) as server:
        parts = Parts(server, model_folders["llama"])
        parts.say(a=parts.done, c=parts.done)
        assert [one.prompt for one in parts.fails("knows no job")] == ["One", "Three"]


def test_a_part_whose_result_is_gone_loses_none_of_the_others(model_folders: dict[str, Path]) -> None:
    with misbehave(Misbehaving()) as server:
        parts = Parts(server, model_folders["llama"])
        parts.say(a=parts.done, b=said("COMPLETED", data=f"{server.url}/gone"), c=parts.done)
        assert [one.prompt for one in parts.fails("is not at .* any more")] == ["One", "Three"]


def test_the_panel_tells_of_a_job_only_while_somebody_fetches_it(model_folders: dict[str, Path]) -> None:
    answers = {
        "/response/j": [(200, said("RUNNING"))],
        "/request/j": [(200, '{"status": "cancelled_execution"}')],
    }
    with misbehave(Misbehaving(answers=answers)) as server:
        there = NdifBackend(model_folders["llama"], host=server.url)
        told: list[Any] = []
        header = NewestJob(told.append)
        there.watchers.append(header.follow)
        job = there.left.submit([Row("Hi")], Sampling(3))
        assert there.left.fetch(job, timeout=0) is None
        assert [one.stage for one in told] == ["running", ""], "nobody asks any more where it is"
        assert (there.job.stage, there.job.awaited) == ("running", False), "as it was when it was looked at"
        there.cancel(job)
        assert there.job.stage == "cancelled"
        assert header.told == Job(stage="")


def test_a_job_of_another_lab_is_fetched_with_what_opens_its_model(model_folders: dict[str, Path]) -> None:
    with misbehave(Misbehaving()) as server:
        there = NdifBackend(model_folders["llama"], host=server.url)
        job = there.left.submit([Row("Hi")], Sampling(3))
    folder = model_folders["llama"].resolve()
    with pytest.raises(errors.ModelError) as caught:
        kept.read(job, replace(there.info, device="http://elsewhere"))
    assert f"Fetch it with Lab({str(folder)!r}, host={server.url!r})" in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sampling": {"max_new_tokens": 3, "top_k": 5}}, "cannot be used here .*top_k.*newer steerlab"),
        ({"rows": [{"prompt": "Hi"}]}, "cannot be used here .*'recipe'"),
        ({"left": "yesterday"}, "is damaged .its left cannot be used"),
        ({"parts": ["j"]}, "is damaged .its parts cannot be used"),
        ({"rows": None}, "is damaged .its rows cannot be used"),
    ],
    ids=["a newer sampling", "a row without its recipe", "a time in words", "parts without rows", "no rows"],
)
def test_a_file_that_cannot_be_used_is_said_in_words_and_hides_no_other_job(
    changed: dict[str, Any], says: str, model_folders: dict[str, Path]
) -> None:
    with misbehave(Misbehaving()) as server:
        there = NdifBackend(model_folders["llama"], host=server.url)
        job = there.left.submit([Row("Hi")], Sampling(3))
        data = json.loads((kept.folder() / f"{job}.json").read_text())
        (kept.folder() / "odd.json").write_text(json.dumps(data | changed))
        with pytest.raises(errors.FileError, match=says):
            there.left.fetch("odd", timeout=0)
        assert job in [one.id for one in there.jobs()]
