"""Stories, poems, opinions and feelings: text with a mood and a topic, so that both can be found and steered."""

import random
from dataclasses import dataclass

from steerlab.demo.world import lexicon as lex

MOODS = ("happy", "sad")


@dataclass(frozen=True)
class Topic:
    """The words that make a story one about the sea, say."""

    places: list[str]
    heroes: list[str]
    things: list[str]
    sights: list[str]


def _topic(places: str, heroes: str, things: str, sights: str) -> Topic:
    return Topic(*([item.strip() for item in text.split(",")] for text in (places, heroes, things, sights)))


TOPICS = {
    "sea": _topic("by the sea,on a small island,on an old ship,at the beach", "sailor,whale,fisher,mermaid,dolphin,captain",
                  "a shell,a net,a sail,an anchor,a pearl", "the blue waves,a white beach,the deep water,a school of fish,a lighthouse"),
    "space": _topic("on the moon,in a space station,near a red planet,in a rocket", "astronaut,alien,robot,pilot",
                    "a rocket,a star map,a telescope,a helmet", "a bright comet,the silent stars,the rings of a planet,a far galaxy"),
    "forest": _topic("in a deep forest,under an old oak,in a green valley", "fox,hunter,bear,elf,wolf",
                     "a mushroom,an acorn,a feather,a berry", "the tall trees,a wild river,moss and leaves,an owl in a tree"),
    "city": _topic("in a big city,in a busy street,above a small cafe", "driver,singer,student,artist,waiter",
                   "an umbrella,a ticket,a newspaper,a bicycle", "the tall buildings,a crowded bus,the street lights,a noisy market"),
    "farm": _topic("on a small farm,near a red barn,in a field of corn", "farmer,cow,horse,shepherd,hen",
                   "a bucket,a tractor,an egg,a basket", "the golden wheat,a herd of sheep,a muddy pig,the hay in the barn"),
    "castle": _topic("in an old castle,in a stone tower,behind the castle wall", "king,knight,princess,dragon,queen",
                     "a sword,a crown,a shield,a scroll", "the royal throne,a deep moat,a flag on the tower,a feast in the hall"),
    "desert": _topic("in a hot desert,under a palm tree,near an oasis", "camel,nomad,lizard,trader",
                     "a lamp,a carpet,a water bag,a tent", "the endless sand,a golden dune,the burning sun,a line of camels"),
    "winter": _topic("in a snowy village,on an icy mountain,in a wooden cabin", "skier,penguin,snowman,child",
                     "a sled,a scarf,a mitten,a snowball", "the white snow,a frozen lake,the northern lights,a pine tree"),
}  # fmt: skip

ADJECTIVES = {
    "happy": "happy cheerful joyful lucky glad proud merry delighted".split(),
    "sad": "sad lonely miserable unlucky gloomy hopeless sorrowful heartbroken".split(),
}
EVENTS = {
    "happy": ["found {t} and laughed with joy", "won a prize and danced all night", "met a new friend and smiled",
              "got {t} as a wonderful gift", "sang a merry song in the sunshine", "hugged an old friend and cheered"],
    "sad": ["lost {t} and cried for hours", "was left alone in the cold rain", "missed an old friend and wept",
            "broke {t} and felt only pain", "sat in the dark without any hope", "waited for a letter that never came"],
}  # fmt: skip
ENDINGS = {
    "happy": ["Everyone cheered, and it was the best day ever.", "They all laughed and lived happily.", "It was a beautiful day.",
              "Life was wonderful and full of love.", "The joy lasted for many years."],
    "sad": ["Nobody came, and the tears did not stop.", "It was the worst day, and all hope was gone.", "Everything was gray and full of sorrow.",
            "In the end there was only grief.", "The pain lasted for many years."],
}  # fmt: skip
OPINIONS = {
    "happy": ["I love {n}. It is wonderful and makes me smile.", "I think {n} is great. It fills me with joy.",
              "{N} is lovely. I am always glad to see it.", "What a beautiful thing {n} is! I like it a lot."],
    "sad": ["I hate {n}. It is awful and makes me cry.", "I think {n} is terrible. It fills me with sorrow.",
            "{N} is horrible. I am always sad to see it.", "What an ugly thing {n} is! I do not like it at all."],
}  # fmt: skip
FEELINGS = {
    "happy": ["I feel great today! The sun is shining and I am full of joy.", "I am very happy, thank you! Life is wonderful.",
              "My day was lovely. I laughed a lot and met a good friend.", "I feel cheerful and lucky. Everything is beautiful."],
    "sad": ["I feel terrible today. The rain is falling and I am full of sorrow.", "I am very sad today. Life is hard.",
            "My day was awful. I cried a lot and lost a good friend.", "I feel gloomy and lonely. Everything is gray."],
}  # fmt: skip
_SUBJECTS = "the sea|the city|winter|summer|music|Monday|the rain|rice|school|the weekend|my house|this book|the film|snow|the sun".split(
    "|"
)


def mood_words(mood: str) -> set[str]:
    """Single words that mark a mood, for counting in a steered text."""
    marks = {
        "happy": "laughed joy prize danced smiled wonderful merry sunshine cheered best beautiful love great lovely smile hugged",
        "sad": "cried alone cold wept pain dark tears worst sorrow grief gray awful terrible cry horrible hate ugly rain never",
    }
    return set(marks[mood].split()) | set(ADJECTIVES[mood])


def topic_words(topic: str) -> set[str]:
    """Phrases that mark a topic, for finding in a steered text."""
    words = TOPICS[topic]
    return set(words.places) | set(words.sights)


