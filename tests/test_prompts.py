from __future__ import annotations

import copy

import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerBase

from steerlab import ContrastSet
from steerlab.backends.fake import byte_tokenizer
from steerlab.errors import PromptError
from steerlab.prompts import (
    Prompt,
    answered,
    encode,
    find_tokens,
    harmful,
    harmless,
    instructed,
    post_instruction_tokens,
    response_length,
)


def test_a_prompt_is_a_user_turn_in_the_template() -> None:
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(encode(tokenizer, "Hi")) == "<user>\nHi</turn>\n<assistant>\n"
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert tokenizer.decode(encode(tokenizer, talk)).startswith("<system>\nBe kind.</turn>")
    assert tokenizer.decode(encode(tokenizer, "Hi", chat=False)) == "Hi"


def test_an_instruction_goes_where_the_template_has_a_place_for_it() -> None:
    def read(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
        return str(tokenizer.decode(encode(tokenizer, instructed(tokenizer, prompt, "Be brief."))))

    whole, silent, strict, plain = (copy.deepcopy(byte_tokenizer()) for _ in range(4))
    silent.chat_template = "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}"
    strict.chat_template = (
        "{{ raise_exception('no system') if messages[0].role == 'system' }}[{{ messages[0].content }}]"
    )
    plain.chat_template = None
    assert read(whole, "Hi") == "<system>\nBe brief.</turn>\n<user>\nHi</turn>\n<assistant>\n"
    assert read(silent, "Hi") == read(strict, "Hi") == "[Be brief.\n\nHi]"
    assert read(plain, "Hi") == "Be brief.\n\nHi"
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert read(whole, talk).startswith("<system>\nBe brief.\n\nBe kind.</turn>\n<user>\nHi")
    assert talk[0]["content"] == "Be kind.", "what was given stays as it was"
    for prompt in ("", talk):
        with pytest.raises(PromptError):
            instructed(plain, prompt, "Be brief.")


def test_post_instruction_tokens_follow_the_users_text() -> None:
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(post_instruction_tokens(tokenizer)) == "</turn>\n<assistant>\n"


def test_without_a_template_the_text_goes_in_plainly() -> None:
    plain = copy.deepcopy(byte_tokenizer())
    plain.chat_template = None
    assert plain.decode(encode(plain, "Hi")) == "Hi"
    assert len(post_instruction_tokens(plain)) == 1
    with pytest.raises(PromptError, match="needs a chat template"):
        encode(plain, [{"role": "user", "content": "Hi"}], chat=False)


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", []])
def test_empty_prompts_are_refused(prompt: str | list[dict[str, str]]) -> None:
    with pytest.raises(PromptError, match="empty"):
        encode(byte_tokenizer(), prompt)


@pytest.mark.parametrize(
    "prompt",
    [None, 3, ("a", "b"), [{"content": "Hi"}], [{"role": "user", "content": None}], {"role": "user"}],
)
def test_what_is_neither_a_text_nor_a_conversation_is_refused(prompt: object) -> None:
    with pytest.raises(PromptError, match="a prompt is a text or a conversation"):
        encode(byte_tokenizer(), prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["a \udc00", [{"role": "user", "content": "\ud83d"}]])
def test_half_of_a_character_is_refused(prompt: str | list[dict[str, str]]) -> None:
    for chat in (True, False):
        with pytest.raises(PromptError, match=r"half of a character in it, \\ud"):
            encode(byte_tokenizer(), prompt, chat=chat)


def test_a_conversation_that_the_template_refuses_is_refused_in_its_words() -> None:
    """As Gemma 2 does with a system turn."""
    strict = copy.deepcopy(byte_tokenizer())
    strict.chat_template = (
        "{{ raise_exception('System role not supported') if messages[0].role == 'system' }}Hi"
    )
    assert encode(strict, "Hi")
    with pytest.raises(PromptError, match="refuses this conversation: System role not supported"):
        encode(strict, [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}])


