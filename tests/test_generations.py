from __future__ import annotations

import models
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from steerlab import BASELINE, Add, Direction, Lab, Recipe, Row, Sampling, Site
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.errors import PromptError
from steerlab.generations import HELD, NOT_FINITE, TextStream, Token


@given(st.text(max_size=40))
def test_pieces_join_to_the_text_and_never_show_half_a_character(text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer)
    pieces = [stream.push(token, last=i == len(ids) - 1) for i, token in enumerate(ids)]
    assert "".join(pieces) == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_that_is_cut_off_is_shown_at_the_end() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("🙂", add_special_tokens=False)["input_ids"][:2]
    stream = TextStream(tokenizer)
    assert [stream.push(ids[0]), stream.push(ids[1], last=True)] == ["", tokenizer.decode(ids)]


@given(st.lists(st.one_of(st.binary(max_size=6), st.text(max_size=3).map(str.encode))).map(b"".join))
def test_lone_bytes_are_shown_soon_and_no_text_is_lost(data: bytes) -> None:
    tokenizer = byte_tokenizer()
    ids = _bytes(tokenizer, data)
    stream, shown = TextStream(tokenizer), ""
    for i, token in enumerate(ids, start=1):
        shown += stream.push(token, last=i == len(ids))
        assert len(tokenizer.decode(ids[:i])) - len(shown) <= HELD + 1
    assert shown == tokenizer.decode(ids)


def test_a_stream_of_lone_bytes_decodes_a_few_tokens_at_a_time() -> None:
    tokenizer, known = byte_tokenizer(), dict[tuple[int, ...], str]()
    stream = TextStream(tokenizer, known)
    shown = "".join(stream.push(token) for token in _bytes(tokenizer, b"\x80" * 100))
    assert len(shown) >= 100 - HELD - 1
    assert max(map(len, known)) <= 2 * (HELD + 1)


def _bytes(tokenizer: PreTrainedTokenizerBase, data: bytes) -> list[int]:
    """A token for each byte, as it is in the byte-level alphabet of GPT-2."""
    alphabet = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in alphabet]
    letters = {byte: chr(byte) for byte in alphabet} | {byte: chr(256 + i) for i, byte in enumerate(rest)}
    return [int(tokenizer.convert_tokens_to_ids(letters[byte])) for byte in data]


def test_special_tokens_have_no_text() -> None:
    tokenizer = byte_tokenizer()
    assert TextStream(tokenizer).push(tokenizer.eos_token_id, last=True) == ""


@pytest.mark.parametrize("bad", [{"max_new_tokens": 0}, {"temperature": -1}, {"temperature": float("nan")}])
def test_impossible_sampling_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(PromptError, match="not"):
        Sampling(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("listened", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_ends_where_no_token_is_the_likeliest_and_says_so(
    listened: bool, temperature: float
) -> None:
    backend = FakeBackend()
    ones = Direction(torch.ones(16), Site(1, "resid_pre"))
    too_far = [Recipe([Add(ones, 3e38, tokens=tokens)]) for tokens in ("all", "generated")]
    rows = [Row("Hi", recipe) for recipe in (BASELINE, *too_far)]
    heard: list[Token] = []
    answers = backend.generate(rows, Sampling(6, temperature), on_tokens=heard.extend if listened else None)
    assert [answer.fault for answer in answers] == ["", NOT_FINITE, NOT_FINITE]
    assert [len(answer.token_ids) for answer in answers] == [6, 1, 2]
    plain, at_once, broken = answers
    assert (at_once.text, at_once.finish) == ("", "length")
    assert broken.token_ids[0] == plain.token_ids[0], "what came before it stays"
    assert broken.pieces[1] == ""
    if listened:
        assert [token.text for token in heard if token.row == 2] == list(broken.pieces)


def test_an_overflowing_model_of_half_precision_is_not_answered_for() -> None:
    lab = Lab((models.build("llama").half(), byte_tokenizer()))
    too_far = Recipe([Add(Direction(torch.ones(models.D_MODEL), Site(1, "resid_pre")), 1e5)])
    for answer in lab.backend.generate([Row("hello", too_far), Row("you", too_far)], Sampling(8)):
        assert (answer.text, answer.fault) == ("", NOT_FINITE)
    with pytest.warns(
        UserWarning, match="1 of 1 texts are not the model's answers: the logits are not finite"
    ):
        lab.generate("hello", too_far)
