"""Whether a text shows a concept, by its words: a judge for steered texts."""

import re
from collections.abc import Callable

from steerlab.demo.world.stories import MOODS, TOPICS, mood_words, topic_words
from steerlab.demo.world.styles import STYLES, style_words


def shows(concept: str) -> Callable[[str], bool]:
    """A function of a text: whether it has more happy words than sad ones, a place or a sight of the sea, a word of
    formal speech. concept: one of those of `concept_pairs`.
    """
    if concept in MOODS:
        good, bad = (mood_words(mood) for mood in (concept, *(m for m in MOODS if m != concept)))
        return lambda text: _count(text, good) > _count(text, bad)
    if concept in TOPICS:
        return lambda text: any(phrase in text for phrase in topic_words(concept))
    if concept in STYLES:
        return lambda text: _count(text, style_words(concept)) > 0
    raise ValueError(
        f"concept {concept!r} is unknown: use one of {', '.join((*MOODS, *TOPICS, 'formal', 'pirate'))}"
    )


def _count(text: str, words: set[str]) -> int:
    return sum(word in words for word in re.findall(r"[\w']+", text.lower()))