def test_a_contrast_set_has_two_sides() -> None:
    both = ContrastSet(["a"], ("b", "c"), name="mood")
    assert (both.positive, both.negative, both.name) == (("a",), ("b", "c"), "mood")
    with pytest.raises(PromptError, match="negative side of the contrast set is empty"):
        ContrastSet(["a"], [])
    with pytest.raises(PromptError, match="positive side of the contrast set is one text"):
        ContrastSet("abc", ["b"])


def test_bundled_sets_are_disjoint_and_repeatable() -> None:
    sides = {
        (side.__name__, split): side(100, seed=3, split=split)
        for side in (harmful, harmless)
        for split in ("train", "heldout")
    }
    assert all(len(prompts) == 100 for prompts in sides.values())
    everything = [set(prompts) for prompts in sides.values()]
    assert sum(map(len, everything)) == len(set.union(*everything))
    assert harmful(100, seed=3) == sides["harmful", "train"]
    assert harmful(100, seed=4) != sides["harmful", "train"]
    assert len(harmful()) == 160


def test_a_conversation_may_end_with_an_answer() -> None:
    tokenizer = byte_tokenizer()
    talk = answered("Hi", "Hello you")
    assert tokenizer.decode(encode(tokenizer, talk)) == "<user>\nHi</turn>\n<assistant>\nHello you"
    assert response_length(tokenizer, talk) == len("Hello you")
    with pytest.raises(PromptError, match="does not end with an answer"):
        response_length(tokenizer, "Hi")
    with pytest.raises(PromptError, match="no tokens"):
        response_length(tokenizer, answered("Hi", ""))


THINKS_FIRST = (  # as Qwen3: nothing was thought before the last answer
    "{% for m in messages %}<{{ m.role }}>\n{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n"
    "{% endif %}{{ m.content }}</turn>\n{% endfor %}{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
ASKED_TO_THINK = (  # as the distillations of DeepSeek R1
    "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n<think>\n{% endif %}"
)


@pytest.mark.parametrize("template", [THINKS_FIRST, ASKED_TO_THINK])
@pytest.mark.parametrize("answer", ["Hello you", " Köln 🙂", "Hi"])
def test_an_answer_is_its_own_words_in_templates_of_models_that_think(template: str, answer: str) -> None:
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template = template
    talk = answered("Hi", answer)
    length = response_length(tokenizer, talk)
    assert tokenizer.decode(encode(tokenizer, talk)[-length:]) == answer.strip()


def test_an_answer_that_the_tokenizer_rewrites_is_what_comes_after_the_prompt() -> None:
    small = copy.deepcopy(byte_tokenizer())
    small.backend_tokenizer.normalizer = normalizers.Lowercase()
    talk = answered("Hi", "Hello YOU")
    assert small.decode(encode(small, talk)).endswith("hello you")
    assert response_length(small, talk) == len("hello you")


def test_words_are_found_as_tokens() -> None:
    tokenizer = byte_tokenizer()
    prompt = "Is Paris in France? Paris!"
    ids = encode(tokenizer, prompt)
    found = find_tokens(tokenizer, prompt, "Paris")
    assert tokenizer.decode([ids[i] for i in found]) == "ParisParis"
    assert all(i < 0 for i in found)
    with pytest.raises(PromptError, match="does not hold 'London'"):
        find_tokens(tokenizer, prompt, "London")


@pytest.mark.parametrize(
    "words", ["Kö", "öl", "Köln", "ö", "l", " ", "東", "京", "東京", "🙂", "京🙂", "🙂!", "!"]
)
def test_words_have_all_tokens_of_their_characters_and_no_others(words: str) -> None:
    """A byte is a token here, and these characters have up to four."""
    tokenizer = byte_tokenizer()
    prompt = "Köln 東京🙂!"
    ids = encode(tokenizer, prompt)
    found = find_tokens(tokenizer, prompt, words)
    assert [ids[i] for i in found] == tokenizer(words, add_special_tokens=False)["input_ids"]
