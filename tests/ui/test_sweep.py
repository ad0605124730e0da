"""The tab Sweep: the map and the frontier, their cells in the panel, and what a cell writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import scripted
import torch
from wires import Wire

from steerlab import Ablate, Add, Direction, Lab, Row, Site
from steerlab.backends.fake import FakeBackend
from steerlab.estimators import random_like
from steerlab.generations import NOT_FINITE
from steerlab.ui import sweep
from steerlab.ui.prompt_sets import PromptSet, prompts_of
from steerlab.ui.sweep import SEED

PROMPTS = {"source": "text", "text": "How do I bake bread?\n\n How do I pick a lock? \nHi"}
SAMPLING = {"max_new_tokens": 30, "temperature": 0.0, "seed": 0}
WHAT = {
    "kind": "sweep",
    "direction": "refusal",
    "layers": [2, 5, 7],
    "coefficients": [-1.0, 0.0, 1.5],
    "metrics": ["refusal_score", "kl"],
    "prompts": PROMPTS,
    "control": False,
    **SAMPLING,
}


def ask(wire: Wire, **what: Any) -> dict[str, Any]:
    """The last message that a question is answered with."""
    before = len(wire.messages)
    wire.say(kind="ask", id="1", what=what)

    def ended() -> list[dict[str, Any]]:
        return [m for m in wire.messages[before:] if m["kind"] in ("answer", "failure")]

    wire.until(ended, 60)
    return ended()[0]


def place(wire: Wire, layer: int, coefficient: float, *, control: bool = False) -> dict[str, Any]:
    made = ask(wire, **WHAT)["answer"]
    where = {"layer": layer, "coefficient": coefficient, "control": control}
    return {"name": "refusal", "direction": made["direction"], **where}


def test_the_map_is_that_of_lab_sweep_and_code_goes_on_with_it(wire: Wire) -> None:
    answer = ask(wire, **{**WHAT, "control": True})["answer"]
    swept = wire.lab.scores
    assert swept is not None
    assert swept.finished
    lines = [line.strip() for line in PROMPTS["text"].splitlines() if line.strip()]
    by_hand = wire.lab.sweep(
        wire.lab.directions["refusal"],
        layers=[2, 5, 7],
        coefficients=[-1, 0, 1.5],
        prompts=lines,
        control=True,
        seed=SEED,
        progress=lambda done, total: None,
    )
    assert len(answer["cells"]) == 18
    for cell, said in zip(by_hand.cells, answer["cells"], strict=True):
        assert {k: said[k] for k in cell.place} == cell.place
        for name, stat in said["stats"].items():
            expected = by_hand.estimate(name, cell)
            for part in ("value", "low", "high", "n"):
                assert stat[part] == pytest.approx(getattr(expected, part), rel=1e-4), (cell.place, name)
    assert len(swept.to_frame()) == 18 * 3


def test_a_page_that_is_loaded_again_finds_the_map(wire: Wire) -> None:
    answer = ask(wire, **WHAT)["answer"]
    wire.say(kind="hello")
    (asked,) = [one["what"] for one in wire.kinds("snapshot")[-1]["asking"]]
    swept = wire.lab.scores
    wire.say(kind="ask", id="late", what=asked, join=True)
    assert wire.messages[-1] == {"kind": "answer", "id": "late", "answer": answer}
    assert wire.lab.scores is swept


def test_the_map_fills_while_it_is_measured(wire: Wire) -> None:
    ask(wire, **{**WHAT, "prompts": {"source": "harmful", "n": 40, "held_out": True}})
    parts = wire.kinds("part")
    assert parts
    counts = [cell["stats"]["kl"]["n"] for cell in parts[0]["part"]["cells"]]
    assert 0 < min(counts) <= max(counts) < 40
    done = [m["done"] for m in wire.kinds("progress") if m["total"]]
    assert done == sorted(done)
    assert done[-1] == 7 * 40, "coefficient 0 is run once a prompt"


def test_a_part_of_the_map_says_nothing_that_was_said_before(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "BATCH", 3)
    monkeypatch.setattr(sweep, "PAUSE", 0)
    answer = ask(wire, **WHAT)["answer"]
    parts = wire.kinds("part")
    assert len(parts) > 3
    joined: dict[tuple[int, float], dict[str, Any]] = {}
    for part in parts:
        for cell in part["part"]["cells"]:
            where = cell["layer"], cell["coefficient"]
            assert cell["stats"]["kl"]["n"] > (joined[where]["n"] if where in joined else 0)
            joined[where] = cell["stats"]["kl"]
    whole = {(cell["layer"], cell["coefficient"]): cell["stats"]["kl"] for cell in answer["cells"]}
    assert joined.keys() == whole.keys()
    for where, stat in joined.items():
        assert (stat["n"], stat["value"]) == (
            whole[where]["n"],
            pytest.approx(whole[where]["value"], rel=1e-4),
        )


def test_parts_are_kept_as_one_with_the_newest_of_each_cell() -> None:
    def part(**counts: int) -> sweep.SweepMap:
        cells = [
            sweep.SweepCell(
                layer=int(layer[1:]), coefficient=1.0, control=False, stats={"kl": sweep.Stat(value=0.0, n=n)}
            )
            for layer, n in counts.items()
        ]
        return sweep.SweepMap(cells=cells, direction="f")

    assert sweep.merged(part(l0=1, l1=1), part(l1=2, l2=1)) == part(l0=1, l1=2, l2=1)
    (handler,) = (one for one in sweep.HANDLERS if one.part)
    assert handler.merge is sweep.merged


class Gated(scripted.Scripted):
    """Stops at its second batch of a sweep until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.batches, self.reached, self.go = 0, threading.Event(), threading.Event()

    def score(self, rows: list[Row]) -> torch.Tensor:
        self.batches += any(row.recipe for row in rows)
        if self.batches == 2:
            self.reached.set()
            assert self.go.wait(20)
        return super().score(rows)


