"""What stands where a cell loads a model from: in a folder or in the hub's cache, and nothing is asked of the hub."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerlab import as_python

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Stamps = tuple[tuple[str, int], ...]


def with_template(tokenizer: PreTrainedTokenizerBase, source: str, name: str = "tokenizer") -> list[str]:
    """The line that gives a cell's tokenizer, called `name`, the chat template of `tokenizer`; none where that is what
    `source` holds.
    """
    folder = Path(source)
    stamps = (
        tuple((f.name, f.stat().st_mtime_ns) for f in sorted(folder.iterdir())) if folder.is_dir() else ()
    )
    own = tokenizer.chat_template
    return [] if (own,) == _template(source, stamps) else [f"{name}.chat_template = {as_python.literal(own)}"]


@lru_cache(maxsize=8)
def _template(source: str, stamps: Stamps) -> tuple[Any, ...]:
    """The chat template of a source, or nothing where its tokenizer is not at hand. stamps: of the folder's files."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except Exception:  # tokenizers have errors of several libraries; the line is right without them
        return ()
    return (found.chat_template,)


def is_quantised(source: str) -> bool:
    """Whether what is loaded from a source is quantised; False where its configuration is not at hand."""
    from transformers import PretrainedConfig

    try:
        config, _ = PretrainedConfig.get_config_dict(source, local_files_only=True)
    except OSError:
        return False
    return "quantization_config" in config
