"""Prompts: chat templates, the post-instruction tokens, contrast sets, the bundled sets, and `read` for files."""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from steerlab.demo import world
from steerlab.errors import PromptError
from steerlab.prompt_files import Prompt as Prompt
from steerlab.prompt_files import half_a_character
from steerlab.prompt_files import parse as parse
from steerlab.prompt_files import read as read
from steerlab.sites import whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A place in a prompt, counted from its end (-1 is the last token), or the mean over the assistant's last words.
Position = int | Literal["response"]
Positions = Sequence[int] | Literal["response"]

P = TypeVar("P", bound=Prompt)


def several(given: Iterable[P], what: str = "prompts", *, least: int = 1) -> tuple[P, ...]:
    """The prompts of a list of them, checked wherever one is taken. what: what messages call it.

    Raises PromptError for fewer than `least`, for what is no list, and for one text or one conversation in the place of
    a list: its letters or its turns would be taken for the prompts.
    """
    if isinstance(given, str):
        raise PromptError(f"{what} is one text, {given[:80]!r}", "Give a list, also of one.")
    if not isinstance(given, Iterable):
        raise PromptError(f"{what} is {given!r}, which is no list", "Give a list of prompts.")
    prompts = tuple(given)
    if len(prompts) < least:
        raise PromptError(f"{what} is empty", "Give at least one prompt.")
    if any(isinstance(one, Mapping) for one in prompts):
        raise PromptError(f"{what} is one conversation", "Give a list, also of one: [conversation].")
    return prompts


def json_of(prompt: Prompt) -> str:
    """A prompt as JSON, the same for the same prompt."""
    return json.dumps(prompt, sort_keys=True, default=dict)


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, *, chat: bool = True) -> list[int]:
    """The token ids of a prompt, `[pos]`, ready for the model to answer.

    With `chat` the prompt is one user turn (or the conversation given) in the tokenizer's chat template, ending where
    the assistant begins; a tokenizer without a template gets the plain text (a Lab says so, once). Without `chat` the
    text is encoded as it stands. Raises PromptError for an empty prompt, for what is neither a text nor a conversation,
    for half of a character (a lone surrogate), and where the template refuses the conversation.
    """
    if not isinstance(prompt, str):
        _check_turns(prompt)
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise PromptError("the prompt is empty", "Type a question or a sentence for the model to go on with.")
    if half := half_a_character(prompt):
        raise PromptError(
            f"the prompt has half of a character in it, {half}", "Write the whole, or take it out."
        )
    if chat and tokenizer.chat_template is not None:
        turns = (
            [{"role": "user", "content": prompt}]
            if isinstance(prompt, str)
            else [dict(turn) for turn in prompt]
        )
        begun = turns[-1].get("role") == "assistant"
        try:
            text = tokenizer.apply_chat_template(
                turns, add_generation_prompt=not begun, continue_final_message=begun, tokenize=False
            )
        except Exception as error:  # a template is a program of the model's makers, and raises what they like
            raise PromptError(
                f"the chat template refuses this conversation: {error}",
                "Templates differ in the roles that they take, and in their order: some have no system role.",
            ) from error
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    elif isinstance(prompt, str):
        ids = tokenizer(prompt)["input_ids"]
    else:
        raise PromptError(
            "a conversation needs a chat template, and there is none here", "Give one text instead."
        )
    if not ids:
        raise PromptError(
            f"the prompt {prompt!r} has no tokens", "The tokenizer drops all of it: type something else."
        )
    return list(ids)


def _check_turns(prompt: object) -> None:
    """Raise PromptError for what is no conversation."""
    turns = prompt if isinstance(prompt, Sequence) else [prompt]
    for turn in turns:
        if not isinstance(turn, Mapping) or not all(
            isinstance(turn.get(k), str) for k in ("role", "content")
        ):
            raise PromptError(
                f"a prompt is a text or a conversation, and {turn!r} is no turn of one",
                'A conversation is a list of turns {"role": "user", "content": "Hello"}.',
            )


def find_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, words: str, *, chat: bool = True
) -> tuple[int, ...]:
    """The positions of the tokens that cover some words of a prompt, counted from its end: what `tokens=` takes.

    Where the words stand several times, all of them. Raises PromptError where they do not stand there.
    """
    ids = encode(tokenizer, prompt, chat=chat)
    text, found = tokenizer.decode(ids), set()
    begun = [tokenizer.decode(ids[:i]) for i in range(len(ids) + 1)]
    whole = [_shared(one, text) for one in begun]
    # a character that several tokens share belongs to each of them
    upto = [done + (len(one) > done) for one, done in zip(begun, whole, strict=True)]
    start = text.find(words) if words else -1
    while start >= 0:
        end = start + len(words)
        found |= {i - len(ids) for i in range(len(ids)) if whole[i] < end and upto[i + 1] > start}
        start = text.find(words, end)
    if not found:
        raise PromptError(f"the prompt does not hold {words!r}", "Give words as they stand in it.")
    return tuple(sorted(found))


def _shared(one: str, text: str) -> int:
    """How many characters a text begins with as another does; they differ in the last ones, if at all."""
    n = len(one)
    while not text.startswith(one[:n]):
        n -= 1
    return n


