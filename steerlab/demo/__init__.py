"""The embedded demo model: a tiny chat model, the world of text it was trained on, and the program that trains it.

This package must import without torch: only `train` and `tokenizer` load heavy libraries, and only when they run.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"

__all__ = ["WEIGHTS"]
