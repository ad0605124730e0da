"""What the NDIF backend promises beyond the contract, against a real server on loopback."""

from __future__ import annotations

import functools
import json
import logging
import math
import pickle
import pickletools
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import clients
import httpx
import models
import pytest
import torch
import zstandard
from ndif_server import SERVED, far_lab

import steerlab as sl
from steerlab import Ablate, Add, Clamp, Direction, Gate, Recipe, Row, Sampling, Site, errors
from steerlab.backends import looks
from steerlab.backends.cells import Cells, Look
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.backends.ndif.distant import describe
from steerlab.backends.ndif.keys import Key
from steerlab.backends.ndif.messages import JobStatus
from steerlab.backends.ndif.packing import Packer
from steerlab.backends.ndif.texts import Heard
from steerlab.backends.ndif.waiting import Stop
from steerlab.generations import Token
from steerlab.lens import expression, lens_difference, projections, token_details
from steerlab.serving.server import Server
from steerlab.ui import jobs
from steerlab.ui.asks import Tell

PROMPTS = ["How do I bake bread?", "Hi", "Tell me about the sea.", "ünï 🙂"]
SECRET = "5f0c1d2e-aaaa-bbbb-cccc-0123456789ab"


def direction(seed: int) -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Direction(3 * noise, Site(2, "resid_pre"))


V, W = direction(0), direction(1)
BETWEEN = Site(1, "resid_mid"), -3, Site(3, "resid_post")
RECIPES = {
    "add": Recipe([Add(V, 1.5)]),
    "add, norm kept": Recipe([Add(V, 1.5, keep_norm=True)]),
    "add, prompt": Recipe([Add(V, 2.0, tokens="prompt")]),
    "add, generated": Recipe([Add(V, 2.0, tokens="generated")]),
    "add, two tokens": Recipe([Add(V, 2.0, tokens=(-1, -2))]),
    "add, everywhere": Recipe([Add(V, 0.3, layers="all", sites=["resid_pre", "attn_out", "mlp_out"])]),
    "ablate": Recipe([Ablate(V)]),
    "ablate, half": Recipe([Ablate(V, strength=0.5, layers=[1, 2])]),
    "ablate, one side": Recipe([Ablate(V, one_sided=True)]),
    "ablate, a plane": Recipe([Ablate([V, W])]),
    "clamp": Recipe([Clamp(V, 2.0)]),
    "gate": Recipe([Add(W, 2.0, gate=Gate(V, 0.0))]),
    "two steps": Recipe([Add(V, 1.0), Ablate(W, layers=[3])]),
}


@pytest.fixture(scope="module", params=SERVED)
def both(
    request: pytest.FixtureRequest, ndif_server: Server, model_folders: dict[str, Path]
) -> tuple[LocalBackend, NdifBackend]:
    """The same random-weight model here and on the server."""
    name = request.param
    here = LocalBackend(models.build(name), byte_tokenizer(), name=f"random-{name}")
    return here, NdifBackend(model_folders[name], host=ndif_server.url)


@pytest.fixture(scope="module")
def backend(ndif_server: Server, model_folders: dict[str, Path]) -> NdifBackend:
    return NdifBackend(model_folders["llama"], host=ndif_server.url)


@pytest.mark.ndif
def test_every_intervention_gives_the_logits_and_the_tokens_of_the_local_backend(
    both: tuple[LocalBackend, NdifBackend],
) -> None:
    here, there = both
    rows = [Row(prompt, recipe) for recipe in RECIPES.values() for prompt in PROMPTS[:2]]
    if "resid_mid" in here.info.points:
        middle = [Add(V, 1.0, layers=[1], sites=["resid_mid"]), Add(W, 1.0, layers=[1], sites=["attn_out"])]
        rows += [Row(PROMPTS[0], Recipe(middle[:1])), Row(PROMPTS[0], Recipe(middle))]
        rows.append(Row(PROMPTS[0], Recipe([Ablate(V, sites=["resid_mid", "resid_post"])])))
    assert torch.allclose(there.score(rows), here.score(rows), atol=1e-5, rtol=0)
    mine, theirs = here.generate(rows, Sampling(8)), there.generate(rows, Sampling(8))
    assert [a.token_ids for a in theirs] == [a.token_ids for a in mine]
    assert [(a.finish, a.applied) for a in theirs] == [(a.finish, a.applied) for a in mine]
    sampled = Sampling(6, temperature=1.2)
    assert [a.token_ids for a in there.generate(rows[:4], sampled)] == [
        a.token_ids for a in here.generate(rows[:4], sampled)
    ]