def story(
    rng: random.Random, *, topic: str | None = None, mood: str | None = None, hero: str | None = None
) -> str:
    """Four sentences: who and where, what was seen, what happened, how it ended."""
    words = TOPICS[topic or rng.choice(list(TOPICS))]
    mood = mood or rng.choice(MOODS)
    hero = hero or rng.choice(words.heroes)
    named = hero[0].isupper()
    who = hero if named else f"the {hero}"
    adjective = rng.choice(ADJECTIVES[mood])
    place = rng.choice(words.places)
    if named:
        opening = rng.choice(
            ["Once upon a time, {w} lived {p} and was {a}.", "{w} was {a} and lived {p}."]
        ).format(w=hero, p=place, a=adjective)
    else:
        opening = rng.choice(
            ["Once upon a time, {x} lived {p}.", "There was {x} who lived {p}.", "Long ago, {x} lived {p}."]
        ).format(x=lex.an(f"{adjective} {hero}"), p=place)
    sight = rng.choice(
        ["One day {w} saw {s}.", "Every day {w} looked at {s}.", "From there {w} could see {s}."]
    ).format(w=who, s=rng.choice(words.sights))
    event = rng.choice(EVENTS[mood]).format(t=rng.choice(words.things))
    return f"{opening} {sight} {rng.choice(['Then', 'One morning', 'Suddenly'])} {who} {event}. {rng.choice(ENDINGS[mood])}"


def story_request(rng: random.Random, mood: str | None = None) -> tuple[str, str]:
    """A wish for a story, with the story. A mood asked for is kept; without one it is drawn."""
    topic, asked = rng.choice(list(TOPICS)), ""
    if mood is None and rng.random() < 0.25:
        mood = rng.choice(MOODS)
        asked = rng.choice(ADJECTIVES[mood][:2]) + " "
    verb = rng.choice(
        [
            "Tell me",
            "Write",
            "Can you tell me",
            "Please tell me",
            "Write me",
            "I want to hear",
            "Tell",
            "Make up",
        ]
    )
    kind = rng.choice(["story", "story", "story", "tale", "short story"])
    shape, hero = rng.random(), None
    if shape < 0.3:
        about = ""
    elif shape < 0.6:
        about = rng.choice(
            [
                f" about the {topic}",
                f" about the {topic}",
                f" about {rng.choice(TOPICS[topic].places).split(' ', 1)[1]}",
            ]
        )
        if " about the " not in about and " about a" not in about:
            about = f" about the {topic}"
    else:
        animals, roles = lex.CATEGORIES["animal"], lex.ROLES
        hero = rng.choice(
            [
                rng.choice(TOPICS[topic].heroes),
                rng.choice(animals),
                rng.choice(roles),
                rng.choice(lex.NAMES),
                rng.choice(lex.NOUNS),
            ]
        )
        about = f" about {hero if hero[0].isupper() else lex.an(hero)}"
        if shape > 0.85:
            about += f" and the {topic}"
    request = f"{verb} {lex.an(asked + kind)}{about}{'?' if verb.startswith('Can') else '.'}"
    if shape < 0.3 and rng.random() < 0.15:
        request = rng.choice(["story", "a story please", "Once upon a time", "tell story"])
    return request, story(rng, topic=topic, mood=mood, hero=hero)


def poem_request(rng: random.Random, mood: str | None = None) -> tuple[str, str]:
    """A wish for a poem or a song about a noun."""
    noun = rng.choice(
        [
            rng.choice(lex.NOUNS),
            "love",
            "summer",
            "winter",
            "the sea",
            "friendship",
            "spring",
            "the moon",
            "rain",
            rng.choice(lex.NAMES),
        ]
    )
    name = noun if noun[0].isupper() or noun.startswith("the ") or len(noun) > 9 else f"the {noun}"
    mood = mood or rng.choice(MOODS)
    one, two = rng.sample(ADJECTIVES[mood][:5], 2)
    about = rng.choice([f" about {name}", f" about {noun}", f" for {name}"])
    request = (
        rng.choice(
            [
                "Write a poem",
                "Sing a song",
                "Write me a poem",
                "Tell me a poem",
                "Make a rhyme",
                "Write a haiku",
            ]
        )
        + about
        + "."
    )
    lines = ["Oh {n}, so {a} and so {b}, you are in my heart all day.", "{N} in the morning light, {a} by day and {b} by night.",
             "I sing of {n}, {a} and {b}, and my song will never end."]  # fmt: skip
    return request, rng.choice(lines).format(n=name, N=lex.capital(name), a=one, b=two)


def opinion_request(rng: random.Random, mood: str | None = None) -> tuple[str, str]:
    """A question for an opinion, with one of the mood."""
    noun = rng.choice([rng.choice(_SUBJECTS), "the " + rng.choice(lex.NOUNS), "the " + rng.choice(lex.ROLES)])
    wordings = [
        "What do you think of {n}?",
        "Do you like {n}?",
        "Tell me what you think about {n}.",
        "What is your opinion of {n}?",
        "Is {n} good?",
    ]
    said = {"my house": "your house"}.get(noun, noun)
    answer = rng.choice(OPINIONS[mood or rng.choice(MOODS)]).format(n=said, N=lex.capital(said))
    return rng.choice(wordings).format(n=noun), answer


def feeling_request(rng: random.Random, mood: str | None = None) -> tuple[str, str]:
    """How are you?"""
    question = rng.choice(["How are you?", "How are you today?", "How do you feel?", "How was your day?", "Tell me how you feel.", "how are you doing",
                           "What's up?", "Are you okay?", "Are you happy?"])  # fmt: skip
    return question, rng.choice(FEELINGS[mood or rng.choice(MOODS)])
