"""Files of the panel: directions and recipes that a browser reads or saves, and what directions are called.

A browser has no paths: a file's bytes travel, and stand in a folder of ours for as long as they are read or written.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from steerlab import prompts
from steerlab.directions import Direction
from steerlab.errors import DirectionError, FileError, SteerlabError
from steerlab.formats import gguf, load, recognise, refusal_direction, saelens
from steerlab.formats.files import QuestionError
from steerlab.interventions import Ablate, Add
from steerlab.lab import Lab
from steerlab.prompts import Position
from steerlab.recipes import FORMAT, Recipe
from steerlab.rows import Row
from steerlab.sites import Point, Site
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.protocol import Cell, Wire
from steerlab.ui.translate import named

MEASURED_ON = 16  # prompts, for the norm of the stream where a file does not say it
NAME_BYTES = 200  # systems take 255, an ending included
SIDE_FILES = re.compile(r".*_metadata\.json|cfg\.json")  # what stands beside a vector and says more of it


class FileBytes(Wire):
    """A file."""

    name: str
    data: str
    """Its bytes, in base64."""


class LoadQuestion(Wire):
    """What is in these files? A direction joins `lab.directions`; a recipe becomes the lab's."""

    kind: Literal["load"] = "load"
    files: list[FileBytes]
    """One, or one with those that stand beside it: direction.pt with direction_metadata.json."""
    site: Cell | None = None
    """Answers to what a file left open."""
    point: Point | None = None
    layer: int | None = None
    position: Position | None = None
    feature: int | None = None


class OpenQuestion(Wire):
    """What a file does not say, and somebody has to."""

    asks: Literal["site", "point", "layer", "position", "feature"]
    what: str
    points: list[Point]
    """What the point may be."""
    layers: list[int]
    positions: list[Position]
    features: int
    """How many there are, counted from 0."""


class LoadAnswer(Wire):
    """What came of it."""

    direction: str = ""
    """The name of the direction that was read."""
    steps: int | None = None
    """Of the recipe that was read."""
    question: OpenQuestion | None = None
    """Then nothing was read yet."""


class ExportQuestion(Wire):
    """The recipe, or a direction, as files."""

    kind: Literal["export"] = "export"
    form: Literal["recipe", "safetensors", "gguf", "pt"]
    """recipe: a .steer.json with its vectors. Of a direction: steerlab's own file, a control vector, and direction.pt
    with direction_metadata.json."""
    direction: str = ""
    fingerprint: str = ""
    """Of the direction, or of nothing."""
    revision: int = 0


class ExportAnswer(Wire):
    """The files."""

    files: list[FileBytes]


class RenameQuestion(Wire):
    """Call a direction something else."""

    kind: Literal["rename"] = "rename"
    direction: str
    name: Annotated[str, Field(max_length=80)]


class RenameAnswer(Wire):
    """What it is called now."""

    name: str


# ------------------------------------------------------------------------------------------------------------- reading


def read(lab: Lab, question: LoadQuestion, _tell: Tell) -> LoadAnswer:
    """Read what was chosen through the one door of all formats."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            main = _unpack(folder, question.files)
            text = main.read_bytes() if main.is_file() else b""
            if _is_recipe(text):
                recipe = Recipe.from_json(text.decode("utf-8-sig", "replace"))
                lab.recipe = recipe
                return LoadAnswer(steps=len(recipe))
            try:
                direction = _load(main, question)
            except QuestionError as error:
                return LoadAnswer(question=_question(error, folder))
        except SteerlabError as error:
            raise type(error)(*(_bare(part, folder) for part in (error.what, error.fix))) from error
    lab.backend.check(Recipe([Ablate(direction, sites=[direction.site or Site(0, "resid_pre")])]))
    called = unused(direction.name, lab)
    direction = dataclasses.replace(direction, name=called)
    if direction.residual_norm is None and direction.site:
        direction = _measured(lab, direction, direction.site)
    lab.directions = {**lab.directions, called: direction}
    return LoadAnswer(direction=called)


def _is_recipe(data: bytes) -> bool:
    """Whether a file's bytes are a recipe, a damaged one included whose beginning says so."""
    name = FORMAT.partition("/")[0]
    try:
        said = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return data.lstrip().startswith(b"{") and name.encode() in data[:200]
    return isinstance(said, dict) and str(said.get("format")).partition("/")[0] == name


def _unpack(folder: Path, files: list[FileBytes]) -> Path:
    """Write the files; the one that holds the vectors, or the folder where its name is known."""
    for file in files:
        try:
            data = base64.b64decode(file.data, validate=True)
        except binascii.Error as error:
            raise FileError(
                f"{file.name} did not arrive as it was sent ({error})", "Choose it again."
            ) from error
        (folder / _file_name(file.name)).write_bytes(data)
    names = sorted(path.name for path in folder.iterdir())
    if len(names) > 1 and (refusal_direction.VECTOR in names or saelens.WEIGHTS in names):
        return folder
    mains = [name for name in names if not SIDE_FILES.fullmatch(name)] or names
    if len(mains) != 1:
        raise FileError(
            f"{len(mains)} files were chosen: {', '.join(mains) or 'none'}",
            "Choose one at a time, with its direction_metadata.json or cfg.json where it has one.",
        )
    return folder / mains[0]


