"""Writes the wire types as TypeScript: `python -m steerlab.ui.typescript > js/src/protocol.ts`.

Covers what `protocol` uses and refuses the rest, so that nothing is translated by guess.
"""

from __future__ import annotations

import json
import sys
from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from steerlab.ui import protocol
from steerlab.ui.questions import TABLE

MESSAGES = {
    "FrontEndMessage": get_args(protocol.FromFrontEnd),
    "KernelMessage": get_args(protocol.KernelMessage),
}
HEADER = """// Generated from steerlab/ui by `npm run protocol`: change protocol.py or a question there, not this file.
"""


def typescript() -> str:
    """The whole module: an interface for each wire type, then the unions of messages, and what a question is answered
    with.
    """
    asked = [m for h in TABLE.values() for m in (h.question, h.part, h.answer) if m]
    roots = [protocol.Traits, *(model for models in MESSAGES.values() for model in models), *asked]
    _, schema = models_json_schema([(root, "serialization") for root in roots], ref_template="{model}")
    parts = [HEADER]
    for name, definition in schema["$defs"].items():
        parts.append(_interface(name, definition))
    for name, models in MESSAGES.items():
        parts.append(f"export type {name} = {' | '.join(m.__name__ for m in models)};\n")
    parts.append(_asks())
    return "\n".join(parts)


def _asks() -> str:
    """What tabs ask, by the question's kind, so that the type of an answer follows from its question."""
    lines = ["/** What can be asked, by kind. */", "export interface Asks {"]
    for kind, handler in TABLE.items():
        part = handler.part.__name__ if handler.part else "never"
        types = f"question: {handler.question.__name__}; part: {part}; answer: {handler.answer.__name__}"
        lines.append(f"  {json.dumps(kind)}: {{ {types} }};")
    return "\n".join([*lines, "}\n", 'export type Question = Asks[keyof Asks]["question"];\n'])


def _interface(name: str, definition: dict[str, Any]) -> str:
    lines = [f"/** {definition['description'].strip()} */", f"export interface {name} {{"]
    for field, type_ in definition.get("properties", {}).items():
        if "description" in type_:
            lines.append(f"  /** {' '.join(type_['description'].split())} */")
        lines.append(f"  {field}: {_type(type_)};")
    return "\n".join([*lines, "}\n"])


def _type(schema: dict[str, Any]) -> str:
    match schema:
        case {"typescript": name}:
            return str(name)
        case {"$ref": name}:
            return str(name)
        case {"const": value}:
            return json.dumps(value)
        case {"enum": values}:
            return " | ".join(json.dumps(v) for v in values)
        case {"anyOf": options}:
            return " | ".join(_type(o) for o in options)
        case {"type": "array", "prefixItems": items}:
            return f"[{', '.join(_type(i) for i in items)}]"
        case {"type": "array", "items": item}:
            inner = _type(item)
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case {"type": "object", "additionalProperties": dict() as value}:
            return f"Record<string, {_type(value)}>"
        case {"type": "integer" | "number"}:
            return "number"
        case {"type": "string" | "boolean" | "null" as plain}:
            return str(plain)
    raise TypeError(f"no TypeScript is known for {schema}")


if __name__ == "__main__":
    sys.stdout.write(typescript())
