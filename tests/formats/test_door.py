"""`formats.load`: files are known by what is in them, and ambiguous ones are refused with a question."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import harm
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from steerlab import Add, Direction, Recipe, Site, formats
from steerlab.errors import DirectionError, FileError, SteerlabError

FILES = Path(__file__).parent / "files"
V = Direction([1.0, 2.0, 3.0], Site(4, "resid_pre"), name="v", provenance={"position": -1})


def everything(folder: Path) -> dict[str, Path]:
    """A file of each format, none with a name that says which."""
    (folder / "run").mkdir()
    written = {
        "steerlab": V.save(folder / "a.bin"),
        "refusal_direction": formats.refusal_direction.write(folder / "run", V),
        "gguf": formats.gguf.write(folder / "b.bin", V, model_hint="llama"),
        "neuronpedia": formats.neuronpedia.write(folder / "c.bin", V, model_id="gpt2-small"),
        "steering_vectors": formats.steering_vectors.write(folder / "d.bin", V),
        "saelens": folder / "sae",
    }
    shutil.copytree(FILES / "saelens", folder / "sae")
    return written


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    pytest.importorskip("gguf")
    return everything(tmp_path)


def test_every_format_is_known_by_its_content(files: dict[str, Path]) -> None:
    assert {kind: formats.recognise(path) for kind, path in files.items()} == {kind: kind for kind in files}
    for kind, path in files.items():
        d = formats.load(path, feature=1) if kind == "saelens" else formats.load(path)
        if kind != "saelens":
            assert d.numpy().tolist() == V.numpy().tolist()
            layered = kind in ("gguf", "steering_vectors")
            assert d.site == (Site(3, "resid_post") if layered else V.site), (
                "input of block 4 = output of block 3"
            )
    assert formats.load(files["saelens"] / "sae_weights.safetensors", feature=0).site == Site(12, "resid_pre")


def test_what_was_read_is_kept_natively(files: dict[str, Path], tmp_path: Path) -> None:
    for kind, path in files.items():
        d = formats.load(path, feature=np.int64(1) if kind == "saelens" else None)  # type: ignore[arg-type]
        back = formats.load(d.save(tmp_path / "kept"))
        assert back.to_dict() == d.to_dict()
        assert back.numpy().tolist() == d.numpy().tolist()


def test_safetensors_are_known_whatever_their_first_byte(tmp_path: Path) -> None:
    """It is the length of what follows, and can be that of a pickle."""
    first = set()
    for n in range(32):
        path = tmp_path / str(n)
        save_file({"0": torch.ones(2)}, path, {"note": "x" * 8 * n})
        first.add(path.read_bytes()[0])
        assert formats.recognise(path) == "steering_vectors"
    assert first == set(range(0, 256, 8)), "0x80, which begins a pickle, among them"


def test_other_files_with_a_brace_there_are_no_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('{"abc": {}, "vector": [1.0]}')
    assert formats.recognise(path) == "neuronpedia"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, ord("{"), 0))  # a file of 123 tensors
    assert formats.recognise(path) == "gguf"


def test_a_file_of_many_layers_asks_which(tmp_path: Path) -> None:
    recipe = Recipe([Add(V, layers=[2, 3, 4])])
    path = formats.steering_vectors.write(tmp_path / "x", recipe)
    with pytest.raises(FileError, match=r"layers 1 to 3\. Answer with one: layer=1; load_layers"):
        formats.load(path)
    assert formats.load(path, layer=2).site == Site(2, "resid_post")
    with pytest.raises(FileError, match=r"has no layer 4\. It has 1 to 3"):
        formats.load(path, layer=4)
    assert list(formats.load_layers(path)) == [1, 2, 3]
    bare = tmp_path / "bare"
    save_file({"0": torch.ones(2), "7": torch.ones(2)}, bare)
    with pytest.raises(FileError, match="point='resid_post'"):
        formats.load_layers(bare)
    assert formats.load(bare, layer=7, point="resid_mid").site == Site(7, "resid_mid")


def test_load_layers_is_for_files_that_have_layers(files: dict[str, Path]) -> None:
    assert list(formats.load_layers(files["gguf"])) == [3]
    for kind in ("steerlab", "refusal_direction", "neuronpedia", "saelens"):
        with pytest.raises(FileError, match="one direction, not one for each layer"):
            formats.load_layers(files[kind])


def test_an_answer_without_a_question_is_refused(files: dict[str, Path]) -> None:
    answers: dict[str, Any] = {"site": Site(1, "resid_pre"), "point": "resid_pre", "layer": 3, "feature": 0}
    takes = {"gguf": {"layer"}, "steering_vectors": {"layer", "point"}, "saelens": {"feature", "site"}}
    for kind, path in files.items():
        for name in answers.keys() - takes.get(kind, {"site"} if kind != "steerlab" else set()):
            with pytest.raises(FileError, match=f"which takes .*, not {name}=. Leave {name}= out"):
                formats.load(path, **{name: answers[name]})


def test_questions_show_the_argument_that_answers_them(tmp_path: Path, files: dict[str, Path]) -> None:
    torch.save(torch.ones(3), tmp_path / "x")
    asked = {
        r'site=Site\(12, "resid_pre"\)': tmp_path / "x",
        "feature=0": files["saelens"],
    }
    for answer, path in asked.items():
        with pytest.raises(FileError, match=answer):
            formats.load(path)
    assert formats.load(tmp_path / "x", site=Site(2, "resid_pre")).site == Site(2, "resid_pre")


def test_unknown_files_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "x"
    contents: dict[str, bytes] = {
        "neither GGUF, safetensors, JSON": b"hello",
        "is of no format": b"",
        r"it has \['a', 'b'\]": b'{"b": 1, "a": 2}',
        "damaged or not a JSON": b'{"b": ',
        "nor a tensor saved by torch": b"[1, 2]",
    }
    for says, content in contents.items():
        path.write_bytes(content)
        with pytest.raises(FileError, match=says):
            formats.load(path)
    save_file({"direction": torch.ones(3)}, path)
    with pytest.raises(
        FileError, match=r"tensors \['direction'\]\. A vector of any origin .*Direction\(vector"
    ):
        formats.load(path)
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(FileError, match="of no format that steerlab knows"):
        formats.load(tmp_path / "x.npy")
    Recipe([Add(V)]).save(path)
    with pytest.raises(FileError, match=r"is a recipe, not a direction\. Read it with Recipe\.load"):
        formats.load(path)
    path.write_text(json.dumps({"vector": "x"}))
    with pytest.raises(FileError, match="of no format"):
        formats.load(path)
    with pytest.raises(FileError, match="there is no file"):
        formats.load(tmp_path / "none")


def test_a_folder_of_none_or_of_two_kinds_is_refused(tmp_path: Path, files: dict[str, Path]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileError, match=r"no direction.pt and no sae_weights.safetensors"):
        formats.load(empty)
    shutil.copytree(files["refusal_direction"], files["saelens"], dirs_exist_ok=True)
    with pytest.raises(FileError, match=r"has both .* Name the file that you mean"):
        formats.load(files["saelens"])
    assert formats.load(files["saelens"] / "direction.pt").site == V.site


def test_damaged_files_of_every_kind_are_refused(files: dict[str, Path]) -> None:
    files["refusal_direction"] /= "direction.pt"
    files["saelens"] /= "sae_weights.safetensors"
    for kind, path in files.items():

        def read(path: Path, kind: str = kind) -> Direction:
            return formats.load(path, feature=1 if kind == "saelens" else None)

        harm.check_cuts(path, read, step=11)
        harm.check_flips(path, read, step=11)


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    for i, data in enumerate(harm.noise(b"")):
        (tmp_path / str(i)).write_bytes(data)
        with pytest.raises((FileError, DirectionError)):
            formats.load(tmp_path / str(i))


def test_importing_the_package_loads_nothing() -> None:
    program = (
        "import sys, steerlab.formats as f; print({'torch', 'numpy', 'gguf'} & sys.modules.keys(), dir(f))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.startswith("set() ['gguf', 'load', 'load_layers'")


def test_every_name_can_be_used() -> None:
    for name in formats.__all__:
        assert getattr(formats, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nope'; it has gguf, load"):
        formats.nope  # type: ignore[attr-defined]
    assert issubclass(FileError, SteerlabError)
