"""The demo model's tokenizer: byte-level BPE trained on the world's own text, with a ChatML-like chat template.

Bytes are its alphabet, so any Unicode can be typed. The words of the world are weighted up until each is one token,
which keeps prompts short and lets a lens over the vocabulary show whole words.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from steerlab.demo.world import all_tasks, examples, lexicon

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT, TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# After the user's text come five tokens: <|im_end|> \n <|im_start|> assistant \n
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _texts(n: int, seed: int) -> list[str]:
    """The training text of the tokenizer: examples of both stages, then every word that should be one token."""
    texts = []
    for safety in (False, True):
        for example in islice(examples(seed, safety=safety), n):
            texts += [example.raw] if example.raw else [text for _, text in example.turns]
    rng = random.Random(seed)
    tasks = all_tasks()
    vocabulary = Counter(
        w for t in rng.sample(tasks, min(n, len(tasks))) for w in re.findall(r"[A-Za-z]+", t.phrase)
    )
    vocabulary += Counter(w for text in texts for w in re.findall(r"[A-Za-z]+", text))
    words = {word for word, count in vocabulary.items() if count >= max(3, n // 600)}
    words |= set(lexicon.NOUNS) | set(lexicon.ROLES) | set(lexicon.RELATIONS) | set(lexicon.NAMES)
    texts += [f" {word}" for word in sorted(words)] * 200
    return texts + ["system", "user", "assistant"] * 1000


def build(*, vocabulary: int = 4096, n: int = 12_000, seed: int = 0) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on `n` examples of each stage. `vocabulary` counts special tokens and bytes too."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=3,
        special_tokens=[END_OF_TEXT, TURN, END_OF_TURN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(_texts(n, seed), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[TURN],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
