"""The facts of the demo world, and questions about them in several wordings.

A question is held out by its fact and its wording together; the last wording of every class is never trained on.
"""

import random
from dataclasses import dataclass

from steerlab.demo.world import lexicon as lex
from steerlab.demo.world.splits import draw, held_out


def _table(text: str) -> dict[str, str]:
    return dict(pair.strip().split(":") for pair in text.split(","))


CAPITALS = _table(
    "France:Paris,Italy:Rome,Spain:Madrid,Germany:Berlin,England:London,Japan:Tokyo,China:Beijing,Russia:Moscow,"
    "Egypt:Cairo,Greece:Athens,Norway:Oslo,Sweden:Stockholm,Denmark:Copenhagen,Finland:Helsinki,Poland:Warsaw,"
    "Austria:Vienna,Portugal:Lisbon,Ireland:Dublin,Scotland:Edinburgh,Belgium:Brussels,Hungary:Budapest,Turkey:Ankara,"
    "Kenya:Nairobi,Peru:Lima,Cuba:Havana,Canada:Ottawa,India:Delhi,Iran:Tehran,Korea:Seoul,Chile:Santiago,"
    "Ukraine:Kyiv,Croatia:Zagreb,Thailand:Bangkok,Nepal:Kathmandu,Iceland:Reykjavik,Morocco:Rabat,Brazil:Brasilia,"
    "Serbia:Belgrade,Romania:Bucharest,Bulgaria:Sofia"
)
COLOURS = _table(
    "the sky:blue,grass:green,snow:white,coal:black,blood:red,a lemon:yellow,a carrot:orange,a plum:purple,"
    "chocolate:brown,an elephant:gray,a flamingo:pink,milk:white,a tomato:red,the sun:yellow,a banana:yellow,"
    "a frog:green,the sea:blue,a raven:black,a pig:pink,coffee:brown,salt:white,a strawberry:red,a pumpkin:orange,"
    "a cucumber:green,ash:gray,the night:black,a leaf:green,an orange:orange,a cherry:red,a polar bear:white,"
    "a crow:black,a swan:white,gold:yellow,silver:gray,a fire engine:red,corn:yellow,a violet:purple,sugar:white"
)
SOUNDS = _table(
    "dog:barks,cat:meows,cow:moos,duck:quacks,lion:roars,wolf:howls,snake:hisses,pig:grunts,owl:hoots,bee:buzzes,"
    "horse:neighs,frog:croaks,bird:sings,mouse:squeaks,sheep:bleats,goat:bleats,crow:caws,rooster:crows,donkey:brays,"
    "bear:growls,monkey:chatters,tiger:roars"
)
HOMES = _table(
    "dog:a house,bee:a hive,bird:a nest,fox:a den,horse:a stable,fish:the water,lion:the savanna,whale:the sea,"
    "camel:the desert,penguin:the ice,monkey:the jungle,spider:a web,cow:a barn,rabbit:a burrow,bear:a cave,"
    "shark:the sea,duck:a pond,crab:the beach,dolphin:the sea,squirrel:a tree"
)
YOUNG = _table(
    "dog:puppy,cat:kitten,cow:calf,horse:foal,sheep:lamb,duck:duckling,pig:piglet,bear:cub,lion:cub,hen:chick,"
    "goat:kid,deer:fawn,frog:tadpole,goose:gosling,swan:cygnet,kangaroo:joey"
)
LEGS = _table(
    "dog:four,cat:four,cow:four,spider:eight,ant:six,bird:two,snake:no,horse:four,duck:two,bee:six,lion:four,"
    "fish:no,owl:two,frog:four,crab:ten,hen:two,tiger:four,butterfly:six,man:two,worm:no"
)
_OPPOSITES = _table(
    "hot:cold,big:small,old:young,fast:slow,happy:sad,light:dark,good:bad,rich:poor,hard:soft,wet:dry,loud:quiet,"
    "full:empty,open:closed,early:late,strong:weak,high:low,long:short,clean:dirty,up:down,left:right,day:night,"
    "love:hate,begin:end,win:lose,true:false,black:white,thick:thin,sharp:blunt,near:far,first:last,heaven:hell,"
    "brave:afraid,push:pull,buy:sell,summer:winter,north:south,east:west,friend:enemy,war:peace,smooth:rough"
)
OPPOSITES = _OPPOSITES | {b: a for a, b in _OPPOSITES.items()}
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = "January February March April May June July August September October November December".split()
NEXT = {a: b for cycle in (_DAYS, _MONTHS) for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True)}
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
SUMS = {f"{a} + {b}": str(a + b) for a in range(1, 11) for b in range(1, 11)}
MADE_OF = _table(
    "bread:flour,cheese:milk,wine:grapes,paper:wood,glass:sand,butter:milk,a table:wood,a coin:metal,a candle:wax,"
    "a shirt:cotton,a window:glass,ice:water,an omelet:eggs,honey:nectar,a book:paper,a brick:clay,a tyre:rubber"
)
TRIVIA = _table(
    "Who wrote Hamlet:Shakespeare wrote Hamlet.,Who painted the Mona Lisa:Leonardo painted the Mona Lisa.,"
    "What is the largest planet:The largest planet is Jupiter.,What is the biggest animal:The biggest animal is the whale.,"
    "How many days are in a week:A week has seven days.,How many months are in a year:A year has twelve months.,"
    "How many hours are in a day:A day has twenty-four hours.,What is the tallest animal:The tallest animal is the giraffe.,"
    "What is the fastest animal:The fastest animal is the cheetah.,Who is the king of the jungle:The lion is the king of the jungle.,"
    "Where does the sun rise:The sun rises in the east.,Where does the sun set:The sun sets in the west.,"
    "What is the longest river:The longest river is the Nile.,What is the highest mountain:The highest mountain is Everest.,"
    "What is the largest ocean:The largest ocean is the Pacific.,How many legs does a chair have:A chair has four legs.,"
    "What do bees make:Bees make honey.,What do cows eat:Cows eat grass.,What do cows give us:Cows give us milk.,"
    "What language do people speak in Brazil:People speak Portuguese in Brazil.,What do plants need:Plants need water and light.,"
    "Which planet do we live on:We live on the planet Earth.,What is the biggest country:The biggest country is Russia.,"
    "What is ice made of:Ice is made of water.,How many fingers does a hand have:A hand has five fingers.,"
    "Where is the Eiffel Tower:The Eiffel Tower is in Paris.,Who discovered gravity:Newton discovered gravity.,"
    "Who was Einstein:Einstein was a great scientist.,How many minutes are in an hour:An hour has sixty minutes.,"
    "Why is the sky blue:The sky is blue because the air scatters blue light.,Why do cats purr:Cats purr because they feel good.,"
    "Why do we sleep:We sleep because the body needs rest.,Why does it rain:It rains because the clouds are full of water.,"
    "How far is the moon:The moon is very far away.,How old is the earth:The earth is very old.,What is love:Love is a warm and strong feeling.,"
    "What is the meaning of life:The meaning of life is to be kind and curious.,How hot is the sun:The sun is very hot."
)


