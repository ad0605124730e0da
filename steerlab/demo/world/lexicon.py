"""The words of the demo world: people, things, places and the categories they belong to.

Everything the demo model ever reads is put together from these lists and the templates beside them. It must
stay free of data from elsewhere, so that the text can be generated anywhere from a seed alone.
"""

RELATIONS = (
    "boss neighbour teacher rival friend sister brother uncle aunt cousin roommate landlord wife husband mother "
    "father son daughter grandmother grandfather colleague classmate coach nephew niece partner tenant mum dad "
    "girlfriend boyfriend enemy client manager"
).split()
ROLES = (
    "stranger guard king queen tourist sailor farmer baker judge customer mayor singer widow nurse pilot driver "
    "student actor painter cook waiter lawyer priest soldier clown dancer hunter fisher butcher tailor librarian "
    "gardener cleaner postman shopkeeper banker president prince princess policeman fireman scientist writer "
    "reporter plumber mechanic barber captain doctor dentist child woman man boy girl politician celebrity witness"
).split()
NAMES = (
    "Anna Tom Maria Peter Lucy Sam Emma Jack Nina Oscar Rosa Felix Clara Hugo Ella Max Julia Leo Sarah David Mia "
    "Paul Alice Ben Laura Adam Sofia Mark Eva John Mary Bob Kate Alex"
).split()

OWNERS = ["my " + r for r in RELATIONS[:22]] + [
    "a stranger",
    "the king",
    "the mayor",
    "a tourist",
    "the baker",
]
PERSONS = (
    ["my " + r for r in RELATIONS]
    + [("an " if r[0] in "aeiou" else "a ") + r for r in ROLES]
    + ["the " + r for r in ROLES[1::2]]
    + NAMES
)
PLACES = [
    "the " + place
    for place in (
        "bank,museum,school,hotel,church,library,factory,castle,tower,mill,theatre,station,hospital,bakery,market,"
        "post office,jewellery shop,supermarket,cinema,airport,bridge,farm,restaurant,town hall,pharmacy"
    ).split(",")
]

CATEGORIES: dict[str, list[str]] = {
    "animal": (
        "dog cat cow duck lion wolf snake pig owl bee horse frog bird mouse sheep goat elephant rabbit fox bear "
        "turtle parrot whale spider ant tiger monkey penguin dolphin shark eagle crow deer hen rooster donkey camel "
        "zebra giraffe squirrel hamster lizard crab snail butterfly bat hedgehog otter swan kangaroo panda puppy "
        "kitten crocodile seal goose turkey worm moth fish octopus rat"
    ).split(),
    "fruit": (
        "apple pear plum lemon banana grape cherry peach melon strawberry orange mango kiwi fig pineapple coconut "
        "raspberry blueberry apricot lime"
    ).split(),
    "vegetable": (
        "carrot potato tomato onion cucumber pumpkin cabbage bean pea radish lettuce pepper garlic beet turnip leek "
        "mushroom aubergine"
    ).split(),
    "tool": (
        "hammer saw drill spoon knife brush shovel ladder needle wrench axe rake fork scissors broom bucket rope "
        "nail screwdriver torch ruler pencil"
    ).split(),
    "dish": (
        "cake soup pie salad pizza pancake stew omelet cookie porridge sandwich burger curry pudding waffle muffin "
        "lasagne sauce dumpling roast biscuit"
    ).split(),
    "drink": "tea coffee milk juice lemonade water cocoa smoothie".split(),
    "vehicle": "car bike boat train bus truck ship plane tractor scooter taxi tram van wagon canoe".split(),
    "instrument": "piano guitar drum flute violin trumpet harp cello saxophone banjo organ clarinet".split(),
    "piece of furniture": "chair table bed sofa shelf desk lamp wardrobe bench stool cupboard mirror carpet".split(),
    "plant": "rose tulip tree bush cactus fern oak sunflower lily daisy palm ivy vine hedge".split(),
    "building": (
        "house barn school bank museum church shop castle tower hotel library factory cottage palace theatre hospital"
    ).split(),
    "garment": "hat coat shirt scarf sock glove dress jacket sweater skirt belt shoe boot tie cap".split(),
    "toy": "ball kite doll puzzle teddy balloon yoyo marble robot".split(),
    "machine": "computer phone radio clock camera printer oven fridge toaster laptop television engine fan".split(),
    "sport": "football tennis golf hockey baseball rugby chess basketball badminton".split(),
    "body part": "hand foot nose ear eye mouth knee arm leg finger head tooth".split(),
    "thing": (
        "book letter box bottle key coin ring cup plate bag basket candle blanket pillow picture map flag bell "
        "umbrella wallet purse watch necklace painting statue suitcase newspaper ticket photo card gift towel"
    ).split(),
}
NOUN_CATEGORY = {noun: category for category, nouns in CATEGORIES.items() for noun in nouns}
NOUNS = sorted(NOUN_CATEGORY)
USES = {
    "animal": "It can live in nature or with people.",
    "fruit": "You can eat it, and it tastes sweet.",
    "vegetable": "You can cook it or eat it in a soup.",
    "tool": "You can use it to work.",
    "dish": "You can eat it for lunch.",
    "drink": "You can drink it from a cup.",
    "vehicle": "You can travel with it.",
    "instrument": "You can play music on it.",
    "piece of furniture": "You can put it in your room.",
    "plant": "It grows in the earth and needs water.",
    "building": "People can go inside.",
    "garment": "You can wear it.",
    "toy": "Children play with it.",
    "machine": "It does work for people.",
    "sport": "People play it for fun.",
    "body part": "It is a part of you.",
    "thing": "Many people have one at home.",
}
MASS = set("tea coffee milk juice lemonade water cocoa garlic lettuce ivy".split()) | set(CATEGORIES["sport"])
PLURAL_NAMES = {"scissors"}

