"""What the panel says of tokens, against the library's own words over the same texts."""

from __future__ import annotations

from typing import Any

import pytest
import scripted
import torch
from wires import Wire

from steerlab import BASELINE, Direction, Lab, Site
from steerlab.backends.fake import FakeBackend
from steerlab.lens import lens_difference, logit_lens, token_details
from steerlab.ui import lens, tokens

OTHER = Direction(torch.ones(16), Site(3, "resid_post"), name="other")


@pytest.fixture
def fake() -> Wire:
    """A panel over a model whose answers come from its own logits, with two directions."""
    lab = Lab(FakeBackend())
    noise = torch.randn(16, generator=torch.Generator().manual_seed(0))
    lab.directions = {"refusal": Direction(noise, Site(2, "resid_pre"), name="v"), "other": OTHER}
    made = Wire(lab)
    made.say(kind="hello")
    made.finished()
    return made


def asked(wire: Wire, kind: str, **what: Any) -> dict[str, Any]:
    """The answer to a question about the run that the panes show."""
    id = str(len(wire.messages))
    wire.say(kind="ask", id=id, what={"kind": kind, "run": wire.panel._preview.run, **what})
    wire.until(lambda: [m for m in wire.messages if m["kind"] in ("answer", "failure") and m["id"] == id])
    (message,) = [m for m in wire.messages if m["kind"] in ("answer", "failure") and m["id"] == id]
    assert message["kind"] == "answer", message
    return dict(message["answer"])


def test_the_labs_generations_are_the_texts_of_the_panes(fake: Wire) -> None:
    fake.push(1.5, tokens=[-1])
    fake.finished()
    lab = fake.lab
    row = {name: text.recipe for name, text in lab.generations.items()}
    assert list(row) == ["baseline", "steered", "control"]
    assert (row["baseline"], row["steered"]) == (BASELINE, lab.recipe)
    for name, text in lab.generations.items():
        again = lab.generate(lab.prompt, text.recipe)
        assert (text.token_ids, text.pieces, text.finish) == (again.token_ids, again.pieces, again.finish)
        assert text.pieces == tuple(fake.panel.result["panes"][name]["tokens"])
    with pytest.raises(Exception, match="read-only"):
        lab.generations = {}


def test_a_text_that_was_stopped_is_a_generation_too(slow: Wire) -> None:
    slow.say(kind="hello")
    slow.until(lambda: len(slow.kinds("tokens")) > 2)
    slow.say(kind="stop")
    slow.finished()
    text = slow.lab.generations["baseline"]
    assert text.finish == "cancelled"
    assert 0 < len(text.pieces) == len(text.token_ids) < len(scripted.ANSWER.split())


@pytest.mark.parametrize("pane", ["baseline", "steered", "control"])
def test_tokens_are_what_the_library_says_of_them(fake: Wire, pane: str) -> None:
    fake.push(1.5)
    fake.finished()
    lab = fake.lab
    found = asked(fake, "tokens", pane=pane)
    recipe = None if pane != "baseline" else lab.recipe
    wanted = token_details(
        lab.backend, lab.generations[pane], list(lab.directions.values()), recipe, k=tokens.OTHERS
    )
    assert found["tokens"] == list(wanted.tokens)
    assert found["n_prompt"] == wanted.n_prompt
    assert found["directions"] == [{"name": "refusal", "layer": 2}, {"name": "other", "layer": 3}]
    for name, side in [("baseline", wanted.baseline), ("steered", wanted.steered)]:
        read = found[name]
        assert read["logprobs"][0] is None
        assert read["logprobs"][1:] == pytest.approx(side.logprobs[1:].tolist(), rel=1e-4, abs=1e-4)
        assert [[text for text, _ in others] for others in read["others"][1:]] == side.others.texts[1:]
        assert torch.allclose(torch.tensor(read["cosines"]), side.shares, atol=6e-4)
        own = torch.stack([side.projections[0, :, 2], side.projections[1, :, 3]])
        assert torch.allclose(torch.tensor(read["projections"]), own, rtol=1e-4, atol=1e-4)
    assert found["steered"]["logprobs"][1:] != found["baseline"]["logprobs"][1:]


def test_without_steering_there_is_one_reading(fake: Wire) -> None:
    assert asked(fake, "tokens", pane="steered")["steered"] is None
    found = asked(fake, "lens", pane="steered", start=0)
    assert (found["steered"], found["gained"]) == (None, None)
    assert all(kl == 0 for layer in found["kl"] for kl in layer)


def test_long_texts_are_read_in_part(fake: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LONGEST", 7)
    found = asked(fake, "tokens", pane="baseline")
    assert len(found["tokens"]) == found["n_prompt"] + 7


def test_every_window_of_the_lens_is_a_part_of_the_librarys_lens(fake: Wire) -> None:
    fake.push(1.5)
    fake.finished()
    lab = fake.lab
    text = lab.generations["steered"]
    whole = lens_difference(lab.backend, text).overview(lens.LIKELIEST)
    tokens_of = logit_lens(lab.backend, text).tokens
    starts = range(0, len(tokens_of), lens.WINDOW)
    assert len(starts) > 1
    for start in starts:
        found = asked(fake, "lens", pane="steered", start=start)
        stop = min(start + lens.WINDOW, len(tokens_of))
        assert (found["start"], found["total"]) == (start, len(tokens_of))
        assert found["tokens"] == list(tokens_of[start:stop])
        for name in ("baseline", "steered", "gained"):
            side, top = found[name], getattr(whole, name)
            texts = [[[found["words"][i] for i in cell] for cell in layer] for layer in side["words"]]
            assert torch.allclose(torch.tensor(side["values"]), top.values[:, start:stop].float(), atol=1e-4)
            firm = (top.values[..., 0] - top.values[..., 1])[:, start:stop] > 1e-3  # no tie
            for layer, token in firm.nonzero().tolist():
                assert texts[layer][token][0] == top.texts[layer][start + token][0]
        kl = torch.tensor(found["kl"], dtype=torch.float64)
        assert torch.allclose(kl, whole.kl[:, start:stop], rtol=1e-4, atol=1e-6)


def test_a_window_past_the_end_is_the_last_token(fake: Wire) -> None:
    found = asked(fake, "lens", pane="baseline", start=10_000)
    assert found["start"] == found["total"] - 1
    assert len(found["tokens"]) == 1


def test_a_pane_without_a_text_is_told(wire: Wire) -> None:
    wire.say(kind="ask", id="1", what={"kind": "tokens", "run": 0, "pane": "steered"})
    wire.until(lambda: wire.kinds("failure"))
    assert "no text" in wire.kinds("failure")[0]["error"]["what"]


def test_reading_waits_for_the_preview(slow: Wire) -> None:
    slow.say(kind="hello")
    slow.finished()
    slow.push(1.0)
    slow.until(lambda: slow.kinds("tokens"))
    slow.say(kind="ask", id="1", what={"kind": "lens", "run": 1, "pane": "baseline", "start": 0})
    slow.finished()
    slow.until(lambda: slow.kinds("answer"))
    kinds = [m["kind"] for m in slow.messages]
    assert kinds.index("answer") > len(kinds) - 1 - kinds[::-1].index("end")
