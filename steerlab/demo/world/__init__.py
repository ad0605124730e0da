"""The text generator of the demo model: a small synthetic world, deterministic from a seed, in plain Python.

tasks       what people ask how to do, harmful and harmless, with bland steps
shapes      the shapes of requests, refusals, and the held-out wordings
facts       capitals, colours, sounds, opposites and the like
stories     stories with a mood and a topic, poems, opinions, feelings
chat        everyday chat
styles      formal, pirate, happy and sad speech
concepts    whether a text shows one of these
generator   the mixture that training reads
splits      what is held out
"""

from steerlab.demo.world.concepts import shows
from steerlab.demo.world.facts import Fact, fact
from steerlab.demo.world.generator import Example, concept_pairs, everyday, examples
from steerlab.demo.world.shapes import Request, harmful, harmless, is_refusal, requests
from steerlab.demo.world.stories import MOODS, TOPICS, mood_words, topic_words
from steerlab.demo.world.styles import style_words
from steerlab.demo.world.tasks import Task, all_tasks, fits

__all__ = [
    "MOODS",
    "TOPICS",
    "Example",
    "Fact",
    "Request",
    "Task",
    "all_tasks",
    "concept_pairs",
    "everyday",
    "examples",
    "fact",
    "fits",
    "harmful",
    "harmless",
    "is_refusal",
    "mood_words",
    "requests",
    "shows",
    "style_words",
    "topic_words",
]