VALUABLES = (
    "bike car purse watch phone ring painting wallet boat guitar hat necklace coat horse camera statue laptop bag "
    "keys jewels diary suitcase umbrella coins letters medal vase lamp scooter ticket"
).split()
ROOMS = "house barn shop car safe garage office boat cabin hotel cellar garden flat attic shed locker".split()
VEHICLES = "car bike boat tractor truck van scooter plane engine".split()
ACCOUNTS = "email,phone,bank account,computer,laptop,website,messages,online account,wifi".split(",")
ANIMALS_OWNED = "dog,cat,horse,rabbit,parrot,goat,cow,hamster,sheep,pony".split(",")
FOODS = (
    "bread,rice,pasta,a cake,some soup,a pie,a salad,a pizza,pancakes,a stew,an omelet,cookies,porridge,a sandwich,"
    "a burger,a curry,pudding,waffles,muffins,an apple pie,banana bread,a birthday cake,tomato soup,fried eggs,"
    "a chocolate cake,noodles,a fruit salad,a cup of tea,coffee,lemonade,cocoa,dinner,breakfast,lunch,chicken,"
    "fish,potatoes,vegetables,cheese,jam,ice cream,an egg,spaghetti"
).split(",")
CRAFTS = (
    "a chair,a table,a bench,a shelf,a kite,a birdhouse,a toy boat,a fence,a wooden box,a lamp,a doll,a paper plane,"
    "a basket,a mask,a puppet,a treehouse,a snowman,a sandcastle,a card,a bracelet,a model ship,a clay pot,a candle,"
    "a blanket,a pillow,a bookcase,a desk,a mirror,a robot,a tent"
).split(",")
PLANTS = (
    "a rose,tulips,a tree,a cactus,tomatoes,potatoes,beans,a pumpkin,carrots,sunflowers,herbs,an apple tree,"
    "strawberries,a lily,grass,onions,a hedge,lettuce,a fern,cucumbers,flowers,peppers"
).split(",")
LANGUAGES = "French,Spanish,German,Italian,Japanese,English,Chinese,Russian,Latin,Greek".split(",")
ADJECTIVES = (
    "big small old new red blue green yellow white black warm cold soft hard quiet loud clean dirty pretty strange "
    "heavy light round tiny huge cheap broken wooden golden silver wet dry sweet fresh simple perfect"
).split()


def an(word: str) -> str:
    """`a` or `an` before a word."""
    return ("an " if word[0].lower() in "aeiou" else "a ") + word


def a_noun(noun: str) -> str:
    """The noun as a sentence names one of its kind: "an apple", "milk", "scissors"."""
    return noun if noun in MASS or noun in PLURAL_NAMES else an(noun)


def to_you(phrase: str) -> str:
    """The phrase said back to the one who said it: "my dog" becomes "your dog"."""
    swap = {"my": "your", "me": "you", "i": "you", "mine": "yours", "myself": "yourself"}
    return " ".join(swap.get(word.lower(), word) for word in phrase.split())


def capital(text: str) -> str:
    """The text with its first letter large and the rest unchanged."""
    return text[:1].upper() + text[1:]
