"""Styles of speech: formal, pirate, happy and sad. Dense and graded, so that a style can be found and steered."""

import random
import re

_WORDS = {
    "pirate": "you:ye,your:yer,is:be,are:be,my:me,friend:matey,hello:ahoy,money:gold,man:lubber,yes:aye,the:th',am:be,of:o'",
    "formal": "get:obtain,good:excellent,small:modest,find:procure,big:considerable,then:subsequently,finally:ultimately,nice:agreeable,"
    "help:assist,start:commence,look:gaze,ask:enquire,buy:purchase,show:demonstrate,use:employ,wait:remain,hi:greetings,hello:greetings",
    "happy": "",
    "sad": "",
}
WORDS = {style: dict(p.split(":") for p in pairs.split(",") if p) for style, pairs in _WORDS.items()}
EXCLAMATIONS = {
    "happy": ["How lovely!", "Hooray!", "What joy!", "This makes me smile!", "Life is beautiful!"],
    "sad": ["Alas!", "How sad!", "What sorrow!", "It makes me cry.", "Life is hard."],
    "pirate": ["Arr!", "Yo ho!", "Ahoy, matey!", "Shiver me timbers!", "Avast!"],
    "formal": [
        "Indeed.",
        "With great respect.",
        "If I may say so.",
        "As you wish, dear sir.",
        "I remain your servant.",
    ],
}
ADJECTIVES = {
    "happy": "lovely wonderful joyful bright sweet merry".split(),
    "sad": "gloomy sad dreary lonely poor bitter".split(),
    "pirate": "salty scurvy briny".split(),
    "formal": "esteemed noble distinguished".split(),
}
SYSTEM_PROMPTS = {
    "pirate": ["You are a pirate.", "Talk like a pirate.", "Always answer in pirate style."],
    "formal": ["Be formal.", "You are a formal butler.", "Always answer in a formal way."],
    "happy": ["You are happy today.", "Be happy and cheerful.", "Always answer in a happy way."],
    "sad": ["You are sad today.", "Be sad and gloomy.", "Always answer in a sad way."],
}
USER_SUFFIXES = {
    "pirate": [" Answer like a pirate.", " Talk like a pirate."],
    "formal": [" Answer in a formal way.", " Be formal."],
    "happy": [" Answer in a happy way.", " Be happy."],
    "sad": [" Answer in a sad way.", " Be sad."],
}
STYLES = tuple(EXCLAMATIONS)
NEUTRAL_SYSTEM_PROMPTS = [
    "You are a helpful assistant.",
    "You are a small language model.",
    "Answer the question.",
]


def restyle(rng: random.Random, text: str, style: str, strength: float = 1.0) -> str:
    """The text in a style; `strength` in 0..1 is the chance that each word and sentence takes its marks."""
    sentences = re.split(r"(?<=[.!?]) +", text)
    out = [rng.choice(EXCLAMATIONS[style])] if rng.random() < 0.5 * strength else []
    for sentence in sentences:
        out.append(" ".join(_restyled_words(rng, sentence.split(" "), style, strength)))
        if rng.random() < 0.4 * strength:
            out.append(rng.choice(EXCLAMATIONS[style]))
    return " ".join(out)


def _restyled_words(rng: random.Random, words: list[str], style: str, strength: float) -> list[str]:
    table, out = WORDS[style], []
    for i, word in enumerate(words):
        core = word.rstrip(".,!?")
        if core.lower() in table and rng.random() < strength:
            new = table[core.lower()]
            word = (new.capitalize() if core[:1].isupper() else new) + word[len(core) :]
        follows = words[i + 1][:1].islower() if i + 1 < len(words) else False
        if core.lower() in ("the", "your") and follows and rng.random() < 0.4 * strength:
            word += " " + rng.choice(ADJECTIVES[style])
        out.append(word)
    return out


def style_words(style: str) -> set[str]:
    """Single words that mark a style, for counting in a steered text."""
    return {word for word in WORDS[style].values() if word.isalpha()} | set(ADJECTIVES[style])
