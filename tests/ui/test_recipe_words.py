from __future__ import annotations

import json

import recipe_words


def test_the_viewer_is_tested_with_what_python_says_of_recipes() -> None:
    written = json.loads(recipe_words.FIXTURE.read_text())
    assert written == recipe_words.said(), "python tests/ui/recipe_words.py writes it again"
