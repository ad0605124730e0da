from __future__ import annotations

import base64
import warnings
import zlib
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steerlab import (
    Ablate,
    Add,
    Clamp,
    Direction,
    Gate,
    Lab,
    Recipe,
    Sampling,
    Site,
    Snapshot,
    errors,
    open_shared,
    share,
    sharing,
)
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.directions import bundled
from steerlab.interventions import Intervention
from steerlab.sites import POINTS

D = 16


def fake(seed: int = 0, d_model: int = D) -> Lab:
    return Lab(FakeBackend(d_model=d_model, seed=seed))


numbers = st.floats(-100, 100, width=16) | st.floats(-1e6, 1e6, width=32)
vectors = st.lists(numbers, min_size=D, max_size=D).filter(any)
directions = st.builds(
    Direction,
    vectors,
    st.builds(Site, st.integers(0, 3), st.sampled_from(POINTS)),
    name=st.text(max_size=8),
    residual_norm=st.none() | st.floats(0.1, 1e3),
    provenance=st.dictionaries(
        st.text(max_size=4), st.integers() | st.text(max_size=4) | st.none(), max_size=2
    ),
)
amounts = st.floats(-50, 50)
scopes = st.sampled_from(["all", "prompt", "generated"]) | st.lists(
    st.integers(-9, -1), min_size=1, max_size=3
)
gates = st.none() | st.builds(Gate, directions, amounts)
steps: st.SearchStrategy[Intervention] = st.one_of(
    st.builds(Add, directions, amounts, tokens=scopes, keep_norm=st.booleans(), gate=gates),
    st.builds(
        Ablate, st.lists(directions, min_size=1, max_size=2), strength=amounts, tokens=scopes, gate=gates
    ),
    st.builds(Clamp, directions, amounts, layers=st.integers(0, 3), sites=st.sampled_from(POINTS)),
)
situations = st.builds(
    Snapshot,
    st.just("shared"),
    st.text(max_size=40),
    st.builds(Recipe, st.lists(steps, max_size=3)),
    st.builds(Sampling, st.integers(1, 4096), st.floats(0, 5)),
    st.integers(-(2**31), 2**31),
)  # fmt: skip

SENDER, RECEIVER = fake(), fake()
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@PROPERTY
@given(situations)
def test_what_is_opened_is_what_was_shared(snapshot: Snapshot) -> None:
    SENDER.restore(snapshot)
    text = share(SENDER)
    assert text.isascii()
    assert not set(text) & set(" \n\"'`+/=")
    opened = open_shared(text, RECEIVER)
    assert opened is RECEIVER
    assert opened.snapshot("shared") == snapshot
    assert opened.recipe.to_json() == snapshot.recipe.to_json(), "names, sites and provenance too"


@PROPERTY
@given(st.data())
def test_a_changed_text_is_refused(data: st.DataObject) -> None:
    SENDER.restore(Snapshot("shared", "Hi", Recipe([Add(Direction(np.arange(D), Site(1, "resid_pre")))])))
    text = share(SENDER)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("abcXYZ019-_.é🙂") | st.just(""))
    if text[at] == other:
        return
    with pytest.raises(errors.FileError):
        open_shared(text[:at] + other + text[at + 1 :], RECEIVER)


@pytest.mark.parametrize(
    "text", ["", "steerlab", "steerlab1-", "steerlab1-AAAA", "https://example.org", "steerlab1-!?"]
)
def test_foreign_text_is_refused(text: str) -> None:
    with pytest.raises(errors.FileError, match="no shared text|damaged"):
        open_shared(text, RECEIVER)


def test_a_newer_format_asks_for_an_update() -> None:
    with pytest.raises(errors.FileError, match="Update steerlab"):
        open_shared(share(SENDER).replace("steerlab1-", "steerlab2-"), RECEIVER)


@pytest.mark.parametrize(
    "content", [b"", b"\x02\0\0\0[]", b"\xff\xff\xff\xff{}", b"\x02\0\0\0{}", b"\x05\0\0\0{}"]
)
def test_a_text_that_was_made_by_hand_is_refused(content: bytes) -> None:
    body = zlib.compress(content)
    packed = base64.urlsafe_b64encode(sharing._checksum(body) + body).decode().rstrip("=")
    with pytest.raises(errors.FileError, match="damaged"):
        open_shared(f"steerlab1-{packed}", RECEIVER)


def test_a_text_that_unfolds_to_gigabytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "LARGEST", 2**16)
    body = zlib.compress(bytes(2**24))
    packed = base64.urlsafe_b64encode(sharing._checksum(body) + body).decode().rstrip("=")
    with pytest.raises(errors.FileError, match="unfolds to more"):
        open_shared(f"steerlab1-{packed}", RECEIVER)


