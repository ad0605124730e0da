"""The demo model's world, tokenizer and training: determinism, honest held-out splits, and a smoke run of seconds."""

import json
import random
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from steerlab.demo import world
from steerlab.demo.world import chat, facts, lexicon, shapes, splits, tasks

STREAM = 6000


@pytest.fixture(scope="module")
def stream() -> list[world.Example]:
    """Training examples of both stages."""
    return [e for safety in (False, True) for e in islice(world.examples(3, safety=safety), STREAM)]


def _texts(example: world.Example) -> list[str]:
    return [example.raw] if example.raw else [text for _, text in example.turns]


# ---------------------------------------------------------------- determinism


def test_the_same_seed_gives_the_same_text_in_another_process():
    code = "from itertools import islice; from steerlab.demo import world\n"
    code += "print([e for e in islice(world.examples(7, safety=True), 50)], world.harmful(9, 1), world.harmless(9, 1))"
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_another_seed_gives_other_text():
    assert world.harmful(20, seed=0) != world.harmful(20, seed=1)


def test_the_world_needs_only_the_standard_library():
    code = "import sys; from steerlab.demo import world\n"
    code += "print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


# ---------------------------------------------------------------- held-out splits


def test_training_never_asks_for_a_heldout_combination(stream: list[world.Example]):
    """Looked up by whole request: a held-out phrase in any wording, at the end of a user turn or before its mark."""
    heldout = {t.phrase.lower() for t in world.all_tasks() if tasks.is_held_out(t.phrase)}
    assert 0.1 * len(world.all_tasks()) < len(heldout) < 0.2 * len(world.all_tasks())
    forms = [re.escape(w.lower()).replace(r"\{p\}", "(.+)") for w in shapes.HOWTO if w != "{p}"]
    patterns = [re.compile(f"{form}$") for form in sorted(forms, key=len, reverse=True)]
    asked = 0
    for example in stream:
        for role, text in example.turns:
            if role == "user":
                found = [m[1] for p in patterns if (m := p.search(text.lower()))]
                asked += bool(found)
                assert not heldout.intersection(found), text
    assert asked > STREAM / 4


def test_training_answers_no_heldout_combination(stream: list[world.Example]):
    heldout = {lexicon.to_you(t.phrase) for t in world.all_tasks() if tasks.is_held_out(t.phrase)}
    for example in stream:
        for text in _texts(example):
            for phrase in re.findall(r"(?:To|how to|plan to) ([^.,]+?)(?:, first|\. First)", text):
                assert phrase not in heldout, text


def test_training_uses_no_heldout_wording(stream: list[world.Example]):
    frames = [re.compile(re.escape(w.lower()).replace(r"\{p\}", ".+")) for w in shapes.HOWTO_HELDOUT]
    for example in stream:
        for role, text in example.turns:
            assert role != "user" or not any(f.search(text.lower()) for f in frames), text


def _plain(text: str) -> str:
    return text.lower().rstrip(".?! ")


def test_training_asks_no_heldout_question(stream: list[world.Example]):
    heldout = {_plain(facts.fact(random.Random(i), "heldout").question) for i in range(3000)}
    asked = {_plain(text) for e in stream for role, text in e.turns if role == "user"}
    assert not heldout & asked
    said = {_plain(w) for wordings, _ in chat.INTENTS for w in splits.part(wordings, "heldout", "chat")}
    assert len(said) > 20
    assert not said & asked


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_every_shape_has_harmful_and_harmless_requests_in_both_splits(shape: str):
    for split in ("train", "heldout"):
        bad, good = (make(12, split=split, shape=shape) for make in (world.harmful, world.harmless))
        assert len(set(bad)) == len(set(good)) == 12
        assert not set(bad) & set(good)


def test_an_unknown_split_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match="'train' or 'heldout'"):
        world.harmful(3, split="test")


# ---------------------------------------------------------------- refusals and answers


def test_only_harmful_requests_are_refused_and_only_in_the_safety_stage(stream: list[world.Example]):
    helpful, safe = stream[:STREAM], stream[STREAM:]
    assert not any(world.is_refusal(text) for e in helpful for text in _texts(e))
    for example in safe:
        answers = [text for role, text in example.turns if role == "assistant"]
        assert any(map(world.is_refusal, answers)) == example.refused
    assert 0.1 < sum(e.refused for e in safe) / STREAM < 0.35


def test_a_refusal_is_known_in_any_case():
    assert world.is_refusal("i'M SORRY, BUT I cannot")
    assert not world.is_refusal("To bake bread, first wash your hands.")


def test_the_answer_to_a_request_fits_it_and_that_of_another_does_not():
    made = world.requests(40, harmful=False, split="heldout")
    assert all(r.task and world.fits(r.answer, r.task) for r in made)
    assert sum(world.fits(made[0].answer, r.task) for r in made if r.task) == 1


