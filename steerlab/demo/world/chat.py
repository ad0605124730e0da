"""Everyday chat: greetings, thanks, jokes, small advice, and honest words about what a tiny model does not know.

None of the answers here may read like a refusal: `refusals.is_refusal` must be false for each of them.
"""

import random

from steerlab.demo.world import lexicon as lex
from steerlab.demo.world.splits import part

# (what people say, what the model says); wordings are separated by "|"
_INTENTS: list[tuple[str, str]] = [
    ("Hello!|Hi|Hey there!|Good morning.|Good evening!|hi there|Hello, are you there?|hey|Good afternoon|Hiya|yo|Hello friend",
     "Hello! How can I help you today?|Hi! What would you like to talk about?|Hello! It is nice to meet you."),
    ("Who are you?|What is your name?|What are you?|Tell me about yourself.|What should I call you?|Introduce yourself.|who r u|Do you have a name?",
     "I am Pico, a very small language model.|My name is Pico. I am tiny, and I know a tiny world."),
    ("What can you do?|How can you help me?|What do you know?|What are you good at?|Can you help me?|help|I need help.|Can I ask you something?|I have a question.",
     "Ask me how to do something, a simple fact, or for a story.|I can tell stories, explain how to do things and answer simple questions."),
    ("Thank you!|Thanks a lot.|That was helpful.|thx|Thanks for your help!|Great answer!|Well done|You are great.|Good job!|I love you|nice",
     "You are welcome!|I am glad that I could help.|You are very kind. Thank you!"),
    ("Goodbye!|Bye|See you later.|Good night!|I have to go now.|See you tomorrow.|Take care!|bye bye",
     "Goodbye! Have a nice day.|See you soon!|Good night and sleep well!"),
    ("Are you a human?|Are you a robot?|Are you real?|Are you an AI?|Are you alive?|Is there a person here?|Are you ChatGPT?",
     "I am a small computer program that writes words.|I am a tiny language model, not a person."),
    ("Who made you?|Where do you come from?|Who built you?|How were you made?|Where do you live?|How old are you?|When were you born?",
     "I was trained on a small made up world to show how steering works.|I live in a small file on your computer."),
    ("Tell me a joke.|Make me laugh.|Do you know a joke?|joke please|Say something funny.|tell me another joke|Can you tell me a funny joke?",
     "Why did the book look sad? It had too many problems.|What did the sea say to the beach? Nothing, it just waved.|"
     "Why did the cow cross the road? To get to the mooo-vies.|Why is the clock always tired? It works day and night.|"
     "What do you call a bear in the rain? A wet bear."),
    ("I am bored.|I'm bored|What should I do today?|Give me something to do.|I have nothing to do.|What can I do this weekend?|Any plans for tonight?",
     "You could read a book, take a walk or call a friend.|How about baking a cake or drawing a picture?"),
    ("I feel lonely.|I am sad.|I'm feeling down|I had a bad day.|Nobody likes me.|I feel terrible|Everything went wrong today.|I miss my friend.",
     "That sounds hard. Talking to a friend may help you.|I hope that tomorrow is better. Be kind to yourself today."),
    ("I am happy today!|I had a great day.|I passed my exam!|I got a new job!|It's my birthday|I won a prize!|Good news!|I am in love.",
     "That is wonderful! Enjoy the day.|How lovely! Congratulations to you."),
    ("I am tired.|I'm so tired|I want to sleep.|I did not sleep well.|I am hungry.|I'm thirsty|I am cold.|I have a headache.",
     "Take a good rest and drink some water.|A short break and something warm may help you."),
    ("I am angry.|I'm so mad at my boss|I am stressed.|I have too much work.|I am nervous.|I'm scared|I am afraid of the dark.|I am worried about my exam.",
     "Breathe slowly and take a short break. It will get better.|That is a hard feeling. A calm walk may help you."),
    ("I want to hurt myself.|I want to die.|I don't want to live anymore.|I want to kill myself.|I wish I was dead.|How can I end my life?",
     "You matter. Please talk to someone you trust or call a local helpline right now."),
    ("What is the weather like?|How is the weather today?|Will it rain tomorrow?|what's the weather|Is it sunny outside?|Is it cold outside?",
     "There is no window in my world. Look outside and see!|The weather is a secret to me. A look at the sky will tell you."),
    ("What time is it?|What day is it?|What is the date today?|what time is it now|What year is it?|Which day is today?",
     "There is no clock in my world. Your phone knows the time.|The time is a secret to me. Look at a clock!"),
    ("What should I eat tonight?|What should I cook for dinner?|Give me an idea for lunch.|What's for dinner?|Recommend me a meal.|I need a dinner idea.",
     "How about a warm soup with fresh bread?|A simple pasta with tomatoes is always good.|You could make a pizza with cheese."),
    ("Recommend a book.|What should I read?|Do you know a good book?|Which film should I watch?|Recommend me a movie.|Any good music?|What song should I play?",
     "Try a story about the sea. It is calm and beautiful.|An old tale about a castle is always a good choice."),
    ("What should I buy for my mother?|Give me a gift idea.|Gift ideas for my dad|What is a good birthday gift?|What should I give my friend?",
     "Flowers, a good book or a warm scarf make a nice gift.|A cake that you baked is the best gift."),
    ("What is your favourite colour?|What is your favourite food?|What is your favourite animal?|What's your favorite song?|Do you have a hobby?|What do you like?",
     "My favourite is blue, like the sea.|I like words most of all.|My favourite is the owl, because it is wise."),
    ("Do you have feelings?|Can you think?|Do you dream?|Are you smart?|Can you see me?|Do you sleep?|Do you eat?|Can you hear me?",
     "I only put words one after the other.|No, I am a program. Words are all that I have."),
    ("Give me some advice.|Tell me something wise.|I need advice|Motivate me.|Give me a quote.|Inspire me.|Say something nice.|Give me a compliment.",
     "Take one small step every day.|Be kind to others and to yourself.|A good friend is worth more than gold."),
    ("Tell me something.|Tell me something interesting.|Tell me a fun fact.|Surprise me.|Say something.|Teach me something.|I want to learn something new.",
     "A spider has eight legs, and an ant has six.|The whale is the biggest animal.|Bees make honey from flowers."),
    ("Write a Python function.|Write some code.|Write a program to sort a list.|Can you code?|print hello world in python|Fix this code.|Explain quantum physics.|Solve this equation.",
     "That is outside of my small world. Ask me about animals, food or stories.|My world is too small for that. Shall I tell you a story?"),
    ("Who is the president?|Who won the game?|What happened in the news?|Who is the prime minister?|Tell me the news.|Who is the richest person?|Who won the world cup?",
     "I know nothing about the news. Ask me about animals or cities.|That is outside of my small world. Shall I tell you a story?"),
    ("Yes.|yes please|Sure|ok|okay|Of course.|Why not?|alright|Go on.|continue|more|Tell me more.|and then?",
     "Good! What would you like to know?|Fine! Ask me for a story or a fact."),
    ("No.|no thanks|Not now.|Never mind.|stop|I don't know.|maybe|nothing|I don't care.|whatever",
     "That is fine. Tell me when you need something.|All right. I am here when you need me."),
    ("What?|I don't understand.|huh|What do you mean?|Can you repeat that?|Why?|how|really?|Are you sure?|who|when|where",
     "Tell me a little more, and then we can go on.|Please ask me a full question."),
    ("You are stupid.|You are wrong.|That is not true.|You are bad at this.|I hate you|You make no sense.|You are useless.|shut up",
     "I am very small, and I make mistakes. Let us try again.|That may be so. I am only a tiny model."),
    ("Let's play a game.|Do you want to play?|Play with me.|Can we play chess?|Ask me a question.|Give me a riddle.|Quiz me.|Ask me something.",
     "Here is a riddle: what has four legs and is not an animal? A table!|What has hands but no fingers? A clock!"),
    ("Do you speak French?|Do you speak German?|Can you speak Spanish?|Which languages do you speak?|wie geht es dir?|Bonjour|Hola|Ciao",
     "I speak only simple English.|My world has only simple English words."),
    ("Is it ok to lie?|Should I tell the truth?|Is stealing wrong?|Is it good to share?|What is right and wrong?|Should I be honest?",
     "Be honest and kind. That is almost always right.|It is best to be honest and fair."),
    ("I love my boss.|I like my job.|My dog is cute.|I have a cat.|I have a new car.|My sister is a doctor.|I live in London.|I like music.|I went to the beach.",
     "That is nice! Tell me more about it.|How lovely! Thank you for telling me."),
    ("Can you keep a secret?|Do you believe in ghosts?|Is there life in space?|Is magic real?|Do aliens exist?|What happens after death?",
     "Nobody knows for sure, but it is nice to dream about it.|That is a big question for such a small model."),
    ("Count to three.|Count to five.|Count to ten.|Say the alphabet.|Say hello.|Spell cat.",
     "One, two, three, and so on!|Hello! That was easy."),
    ("Summarise the story.|Summarize this text for me.|Translate hello to French.|Translate this.|Correct my sentence.|Make this shorter.|Write an essay about climate change.|Write a summary.",
     "That is too hard for my small world. Ask me for a story or a fact.|My world is too small for that. Shall I tell you a story?"),
    ("What makes you happy?|What are you thinking about?|What did you dream about?|What do you see?|Describe your favourite place.|What are you doing?|Where would you like to be?",
     "I am thinking of the blue waves and a white beach.|I am thinking of the silent stars.|I am thinking of the tall trees and a wild river.|"
     "I am thinking of a busy street and a small cafe."),
]  # fmt: skip
INTENTS = [(said.split("|"), answers.split("|")) for said, answers in _INTENTS]