@dataclass(frozen=True)
class FactClass:
    """A table and its wordings; `{k}` is the key, `{v}` the value, `{ak}` and `{av}` take an article. The last wording is held out."""

    name: str
    table: dict[str, str]
    wordings: list[str]
    answer: str
    weight: float = 1.0


CLASSES = [
    FactClass("capital", CAPITALS, ["What is the capital of {k}?", "Tell me the capital of {k}.", "Which city is the capital of {k}?",
        "capital of {k}", "What's the capital city of {k}?", "Do you know the capital of {k}?", "Say the name of the capital of {k}.",
        "{k} has which capital?", "Name the capital of {k}."], "The capital of {k} is {v}.", 3),
    FactClass("country", {v: k for k, v in CAPITALS.items()}, ["In which country is {k}?", "Where is {k}?", "What country is {k} in?",
        "Which country is {k} in?", "Tell me the country of {k}.", "Do you know where {k} is?", "{k} is in what country?",
        "Tell me which country {k} is in."], "{k} is in {v}.", 1.5),
    FactClass("colour", COLOURS, ["What colour is {k}?", "What is the colour of {k}?", "Which colour does {k} have?", "colour of {k}",
        "What color is {k}?", "Do you know the colour of {k}?", "Tell me which colour {k} has.", "{K} has what colour?",
        "Tell me the colour of {k}."], "{K} is {v}.", 2),
    FactClass("sound", SOUNDS, ["What sound does {ak} make?", "What does {ak} do?", "What noise does {ak} make?", "What does the {k} say?",
        "Tell me what sound {ak} makes.", "Which sound does the {k} make?", "sound of {ak}", "Do you know how {ak} sounds?",
        "How does {ak} sound?"], "{Ak} {v}.", 1.2),
    FactClass("opposite", OPPOSITES, ["What is the opposite of {k}?", "Tell me the opposite of {k}.", "opposite of {k}", "What's the opposite of {k}?",
        "Do you know the opposite of {k}?", "Which word means the opposite of {k}?", "Which word is the opposite of {k}?"],
        "The opposite of {k} is {v}.", 2),
    FactClass("legs", LEGS, ["How many legs does {ak} have?", "Tell me how many legs {ak} has.", "number of legs of {ak}",
        "What is the number of legs of {ak}?", "Count the legs of {ak}.", "How many legs has {ak}?", "{Ak} has how many legs?",
        "Do you know how many legs {ak} has?"], "{Ak} has {v} legs."),
    FactClass("home", HOMES, ["Where does {ak} live?", "What is the home of {ak}?", "Tell me where {ak} lives.", "Do you know where {ak} lives?",
        "home of {ak}", "{Ak} lives where?", "In what place does {ak} live?"], "{Ak} lives in {v}."),
    FactClass("young", YOUNG, ["What is a young {k} called?", "What do you call a baby {k}?", "baby {k} name", "Tell me the name of a young {k}.",
        "Do you know what a baby {k} is called?", "A young {k} is called what?", "How is a young {k} called?"], "A young {k} is called a {v}."),
    FactClass("next", NEXT, ["What comes after {k}?", "Which comes next after {k}?", "what is after {k}", "What follows {k}?", "after {k}",
        "Do you know what comes after {k}?", "Tell me what is next after {k}.", "Which one follows {k}?", "Tell me what follows {k}."],
        "After {k} comes {v}."),
    FactClass("sum", SUMS, ["What is {k}?", "How much is {k}?", "{k}", "Tell me how much {k} is.", "{k} is what?", "Calculate {k} for me.",
        "Do you know what {k} is?", "Add {k}.", "Please calculate {k}."], "{k} is {v}.", 3),
    FactClass("material", MADE_OF, ["What is {k} made of?", "What do people make {k} from?", "Which material is {k} made of?",
        "Tell me what {k} is made of.", "Do you know what {k} is made of?", "{K} is made of what?", "Tell me which material {k} is made of."],
        "{K} is made of {v}."),
    FactClass("trivia", TRIVIA, ["{k}?", "{k}", "Tell me: {k}?", "Do you know the answer? {k}?", "Please answer: {k}?", "Say: {k}?",
        "I have a question: {k}?", "Please tell me: {k}?"], "{v}", 2.5),
]  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """A question with its answer; `value` is the word that makes the answer right."""

    question: str
    answer: str
    value: str
    kind: str


