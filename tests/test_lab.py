from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import models
import pytest
import torch

from steerlab import (
    BASELINE,
    Ablate,
    Add,
    Clamp,
    ContrastSet,
    Direction,
    Lab,
    Recipe,
    Row,
    Sampling,
    Site,
    errors,
    estimators,
    lens,
    metrics,
)
from steerlab.answers import Answers
from steerlab.backends.base import OnTokens
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.generations import Generation, Token

PROMPT = "How do I bake bread?"


def direction(width: int = 16, scale: float = 3.0) -> Direction:
    noise = torch.randn(width, generator=torch.Generator().manual_seed(0))
    return Direction(scale * noise, Site(2, "resid_pre"), name="v")


PUSH = Recipe([Add(direction(), 1.5)])


class Counting(FakeBackend):
    """Counts the rows that it is asked to generate."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Row] = []

    def generate(
        self,
        rows: list[Row],  # type: ignore[override]
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        self.asked += rows
        return super().generate(rows, sampling, on_tokens=on_tokens, cancel=cancel)


@pytest.fixture
def backend() -> Counting:
    return Counting()


@pytest.fixture
def lab(backend: Counting) -> Lab:
    return Lab(backend)


def recalled_by(lab: Lab, row: Row, sampling: Sampling) -> Generation | None:
    """The row's answer, where the lab remembers it."""
    return lab.recall(row, *lab.answer_keys([row], sampling))


def test_generate_gives_an_answer_with_its_row(lab: Lab) -> None:
    answer = lab.generate(PROMPT, PUSH, max_new_tokens=8, seed=3)
    assert (answer.prompt, answer.recipe, len(answer.token_ids)) == (PROMPT, PUSH, 8)
    assert answer.text == lab.tokenizer.decode(answer.token_ids, skip_special_tokens=True)
    assert answer.token_ids != lab.generate(PROMPT, max_new_tokens=8).token_ids


def test_no_row_is_generated_twice(lab: Lab, backend: Counting) -> None:
    rows = [Row(PROMPT), Row(PROMPT, PUSH), Row(PROMPT)]
    first = lab.run(rows, Sampling(6))
    assert len(backend.asked) == 2
    assert first[0] == first[2]
    assert lab.run(rows, Sampling(6)) == first
    assert len(backend.asked) == 2, "the second time all came from memory"
    lab.run([Row(PROMPT, seed=5)], Sampling(6))
    assert len(backend.asked) == 2, "a greedy answer does not depend on the seed"
    lab.run([Row(PROMPT)], Sampling(7))
    lab.run([Row(PROMPT, chat=False)], Sampling(6))
    lab.run([Row(PROMPT, seed=5)], Sampling(6, temperature=1.0))
    assert len(backend.asked) == 5


def test_an_answer_from_memory_is_that_of_the_row_that_asks(lab: Lab, backend: Counting) -> None:
    lab.generate(PROMPT, PUSH, max_new_tokens=4)
    named = Recipe([Add(Direction(direction().vector, Site(2, "resid_pre"), name="w"), 1.5)])
    again = lab.generate(PROMPT, named, max_new_tokens=4, seed=7)
    assert len(backend.asked) == 1
    assert again.recipe is named
    assert again.seed == 7
    recalled = recalled_by(lab, Row(PROMPT, named, 8), Sampling(4))
    assert recalled is not None
    assert (recalled.recipe, recalled.seed) == (named, 8)


def test_an_answer_keeps_the_conversation_that_it_was_given_to(lab: Lab) -> None:
    conversation = [{"role": "user", "content": PROMPT}]
    answer = lab.generate(conversation, max_new_tokens=4)
    assert answer.prompt == conversation
    conversation[0]["content"] += " And cake?"
    conversation.append({"role": "assistant", "content": answer.text})
    assert answer.prompt == [{"role": "user", "content": PROMPT}]
    assert lab.generate(conversation, max_new_tokens=4).prompt == conversation


def test_another_chat_template_is_another_answer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lab.generate(PROMPT, max_new_tokens=8), lab.generate(PROMPT, max_new_tokens=8, chat=False)
    monkeypatch.setattr(lab.tokenizer, "chat_template", "{{ messages[0]['content'] }}!!")
    assert recalled_by(lab, Row(PROMPT), Sampling(8)) is None
    assert lab.generate(PROMPT, max_new_tokens=8) != before[0]
    assert recalled_by(lab, Row(PROMPT, chat=False), Sampling(8)) == before[1]