def test_line_breaks_and_quotes_of_a_mail_do_not_matter() -> None:
    text = share(SENDER)
    broken = "`" + "\n  ".join(text[i : i + 60] for i in range(0, len(text), 60)) + "`\n"
    assert open_shared(broken, RECEIVER).snapshot("s") == SENDER.snapshot("s")


def test_the_embedded_model_opens_by_itself_with_the_same_answer(demo_lab: Lab) -> None:
    before = demo_lab.snapshot("before")
    refusal = demo_lab.directions["refusal"]
    try:
        for recipe, sampling in [
            (Recipe([Add(refusal, 0.8)]), Sampling(40)),
            (Recipe([Ablate(refusal), Add(refusal * 0.3, layers=2, sites="mlp_out")]), Sampling(40, 1.2)),
        ]:
            demo_lab.restore(Snapshot("s", "How do I steal a car?", recipe, sampling, seed=5))
            text = share(demo_lab)
            opened = open_shared(text)
            assert opened is not demo_lab
            asked = (lab.run([lab.snapshot("s").row], lab.sampling)[0] for lab in (demo_lab, opened))
            assert len({answer.token_ids for answer in asked}) == 1
            if len(recipe) == 1:
                assert len(text) < 600, "the bundled direction is named, not written"
    finally:
        demo_lab.restore(before)


def test_a_model_of_a_folder_needs_a_lab(tmp_path: Path) -> None:
    models.build("llama").save_pretrained(tmp_path / "mine")
    byte_tokenizer().save_pretrained(tmp_path / "mine")
    lab = Lab(tmp_path / "mine")
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(0))
    lab.restore(Snapshot("s", "Hi", Recipe([Add(Direction(noise, Site(1, "resid_post")))]), Sampling(8)))
    text = share(lab)
    with pytest.raises(errors.ModelError, match="called mine"):
        open_shared(text)
    opened = open_shared(text, Lab(tmp_path / "mine"))
    answers = [one.run([one.snapshot("s").row])[0].token_ids for one in (lab, opened)]
    assert answers[0] == answers[1]
    with pytest.raises(errors.ModelError, match="shared from mine"):
        open_shared(text, fake())


def renamed(name: str) -> Lab:
    model = models.build("llama")
    model.name_or_path = name
    return Lab((model, byte_tokenizer()))


@pytest.mark.parametrize("says", [True, False])
def test_a_model_whose_name_on_the_hub_has_no_owner_opens_by_itself(
    says: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, asked = renamed("gpt2"), list[str]()

    def opened(name: str) -> Lab:
        asked.append(name)
        return lab

    text = share(lab) if says else as_before(lab, monkeypatch)
    monkeypatch.setattr(sharing, "Lab", opened)
    assert open_shared(text) is lab
    assert asked == ["gpt2"]


def as_before(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> str:
    """A text that does not say whether the model is of the hub, as there were."""
    with monkeypatch.context() as patch:
        patch.setattr(sharing, "_of_hub", lambda _: None)
        return share(lab)


def test_a_bare_name_that_is_nowhere_needs_a_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    text = as_before(renamed("nowhere-at-all"), monkeypatch)
    with pytest.raises(
        errors.ModelError, match=r"called nowhere-at-all, .*open_shared\(text, Lab\(folder\)\)"
    ):
        open_shared(text)


def test_other_weights_under_the_same_name_are_told() -> None:
    with pytest.warns(UserWarning, match="does not say what"):
        open_shared(share(SENDER), fake(seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_shared(share(SENDER), fake())


def test_a_bundled_direction_that_changed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = fake(d_model=128)
    lab.recipe = Recipe([Add(bundled()["refusal"].transferred_to("fake"), layers=1, sites="resid_pre")])
    assert "bundled" not in sharing._unpacked(share(lab))[0]["recipe"]["directions"][0]
    refusal = bundled()["refusal"]
    written, data = sharing._written([sharing._as_dict(refusal)])
    assert (list(written[0]), data) == (["bundled", "sha256"], b"")
    monkeypatch.setattr(sharing, "bundled", lambda: {"refusal": refusal * 2})
    with pytest.raises(errors.FileError, match="another one in this steerlab"):
        sharing._read(written, data)


def test_halves_are_written_where_they_are_exact() -> None:
    exact, other = Direction(np.linspace(-1, 1, 65)), Direction(np.linspace(-1, 1, 65) / 3)
    written, data = sharing._written([sharing._as_dict(exact), sharing._as_dict(other)])
    assert [one["vector"] for one in written] == ["<f2", "<f4"]
    assert len(data) == 65 * (2 + 4)
    assert sharing._read(written, data) == [sharing._as_dict(exact), sharing._as_dict(other)]
