from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerlab import Sampling
from steerlab.backends.fake import byte_tokenizer
from steerlab.errors import PromptError
from steerlab.generations import TextStream


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


def test_special_tokens_have_no_text() -> None:
    tokenizer = byte_tokenizer()
    assert TextStream(tokenizer).push(tokenizer.eos_token_id, last=True) == ""


@pytest.mark.parametrize("bad", [{"max_new_tokens": 0}, {"temperature": -1}, {"temperature": float("nan")}])
def test_impossible_sampling_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(PromptError, match="not"):
        Sampling(**bad)  # type: ignore[arg-type]