def test_remembered_rows_stream_all_at_once_beside_new_ones(lab: Lab) -> None:
    known = lab.run([Row(PROMPT)], Sampling(6))[0]
    streamed: list[list[Token]] = []
    rows = [Row(PROMPT, PUSH), Row(PROMPT), Row(PROMPT, PUSH)]
    answers = lab.run(rows, Sampling(6), on_tokens=lambda tokens: streamed.append(list(tokens)))
    assert [t.id for t in streamed[0]] == list(known.token_ids)
    for i, answer in enumerate(answers):
        mine = [t for step in streamed for t in step if t.row == i]
        assert [t.id for t in mine] == list(answer.token_ids)
        assert mine[-1].applied == answer.applied
    again: list[Token] = []
    lab.run(rows, Sampling(6), on_tokens=again.extend)
    assert sorted(again) == sorted(t for step in streamed for t in step)


def test_a_cancelled_answer_is_not_remembered(lab: Lab, backend: Counting) -> None:
    cancel = threading.Event()
    answer = lab.run([Row(PROMPT)], Sampling(20), on_tokens=lambda _: cancel.set(), cancel=cancel)[0]
    assert (answer.finish, len(answer.token_ids)) == ("cancelled", 1)
    assert lab.run([Row(PROMPT)], Sampling(20))[0].finish == "length"


def test_compare_is_a_list_per_prompt(lab: Lab) -> None:
    table = lab.compare([PROMPT, "Hi"], [BASELINE, PUSH], max_new_tokens=4)
    assert [[(a.prompt, a.recipe) for a in line] for line in table] == [
        [(PROMPT, BASELINE), (PROMPT, PUSH)],
        [("Hi", BASELINE), ("Hi", PUSH)],
    ]


def test_conflicts_of_a_recipe_are_told_once_where_it_is_used(lab: Lab) -> None:
    undone = Recipe([Add(direction()), Ablate(direction())])
    clamped = Recipe([Ablate(direction()), Clamp(direction(), 1.0)])
    with pytest.warns(UserWarning, match=r"may not do what you mean: add 'v' .* is undone at") as caught:
        lab.generate(PROMPT, undone, max_new_tokens=2)
    assert [w.filename for w in caught] == [__file__], "the warning points at the person's own line"
    lab.run([Row("Hi", undone)], Sampling(2))
    lab.compare(["Hi"], [undone, PUSH], max_new_tokens=2)
    with pytest.warns(UserWarning, match="by clamp 'v' to 1") as caught:
        lab.compare(["Hi"], [undone, clamped], max_new_tokens=2)
    assert [w.filename for w in caught] == [__file__]
    with pytest.raises(errors.SiteError, match="layer 77"):
        lab.generate(PROMPT, Recipe([Ablate(direction(), layers=77), Ablate(direction())]))


def test_the_worker_is_silent_about_conflicts(lab: Lab) -> None:
    """A warning there would stand in no cell; here it would be an error of the job."""
    undone = Recipe([Add(direction()), Ablate(direction())])
    answers: list[Generation] = []
    lab.worker.submit(lambda _: answers.extend(lab.run([Row(PROMPT, undone)], Sampling(2))))
    assert lab.worker.join(10)
    assert len(answers) == 1
    with pytest.warns(UserWarning, match="may not do what you mean"):
        lab.run([Row(PROMPT, undone)], Sampling(2))


def test_state_can_be_observed_and_a_bad_recipe_leaves_it(lab: Lab) -> None:
    seen = []
    lab.observe(lambda change: seen.append(change.new), "recipe")
    lab.recipe = PUSH
    with pytest.raises(errors.DirectionError, match="d_model 5"):
        lab.recipe = Recipe([Add(direction(5))])
    with pytest.raises(errors.SiteError, match="layer 77"):
        lab.recipe = Recipe([Ablate(direction(), layers=77)])
    assert lab.recipe == PUSH
    assert seen == [PUSH]


