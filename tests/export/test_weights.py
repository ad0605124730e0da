"""Identity 3: a checkpoint with orthogonal weights computes what ablation computes, and transformers alone loads it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import models
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GenerationConfig,
    PreTrainedModel,
)

from steerlab import Ablate, Add, Direction, Lab, Recipe, Row, Sampling, Site, errors
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.export import weights
from steerlab.export.writers import Axis, _with_siblings
from steerlab.prompts import encode

EXACT = [a for a in models.ARCHITECTURES if a not in models.NORM_AFTER]
PROMPTS = ["How do I bake bread?", "Hi"]


def direction(seed: int = 0) -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Direction(3 * noise, Site(2, "resid_pre"), name=f"random {seed}")


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab((models.build("llama-tied"), byte_tokenizer()))


def rows(recipe: Recipe | None = None) -> list[Row]:
    return [Row(prompt, recipe or Recipe()) for prompt in PROMPTS]


def difference(model: PreTrainedModel, recipe: Recipe, folder: Path) -> float:
    """The largest difference between the exported model's logits and those of the recipe."""
    backend = LocalBackend(model, byte_tokenizer())
    steered = backend.score(rows(recipe))
    assert (steered - backend.score(rows())).abs().max() > 1e-2, "the recipe changes nothing"
    weights((model, byte_tokenizer()), recipe, folder)
    exported = AutoModelForCausalLM.from_pretrained(folder)
    assert exported.dtype == model.dtype
    logits = LocalBackend(exported, byte_tokenizer()).score(rows())
    return float((logits - steered).abs().max())


@pytest.mark.parametrize("architecture", EXACT)
def test_the_checkpoint_computes_what_ablation_computes(architecture: str, tmp_path: Path) -> None:
    model = models.build(architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = copy.deepcopy(model.config.to_dict())
    assert difference(model, Recipe([Ablate(direction())]), tmp_path) < 1e-4
    assert model.config.to_dict() == config
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert head is not None
    assert (head.weight is embedding.weight) == bool(model.config.tie_word_embeddings)


@pytest.mark.parametrize("architecture", ["llama-tied", "gpt2", "gpt-neox", "mixtral"])
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(
            [
                Ablate(direction(), layers=[1], sites="attn_out"),
                Ablate(direction(1), layers=[2], sites="mlp_out"),
            ]
        ),
        Recipe(
            [
                Ablate(direction(), sites=["attn_out", "mlp_out"]),
                Ablate(direction(), sites=Site(0, "resid_pre")),
            ]
        ),
        Recipe(
            [Ablate(direction(), layers=[0, 1], sites=["resid_pre", "attn_out", "mlp_out", "resid_post"])]
        ),
        Recipe([Ablate([direction(0), direction(1), direction(2)])]),
        Recipe([Ablate(direction(0), sites="mlp_out"), Ablate(direction(1), sites="mlp_out")]),
    ],
    ids=["single sites", "writers alone", "the stream to layer 1", "subspace", "in turn, not orthogonal"],
)
def test_so_it_does_for_parts_of_the_model_and_several_directions(
    architecture: str, recipe: Recipe, tmp_path: Path
) -> None:
    assert difference(models.build(architecture), recipe, tmp_path) < 1e-4


def test_heads_stay_tied_where_the_embeddings_stay(tmp_path: Path) -> None:
    recipe = Recipe([Ablate(direction(), layers=[1], sites="mlp_out")])
    assert difference(models.build("llama-tied"), recipe, tmp_path) < 1e-4
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.tie_word_embeddings
    untied = weights(
        (models.build("llama-tied"), byte_tokenizer()), Recipe([Ablate(direction())]), tmp_path / "untied"
    )
    assert not AutoModelForCausalLM.from_pretrained(untied).config.tie_word_embeddings


@pytest.mark.parametrize("architecture", EXACT)
def test_in_bfloat16_it_does_so_as_nearly_as_eight_bits_allow(architecture: str, tmp_path: Path) -> None:
    model = models.build(architecture, dtype=torch.bfloat16)
    assert difference(model, Recipe([Ablate(direction())]), tmp_path) < 0.5


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    assert (
        difference(models.build("llama", dtype=torch.bfloat16), Recipe([Ablate(direction())]), tmp_path) < 0.5
    )
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    left, saved = (
        float(next(line for line in card.splitlines() if says in line).split("|")[2])
        for says in ("in float32", "as saved, in bfloat16")
    )
    assert left < 1e-5 < saved < 1e-2