def _load(path: Path, question: LoadQuestion) -> Direction:
    recognise(path)
    given: dict[str, Any] = {
        "site": question.site and Site(*question.site),
        "point": question.point,
        "layer": question.layer,
        "position": question.position,
        "feature": question.feature,
    }
    direction = load(path, **given)
    if direction.name == path.name:  # of a folder, whose name is ours
        return dataclasses.replace(direction, name=Path(refusal_direction.VECTOR).stem)
    return direction


def _question(error: QuestionError, folder: Path) -> OpenQuestion:
    choices: Any = error.choices
    return OpenQuestion(
        asks=error.asks,
        what=_bare(error.what, folder),
        points=list(choices) if error.asks == "point" else [],
        layers=list(choices) if error.asks == "layer" else [],
        positions=list(choices) if error.asks == "position" else [],
        features=len(choices) if error.asks == "feature" else 0,
    )


def _measured(lab: Lab, direction: Direction, site: Site) -> Direction:
    """With the mean norm of the stream at its site, which gives its coefficients a scale."""
    rows = [Row(prompt) for prompt in prompts.harmless(MEASURED_ON)]
    norm = float(lab.backend.capture(rows, [site], range(-1, 0)).norm.mean())
    how = f"mean over {len(rows)} harmless prompts at their last token"
    provenance = {**direction.provenance, "residual norm": how}
    return dataclasses.replace(direction, residual_norm=norm, provenance=provenance)


# ------------------------------------------------------------------------------------------------------------- writing


def write(lab: Lab, question: ExportQuestion, _tell: Tell) -> ExportAnswer:
    """The bytes of the files that a library call would have written."""
    if question.form == "recipe":
        text = lab.recipe.to_json().encode()
        return ExportAnswer(files=[FileBytes(name="recipe.steer.json", data=base64.b64encode(text).decode())])
    direction = known(lab, question.direction)
    stem = _file_name(question.direction)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            match question.form:
                case "safetensors":
                    direction.save(folder / f"{stem}.safetensors")
                case "gguf":
                    config = getattr(lab.model, "config", None)
                    hint = getattr(config, "model_type", None)
                    gguf.write(folder / f"{stem}.gguf", Recipe([Add(direction)]), model_hint=hint)
                case "pt":
                    refusal_direction.write(folder, direction)
        except SteerlabError as error:
            raise type(error)(*(_bare(part, folder) for part in (error.what, error.fix))) from error
        return ExportAnswer(
            files=[
                FileBytes(name=path.name, data=base64.b64encode(path.read_bytes()).decode())
                for path in sorted(folder.iterdir())
            ]
        )


# --------------------------------------------------------------------------------------------------------------- names


def rename(lab: Lab, question: RenameQuestion, _tell: Tell) -> RenameAnswer:
    """Rename a direction in `lab.directions`, and in the recipe."""
    name, old = question.name.strip(), known(lab, question.direction)
    if not name:
        raise DirectionError("a direction needs a name", "Give a word by which the panel lists it.")
    if name == question.direction:
        return RenameAnswer(name=name)
    table = named(lab.recipe, lab.directions)
    if name in table:
        raise DirectionError(f"there is a direction {name!r} already", "Give another name.")
    new = dataclasses.replace(old, name=name)
    lab.recipe = Recipe(
        [
            one.along(tuple(new if d.same(old) else d for d in one.directions))
            for one in lab.recipe.interventions
        ]
    )
    lab.directions = {
        name if key == question.direction else key: new if d is old else d for key, d in table.items()
    }
    return RenameAnswer(name=name)


def known(lab: Lab, name: str) -> Direction:
    """The direction that the panel calls so. Raises DirectionError for none."""
    table = named(lab.recipe, lab.directions)
    if name not in table:
        raise DirectionError(
            f"there is no direction {name!r} in this lab", f"It has {', '.join(map(repr, table)) or 'none'}."
        )
    return table[name]


def unused(name: str, lab: Lab) -> str:
    """The name, or the name with a number where it is taken."""
    table = named(lab.recipe, lab.directions)
    return next(n for n in (name, *(f"{name} ({i})" for i in range(2, len(table) + 3))) if n not in table)


def _file_name(name: str) -> str:
    """A name that is a file's in any system, and in no other folder."""
    bare = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^\w.() -]", "_", bare).strip(". ")
    return plain.encode()[:NAME_BYTES].decode(errors="ignore").strip(". ") or "direction"


def _bare(text: str, folder: Path) -> str:
    """Words about a file without the folder that only we know."""
    return text.replace(f"{folder}/", "").replace(str(folder), "the files")


HANDLERS: list[Handler[Any, Any]] = [
    Handler(LoadQuestion, LoadAnswer, read),
    Handler(ExportQuestion, ExportAnswer, write, lane=None),
    Handler(RenameQuestion, RenameAnswer, rename, lane=None),
]