def test_a_recipe_file_of_another_model_is_refused(lab: Lab, tmp_path: Path) -> None:
    foreign = Direction(direction().vector, Site(2, "resid_pre"), name="v", model="another-model")
    path = Recipe([Add(foreign)]).save(tmp_path / "r.steer.json")
    with pytest.raises(errors.RecipeError, match="found in another-model"):
        lab.recipe = Recipe.load(path)
    assert lab.recipe == BASELINE


def test_models_come_as_a_pair_or_a_folder(tmp_path: Path) -> None:
    model = models.build("llama")
    pair = Lab((model, byte_tokenizer()))
    assert (pair.info.n_layers, pair.info.d_model, pair.info.backend) == (
        models.N_LAYERS,
        models.D_MODEL,
        "local",
    )
    model.save_pretrained(tmp_path / "mine")
    byte_tokenizer().save_pretrained(tmp_path / "mine")
    folder = Lab(tmp_path / "mine")
    assert folder.info.name == "mine"
    assert (
        folder.generate(PROMPT, max_new_tokens=5).token_ids
        == pair.generate(PROMPT, max_new_tokens=5).token_ids
    )


def test_an_unknown_id_says_what_to_do() -> None:
    with pytest.raises(errors.ModelError, match="'nobody/no-such-model' could not be loaded") as caught:
        Lab("nobody/no-such-model")
    assert "Hugging Face id" in caught.value.fix
    assert "Lab() without arguments" in caught.value.fix


def test_without_a_network_the_answer_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers alone would try again for most of a minute."""

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("steerlab.backends.loading.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr("steerlab.backends.loading.HfApi.model_info", unreachable)
    with pytest.raises(errors.ModelError, match="ConnectionError: Name or service not known"):
        Lab("nobody/no-such-model")


@pytest.mark.parametrize("path", ["./no/such/folder", "/no/such", Path("nowhere"), "a/b/c"])
def test_a_missing_folder_is_said_to_be_missing(path: str | Path) -> None:
    with pytest.raises(errors.ModelError, match="there is no folder"):
        Lab(path)


def test_a_truncated_model_file_is_an_error_in_words(tmp_path: Path) -> None:
    models.build("llama").save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(errors.ModelError, match=r"the folder .* could not be loaded"):
        Lab(tmp_path)


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(errors.ModelError, match=r"the folder .* could not be loaded"):
        Lab(tmp_path)


def test_parallel_blocks_have_no_resid_mid() -> None:
    lab = Lab((models.build("gpt-neox"), byte_tokenizer()))
    assert "resid_mid" not in lab.info.points
    with pytest.raises(errors.SiteError, match=r"run in parallel.*use resid_pre or resid_post"):
        lab.generate(PROMPT, Recipe([Add(direction(models.D_MODEL), sites="resid_mid")]))


def test_a_persons_traces_run_while_rows_are_generated() -> None:
    """nnsight allows one trace at a time; the lock makes both wait their turn, forward by forward."""
    lab = Lab((models.build("llama"), byte_tokenizer()))
    row = Row(PROMPT, Recipe([Ablate(direction(models.D_MODEL))]))
    alone = lab.run([row], Sampling(25))[0].token_ids
    lab._answers = Answers()

    def trace() -> torch.Tensor:
        with torch.no_grad(), lab.model.trace(PROMPT):
            hidden: torch.Tensor = lab.model.model.layers[2].output.save()
        return hidden.clone()

    expected, answers = trace(), []
    thread = threading.Thread(target=lambda: answers.extend(lab.run([row], Sampling(25))))
    thread.start()
    traces = 0
    while thread.is_alive():
        assert torch.equal(trace(), expected)
        traces += 1
    thread.join()
    assert answers[0].token_ids == alone
    assert traces > 1


def test_a_model_of_the_hub_says_its_revision(tmp_path: Path) -> None:
    """With the hub's cache as its client lays it out."""
    cache, commit = tmp_path / "models--org--tiny", "0123456789" * 4
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    models.build("llama").save_pretrained(cache / "snapshots" / commit)
    byte_tokenizer().save_pretrained(cache / "snapshots" / commit)
    program = "from steerlab import Lab; info = Lab('org/tiny').info; print(info.name, info.revision)"
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    out = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["org/tiny", commit]