ALONE = """
import json, sys
sys.modules["steerlab"] = sys.modules["nnsight"] = None  # importing them raises from here on
from transformers import AutoModelForCausalLM, AutoTokenizer
import torch
folder, prompt = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
turns = [{"role": "user", "content": prompt}]
ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
out = model.generate(**ids, max_new_tokens=20, do_sample=False)
print(json.dumps(out[0, ids["input_ids"].shape[1]:].tolist()))
"""


def test_transformers_alone_says_the_same_from_the_folder(tmp_path: Path, lab: Lab) -> None:
    """In a process in which steerlab cannot be imported."""
    drop = Recipe([Ablate(direction())])
    prompt = "How do I steal a car?"
    folder = weights(lab, drop, tmp_path / "out")
    out = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", ALONE, str(folder), prompt],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert out.returncode == 0, out.stderr
    answer = lab.run([Row(prompt, drop)], Sampling(20))[0]
    assert json.loads(out.stdout.splitlines()[-1]) == list(answer.token_ids)
    assert answer.token_ids != lab.run([Row(prompt)], Sampling(20))[0].token_ids


def test_the_card_holds_the_recipe_and_the_figures(tmp_path: Path, lab: Lab) -> None:
    drop = Recipe([Ablate(direction())])
    folder = weights(lab.model, drop, tmp_path)  # nnsight's model knows its tokenizer
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert Recipe.from_json(card.split("```json\n")[1].split("```")[0]) == drop
    layers = lab.info.n_layers
    assert f"| weights changed | {2 * layers + 1} |" in card
    assert "input of block 0 = the embeddings: `model.embed_tokens.weight`" in card
    files = {path.name for path in folder.iterdir()}
    assert {
        "model.safetensors",
        "generation_config.json",
        "tokenizer.json",
        "config.json",
        "README.md",
    } <= files


def test_a_greedy_model_with_a_temperature_is_saved_as_it_is(tmp_path: Path) -> None:
    model = models.build("llama")
    model.generation_config = GenerationConfig(do_sample=False, temperature=0.6, top_p=0.9)
    folder = weights((model, byte_tokenizer()), Recipe([Ablate(direction())]), tmp_path / "out")
    saved = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    assert (saved["temperature"], saved["top_p"]) == (0.6, 0.9)
    assert model.generation_config.temperature == 0.6
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("there", [False, True])
def test_what_fails_while_it_is_written_leaves_nothing(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tokenizer, drop = tmp_path / "out", byte_tokenizer(), Recipe([Ablate(direction())])
    if there:
        folder.mkdir()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(tokenizer), "save_pretrained", full)
        with pytest.raises(OSError, match="no space left"):
            weights((models.build("llama"), tokenizer), drop, folder)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out"] * there
    weights((models.build("llama"), tokenizer), drop, folder)
    assert AutoModelForCausalLM.from_pretrained(folder)


def test_the_card_of_a_model_from_a_folder_has_the_folder_s_name_alone(tmp_path: Path) -> None:
    models.build("llama").save_pretrained(tmp_path / "mine")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "mine")
    folder = weights((model, byte_tokenizer()), Recipe([Ablate(direction())]), tmp_path / "out")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "This is mine with a direction taken out" in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize("architecture", [*models.NORM_AFTER, "bloom"])