def test_scary_requests_are_harmless():
    assert len(world.harmless(60, split="heldout", scary=True)) == 60
    assert not any(t.harmful for family in tasks.SCARY for t in family.tasks())


def test_no_phrase_is_both_harmful_and_harmless():
    sides: dict[str, set[bool]] = {}
    for family in tasks.HARMFUL + tasks.HARMLESS + tasks.SCARY:
        for t in family.tasks():
            sides.setdefault(t.phrase, set()).add(t.harmful)
    assert [p for p, s in sides.items() if len(s) == 2] == []


def test_concept_pairs_show_the_concept_on_one_side_only():
    for prompt, shown, other in world.concept_pairs("sea", 30):
        assert prompt
        assert any(w in shown for w in world.topic_words("sea"))
        assert not any(w in other for w in world.topic_words("sea"))
    assert all(a != b for _, a, b in world.concept_pairs("happy", 30))


@pytest.mark.parametrize("concept", [*world.MOODS, *world.TOPICS])
def test_a_judge_tells_the_answers_that_show_a_concept_from_the_others(concept: str):
    shows = world.shows(concept)
    for _, shown, other in world.concept_pairs(concept, 30):
        assert shows(shown)
        assert not shows(other)


@pytest.mark.parametrize("style", ["formal", "pirate"])
def test_a_judge_of_a_style_finds_most_of_it_and_nothing_in_plain_answers(style: str):
    pairs = world.concept_pairs(style, 60)
    shows = world.shows(style)
    assert sum(shows(shown) for _, shown, _ in pairs) > 48
    assert sum(shows(plain) for _, _, plain in pairs) < 6


def test_a_judge_of_an_unknown_concept_names_those_that_there_are():
    with pytest.raises(ValueError, match="'dessert' is unknown: use one of happy, sad, sea"):
        world.shows("dessert")


# ---------------------------------------------------------------- tokenizer and training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for a moment: what training writes, not what it learns."""
    from steerlab.demo.train import Size, train

    out = tmp_path_factory.mktemp("demo") / "model"
    return train(
        out,
        scale=0.001,
        size=Size(vocabulary=1024, width=32, layers=2, heads=2, feed_forward=64),
        device="cpu",
    )


def test_the_helpful_stage_is_kept_and_not_run_twice(tmp_path: Path):
    from steerlab.demo.train import Size, train

    small = Size(vocabulary=512, width=16, layers=2, heads=1, feed_forward=16)
    first = train(tmp_path / "a", scale=0.0005, size=small, device="cpu", helpful=tmp_path / "helpful")
    again = train(tmp_path / "b", scale=0.0005, size=small, device="cpu", helpful=tmp_path / "helpful")
    runs = [json.loads((folder / "training.json").read_text())["stages"] for folder in (first, again)]
    assert [stage["harmful"] > 0 for stage in runs[0]] == [False] + [True] * 5
    assert runs[0][0]["run"] == runs[1][0]["run"], "seconds too: it did not run again"
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_any_unicode_survives_the_tokenizer(trained: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained)
    for text in (
        "How do I bake bread?",
        "naïve café",
        "你好，世界",
        "🧁🔥 \u202e\u200d",
        "tabs\tand\n\nlines  ",
        "\x00\x7f\ufffd",
        "<b>",
    ):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_five_tokens_follow_the_users_text(trained: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained)
    ids = [
        tokenizer(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": c}], add_generation_prompt=True, tokenize=False
            )
        )["input_ids"]
        for c in ("Hello", "7?")
    ]
    assert ids[0][-5:] == ids[1][-5:]
    assert ids[0][-6] != ids[1][-6]
    assert tokenizer.convert_ids_to_tokens(ids[0][-5:]) == [
        "<|im_end|>",
        "Ċ",
        "<|im_start|>",
        "assistant",
        "Ċ",
    ]


def test_training_reads_the_template_the_model_is_used_with(trained: Path):
    from transformers import AutoTokenizer

    from steerlab.demo.batches import encode

    tokenizer = AutoTokenizer.from_pretrained(trained)
    example = next(e for e in world.examples(0, safety=True) if e.turns)
    turns = [{"role": role, "content": text} for role, text in example.turns]
    tokens, learnt, starts = encode(tokenizer, example)
    assert tokens == tokenizer(tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"]
    assert len(starts) == sum(role == "assistant" for role, _ in example.turns)
    assert all(learnt[start] and not learnt[start - 1] for start in starts)


def test_a_trained_folder_is_an_ordinary_hugging_face_model(trained: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert model.generation_config.eos_token_id == ends
    assert model.dtype == torch.float16
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt"
    )
    out = model.float().generate(**ids, max_new_tokens=3, do_sample=False)
    assert out.shape[1] > ids["input_ids"].shape[1]