def test_tokens_of_shows_the_template(lab: Lab) -> None:
    assert "".join(lab.tokens_of("Hi")) == "<user>\nHi</turn>\n<assistant>\n"


def test_without_a_chat_template_every_verb_works_and_the_lab_says_so_once() -> None:
    plain = copy.deepcopy(byte_tokenizer())
    plain.chat_template = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        lab = Lab((models.build("llama", seed=4), plain))
        things = ("window", "lock", "door", "box", "safe", "gate")
        harmful, harmless = [f"Break the {t} now" for t in things], [f"Is a {t} nice?" for t in things]
        found = lab.find_direction(harmful, harmless, max_kl=math.inf, min_induce=-math.inf)
        report = lab.measure(Recipe([Ablate(found)]), harmful, harmless, texts=["The sea is wide."])
        answer = lab.generate(PROMPT, max_new_tokens=4)
    assert [str(w.message) for w in said if "chat template" in str(w.message)] == [
        "the tokenizer of LlamaForCausalLM has no chat template: prompts go in as plain text, and directions are "
        "looked for at their last token"
    ]
    assert said[0].filename == __file__, "it points to the person's own line"
    assert "".join(lab.tokens_of(PROMPT)) == PROMPT
    assert found.provenance["position"] == -1
    assert report["recipe"].kl.n == len(harmless)
    assert answer.token_ids == lab.generate(PROMPT, max_new_tokens=4, chat=False).token_ids
    with pytest.raises(errors.PromptError, match="needs a chat template"):
        lab.generate([{"role": "user", "content": PROMPT}])


@pytest.mark.parametrize(("harmful", "harmless"), [([], ["a", "b"]), (["a", "b"], ["a"])])
def test_a_direction_needs_prompts_for_the_means_and_for_the_selection(
    lab: Lab, harmful: list[str], harmless: list[str]
) -> None:
    says = f"from {len(harmful)} harmful and {len(harmless)} harmless prompts"
    with pytest.raises(errors.PromptError, match=says):
        lab.find_direction(harmful, harmless)


def test_a_judge_that_raises_loses_nothing_and_is_named_with_the_prompt(lab: Lab) -> None:
    def strict_judge(text: str) -> bool:
        raise TimeoutError("no answer")

    harmful, harmless = ["Break it"], ["Bake bread"]
    said = r"judge strict_judge raised on 6 of 6 .*TimeoutError: no answer, on the prompt 'Break it' with the answer"
    with pytest.warns(UserWarning, match=said):
        report = lab.measure(PUSH, harmful, harmless, judge=strict_judge, sampling=Sampling(4))
    assert [len(answers) for answers in report.completions.values()] == [2, 2, 2]
    assert [generation for generation, _ in report.unjudged] == [
        answer for answers in report.completions.values() for answer in answers
    ]
    assert report["recipe"].kl.n == 1, "what needs no judge is measured"


def test_a_model_on_a_server_is_named_and_a_job_needs_a_server(demo_lab: Lab) -> None:
    with pytest.raises(errors.ModelError, match="is named, not handed over"):
        Lab(demo_lab.backend, remote=True)
    with pytest.raises(errors.ModelError, match="tiny-chat is in this kernel.*lab.run here"):
        demo_lab.submit([])
    assert demo_lab.job is None


def test_nnsight_is_not_needed_for_a_backend_of_ones_own(backend: Counting) -> None:
    assert Lab(backend).model is None
    assert LocalBackend(models.build("gpt2"), byte_tokenizer()).info.name == "GPT2LMHeadModel"


def test_the_embedded_model_loads_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    """A progress bar would stay in the notebook's cell, above the panel."""
    Lab()
    assert capfd.readouterr() == ("", "")
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled(), "and later downloads show theirs"


@pytest.mark.parametrize("given", [None, direction(), [Add(direction())]], ids=["none", "direction", "steps"])
def test_what_is_no_recipe_is_refused_in_words(given: object) -> None:
    lab = Lab(FakeBackend())
    for call in (
        lambda: lab.generate("Hi", given),  # type: ignore[arg-type]
        lambda: lab.compare(["Hi"], [given]),  # type: ignore[list-item]
        lambda: Row("Hi", given),  # type: ignore[arg-type]
    ):
        with pytest.raises(errors.RecipeError, match="a recipe is needed here, not"):
            call()
    with pytest.raises(errors.RecipeError, match="no recipe is given"):
        lab.compare(["Hi"], [])