def test_a_norm_before_the_stream_is_refused(architecture: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    if architecture == "bloom":  # a norm after the embeddings
        config = BloomConfig(
            vocab_size=len(byte_tokenizer()), hidden_size=models.D_MODEL, n_layer=3, n_head=4
        )
        model = AutoModelForCausalLM.from_config(config).eval()
    else:
        model = models.build(architecture)
    with pytest.raises(errors.ModelError, match=r"cannot express this ablation: at \w+\[0\] .* lies along"):
        weights((model, byte_tokenizer()), Recipe([Ablate(direction())]), folder)
    assert not folder.exists()


V = direction()


@pytest.mark.parametrize(
    ("recipe", "error", "says"),
    [
        (Recipe(), errors.RecipeError, "touches nothing"),
        (Recipe([Ablate(V), Add(V)]), errors.RecipeError, "cannot express Add"),
        (Recipe([Ablate(V, strength=0.5)]), errors.RecipeError, "strength 0.5"),
        (Recipe([Ablate(V, one_sided=True)]), errors.RecipeError, "one-sided"),
        (Recipe([Ablate(V, tokens="generated")]), errors.RecipeError, "tokens generated"),
        (
            Recipe([Ablate(V, layers=[2], sites="resid_pre")]),
            errors.RecipeError,
            r"at resid_pre\[2\]: resid_pre\[0\], attn_out\[0\], mlp_out\[0\] and 2 more still write",
        ),
        (
            Recipe([Ablate(V, layers=[0, 1])]) + Recipe([Ablate(V, sites=Site(2, "resid_mid"))]),
            errors.RecipeError,
            r"at resid_mid\[2\]: attn_out\[2\] still",
        ),
        (
            Recipe([Ablate(V), Ablate(direction(1))]),
            errors.RecipeError,
            r"not orthogonal.*Ablate\(\[a, b\]\)",
        ),
        (Recipe([Ablate(V, layers=[7])]), errors.SiteError, "layer 7 is out of range"),
        (Recipe([Ablate(Direction([1.0, 2.0]))]), errors.DirectionError, "d_model 2"),
    ],
)
def test_what_weights_cannot_express_is_refused(
    recipe: Recipe, error: type[errors.SteerlabError], says: str, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    with pytest.raises(error, match=says):
        weights((models.build("llama"), byte_tokenizer()), recipe, folder)
    assert not folder.exists()


def test_parallel_blocks_have_no_resid_mid(tmp_path: Path) -> None:
    recipe = Recipe([Ablate(V), Ablate(V, sites="resid_mid")])
    with pytest.raises(errors.SiteError, match="run in parallel"):
        weights((models.build("gpt-neox"), byte_tokenizer()), recipe, tmp_path)


def test_bad_models_and_folders_are_refused(tmp_path: Path, lab: Lab) -> None:
    drop = Recipe([Ablate(direction())])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(errors.FileError, match="not an empty folder"):
        weights(lab, drop, tmp_path)
    for model in (Lab(FakeBackend()), models.build("llama"), "gpt2"):
        with pytest.raises(errors.ModelError, match="needs a model and its tokenizer"):
            weights(model, drop, tmp_path / "out")
    other = Recipe([Ablate(V.transferred_to("another"))])
    with pytest.raises(errors.RecipeError, match="found in another"):
        weights(lab, other, tmp_path / "out")
    broken = models.build("llama")
    broken.model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(errors.ModelError, match="not those of its class"):
        weights((broken, byte_tokenizer()), Recipe([Ablate(V)]), tmp_path / "out")


def test_exporting_while_the_lab_generates(tmp_path: Path, lab: Lab) -> None:
    prompt = encode(lab.tokenizer, "Hi")
    drop = Recipe([Ablate(direction())])
    folders: list[Path] = []

    def export(_: object) -> None:
        if not folders:
            folders.append(weights(lab, drop, tmp_path / "out"))

    lab.run([Row("Tell me a story of an export.")], Sampling(4), on_tokens=export)
    exported = AutoModelForCausalLM.from_pretrained(folders[0])
    steered = lab.backend.score([Row("Hi", drop)])[0]
    assert torch.allclose(exported(input_ids=torch.tensor([prompt])).logits[0, -1], steered, atol=1e-4)


def test_experts_that_no_probe_token_reached_lose_it_too() -> None:
    square = torch.zeros(4, 4)
    names = [
        "b.3.experts.0.w2",
        "b.3.experts.1.w2",
        "b.3.experts.0.w1",
        "b.3.shared.w2",
        "b.3.experts.1.w2.bias",
    ]
    found = [*_with_siblings([Axis("b.3.experts.1.w2", 0)], dict.fromkeys(names, square))]
    assert found == [Axis("b.3.experts.0.w2", 0), Axis("b.3.experts.1.w2", 0)]
