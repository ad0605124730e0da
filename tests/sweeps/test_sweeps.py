"""What a sweep measures: the same as a plain loop, and no more than it has to."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import models
import numpy as np
import pytest
import torch
from counting import PROMPTS, SHORT, TOKENS, Counting, V, direction, length, long, the_same

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
    errors,
    metrics,
)
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.estimators import random_like
from steerlab.prompts import harmful, harmless
from steerlab.sweeps import Scores, named


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_a_sweep_is_a_plain_loop(kind: str) -> None:
    lab = Lab(FakeBackend(n_layers=3) if kind == "fake" else (models.build("llama"), byte_tokenizer()))
    v, n = direction(lab.info.d_model), lab.info.n_layers
    names = ("refusal_score", "kl", "refusal_rate", "repetition", "cross_entropy", length)
    sweep = lab.sweep(
        v,
        coefficients=[-1, 0, 2],
        prompts=PROMPTS,
        metrics=names,
        refusal_tokens=TOKENS,
        sampling=SHORT,
        batch_rows=7,
    )
    frame = sweep.to_frame()
    expected = []
    for layer in range(n):
        for c in (-1.0, 0.0, 2.0):
            for prompt in PROMPTS:
                row = Row(prompt, Recipe([Add(v, c, layers=layer)]))
                base, steered = lab.backend.score([Row(prompt)]), lab.backend.score([row])
                text = lab.backend.generate([row], SHORT)[0].text
                score = float(metrics.refusal_score(steered, TOKENS))
                kl, loops = float(metrics.kl(base, steered)), metrics.repetition(text)
                own = lab.backend.generate([Row(prompt)], SHORT)[0].token_ids
                entropy = -float(lab.backend.likelihood([row], [own])[0].mean())
                expected.append(
                    (layer, c, prompt, score, kl, metrics.refuses(text), loops, entropy, len(text), text)
                )
    assert len(frame) == len(expected) == n * 3 * len(PROMPTS)
    for got, wanted in zip(frame.itertuples(index=False), expected, strict=True):
        assert (*got[:3], got.refusal_rate, got.length, got.text) == (*wanted[:3], wanted[5], *wanted[8:])
        assert (got.refusal_score, got.kl, got.repetition, got.cross_entropy) == pytest.approx(
            (*wanted[3:5], *wanted[6:8]), abs=1e-5, nan_ok=True
        )
        assert ("repetition: an answer of fewer than three words" in got.why) == math.isnan(wanted[6])
    assert list(frame.columns)[:3] == ["layer", "coefficient", "prompt"]


def test_only_what_the_metrics_need_is_computed(lab: Lab, backend: Counting) -> None:
    sweep = lab.sweep(V, prompts=PROMPTS, metrics=["kl"], batch_rows=4)
    assert not backend.generated
    rows = [row for batch in backend.scored for row in batch]
    assert len(rows) == sweep.total == len(PROMPTS) * (1 + 3 * 4), "one baseline a prompt, and no row twice"
    order = [row.prompt for row in rows]
    assert [p for i, p in enumerate(order) if i == 0 or order[i - 1] != p] == PROMPTS
    assert not any(backend.held), "no logits outlive their batch"
    backend.scored.clear()
    lab.sweep(V, prompts=PROMPTS, metrics=[length], coefficients=[1], sampling=SHORT)
    assert not backend.scored
    assert sum(map(len, backend.generated)) == 3 * len(PROMPTS)
    lab.sweep(V, prompts=PROMPTS, metrics=["refusal_score"], coefficients=[1], refusal_tokens=TOKENS)
    assert all(row.recipe for batch in backend.scored for row in batch), "a score needs no baseline"
    backend.generated.clear()
    lab.sweep(V, prompts=PROMPTS, metrics=["cross_entropy"], sampling=SHORT, batch_rows=4)
    generated = [row for batch in backend.generated for row in batch]
    answered = [(row.prompt, row.recipe) for row in generated]
    assert answered == [(prompt, BASELINE) for prompt in PROMPTS], "one answer a prompt, the baseline's"
    backend.generated.clear()
    lab.sweep(V, prompts=PROMPTS, metrics=["cross_entropy", length], sampling=SHORT, batch_rows=4)
    assert sum(map(len, backend.generated)) == sweep.total, "one answer a row"


def test_the_noise_of_sampled_answers_is_of_their_prompt(lab: Lab, backend: Counting, tmp_path: Path) -> None:
    """So that a mean over prompts is of answers that do not go alike, and the same whatever is measured beside."""
    sampling = Sampling(6, 1.0)
    options: dict[str, Any] = {"metrics": [length, "cross_entropy"], "sampling": sampling, "layers": 1}
    whole = lab.sweep(V, prompts=PROMPTS, **options)
    rows = {row for batch in backend.generated for row in batch}
    by_prompt = {prompt: {row.seed for row in rows if row.prompt == prompt} for prompt in PROMPTS}
    assert [len(found) for found in by_prompt.values()] == [1] * 3
    assert len(set.union(*by_prompt.values())) == 3
    path = tmp_path / "s.jsonl"
    lab.sweep(V, prompts=PROMPTS[1:], path=path, **options)
    assert the_same(lab.sweep(V, prompts=PROMPTS, path=path, **options), whole)
    with pytest.raises(
        errors.FileError, match=r"another sweep: sampling: .*'seed': 0.* there, .*'seed': 1.* here"
    ):
        lab.sweep(V, prompts=PROMPTS, path=path, seed=1, **options)
    assert not the_same(lab.sweep(V, prompts=PROMPTS, seed=1, **options), whole)


def test_a_prompt_that_is_given_again_is_another_sample(lab: Lab, backend: Counting, tmp_path: Path) -> None:
    options: dict[str, Any] = {"metrics": [length, "kl"], "sampling": Sampling(12, 3.0), "batch_rows": 5}
    recipes = [BASELINE, Recipe([Add(V)])]
    path = tmp_path / "s.jsonl"
    table = lab.score(["Hi", "Ho"] * 4, recipes, path=path, **options)
    frame = table.to_frame()
    assert frame["prompt"].tolist() == ["Hi", "Ho"] * 8
    assert table.total == 16
    for _, answers in frame.groupby(["recipe", "prompt"])["text"]:
        assert len(set(answers)) > 2
    rows = [row for batch in backend.generated for row in batch]
    assert len(rows) == 16
    assert len({(row.prompt, row.seed) for row in rows}) == 8, "a sample's noise is that of its baseline"
    assert table.estimate("length", table.cells[0]) == metrics.estimate(
        [float(len(text)) for text in frame["text"][:8]]
    )
    report = lab.measure(BASELINE, ["Hi"] * 4, ["Ho"] * 4, sampling=Sampling(12, 3.0))
    assert sorted(answer.text for answer in report.completions["baseline"]) == sorted(frame["text"][:8])
    backend.generated.clear()
    assert the_same(lab.score(["Hi", "Ho"] * 4, recipes, path=path, **options), table)
    assert not backend.generated
    more = lab.score(["Hi"] * 6, recipes, path=path, **options)
    assert sum(map(len, backend.generated)) == 2 * 2, "two more samples of each recipe"
    assert more.to_frame()["text"].tolist()[:4] == frame["text"].tolist()[:8:2]


def test_a_prompt_that_is_given_again_says_the_same_where_nothing_is_sampled(
    lab: Lab, backend: Counting
) -> None:
    """It is run once, and counts as it is given: as in `lab.measure`."""
    table = lab.score(["Hi", "Hi", "Ho"], [BASELINE], [length], sampling=SHORT)
    assert sum(map(len, backend.generated)) == table.total == 2
    values = table.to_frame()["length"].tolist()
    assert values[0] == values[1]
    assert table.estimate("length", table.cells[0]) == metrics.estimate(values)
    report = lab.measure(BASELINE, ["Hi", "Hi"], ["Ho"], sampling=SHORT)
    assert report["baseline"].refusal_rate.n == 2
    many = lab.score(["Hi"] * 3, [BASELINE], ["kl", "repetition"], sampling=Sampling(6, 1.0))
    few = Scores(backend, many.cells, ["Hi"] * 3, metrics=["kl"])
    few.adopt(many)
    assert few.finished, "what the logits say is that of every sample"


def test_greedy_answers_are_of_every_seed(lab: Lab, backend: Counting, tmp_path: Path) -> None:
    options: dict[str, Any] = {"prompts": PROMPTS, "metrics": [length], "sampling": SHORT, "layers": 1}
    first = lab.sweep(V, path=tmp_path / "s.jsonl", **options)
    backend.generated.clear()
    assert the_same(lab.sweep(V, path=tmp_path / "s.jsonl", seed=1, **options), first)
    other = Scores(backend, first.cells, PROMPTS, metrics=["repetition"], sampling=SHORT, seed=1)
    taken = Scores(backend, first.cells, PROMPTS, metrics=["repetition"], sampling=SHORT).resume()
    other.adopt(taken)
    assert other.finished
    assert sum(map(len, backend.generated)) == taken.total


def test_coefficient_zero_is_the_baseline(lab: Lab) -> None:
    frame = lab.sweep(V, coefficients=[0, 1], prompts=PROMPTS, metrics=["kl", length]).to_frame()
    assert (frame[frame.coefficient == 0].kl == 0).all()
    assert (frame[frame.coefficient == 1].kl > 0).all()
    strength = lab.sweep(
        lambda layer, c: Recipe([Ablate(V, layers=layer, strength=c)]), coefficients=[0, 1], prompts=PROMPTS
    )
    assert strength.total == len(PROMPTS) * (1 + 3)


def test_a_function_says_what_is_done_in_a_cell(lab: Lab) -> None:
    def make(layer: int, c: float) -> Recipe:
        return Recipe([Ablate(V, layers=layer, strength=c)])

    sweep = lab.sweep(make, layers=[2, 0], coefficients=(0.5, 1), prompts=PROMPTS)
    assert [cell.place for cell in sweep.cells] == [
        {"layer": layer, "coefficient": c} for layer in (0, 2) for c in (0.5, 1.0)
    ]
    assert [cell.recipe for cell in sweep.cells] == [make(layer, c) for layer in (0, 2) for c in (0.5, 1)]
    of_numpy = [lab.sweep(make, layers=given, prompts=["Hi"]) for given in (np.arange(1, 3), np.int64(1))]
    assert [[cell.place["layer"] for cell in sweep.cells[::5]] for sweep in of_numpy] == [[1, 2], [1]]
    assert json.dumps([cell.place for cell in of_numpy[0].cells])
    at = lab.sweep(V, layers=2, coefficients=[1], prompts=PROMPTS, point="mlp_out").cells[0].recipe
    assert at == Recipe([Add(V, 1, layers=2, sites="mlp_out")])


def test_recipes_are_scored_by_name(lab: Lab, backend: Counting) -> None:
    push = Recipe([Add(V)])
    table = lab.score(
        PROMPTS, {"none": BASELINE, "push": push}, [metrics.refusal_rate, metrics.kl, metrics.cross_entropy]
    )
    frame = table.to_frame().set_index(["recipe", "prompt"])
    kl = metrics.kl(backend.score([Row("Hi")]), backend.score([Row("Hi", push)]))
    assert frame.loc[("push", "Hi"), "kl"] == pytest.approx(float(kl), abs=1e-6)
    assert frame.loc[("none", "Hi"), "kl"] == 0
    assert table.metrics == ("refusal_rate", "kl", "cross_entropy")
    assert [c.place["recipe"] for c in lab.score(["Hi"], [BASELINE, push]).cells] == [
        "baseline",
        "add 'v' +1 at resid_pre[1]",
    ]


def test_recipes_that_read_alike_are_told_apart(lab: Lab) -> None:
    at = [Direction(V.vector + i, Site(i, "resid_pre"), name="v") for i in range(3)]
    same_site = [Direction(V.vector + i, Site(0, "resid_pre"), name="w") for i in range(2)]
    alone = Recipe([Ablate(Direction(V.vector, name="u"))])
    recipes = [alone, *(Recipe([Ablate(d)]) for d in (*at, *same_site)), alone]
    names = [cell.place["recipe"] for cell in named(recipes)]
    words = "ablate {} strength 1 at resid_pre, attn_out, mlp_out of all layers"
    assert names[0] == names[-1] == words.format("'u'")
    assert names[1:4] == [f"{words.format(repr('v'))}, found at resid_pre[{i}]" for i in range(3)]
    assert names[4:6] == [
        f"{words.format(repr('w'))}, found at resid_pre[0] #{r.fingerprint[:6]}" for r in recipes[4:6]
    ]


def test_the_control_is_random_with_the_same_norm_and_stands_beside(lab: Lab, backend: Counting) -> None:
    sweep = lab.sweep(V, coefficients=[0, 1], prompts=PROMPTS, metrics=["kl"], control=True, seed=3)
    frame = sweep.to_frame().set_index(["layer", "coefficient", "control", "prompt"])
    assert len(frame) == 2 * 3 * 2 * len(PROMPTS)
    random = Recipe([Add(random_like(V, seed=3), 1.0, layers=2)])
    kl = metrics.kl(backend.score([Row("Hi")]), backend.score([Row("Hi", random)]))
    assert frame.loc[(2, 1.0, True, "Hi"), "kl"] == pytest.approx(float(kl), abs=1e-6)
    assert frame.loc[(2, 1.0, False, "Hi"), "kl"] != pytest.approx(float(kl), abs=1e-6)


def test_a_summary_has_a_row_a_cell_with_intervals_of_its_rows(lab: Lab) -> None:
    sweep = lab.sweep(V, coefficients=[0, 1], prompts=PROMPTS, metrics=["kl", long], sampling=SHORT)
    frame, summary = sweep.to_frame(), sweep.summary()
    assert len(summary) == len(sweep.cells) == 6
    for cell, line in zip(sweep.cells, summary.to_dict("records"), strict=True):
        rows = frame[(frame.layer == cell.place["layer"]) & (frame.coefficient == cell.place["coefficient"])]
        kl = metrics.average(torch.tensor(list(rows.kl), dtype=torch.float64))
        assert (line["kl"], line["kl_low"], line["kl_high"], line["kl_n"]) == kl == sweep.estimate("kl", cell)
        share = metrics.rate(list(rows.long))
        assert (line["long"], line["long_low"], line["long_high"], line["long_n"]) == share
        assert line["why"] == ""


def test_the_refusal_tokens_are_the_models_own(lab: Lab, backend: Counting) -> None:
    sides = (backend.score([Row(prompt) for prompt in side]) for side in (harmful(32), harmless(32)))
    derived = metrics.refusal_tokens(*sides)
    sweep = lab.sweep(V, prompts=PROMPTS, coefficients=[1], metrics=["refusal_score"])
    assert sweep.refusal_tokens == tuple(derived)
    given = lab.sweep(V, prompts=PROMPTS, coefficients=[1], metrics=["refusal_score"], refusal_tokens=derived)
    assert the_same(sweep, given)


def test_the_map_shows_the_means(lab: Lab) -> None:
    mpl.use("agg")
    sweep = lab.sweep(V, coefficients=[1, 0], prompts=PROMPTS, metrics=["kl"], control=True)
    shown = sweep.plot().get_images()[0].get_array()
    control = sweep.plot("kl", control=True).get_images()[0].get_array()
    mean = sweep.to_frame().groupby(["control", "coefficient", "layer"]).kl.mean()
    np.testing.assert_allclose(shown, mean[False].unstack(), rtol=1e-6)
    np.testing.assert_allclose(control, mean[True].unstack(), rtol=1e-6)