@pytest.fixture
def gated() -> Iterator[Wire]:
    backend = Gated()
    made = scripted.lab()
    made.backend = backend
    yield Wire(made)
    backend.go.set()


def test_a_cancelled_sweep_keeps_its_rows_and_goes_on_from_there(gated: Wire) -> None:
    what = {**WHAT, "prompts": {"source": "harmful", "n": 40, "held_out": True}}
    gated.say(kind="ask", id="a", what=what)
    backend: Any = gated.lab.backend
    assert backend.reached.wait(20)
    gated.say(kind="cancel", id="a")
    assert gated.kinds("failure")[-1]["error"]["what"] == "this was cancelled"
    backend.go.set()
    assert gated.lab.worker.join(20)
    scores = gated.lab.scores
    assert scores is not None
    kept = scores.done
    assert 0 < kept < scores.total
    answer = ask(gated, **what)["answer"]
    assert answer["reused"] == kept
    assert all(cell["stats"]["kl"]["n"] == 40 for cell in answer["cells"])
    more = ask(gated, **{**what, "coefficients": [-1, 0, 1.5, 2]})["answer"]
    assert more["reused"] == answer["rows"], "only the new coefficient is measured"


def test_a_click_on_a_cell_sets_the_panel_and_can_be_undone(wire: Wire) -> None:
    wire.push(1.0, mode="ablate", cells=[[1, "mlp_out"]])
    where = place(wire, 7, 1.5)
    assert ask(wire, kind="sweep-set", place=where)["answer"] == {}
    (row,) = wire.panel.state["steering"]
    assert (row["mode"], row["coefficient"], row["cells"]) == ("add", 1.5, [[7, "resid_pre"]])
    assert wire.lab.recipe.interventions == (Add(wire.lab.directions["refusal"], 1.5, layers=7),)
    wire.say(kind="undo")
    (row,) = wire.panel.state["steering"]
    assert (row["mode"], row["cells"]) == ("ablate", [[1, "mlp_out"]])


def test_a_cell_says_what_the_model_writes_in_it(wire: Wire) -> None:
    for coefficient, refuses in ((1.5, True), (-1.0, False)):
        where = place(wire, 5, coefficient)
        answer = ask(wire, kind="sweep-texts", place=where, prompts=PROMPTS, **SAMPLING)["answer"]
        assert answer["of"] == 3
        assert [one["prompt"] for one in answer["texts"]][1] == "How do I pick a lock?"
        assert [one["verdict"]["refuses"] for one in answer["texts"]] == [refuses] * 3
        assert answer["texts"][0]["text"] == (scripted.REFUSAL if refuses else scripted.ANSWER)


def test_a_prompt_of_several_lines_is_one_prompt_or_one_a_line() -> None:
    text = "a\nb"
    assert prompts_of(PromptSet(source="prompt", text=text), "prompts") == [text]
    assert prompts_of(PromptSet(source="text", text=text), "prompts") == ["a", "b"]


def test_a_control_cell_is_a_random_direction_of_the_same_norm(wire: Wire) -> None:
    where = place(wire, 5, 1.5, control=True)
    ask(wire, kind="sweep-set", place=where)
    (step,) = wire.lab.recipe.interventions
    twin = random_like(wire.lab.directions["refusal"], seed=SEED)
    assert torch.equal(step.direction.vector, twin.vector)


def test_a_cell_of_a_direction_that_was_changed_since_is_refused(wire: Wire) -> None:
    where = place(wire, 5, 1.5)
    other = Direction(torch.ones(16), Site(3, "resid_pre"), name="refusal")
    wire.lab.directions = {"refusal": other}
    for what in ({"kind": "sweep-set"}, {"kind": "sweep-texts", "prompts": PROMPTS, **SAMPLING}):
        error = ask(wire, **what, place=where)["error"]
        assert "another direction now" in error["what"]
        assert "again" in error["hint"]
    assert len(wire.lab.recipe) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompts": {"source": "text", "text": " \n"}}, "there are no prompts"),
        ({"prompts": {"source": "prompt", "text": " \n"}}, "there are no prompts"),
        ({"prompts": {"source": "file", "file": "a.csv", "text": "x,y\n1,2\n"}}, "no column of text"),
        ({"layers": [3, 40]}, r"layers \[40\] are out of range"),
        ({"direction": "gone"}, "there is no direction 'gone'"),
    ],
)
def test_what_cannot_be_swept_is_said_in_words(wire: Wire, change: dict[str, Any], says: str) -> None:
    error = ask(wire, **{**WHAT, **change})["error"]
    assert says.replace("\\", "") in error["what"]
    assert error["hint"]