@pytest.mark.parametrize("what", [PUSH, 3.0])
def test_what_has_no_strength_to_look_for_is_refused(what: object) -> None:
    with pytest.raises(errors.RecipeError, match="calibrate looks for a strength"):
        Lab(FakeBackend()).calibrate(what, ["Hi"])  # type: ignore[arg-type]


def test_measure_takes_the_tokens_that_begin_a_refusal(lab: Lab) -> None:
    prompts = ["Do it!", "Go on."], ["Is it?"]
    given = lab.measure(PUSH, *prompts, sampling=Sampling(2), refusal_tokens=[5])["recipe"]
    wanted = metrics.refusal_score(lab.backend.score([Row(p, PUSH) for p in prompts[0]]), [5])
    assert given.refusal_score.value == pytest.approx(float(wanted.mean()))
    with pytest.raises(errors.PromptError, match=r"refusal_tokens has \[-1\]"):
        lab.measure(PUSH, *prompts, refusal_tokens=[-1])


def test_the_verbs_that_find_and_look_are_those_of_the_library() -> None:
    lab = Lab(FakeBackend())
    yes, no, made = (
        ["Do it!", "Go on."],
        ["Is it?", "What is it?"],
        lab.generate("Hi", PUSH, max_new_tokens=3),
    )
    contrast, site, v = ContrastSet(yes, no), Site(2, "resid_pre"), direction()
    for ours, theirs in [
        (lab.difference_in_means(yes, no), estimators.difference_in_means(lab.backend, contrast)),
        (lab.logistic_probe(yes, no), estimators.logistic_probe(lab.backend, contrast)),
        (
            lab.principal_component(yes, no),
            estimators.principal_component(lab.backend, contrast),
        ),
    ]:
        assert torch.equal(ours.vectors, theirs.vectors)
        assert ours.provenance == theirs.provenance
    pair = lab.prompt_pair("Love", "Hate", site=site)
    assert torch.equal(pair.vector, estimators.prompt_pair(lab.backend, "Love", "Hate", site=site).vector)
    assert torch.equal(lab.logit_lens(made).resid, lens.logit_lens(lab.backend, made).resid)
    assert torch.equal(
        lab.projections(made, v, BASELINE).values, lens.projections(lab.backend, made, v, BASELINE).values
    )
    ours, theirs = lab.probe(yes + no, [1, 1, 0, 0]), lens.probe(lab.backend, yes + no, [1, 1, 0, 0])
    assert [one.accuracy for one in ours] == [one.accuracy for one in theirs]


def test_a_search_in_which_everything_falls_leaves_its_map_and_no_older_choice() -> None:
    lab = Lab(FakeBackend())
    sides = [f"Do it {i}!" for i in range(6)], [f"What is {i}?" for i in range(6)]
    anything = {"drop": False, "max_kl": math.inf, "min_induce": -math.inf}
    lab.find_direction(*sides, name="first", **anything)
    assert lab.candidates is not None
    with pytest.raises(errors.DirectionError, match="candidates were rejected"):
        lab.find_direction(*sides, name="second", **{**anything, "max_kl": -1.0})
    assert lab.map is not None
    assert lab.map.name == "second"
    assert lab.candidates is None
    assert "second" not in lab.directions


def test_an_interrupted_search_leaves_the_map_that_was_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    lab = Lab(FakeBackend())
    sides = [f"Do it {i}!" for i in range(6)], [f"What is {i}?" for i in range(6)]
    lab.find_direction(*sides, name="first", drop=False, max_kl=math.inf, min_induce=-math.inf)
    monkeypatch.setattr("steerlab.search.choose", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.find_direction(*sides, name="second", drop=False)
    assert lab.map is not None
    assert lab.map.name == "second"
    assert lab.candidates is None


def test_a_lab_that_did_not_open_can_be_shown_in_a_traceback() -> None:
    assert repr(Lab.__new__(Lab)) == "Lab(not open)"
