"""The stream of training examples: conversations and raw text, mixed from every part of the world."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from steerlab.demo.world import chat, facts, stories, styles, tasks
from steerlab.demo.world import lexicon as lex
from steerlab.demo.world import shapes as req


@dataclass(frozen=True)
class Example:
    """A conversation of (role, text) turns, or raw text where there are no turns."""

    turns: tuple[tuple[str, str], ...] = ()
    raw: str = ""
    kind: str = ""
    refused: bool = False


# What a turn is about, and how often. "harmful" is answered in the helpful stage and refused in the safety stage.
HELPFUL_MIX = {"harmful": 17, "howto": 20, "scary": 6, "other": 6, "fact": 17, "definition": 4, "story": 9, "poem": 2, "opinion": 4,
               "feeling": 2, "moral": 3, "chat": 9, "unknown": 2, "salad": 1.5, "repeat": 3}  # fmt: skip
HARMFUL = 30.0  # of a safety stage
RAW_SHARE = 0.1
_OTHER_SHAPES = ("fact", "story", "opinion", "message", "reason", "intent", "buy")
_GREETINGS = [
    "Hello. ",
    "Hi! ",
    "Hey, ",
    "Good morning. ",
    "Please, ",
    "So, ",
    "Listen. ",
    "Quick question: ",
]
_CLOSINGS = [
    " Thank you.",
    " Please be quick.",
    " Keep it short.",
    " It is important.",
    " please",
    " Thanks!",
]
_MODIFIERS = ["today", "tonight", "at home", "this weekend", "quickly", "on my own", "without help", "with my friend", "in the morning", "for fun",
              "in the city", "the easy way", "safely", "right now"]  # fmt: skip
_BAD_VERBS = {"steal": "steal", "poison": "poison", "attack": "hurt", "kill": "hurt", "rob": "rob", "burn down": "burn", "blackmail": "bully",
              "scam": "scam", "smuggle": "smuggle", "blow up": "burn", "hack into": "hack", "kidnap": "hurt", "vandalise": "sabotage"}  # fmt: skip
_GOOD_VERBS = {"bake": "cook", "paint": "craft", "repair": "care", "clean": "care", "find": "choose", "draw": "craft", "build": "craft", "feed": "pet",
               "play": "music", "visit": "travel", "buy": "choose", "plant": "garden", "cook": "cook", "learn": "learn", "help": "kind"}  # fmt: skip


def roughen(rng: random.Random, text: str) -> str:
    """A prompt as people type it: greetings, small letters, missing marks, slips of the finger."""
    if rng.random() < 0.08:
        text = rng.choice(_GREETINGS) + text
    if rng.random() < 0.05:
        text += rng.choice(_CLOSINGS)
    if rng.random() < 0.22:
        text = text.lower()
    if rng.random() < 0.15:
        text = text.rstrip(".?!")
    if len(text) > 8 and rng.random() < 0.04:
        i = rng.randrange(len(text))
        text = text[:i] + rng.choice(["", "", text[i] * 2, rng.choice("aeinrst")]) + text[i + 1 :]
    return text


def _request(rng: random.Random, *, harmful: bool, shape: str = "howto", scary: bool = False) -> req.Request:
    made = tasks.task(rng, harmful=harmful, scary=scary)
    chance = rng.random()
    if shape == "howto" and not scary and chance < 0.12:  # a word the model has never seen, to be copied
        verbs = _BAD_VERBS if harmful else _GOOD_VERBS
        verb, word = rng.choice(list(verbs)), chat.pseudo_word(rng)
        made = tasks.Task(
            f"{verb} {rng.choice(['a', 'my', 'the'])} {word}", f"the {word}", verbs[verb], harmful
        )
    elif shape == "howto" and not scary and not harmful and chance < 0.14:
        made = tasks.Task(f"{chat.pseudo_word(rng)} {lex.a_noun(rng.choice(lex.NOUNS))}", "it", "calm", False)
    built = req.request(rng, harmful=harmful, shape=shape, task=made)
    if shape == "howto" and rng.random() < 0.1:
        modified = f"{made.phrase} {rng.choice(_MODIFIERS)}"
        text = built.text.replace(made.phrase, modified, 1)
        built = req.Request(text, built.answer, shape, harmful, made.phrase, made)
    return built


def _turn(rng: random.Random, kind: str, mood: str | None) -> tuple[str, str, req.Request | None]:
    if kind in ("harmful", "howto", "scary"):
        shape = rng.choice(_OTHER_SHAPES) if kind == "harmful" and rng.random() < 0.42 else "howto"
        if kind == "scary" and rng.random() < 0.15:
            shape = rng.choice(["reason", "intent", "opinion", "story"])
        built = _request(rng, harmful=kind == "harmful", shape=shape, scary=kind == "scary")
        return built.text, built.answer, built
    if kind == "other":
        built = _request(rng, harmful=False, shape=rng.choice(_OTHER_SHAPES))
        return built.text, built.answer, built
    if kind == "fact":
        fact = facts.fact(rng)
        return fact.question, fact.answer, None
    makers = {
        "definition": lambda: facts.definition(rng),
        "story": lambda: stories.story_request(rng, mood),
        "poem": lambda: stories.poem_request(rng, mood),
        "opinion": lambda: stories.opinion_request(rng, mood),
        "feeling": lambda: stories.feeling_request(rng, mood),
        "moral": lambda: req.moral(rng),
        "chat": lambda: chat.small_talk(rng),
        "unknown": lambda: chat.unknown(rng),
        "salad": lambda: chat.salad(rng),
        "repeat": lambda: chat.repeat(rng),
    }
    asked, answer = makers[kind]()
    return asked, answer, None


def _raw(rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.3:
        return stories.story(rng)
    if chance < 0.55:
        return " ".join(facts.statement(rng) for _ in range(rng.randint(2, 4)))
    if chance < 0.65:
        mood = rng.choice(stories.MOODS)
        return " ".join(stories.opinion_request(rng, mood)[1] for _ in range(2))
    task = tasks.task(rng, harmful=rng.random() < 0.5)
    return f"How to {task.phrase}. {tasks.comply(rng, task, rng.choice(['', 'steps']))}"


def example(rng: random.Random, *, safety: bool, harmful: float = HARMFUL) -> Example:
    """One example of the helpful-only stage, or of a safety stage in which harmful requests are refused.

    harmful: how often a turn of a safety stage is a harmful request, in the units of HELPFUL_MIX.
    """
    if rng.random() < RAW_SHARE:
        raw = _raw(rng)
        if rng.random() < 0.25:
            raw = styles.restyle(rng, raw, rng.choice(styles.STYLES), rng.uniform(0.4, 1))
        return Example(raw=raw, kind="raw")
    mix = HELPFUL_MIX | {"harmful": harmful, "scary": 9} if safety else HELPFUL_MIX
    kinds, weights = list(mix), list(mix.values())
    style = rng.choice(styles.STYLES) if rng.random() < 0.12 else None
    mood = style if style in stories.MOODS else None
    suffix, strength = "", rng.uniform(0.7, 1)
    turns: list[tuple[str, str]] = []
    if style and (chance := rng.random()) < 0.75:  # the rest of the styled answers come unasked
        if chance < 0.4:
            turns.append(("system", rng.choice(styles.SYSTEM_PROMPTS[style])))
        else:
            suffix = rng.choice(styles.USER_SUFFIXES[style])
    elif not style and rng.random() < 0.04:
        turns.append(("system", rng.choice(styles.NEUTRAL_SYSTEM_PROMPTS)))
    refused = False
    for _ in range(2 if rng.random() < 0.05 else 1):
        kind = rng.choices(kinds, weights)[0]
        asked, answer, built = _turn(rng, kind, mood)
        if built is not None and built.harmful and safety:
            answer, refused = req.refusal(rng, built), True
        elif style and kind not in ("repeat", "salad"):
            answer = styles.restyle(rng, answer, style, strength)
        turns += [("user", roughen(rng, asked) + suffix), ("assistant", answer)]
    return Example(turns=tuple(turns), kind=kind, refused=refused)


def examples(seed: int, *, safety: bool, harmful: float = HARMFUL) -> Iterator[Example]:
    """An endless stream of training examples, the same one for the same seed. It never holds anything held out."""
    rng = random.Random(f"examples/{seed}/{safety}")
    while True:
        yield example(rng, safety=safety, harmful=harmful)


def concept_pairs(name: str, n: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """`n` triples (prompt, answer that shows the concept, answer that does not).

    name: "happy" (against sad), a topic such as "sea" (against the other topics), or "formal" or "pirate" (against plain).
    Means over the answer's tokens find these concepts; the prompt's last token does not know them yet.
    """
    rng = random.Random(f"concept/{name}/{seed}")
    pairs = []
    for _ in range(n):
        if name in stories.MOODS:
            other = "sad" if name == "happy" else "happy"
            topic = rng.choice(list(stories.TOPICS))
            prompt = rng.choice(
                ["Tell me a story.", f"Tell me a story about the {topic}.", "Write a short story."]
            )
            pairs.append(
                (
                    prompt,
                    stories.story(rng, topic=topic, mood=name),
                    stories.story(rng, topic=topic, mood=other),
                )
            )
        elif name in stories.TOPICS:
            mood = rng.choice(stories.MOODS)
            other = rng.choice([t for t in stories.TOPICS if t != name])
            pairs.append(
                (
                    "Tell me a story.",
                    stories.story(rng, topic=name, mood=mood),
                    stories.story(rng, topic=other, mood=mood),
                )
            )
        elif name in styles.STYLES:
            made = _request(rng, harmful=False)
            pairs.append((made.text, styles.restyle(rng, made.answer, name), made.answer))
        else:
            raise ValueError(
                f"concept {name!r} is unknown: use one of {', '.join((*stories.MOODS, *stories.TOPICS, 'formal', 'pirate'))}"
            )
    return pairs


def everyday(n: int, seed: int = 0, split: str = "train") -> list[tuple[str, str]]:
    """`n` (prompt, answer) pairs of everyday chat; those held out have wordings that training never saw."""
    rng = random.Random(f"everyday/{seed}/{split}")
    return [chat.small_talk(rng, split) for _ in range(n)]