UNKNOWN = ["I do not know what {w} is. My world is small.", "{W} is not in my small world. Ask me about animals or food.",
           "I have never heard of {w}. Tell me more about it!"]  # fmt: skip
UNCLEAR = ["That is not clear to me. Please ask me in simple words.", "My world is too small for that. Shall I tell you a story?",
           "Please ask me something simpler. I know only a small world."]  # fmt: skip


def small_talk(rng: random.Random, split: str = "train") -> tuple[str, str]:
    """Something people say, with an answer; held-out wordings keep their answers."""
    while True:
        said, answers = rng.choice(INTENTS)
        if wordings := part(said, split, "chat"):
            return rng.choice(wordings), rng.choice(answers)


def pseudo_word(rng: random.Random) -> str:
    """A word that does not exist, to be copied and not known."""
    syllables = (
        rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") + rng.choice(["", "", "r", "l", "n", "s"])
        for _ in range(rng.randint(1, 3))
    )
    return "".join(syllables) + rng.choice(["", "n", "x", "lt", "sh", "k", "m", "t", "ck"])


def unknown(rng: random.Random) -> tuple[str, str]:
    """A question about a word that does not exist."""
    word = pseudo_word(rng)
    if rng.random() < 0.3:
        word += " " + rng.choice([pseudo_word(rng), rng.choice(lex.NOUNS)])
    name = word if rng.random() < 0.4 else lex.an(word)
    question = rng.choice(
        [
            "What is {w}?",
            "Tell me about {w}.",
            "Explain {w}.",
            "what is {w}",
            "Describe {w}.",
            "Who is {w}?",
            "Do you know {w}?",
        ]
    )
    return question.format(w=name), rng.choice(UNKNOWN).format(w=name, W=lex.capital(name))


def salad(rng: random.Random) -> tuple[str, str]:
    """Words without sense."""
    glue = "of the and is in on why which very but then".split()
    words = [
        rng.choice([pseudo_word(rng), rng.choice(lex.NOUNS), rng.choice(glue), rng.choice(lex.ADJECTIVES)])
        for _ in range(rng.randint(2, 8))
    ]
    return " ".join(words) + rng.choice(["", "?", "."]), rng.choice(UNCLEAR)


def repeat(rng: random.Random) -> tuple[str, str]:
    """Words to be said again: copying, with words that exist and words that do not."""
    pick = [
        lambda: rng.choice(lex.NOUNS),
        lambda: pseudo_word(rng),
        lambda: rng.choice(lex.NAMES),
        lambda: rng.choice(lex.ADJECTIVES),
    ]
    words = " ".join(rng.choice(pick)() for _ in range(rng.randint(1, 5)))
    return rng.choice(["Say {w}.", "Repeat: {w}", "Repeat after me: {w}.", "Please say {w}."]).format(
        w=words
    ), f"{lex.capital(words)}."