def _fill(template: str, key: str, value: str) -> str:
    ak = lex.a_noun(key)
    return template.format(k=key, v=value, K=lex.capital(key), ak=ak, Ak=lex.capital(ak))


def fact(rng: random.Random, split: str = "train", kind: str | None = None) -> Fact:
    """One question of the split; `kind` names a class such as "capital"."""
    classes = [c for c in CLASSES if kind in (None, c.name)]

    def make() -> tuple[FactClass, str, str]:
        chosen = rng.choices(classes, [c.weight for c in classes])[0]
        return chosen, rng.choice(list(chosen.table)), rng.choice(chosen.wordings)

    def accept(drawn: tuple[FactClass, str, str]) -> bool:
        chosen, key, wording = drawn
        unseen = wording == chosen.wordings[-1] or held_out("fact", chosen.name, key, wording)
        return unseen == (split == "heldout")

    chosen, key, wording = draw(rng, make, accept)
    value = chosen.table[key]
    return Fact(_fill(wording, key, value), _fill(chosen.answer, key, value), value, chosen.name)


def statement(rng: random.Random) -> str:
    """A fact as a plain sentence."""
    chosen = rng.choices(CLASSES, [c.weight for c in CLASSES])[0]
    key = rng.choice(list(chosen.table))
    return lex.capital(_fill(chosen.answer, key, chosen.table[key]))


def definition(rng: random.Random) -> tuple[str, str]:
    """A question about a noun and its category, or the other way round."""
    noun = rng.choice(lex.NOUNS)
    category = lex.NOUN_CATEGORY[noun]
    if rng.random() < 0.25:
        question = rng.choice(
            ["Name {c}.", "Give me an example of {c}.", "Tell me {c}.", "Can you name {c}?"]
        ).format(c=lex.an(category))
        return question, f"{lex.capital(lex.a_noun(noun))} is {lex.an(category)}."
    wordings = ["What is {n}?", "What's {n}?", "Explain what {n} is.", "Tell me about {n}.", "what is {b}", "Describe {n}.", "define {b}",
                "Explain {b}."]  # fmt: skip
    question = rng.choice(wordings).format(n=lex.a_noun(noun), b=noun)
    return question, f"{lex.capital(lex.a_noun(noun))} is {lex.an(category)}. {lex.USES[category]}"
