"""Finding a direction in the panel: every method, the map, another candidate, and what is said where none passes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from test_sweep import ask
from wires import Wire

from steerlab import Ablate, Add, Recipe, Site, prompts
from steerlab.estimators import caa, difference_in_means, logistic_probe, principal_component, prompt_pair
from steerlab.prompts import ContrastSet
from steerlab.ui.translate import fingerprint

SHOWS = [f"I love {x}, it is great" for x in ("cats", "tea", "the sea", "bread")]
LACKS = [f"I hate {x}, it is awful" for x in ("rain", "noise", "mud", "flies")]
ANY = {"max_kl": 1e9, "min_induce": -1e9, "drop": False}


def text(lines: list[str]) -> dict[str, Any]:
    return {"source": "text", "text": "\n".join(lines)}


def find(wire: Wire, method: str, **what: Any) -> dict[str, Any]:
    given = {"name": "love", "positive": text(SHOWS), "negative": text(LACKS), **what}
    return ask(wire, kind="find", method=method, **given)


def use(wire: Wire, **what: Any) -> dict[str, Any]:
    """Choose a candidate of the newest map, or of the one that is given."""
    assert wire.lab.map
    newest = {"name": "love", "map": fingerprint(wire.lab.map), "position": -1}
    return ask(wire, kind="find-use", **{**newest, **what})


def bundled(n: int) -> dict[str, Any]:
    return {"positive": {"source": "harmful", "n": n}, "negative": {"source": "harmless", "n": n}}


def test_the_papers_selection_is_that_of_find_direction(wire: Wire) -> None:
    answer = find(wire, "selection", **bundled(5), **ANY)["answer"]
    found = wire.lab.directions["love"]
    candidates = wire.lab.candidates
    assert candidates is not None
    by_hand = wire.lab.find_direction(prompts.harmful(5), prompts.harmless(5), name="other", **ANY)
    assert torch.equal(found.vector, by_hand.vector)
    assert found.provenance == by_hand.provenance
    assert answer["best"] == {"position": found.provenance["position"], "layer": by_hand.site.layer}
    assert (answer["prompts"], answer["chose"]) == ([4, 4], [1, 1])
    assert answer["scored"]
    for said, candidate in zip(answer["cells"], candidates.candidates, strict=True):
        assert (said["layer"], said["rejected"]) == (candidate.layer, candidate.rejected)
        for score in ("bypass", "induce", "kl"):
            wanted = getattr(candidate, score)
            assert said[score] == (pytest.approx(wanted, rel=1e-3) if wanted == wanted else None)
    assert {m["text"] for m in wire.kinds("progress")} >= {"reading the stream", "trying every candidate"}
    rows = {row["direction"]: row for row in wire.panel.state["steering"]}
    assert rows["love"]["coefficient"] == 0, "it is listed, and does nothing until somebody wants it"


def test_where_every_candidate_falls_the_map_is_there_and_says_which_threshold_is_enough(wire: Wire) -> None:
    limits = {"max_kl": -1.0, "min_induce": -1e9, "drop": False}
    answer = find(wire, "selection", **bundled(5), **limits)["answer"]
    assert answer["best"] is None
    assert "candidates were rejected" in answer["trouble"]["what"]
    assert "love" not in wire.lab.directions
    assert all(cell["rejected"] for cell in answer["cells"])
    assert wire.panel.info["map"] == answer["map"], "by which the tab Directions knows to ask again"
    (relaxed,) = answer["relax"]
    assert f"max_kl={relaxed['max_kl']:g}" in answer["trouble"]["hint"]
    again = find(wire, "selection", **bundled(5), **relaxed, drop=False)["answer"]
    assert again["best"] is not None
    assert again["trouble"] is None


def test_each_method_gives_the_direction_of_its_estimator(wire: Wire) -> None:
    backend, contrast = wire.lab.backend, ContrastSet(SHOWS, LACKS)
    questions = [("Cats?", "(A) yes", "(B) no"), ("Tea?", "(B) sure", "(A) never")]
    sides = {"positive": text(["(A) yes", "(B) sure"]), "negative": text(["(B) no", "(A) never"])}
    cases: list[tuple[str, dict[str, Any], Any]] = [
        ("means", {}, difference_in_means(backend, contrast)),
        ("components", {"point": "resid_post"}, principal_component(backend, contrast)),
        ("probe", {}, logistic_probe(backend, contrast)),
        (
            "caa",
            {**sides, "asked": text(["Cats?", "Tea?"]), "point": "resid_post", "position": "response"},
            caa(backend, questions, position="response"),
        ),
    ]
    for method, what, made in cases:
        position = what.get("position", -1)
        answer = find(wire, method, **{"position": position, "layer": 3, **what})["answer"]
        found = wire.lab.directions["love"]
        expected = made.at(position, 3)
        assert torch.equal(found.vector, expected.vector), method
        assert (found.site, found.provenance) == (expected.site, expected.provenance), method
        assert answer["best"] == {"position": position, "layer": 3}
        assert not answer["scored"]
        assert {cell["layer"] for cell in answer["cells"]} == set(range(10)), method
        (cell,) = [c for c in answer["cells"] if (c["position"], c["layer"]) == (position, 3)]
        assert cell["apart"] > 0, method


def test_two_prompts_are_enough(wire: Wire) -> None:
    sides = {"positive": text(["Love"]), "negative": text(["Hate"])}
    find(wire, "pair", **sides, layer=6)
    expected = prompt_pair(wire.lab.backend, "Love", "Hate", site=Site(6, "resid_pre"))
    found = wire.lab.directions["love"]
    assert torch.equal(found.vector, expected.vector)
    assert found.provenance == expected.provenance


def test_how_far_the_sides_are_apart_is_the_norm_of_their_difference_in_units_of_the_stream(
    wire: Wire,
) -> None:
    answer = find(wire, "means", layer=4)["answer"]
    made = difference_in_means(wire.lab.backend, ContrastSet(SHOWS, LACKS))
    ratio = made.norms / made.residual_norms
    for cell in answer["cells"]:
        i = made.positions.index(cell["position"])
        if made.differs(cell["position"], cell["layer"]):
            assert cell["apart"] == pytest.approx(float(ratio[i, cell["layer"]]), rel=1e-4)
        else:
            assert cell["apart"] is None


def test_a_click_uses_another_candidate_at_once_and_undo_takes_it_back(wire: Wire) -> None:
    find(wire, "means", layer=4)
    first = wire.lab.directions["love"]
    assert use(wire, layer=4)["answer"]["direction"] == "love"
    assert wire.lab.recipe.interventions == (Add(first),)
    used = use(wire, layer=6)["answer"]["direction"]
    (step,) = wire.lab.recipe.interventions
    assert step.direction.site == Site(6, "resid_pre") == step.sites[0]
    rows = {row["direction"]: row for row in wire.panel.state["steering"]}
    assert rows[used]["enabled"]
    assert list(wire.lab.directions) == ["refusal", "love"]
    wire.say(kind="undo")
    assert wire.lab.recipe.interventions[0].direction is first
    assert [row["direction"] for row in wire.panel.state["steering"]] == ["refusal", "love"]


def test_a_click_keeps_how_the_direction_is_used(wire: Wire) -> None:
    find(wire, "means", layer=4)
    v = wire.lab.directions
    wire.lab.recipe = Recipe([Ablate(v["love"], strength=0.5), Add(v["refusal"])])
    use(wire, layer=6)
    ablate, add = wire.lab.recipe.interventions
    assert isinstance(ablate, Ablate)
    assert (ablate.strength, ablate.layers) == (0.5, "all")
    assert ablate.direction.site == Site(6, "resid_pre")
    assert add.direction is wire.lab.directions["refusal"]


def test_a_candidate_that_is_kept_has_the_name_from_then_on(wire: Wire) -> None:
    find(wire, "means", layer=4)
    use(wire, layer=6)
    assert use(wire, layer=6, keep=True)["answer"] == {"direction": "love"}
    assert wire.lab.directions["love"].site == Site(6, "resid_pre")
    assert wire.lab.recipe.interventions[0].direction is wire.lab.directions["love"]
    assert [row["direction"] for row in wire.panel.state["steering"]] == ["refusal", "love"]
    wire.push(1.0)  # the panel goes on
    assert not wire.kinds("complaint")


def test_files_are_read_as_prompts_read_reads_them(wire: Wire) -> None:
    table = "id,Goal\n" + "\n".join(f'{i},"{line}"' for i, line in enumerate(SHOWS))
    lines = "\n".join(f'{{"prompt": "{line}"}}' for line in LACKS)
    answer = find(
        wire,
        "means",
        positive={"source": "file", "file": "shows.csv", "text": table},
        negative={"source": "file", "file": "lacks.jsonl", "text": lines},
        layer=2,
    )["answer"]
    assert answer["prompts"] == [4, 4]
    expected = difference_in_means(wire.lab.backend, ContrastSet(SHOWS, LACKS)).at(-1, 2)
    assert torch.equal(wire.lab.directions["love"].vector, expected.vector)


@pytest.mark.parametrize(
    ("method", "what", "says"),
    [
        ("selection", {"positive": text(["a"])}, "from 1 harmful and 4 harmless prompts"),
        ("means", {"negative": text([])}, "there are no prompts that lack it"),
        ("means", {"name": " "}, "has no name"),
        ("means", {"layer": 99}, "layer 99 is out of range"),
        ("components", {"negative": text(["a"])}, "do not pair: there are 4 positive and 1 negative prompts"),
        ("pair", {}, "not 4 and 4"),
        ("caa", {}, "do not pair: there are 0 and 4"),
        ("means", {"negative": {"source": "file", "file": "x.pdf", "text": "?"}}, "of no kind that is known"),
        ("means", {"positive": text(["same"]), "negative": text(["same"])}, "do not differ"),
    ],
)
def test_what_cannot_be_found_is_said_in_words(
    wire: Wire, method: str, what: dict[str, Any], says: str
) -> None:
    error = find(wire, method, **what)["error"]
    assert says in error["what"]
    assert error["hint"]
    assert list(wire.lab.directions) == ["refusal"]


def test_the_map_of_either_form_stays_of_use_whatever_the_other_found(wire: Wire) -> None:
    first = find(wire, "means", layer=4)["answer"]["map"]
    sides = {"positive": text(["Love"]), "negative": text(["Hate"])}
    second = find(wire, "pair", **sides, name="pair", layer=5)["answer"]["map"]
    wire.ask("bundled-map")
    assert use(wire, layer=6, map=first)["answer"]["direction"] == "love −1, 6"
    assert use(wire, layer=5, map=second, name="pair")["answer"]["direction"] == "pair"
    used = [step.direction.site for step in wire.lab.recipe.interventions]
    assert used == [Site(6, "resid_pre"), Site(5, "resid_pre")]
    use(wire, layer=7, map=first)
    used = [step.direction.site for step in wire.lab.recipe.interventions]
    assert used == [Site(7, "resid_pre"), Site(5, "resid_pre")], "in the place of the other of its own map"


@pytest.mark.parametrize("name", ["other", "love"])
def test_a_map_that_another_search_replaced_is_told(wire: Wire, name: str) -> None:
    first = find(wire, "means", layer=4)["answer"]["map"]
    find(wire, "means", layer=4, name=name, point="resid_post")
    error = use(wire, layer=6, map=first)["error"]
    assert re.search("this map of .love. is gone: another search", error["what"])
    assert len(wire.lab.recipe) == 0