@pytest.mark.ndif
def test_sites_without_weights_are_those_with_them(both: tuple[LocalBackend, NdifBackend]) -> None:
    here, there = both
    assert there.info.points == here.info.points
    assert (there.info.n_layers, there.info.d_model) == (here.info.n_layers, here.info.d_model)
    assert all(p.is_meta for p in there.model._module.parameters())
    sites = [Site(layer, point) for layer in (0, 2) for point in here.info.points]
    for one, other in zip(
        *(b.capture([Row(p) for p in PROMPTS], sites, (-2, -1)) for b in both), strict=False
    ):
        if one is not None:
            assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.ndif
def test_the_first_token_is_there_before_half_the_job(backend: NdifBackend) -> None:
    backend.generate([Row(PROMPTS[0])], Sampling(2))
    sent, came = time.monotonic(), []
    rows = [Row(p, RECIPES["add"]) for p in PROMPTS]
    backend.generate(rows, Sampling(100), on_tokens=lambda _: came.append(time.monotonic()))
    done = time.monotonic()
    assert len(came) == 100
    assert came[0] - sent < 0.5 * (done - sent)
    assert len({round(moment, 3) for moment in came}) > 20, "they come one by one, not all at the end"


CLIENTS, PROCESSES = 30, 3


@pytest.fixture
def processes(ndif_server: Server, model_folders: dict[str, Path]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes with a third of the clients each, their labs open."""
    there = NdifBackend(model_folders["llama"], host=ndif_server.url)
    there.generate([Row("Hi")], Sampling(1))  # so that the model is loaded
    share = CLIENTS // PROCESSES
    command = [sys.executable, clients.__file__, str(model_folders["llama"]), ndif_server.url]
    started = [
        subprocess.Popen(
            [*command, str(i), str(i + share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for i in range(0, CLIENTS, share)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.ndif
def test_thirty_labs_in_several_processes_are_all_served_at_once_and_nothing_is_mixed_up(
    processes: list[subprocess.Popen[str]],
    ndif_server: Server,
    model_folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    before = sl.Lab(model_folders["llama"], host=ndif_server.url)
    # jobs that take long, until all thirty wait behind them
    left = [before.submit([Row("Hi", RECIPES["add, everywhere"])] * 64, Sampling(200)) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    end, waiting = time.monotonic() + 60, 0
    while waiting < CLIENTS:
        assert time.monotonic() < end, "they are not all there at once"
        time.sleep(0.1)
        own = sum(job.stage == "queued" for job in before.jobs())
        waiting = httpx.get(f"{ndif_server.url}/status").json()["queue"] - own
    for job in reversed(left):
        before.cancel(job)
    told: dict[str, Any] = {}
    for process in processes:
        told |= json.loads(process.communicate(timeout=120)[0])
    here = sl.Lab((models.build("llama"), byte_tokenizer()))
    asked = [clients.rows_of(client, models.D_MODEL) for client in range(CLIENTS)]
    wanted = [[list(a.token_ids) for a in here.run(rows, clients.SAMPLING)] for rows in asked]
    assert len({tuple(steered) for steered, _ in wanted}) == CLIENTS, "another one's answer would be seen"
    assert [told[str(client)]["answers"] for client in range(CLIENTS)] == wanted
    assert [told[str(client)]["streamed"] for client in range(CLIENTS)] == wanted
    assert len({job for one in told.values() for job in one["jobs"]}) == CLIENTS, "a job each, sent once"
    places = [place for one in told.values() for place in one["places"]]
    assert max(places) >= CLIENTS, "those who wait are told their place"
    assert all(one["stages"][-1] == "completed" for one in told.values())


@pytest.mark.ndif
def test_many_rows_are_few_jobs_in_the_order_of_the_rows(
    ndif_server: Server, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = NdifBackend(model_folders["llama"], host=ndif_server.url, batch_rows=16)
    stages: list[JobStatus] = []
    there.watchers.append(stages.append)
    rows = [Row("word " * (i % 7 + 1), Recipe([Add(V, 0.1 * i)])) for i in range(100)]
    scores = there.score(rows)
    assert [s.stage for s in stages].count("sending") == 1
    assert [s.stage for s in stages][-1] == "completed"
    here = LocalBackend(models.build("llama"), byte_tokenizer(), name="random-llama")
    assert torch.allclose(scores, here.score(rows), atol=1e-5)


@pytest.mark.ndif
def test_means_are_formed_on_the_server(backend: NdifBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    saved = backend._wire._saved
    monkeypatch.setattr(
        backend._wire, "_saved", lambda data, stop: weights.append(len(data or b"")) or saved(data, stop)
    )
    sites = [Site(layer, "resid_pre") for layer in range(4)]
    for n in (1, 60):
        backend.capture([Row(f"Prompt number {i}") for i in range(n)], sites, range(-5, 0))
    assert weights[1] < 1.2 * weights[0], "what comes back does not grow with the rows"


def weighed(there: NdifBackend, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The bytes that each job from now on sends, and those of its result."""
    shipped: list[tuple[int, int]] = []
    post, saved = there._wire._post, there._wire._saved

    def posted(envelope: dict[str, Any], payload: bytes, stop: Stop) -> Any:
        shipped.append((len(payload), 0))
        return post(envelope, payload, stop)

    def came(data: bytes | str | None, stop: Stop) -> dict[str, Any]:
        shipped[-1] = shipped[-1][0], len(data or b"")
        return saved(data, stop)

    monkeypatch.setattr(there._wire, "_post", posted)
    monkeypatch.setattr(there._wire, "_saved", came)
    return shipped


@pytest.mark.ndif
def test_no_stream_and_no_logits_of_a_lens_or_a_card_are_shipped(
    ndif_server: Server, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = far_lab(ndif_server, model_folders["llama"])
    there = lab.backend
    assert isinstance(there, NdifBackend)
    shipped = weighed(there, monkeypatch)
    here = LocalBackend(models.build("llama"), byte_tokenizer(), name="random-llama")
    text, near = "How do I bake bread? " * 5, functools.partial(torch.allclose, atol=1e-4)
    lenses = [lens_difference(b, text, RECIPES["add"]) for b in (there, here)]
    cards = [lambda b=b: token_details(b, text, [V, W], RECIPES["add"]) for b in (there, here)]
    asked: dict[str, list[Callable[[], Any]]] = {
        "top": [lambda one=one: one.steered.top(3).values for one in lenses],
        "probability": [lambda one=one: one.probability(7) for one in lenses],
        "rank": [lambda one=one: one.baseline.rank(7) for one in lenses],
        "kl": [lambda one=one: one.kl() for one in lenses],
        "overview": [lambda one=one: one.overview(2, tokens=slice(9, 60)).kl for one in lenses],
        "projections": [
            lambda b=b: projections(b, text, [V, W], RECIPES["add"]).values for b in (there, here)
        ],
        "expression": [lambda b=b: expression(b, text, [V, W], RECIPES["add"]).shares for b in (there, here)],
    }
    assert not shipped, "nothing is read before it is asked for"
    numbers = 4 * math.prod(lenses[1].steered.resid.shape)  # bytes of one point's stream
    for name, (far, near_by) in asked.items():
        assert near(far().double(), near_by().double()), name
    details, wanted = (card() for card in cards)
    for mine, other in [(details.baseline, wanted.baseline), (details.steered, wanted.steered)]:
        assert near(mine.logprobs, other.logprobs, equal_nan=True)
        assert near(mine.others.values, other.others.values, equal_nan=True)
        assert near(mine.shares, other.shares)
    assert len(shipped) == len(asked) + 1, "a job each"
    assert max(came for _, came in shipped) < numbers / 3, "no streams come back"
    assert max(went for went, _ in shipped) < 16 * V.vector.nbytes + 30_000, (
        "and none go: the code, and directions"
    )
    assert near(lenses[0].steered.resid, lenses[1].steered.resid), "but who asks for them has them"
    assert shipped[-1][1] > numbers / 2
    assert near(lenses[0].steered.logits(3), lenses[1].steered.logits(3))
    assert shipped[-1][0] < 30_000
    with pytest.raises(errors.SiteError, match="layer 9 is out of range"):
        lab.logit_lens(text, layers=[9])


@pytest.mark.ndif
def test_a_job_is_fetched_by_another_kernel(
    ndif_server: Server, model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    lab = sl.Lab(model_folders["llama"], host=ndif_server.url)
    rows = [Row(PROMPTS[0], RECIPES["add"]), Row(PROMPTS[2], seed=3)]
    job = lab.submit(rows, Sampling(7))
    program = f"""
        import steerlab as sl
        lab = sl.Lab({str(model_folders["llama"])!r}, host={ndif_server.url!r})
        made = lab.fetch({job!r}, timeout=60)
        print([a.token_ids for a in made], [a.seed for a in made], made[0].recipe.fingerprint)
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    answers = lab.run(rows, Sampling(7))
    expected = f"{[a.token_ids for a in answers]} {[a.seed for a in answers]} {RECIPES['add'].fingerprint}"
    assert told.strip() == expected
    assert lab.fetch(job, timeout=0) is not None
    with pytest.raises(errors.FileError, match="no job 'abc' was left"):
        lab.fetch("abc")


@pytest.mark.ndif
def test_a_cancelled_job_is_stopped_on_the_server(backend: NdifBackend) -> None:
    cancel = threading.Event()

    def stop(tokens: Sequence[Token]) -> None:
        cancel.set()

    began = time.monotonic()
    rows = [Row("Hi", RECIPES["add, everywhere"])] * 40
    answer = backend.generate(rows, Sampling(200), on_tokens=stop, cancel=cancel)[0]
    assert (answer.finish, len(answer.token_ids)) == ("cancelled", 1)
    assert backend.job.stage == "cancelled"
    stopped = time.monotonic() - began
    assert backend.generate([Row("Hi")], Sampling(1))[0].finish == "length"
    assert stopped < 5.0


@pytest.mark.ndif
def test_what_is_up_and_what_is_not(ndif_server: Server, model_folders: dict[str, Path]) -> None:
    lab = sl.Lab(model_folders["llama"], host=ndif_server.url)
    lab.generate("Hi", max_new_tokens=1)
    up = lab.remote_models()
    assert up["local/random-llama"].state == "running"
    assert set(up) == set(ndif_server.names)
    assert repr(lab) == f"Lab(random-llama: 4 layers of width 48, ndif on {ndif_server.url})"


@pytest.mark.ndif
def test_a_model_that_is_not_served_names_those_that_are(
    ndif_server: Server, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(model_folders["llama"], tmp_path / "another")
    with pytest.warns(UserWarning, match="another is not loaded at http.* minutes for a large one"):
        lab = sl.Lab(tmp_path / "another", host=ndif_server.url)
    sl.Lab(model_folders["llama"], host=ndif_server.url).generate("Hi", max_new_tokens=1)
    with pytest.raises(
        errors.RemoteError, match="cannot load this model .*local/another.*up there now: .*random-llama"
    ):
        lab.generate("Hi")


def test_the_payload_opens_where_steerlab_is_not(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process that refuses to import steerlab, every payload runs and gives what the local backend gives."""
    here = LocalBackend(models.build("llama"), byte_tokenizer(), name="random-llama")
    rows = [Row(prompt, recipe) for prompt, recipe in zip(PROMPTS, RECIPES.values(), strict=False)]
    payloads = []
    for verb, data in every_kind(monkeypatch, model_folders["llama"], rows, Sampling(6)).items():
        payloads.append(tmp_path / f"{verb} {RESULTS[verb]}")
        payloads[-1].write_bytes(data)
    program = f"""
        import linecache, sys
        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "steerlab":
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Refuse())
        import nnsight, torch
        from nnsight.schema.request import RequestModel
        from nnsight.tracing.globals import BLOCKS, SOURCES
        from nnsight.tracing.tracer import inc
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
        folder = {str(model_folders["llama"])!r}
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        model = nnsight.TransformersModel(hf, tokenizer=tokenizer, task="text-generation")
        made = {{}}
        for payload in sys.argv[1:]:
            verb, result = payload.rpartition("/")[2].split()
            blob = open(payload, "rb").read()
            for known in (linecache.cache, SOURCES, BLOCKS):
                known.clear()  # as NDIF does between jobs: their text is kept by its place in a file
            tracer = RequestModel.deserialize(blob, model._remoteable_persistent_objects(), compress=True)
            inc()
            tracer.execute(tracer.info.code)
            made[verb] = tracer.info.frame.f_locals[result]
        torch.save(made, "made")
        assert not any(name.split(".")[0] == "steerlab" for name in sys.modules)
    """
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), *map(str, payloads)],
        capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert not told.returncode, told.stderr
    made = torch.load(tmp_path / "made")
    assert list(zip(*made["generate"], strict=True)) == [
        a.token_ids for a in here.generate(rows, Sampling(6))
    ]
    assert torch.equal(made["nearest"][1], here.nearest(V.vector, "unembedding", 5)[1])
    assert torch.equal(made["token_rows"][0], here.token_rows([7, 1], "unembedding"))
    near = functools.partial(torch.allclose, atol=1e-5)
    order = sorted(range(len(rows)), key=lambda i: len(here.tokenizer(PROMPTS[i]).input_ids))  # of a job
    assert near(made["score"][0], here.score(rows)[order])
    assert near(made["likelihood"][0], torch.stack(here.likelihood(rows, [[7, 8]] * len(rows)))[order])
    values = here.capture(rows, [BETWEEN[0]], (-1,), values=True).values
    assert values is not None
    assert near(made["capture"][0], values[order])
    assert near(made["decode"][0], here.decode(STREAM))
    for parts, wanted in zip(made["look"], here.look(looked_at()), strict=True):
        for one, other in zip(zip(*parts, strict=True), wanted, strict=True):
            assert near(torch.cat(one), other.flatten(0, 1))
    assert near(made["linearise"].double(), here.linearise(Row(PROMPTS[0]), *BETWEEN).jacobian)


def test_the_payload_has_no_class_and_no_bytecode_of_ours(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Row(prompt, recipe) for prompt, recipe in zip(PROMPTS, RECIPES.values(), strict=False)]
    ours = {
        "steerlab.edits",
        "steerlab.backends.ndif.travelling",
        "steerlab.backends.looks",
        "steerlab.backends.tables",
        "steerlab ",
    }
    for payload in every_kind(monkeypatch, model_folders["llama"], rows, Sampling(6, 1.0)).values():
        blob = zstandard.ZstdDecompressor().decompressobj().decompress(payload)
        strings = [arg for _, arg, _ in pickletools.genops(blob) if isinstance(arg, str)]
        assert "CodeType" not in " ".join(strings)
        assert {s for s in strings if s.startswith("steerlab")} <= ours
        assert not any(s == "Operand" for s in strings)


def sent(packer: Packer, rows: Sequence[Row], sampling: Sampling) -> bytes:
    """The payload of a job that answers rows."""
    return Heard(packer, dict(enumerate(rows)), packer.encode(rows), sampling).payload()


STREAM = torch.randn(5, models.D_MODEL, generator=torch.Generator().manual_seed(2))
# each verb that sends a job, and what the job's result is called in it
RESULTS = {
    "generate": "tokens",
    "score": "logits",
    "likelihood": "logprobs",
    "capture": "kept",
    "decode": "logits",
    "look": "found",
    "token_rows": "rows",
    "nearest": "found",
    "linearise": "jacobian",
}


def looked_at() -> list[Look]:
    """Questions of both kinds."""
    cells = [
        Cells(Row(PROMPTS[0], recipe), BETWEEN[::2], range(-4, 0))
        for recipe in (RECIPES["add"], RECIPES["gate"])
    ]
    return [
        Look(looks.beside, cells, (3,)),
        Look(looks.projected, cells[:1], (torch.stack([V.unit, W.unit]),)),
    ]


def every_kind(
    monkeypatch: pytest.MonkeyPatch, folder: Path, rows: Sequence[Row], sampling: Sampling
) -> dict[str, bytes]:
    """What each verb of a backend sends."""

    class NoAnswerError(Exception):
        """Has what was sent."""

    def run(envelope: object, payload: bytes, **_: object) -> None:
        raise NoAnswerError(payload)

    wire = SimpleNamespace(host="nowhere", ask=lambda path: {}, run=run)
    monkeypatch.setattr("steerlab.backends.ndif.backend.connect", lambda *_: wire)
    there = NdifBackend(folder)
    verbs: dict[str, Callable[[], object]] = {
        "generate": lambda: there.generate(rows, sampling),
        "score": lambda: there.score(rows),
        "likelihood": lambda: there.likelihood(rows, [[7, 8]] * len(rows)),
        "capture": lambda: there.capture(rows, [BETWEEN[0]], (-1,), values=True),
        "decode": lambda: there.decode(STREAM),
        "look": lambda: there.look(looked_at()),
        "token_rows": lambda: there.token_rows([7, 1], "unembedding"),
        "nearest": lambda: there.nearest(V.vector, "unembedding", 5),
        "linearise": lambda: there.linearise(Row(PROMPTS[0]), *BETWEEN),
    }
    assert list(verbs) == list(RESULTS)
    sent = {}
    for verb, ask in verbs.items():
        with pytest.raises(NoAnswerError) as caught:
            ask()
        sent[verb] = caught.value.args[0]
    return sent


def offline(folder: Path) -> Packer:
    """What needs no server: for what would be sent."""
    return Packer(describe(folder), host="nowhere")


@pytest.mark.ndif
def test_the_key_is_nowhere_to_be_found(
    ndif_server: Server,
    model_folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NDIF_API_KEY", SECRET)
    monkeypatch.setenv("NDIF_HOST", ndif_server.url)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    lab = far_lab(ndif_server, model_folders["llama"])
    there = lab.backend
    assert isinstance(there, NdifBackend)
    assert there._wire.key.headers() == {"ndif-api-key": SECRET}, "it is sent"
    rows = [Row("Hi", RECIPES["add"])]
    lab.run(rows, Sampling(2))
    job = lab.submit(rows, Sampling(2))
    lab.fetch(job, timeout=30)
    lab.cancel(lab.submit(rows, Sampling(2)))
    shown = [repr(lab), repr(there), repr(vars(there._wire)), repr(lab.job), repr(lab.jobs())]
    shown += [str(lab.panel.get_state()), str(lab.panel._repr_mimebundle_()), sl.share(lab)]
    shown += [lab.to_code(), lab.to_code(form="steerlab"), lab.to_code(form="steerlab", here="lab")]
    silent = Tell(lambda *_: None, lambda _: None, threading.Event())
    shown.append(jobs.answer(lab, jobs.JobsQuestion(at=1), silent).model_dump_json())
    shown += [path.read_text() for path in tmp_path.rglob("*.json")]
    shown.append(str(sent(there._packer, rows, Sampling(2))))
    there._wire.host = "http://127.0.0.1:9"
    asked: list[Callable[[], object]] = [
        lambda: lab.generate("Something new"),
        lambda: lab.submit(rows, Sampling(2)),
        lambda: lab.fetch(job),
    ]
    for ask in asked:
        with pytest.raises(errors.RemoteError) as caught:
            ask()
        told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        shown.append("".join(told.format()))
    shown += [caplog.text, *capfd.readouterr()]
    assert not [text for text in shown if SECRET in text]


def test_a_key_hides_itself() -> None:
    key = Key(SECRET)
    assert SECRET not in f"{key} {key!r} {vars(type(key))}"
    assert not pickle.loads(pickle.dumps(key))
    assert key.hide(f"Invalid API key format: '{SECRET}'") == "Invalid API key format: '«key»'"