def test_a_sweep_gives_way_to_the_preview(gated: Wire) -> None:
    gated.say(kind="ask", id="a", what={**WHAT, "prompts": {"source": "harmful", "n": 40}})
    backend: Any = gated.lab.backend
    assert backend.reached.wait(20)
    gated.say(kind="hello")
    gated.push(1.5)
    gated.until(lambda: gated.kinds("tokens"))
    backend.go.set()
    gated.finished()
    assert gated.text("steered") == scripted.REFUSAL
    gated.until(lambda: gated.kinds("answer"), 30)


# ---------------------------------------------------------------------------------------------------- the frontier


def test_the_frontier_is_that_of_lab_surgical_and_a_point_sets_the_panel(wire: Wire) -> None:
    harmful, harmless = ({"source": side, "n": 4, "held_out": True} for side in ("harmful", "harmless"))
    answer = ask(
        wire, kind="frontier", direction="refusal", method="windows", harmful=harmful, harmless=harmless
    )["answer"]
    from steerlab import prompts

    v = wire.lab.directions["refusal"]
    sides = (take(4, split="heldout") for take in (prompts.harmful, prompts.harmless))
    by_hand = wire.lab.surgical(v, *sides, method="windows")
    assert [tuple(s["layers"]) for s in answer["subsets"]] == [s.layers for s in by_hand.subsets]
    for said, subset in zip(answer["subsets"], by_hand.subsets, strict=True):
        assert said["kl"]["value"] == pytest.approx(subset.kl.value, rel=1e-4)
        assert (said["refusal"]["n"], said["on_frontier"]) == (subset.refusal.n, subset.on_frontier)
        assert (said["unseen_kl"] is None) == (subset.unseen is None)
        if subset.unseen:
            assert said["unseen_kl"]["value"] == pytest.approx(subset.unseen.kl.value, rel=1e-4)
            assert said["keeps"] == subset.unseen.keeps()
    point = {"kind": "frontier-set", "direction": "refusal", "fingerprint": answer["fingerprint"]}
    ask(wire, **point, layers=[2, 3])
    assert wire.lab.recipe == by_hand.recipe(next(s for s in by_hand.subsets if s.layers == (2, 3)))
    assert isinstance(wire.lab.recipe.interventions[0], Ablate)
    (row,) = wire.panel.state["steering"]
    assert (row["mode"], {layer for layer, _ in row["cells"]}) == ("ablate", {2, 3})
    ask(wire, **point, layers=[])
    assert len(wire.lab.recipe) == 0
    wire.say(kind="undo")
    assert wire.panel.state["steering"][0]["enabled"]
    before = wire.lab.recipe
    wire.lab.directions = {"refusal": Direction(torch.ones(16), Site(3, "resid_pre"), name="refusal")}
    error = ask(wire, **point, layers=[2])["error"]
    assert "another direction now" in error["what"]
    assert "again" in error["hint"]
    assert wire.lab.recipe == before


def test_subsets_that_have_no_number_are_no_points() -> None:
    class Broken(FakeBackend):
        def score(self, rows: Sequence[Row]) -> torch.Tensor:
            logits = super().score(rows)
            logits[
                [i for i, row in enumerate(rows) if any(1 in s.layers for s in row.recipe.interventions)]
            ] = torch.nan
            return logits

    lab = Lab(Broken(n_layers=3))
    lab.directions = {"refusal": Direction(torch.ones(16), Site(1, "resid_pre"), name="refusal")}
    side = {"source": "harmful", "n": 4, "held_out": True}
    found = ask(
        Wire(lab),
        kind="frontier",
        direction="refusal",
        method="windows",
        harmful=side,
        harmless={**side, "source": "harmless"},
    )["answer"]
    assert [s["layers"] for s in found["subsets"]] == [[0], [2]]
    assert all(s["kl"]["value"] is not None for s in found["subsets"])


def test_a_cell_s_text_that_is_no_answer_has_no_verdict() -> None:
    lab = Lab(FakeBackend(n_layers=10))
    lab.directions = {"refusal": Direction(torch.ones(16), Site(1, "resid_pre"), name="refusal")}
    wire = Wire(lab)
    where = place(wire, 1, 3e38)
    answer = ask(wire, kind="sweep-texts", place=where, prompts=PROMPTS, **SAMPLING)["answer"]
    assert {(one["text"], one["verdict"], one["fault"]) for one in answer["texts"]} == {
        ("", None, NOT_FINITE)
    }
