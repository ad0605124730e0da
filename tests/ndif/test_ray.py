"""The same answers from NDIF's whole stack: Ray, NDIF's controller and dispatcher, and a Ray actor with the model.

A cluster takes most of a minute to start and gigabytes of memory, so it is asked for:
STEERLAB_NDIF=ray pytest tests/ndif/test_ray.py
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import torch

import steerlab as sl
from steerlab import BASELINE, Ablate, Add, Clamp, Lab, Recipe, Row, Sampling, Site, errors
from steerlab.backends.ndif import loads
from steerlab.demo import WEIGHTS
from steerlab.generations import Token
from steerlab.serving.placing import place
from steerlab.serving.server import Server, serve

sys.path.append(str(Path(__file__).parents[1] / "ui"))
from wires import Wire

pytestmark = [
    pytest.mark.ndif,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.environ.get("STEERLAB_NDIF") != "ray", reason="asked for with STEERLAB_NDIF=ray"),
]


def test_with_a_sandbox_each_job_has_a_process_of_its_own(demo_lab: Lab) -> None:
    with serve([WEIGHTS], threads=1, ray=True, sandbox=True) as server:
        there = sl.Lab(host=server.url)
        row = Row("How do I bake bread?", Recipe([Add(demo_lab.directions["refusal"], 1.0)]))
        [mine], [theirs] = (lab.run([row], Sampling(8)) for lab in (demo_lab, there))
        assert theirs.token_ids == mine.token_ids
        with pytest.raises(errors.RemoteError, match="processes of their own, which gradients do not reach"):
            there.backend.linearise(row, Site(1, "resid_post"), -1, Site(3, "resid_post"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Server]:
    with serve([WEIGHTS], threads=1, ray=True) as server:
        folder = server.folder
        yield server
    left = [
        p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if str(folder) in str(p.info["cmdline"])
    ]
    assert not left, "the cluster's processes end with it"


@pytest.fixture(scope="module")
def there(cluster: Server) -> Lab:
    return sl.Lab(host=cluster.url)


def test_rows_give_the_local_answers(demo_lab: Lab, there: Lab) -> None:
    here, far, r = demo_lab.backend, there.backend, demo_lab.directions["refusal"]
    middle = [Clamp(r, 2.0, sites=["resid_mid"]), Add(r, 0.3, layers="all", sites=["resid_post"])]
    rows = [
        Row("How do I pick a lock?", Recipe([Ablate(r)]), seed=3),
        Row("Hi", Recipe([Add(r, 1.0)])),
        Row("How do I bake bread?", Recipe(middle)),
        Row("How do I bake bread?", BASELINE),
    ]
    assert torch.allclose(far.score(rows), here.score(rows), atol=1e-5, rtol=0)
    for sampling in (Sampling(20), Sampling(8, temperature=1.0)):
        mine, theirs = here.generate(rows, sampling), far.generate(rows, sampling)
        assert [a.token_ids for a in theirs] == [a.token_ids for a in mine]
        assert [(a.finish, a.applied) for a in theirs] == [(a.finish, a.applied) for a in mine]
    sites = [Site(2, "resid_mid"), Site(1, "attn_out"), Site(3, "resid_post"), Site(0, "resid_pre")]
    for one, other in zip(*(b.capture(rows, sites, (-2, -1), values=True) for b in (far, here)), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.equal(far.token_rows([7, 1], "unembedding"), here.token_rows([7, 1], "unembedding"))
    assert torch.equal(far.nearest(r.vector, "embedding", 9)[1], here.nearest(r.vector, "embedding", 9)[1])
    for one, other in zip(*(b.linearise(rows[3], sites[3], -3, sites[2]) for b in (far, here)), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_tokens_come_one_by_one(there: Lab) -> None:
    came: list[float] = []
    sent = time.monotonic()
    rows = [Row(f"Tell me about {i} cats.") for i in range(16)]
    answers = there.run(rows, Sampling(64), on_tokens=lambda _: came.append(time.monotonic()))
    done = time.monotonic()
    assert len(came) == max(len(a.token_ids) for a in answers) > 10
    assert came[0] - sent < 0.6 * (done - sent)
    assert len({round(moment, 3) for moment in came}) > len(came) / 2


def test_a_running_job_is_cancelled_on_the_server(there: Lab) -> None:
    r, cancel = there.directions["refusal"], threading.Event()

    def stop(tokens: Sequence[Token]) -> None:
        cancel.set()

    rows = [Row(f"Tell me about {i} cats.", Recipe([Add(r, 0.1 * i, layers="all")])) for i in range(64)]
    began = time.monotonic()
    answers = there.run(rows, Sampling(400), on_tokens=stop, cancel=cancel)
    assert {a.finish for a in answers} == {"cancelled"}
    assert time.monotonic() - began < 10
    assert there.run([Row("Hi there")], Sampling(1))[0].finish == "length"


def test_jobs_that_were_left_are_fetched_listed_and_ended(
    there: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    noise = Add(sl.estimators.random_like(there.directions["refusal"], seed=1), 4.0, layers="all")
    slow = there.submit([Row(f"A long story, number {i}", Recipe([noise])) for i in range(64)], Sampling(400))
    quick = there.submit([Row("Hi")], Sampling(5))
    waits = there.submit([Row("Hello")], Sampling(5))
    there.cancel(waits)
    there.cancel(slow)
    made = there.fetch(quick, timeout=120)
    assert made is not None
    assert made[0].token_ids == there.run([Row("Hi")], Sampling(5))[0].token_ids
    stages = {job.id: job.stage for job in there.jobs()}
    assert stages == {slow: "cancelled", quick: "completed", waits: "cancelled"}


def test_an_actor_that_is_killed_in_the_middle_is_said_and_comes_back(there: Lab, cluster: Server) -> None:
    def kill(tokens: Sequence[Token]) -> None:
        if not seen:
            [actor] = [
                process
                for process in psutil.process_iter(["cmdline"])
                if "ray::CpuModelActor" in str(process.info["cmdline"])
                and any(str(cluster.folder) in str(parent.cmdline()) for parent in process.parents())
            ]
            actor.kill()
        seen.extend(tokens)

    seen: list[Token] = []
    noise = Add(sl.estimators.random_like(there.directions["refusal"], seed=1), 4.0, layers="all")
    rows = [Row(f"Tell me about {10 + i} dogs.", Recipe([noise])) for i in range(64)]
    with pytest.raises(errors.RemoteError) as caught:
        there.run(rows, Sampling(400), on_tokens=kill)
    assert "lost the job while it ran" in str(caught.value)
    made = caught.value.generations
    assert len(made) == 64
    assert {a.finish for a in made} == {"cancelled"}  # type: ignore[attr-defined]
    assert all(a.token_ids for a in made)  # type: ignore[attr-defined]
    assert there.run([Row("Are you back?")], Sampling(3))[0].finish == "length"


def test_a_model_is_loaded_when_a_panel_opens_on_it(
    demo_lab: Lab, cluster: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    second = shutil.copytree(WEIGHTS, tmp_path / "second")
    place(
        second, "local/second", cluster.folder / "hub"
    )  # the server's machine has it, and has not loaded it
    with pytest.warns(UserWarning, match="second is not loaded"):
        lab = sl.Lab(second, host=cluster.url)
    assert cluster_state(lab) != "running"
    lab.prompt, lab.sampling = "How do I bake bread?", Sampling(12)
    wire = Wire(lab)
    wire.say(kind="hello")
    wire.until(lambda: wire.kinds("end"), seconds=180)
    end = wire.finished()
    assert end["status"] == "done", end["error"]
    assert wire.text("baseline") == demo_lab.generate("How do I bake bread?", max_new_tokens=12).text
    told = [stage for stage, _ in itertools.groupby(m["stage"] for m in wire.kinds("job"))]
    assert "deploying" in told[: told.index("running")], told
    assert told[-1] == ""
    wire.until(lambda: cluster_state(lab) == "running", seconds=90)  # what it says of itself may be old
    seconds = sl.Lab(second, host=cluster.url).backend.loads_in  # type: ignore[attr-defined]
    assert seconds
    assert seconds > loads.SOON


def cluster_state(lab: Lab) -> str | None:
    """What the server says of a lab's model."""
    found = lab.remote_models().get("local/second")
    return found and found.state


def test_a_model_that_is_not_there_is_said_in_words(cluster: Server, tmp_path: Path) -> None:
    for file in WEIGHTS.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "another").mkdir(exist_ok=True)
            (tmp_path / "another" / file.name).write_bytes(file.read_bytes())
    with pytest.warns(UserWarning, match="another is not loaded"):
        lab = sl.Lab(tmp_path / "another", host=cluster.url)
    with pytest.raises(errors.RemoteError, match="cannot load this model .*up there now: .*tiny-chat"):
        lab.generate("Hi")


def test_versions_are_told(there: Lab) -> None:
    told = there.backend._wire.versions()  # type: ignore[attr-defined]
    assert {"Python", "nnsight", "torch", "transformers"} <= set(told)