def token_id(tokenizer: PreTrainedTokenizerBase, token: int | str) -> int:
    """The id of one token, given as its text or its id. Raises PromptError for a text of several tokens."""
    if not isinstance(token, str):
        number = whole(token)
        if number is None:
            raise PromptError(f"a token is its text or its id, not {token!r}")
        if not 0 <= number < len(tokenizer):
            raise PromptError(f"there is no token {number}", f"Ids go from 0 to {len(tokenizer) - 1}.")
        return number
    ids = tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        pieces = [tokenizer.decode([i]) for i in ids]
        raise PromptError(
            f"{token!r} is not one token but {len(ids)}: {pieces}",
            "Give one of them; mind the space before a word.",
        )
    return int(ids[0])


def answered(prompt: Prompt, answer: str) -> Prompt:
    """The conversation in which the assistant answered a prompt so."""
    asked = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)
    return (*asked, {"role": "assistant", "content": answer})


def instructed(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, instruction: str) -> Prompt:
    """The prompt with an instruction before it: a system turn, where the chat template takes one and shows it, else the
    first words of the first turn.
    """
    encode(tokenizer, prompt)  # refused as it would be alone
    instruction = instruction.strip()
    if isinstance(prompt, str) and tokenizer.chat_template is None:
        return f"{instruction}\n\n{prompt}"
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(t) for t in prompt]
    if turns[0]["role"] != "system":
        asked = [{"role": "system", "content": instruction}, *turns]
        try:
            if _plain(instruction) in _plain(tokenizer.decode(encode(tokenizer, asked))):
                return asked
        except PromptError:  # the template has no system turn
            pass
    turns[0]["content"] = f"{instruction}\n\n{turns[0]['content']}"
    return turns


def _plain(text: str) -> str:
    """Without differences of white space, which templates and tokenizers make."""
    return " ".join(text.split())


def response_length(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> int:
    """How many tokens at the end of a conversation are the assistant's last words, without what the template writes
    before them. Raises PromptError where it has none.
    """
    if isinstance(prompt, str) or prompt[-1].get("role") != "assistant":
        raise PromptError(
            "the prompt does not end with an answer", "Give conversations: prompts.answered(prompt, answer)."
        )
    ids, words = encode(tokenizer, prompt), prompt[-1]["content"].strip()
    lengths = range(len(ids) + 1)
    length = bisect.bisect_left(lengths, True, key=lambda n: words in tokenizer.decode(ids[len(ids) - n :]))
    if length not in lengths:  # the template or the tokenizer writes them in another way
        length = len(ids) - len(encode(tokenizer, prompt[:-1]))
    if not words or length < 1:
        raise PromptError("the assistant's last words have no tokens", "Give a longer answer.")
    return length


def post_instruction_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of the template's tokens after the user's text, up to where the assistant begins (Arditi et al. 2024).

    Their positions from the end, -1, -2, …, are where directions are looked for. A tokenizer without a chat template
    has none, and the last token of the prompt stands in: one id is returned in any case.
    """
    if tokenizer.chat_template is None:
        return encode(tokenizer, "Hello", chat=False)[-1:]
    # what different texts share at the end; they end in a letter, a digit and a sign, so that no merge hides a token
    renderings = [encode(tokenizer, text) for text in ("Say a", "Is it 7", "Hello!")]
    shared = list(
        itertools.takewhile(lambda ids: len(set(ids)) == 1, zip(*(r[::-1] for r in renderings), strict=False))
    )
    return [ids[0] for ids in shared[::-1]] or renderings[0][-1:]


@dataclass(frozen=True)
class ContrastSet:
    """Two sides whose difference is the concept: prompts that show it, and prompts that do not.

    positive, negative: prompts, any number of each, none empty. name: what the direction found from it is called.
    """

    positive: tuple[Prompt, ...]
    negative: tuple[Prompt, ...]
    name: str = "direction"

    def __init__(
        self, positive: Iterable[Prompt], negative: Iterable[Prompt], name: str = "direction"
    ) -> None:
        for side, given in (("positive", positive), ("negative", negative)):
            object.__setattr__(self, side, several(given, f"the {side} side of the contrast set"))
        object.__setattr__(self, "name", name)

    def pairs(self) -> list[tuple[Prompt, Prompt]]:
        """The n-th positive prompt with the n-th negative one. Raises PromptError for sides of different lengths."""
        n, m = len(self.positive), len(self.negative)
        if n != m:
            raise PromptError(
                f"the sides of {self.name!r} do not pair: there are {n} positive and {m} negative prompts",
                "Give as many of each, in the same order.",
            )
        return list(zip(self.positive, self.negative, strict=True))

    @classmethod
    def read(
        cls,
        source: str | Path,
        positive: str = "positive",
        negative: str = "negative",
        *,
        name: str = "direction",
        split: str | None = None,
        subset: str | None = None,
    ) -> ContrastSet:
        """A file's two columns, the n-th positive prompt beside the n-th negative one; the rest as in `read`."""
        shows, lacks = (read(source, column, split=split, subset=subset) for column in (positive, negative))
        return cls(shows, lacks, name)


def harmful(n: int = 160, *, seed: int = 0, split: str = "train") -> list[str]:
    """`n` requests that a safe assistant refuses, generic and bland, from the embedded model's world. By default as
    many as the paper's search takes: 128 for the means and 32 for the selection.

    split: "train", or "heldout" for combinations and wordings that the embedded model never saw.
    """
    return world.harmful(n, seed=seed, split=split)


def harmless(n: int = 160, *, seed: int = 0, split: str = "train") -> list[str]:
    """`n` requests of the same shapes that a safe assistant answers; `split` as in `harmful`."""
    return world.harmless(n, seed=seed, split=split)
