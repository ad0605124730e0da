from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from wires import Wire

from steerlab.ui import protocol
from steerlab.ui.typescript import _type, typescript

GENERATED = Path(__file__).parents[2] / "js" / "src" / "protocol.ts"


def test_the_front_end_speaks_the_kernel_s_protocol() -> None:
    assert GENERATED.read_text() == typescript(), "run: npm run protocol (in js/)"


def test_a_type_without_a_translation_is_refused() -> None:
    with pytest.raises(TypeError, match="no TypeScript"):
        _type({"type": "array"})


def test_a_state_survives_json(wire: Wire) -> None:
    wire.push(1.25)
    state = protocol.PanelState.model_validate(wire.panel.state)
    assert protocol.PanelState.model_validate_json(state.model_dump_json()) == state


def test_every_trait_and_message_fits_the_protocol(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.push(1.0)
    wire.finished()
    traits = {name: getattr(wire.panel, name) for name in protocol.Traits.model_fields}
    assert protocol.Traits.model_validate(traits)
    kinds = {"start", "prompt", "tokens", "end", "snapshot"}
    assert {m["kind"] for m in wire.messages} == kinds


def test_the_site_words_are_those_of_the_library(wire: Wire) -> None:
    info = protocol.Info.model_validate(wire.panel.info)
    assert info.sites[info.points.index("resid_pre")][5] == "input of block 5 = output of block 4"


def test_nothing_infinite_gets_in() -> None:
    with pytest.raises(ValidationError):
        protocol.SteeringState(direction="v", coefficient=float("inf"))
