"""Where the model of a cell is, in its process or on a server, and the lines of a cell that follow from that.

A cell for a server is one that the hosted NDIF can run: its code travels as text and runs in a process without the
weights, where the tensors that it changes are outputs of modules (`backends.visits`). No key stands in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple, Protocol

from steerlab import as_python
from steerlab.backends.architectures import Hook
from steerlab.backends.base import Backend, InProcess, ModelInfo, OnServer, in_process
from steerlab.backends.decoding import PLAIN
from steerlab.backends.ndif.keys import is_hosted
from steerlab.backends.visits import Visit
from steerlab.demo import WEIGHTS
from steerlab.errors import ModelError
from steerlab.export.helpers import NOISE, SAMPLE
from steerlab.export.saved import is_quantised, with_template
from steerlab.interventions import Intervention
from steerlab.sites import Site

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Given = Mapping[Site, list[Intervention]]


class Asked(NamedTuple):
    """How many tokens at most are asked for, and how they are chosen."""

    tokens: int
    seed: int
    temperature: float


class Place(Protocol):
    """A model's place. about: comments for the cell's head. device: what moves a tensor to the model."""

    @property
    def about(self) -> list[str]: ...

    @property
    def device(self) -> str: ...

    @property
    def embedded(self) -> bool:
        """Whether the model is the embedded one."""
        ...

    def hook(self, site: Site) -> Hook:
        """Where a site is touched."""
        ...

    def visits(self, given: Given) -> list[Visit[Intervention]]:
        """Where the steps that are given by their sites are done, in forward order."""
        ...

    def lab(self) -> tuple[list[str], list[str]]:
        """The imports and the lines with which a lab opens the same model as it was opened."""
        ...

    def imports(self, asked: Asked, steered: bool) -> tuple[list[str], list[str]]:
        """What a cell of nnsight imports: of Python, and of others after numpy."""
        ...

    def opened(self) -> list[str]:
        """The lines that make `tokenizer` and `model`."""
        ...

    def noise(self, asked: Asked) -> list[str]:
        """The definition by which tokens are sampled."""
        ...

    def generate(self, asked: Asked) -> list[str]:
        """The block in which `model` answers `inputs`, as far as its first invoke."""
        ...


def place_of(backend: Backend, what: str, source: str | None = None) -> Place:
    """The place of a backend's model. source: from where the cell loads it, by default from where it came. Raises
    ModelError, with `what` needs it, where nothing is known of the model's modules.
    """
    if isinstance(backend, OnServer):
        return There(backend, source or backend.source, backend.tokenizer)
    return Here(in_process(backend, what), backend.info, backend.tokenizer, source)


@dataclass(frozen=True)
class Here:
    """A model whose weights the cell loads. given: from where, if that was said."""

    backend: InProcess
    info: ModelInfo
    tokenizer: PreTrainedTokenizerBase
    given: str | None = None

    device = ".to(hf.device)"

    @property
    def about(self) -> list[str]:
        """Nothing that the cell does not say."""
        return []

    def _source(self, fix: str) -> str:
        found = self.given or self.backend.source
        if not found:
            raise ModelError(
                f"the model {self.info.name} was given in memory, and no id or folder is known that code could load",
                f"Say it: {fix}.",
            )
        if self.backend.quantised and not (self._loaded or is_quantised(found)):
            raise ModelError(
                f"the model {self.info.name} was quantised in memory, and code that loads {found} would not do that",
                f"Load one that is quantised where it is saved: {fix}.",
            )
        return found

    @property
    def embedded(self) -> bool:
        """Whether the model is the embedded one."""
        return self._loaded and self.backend.source == str(WEIGHTS.resolve())

    @property
    def _loaded(self) -> bool:
        """Whether a lab loads from the source what the model was when it was opened."""
        return self.backend.loaded and not self.given

    def _from(self, source: str) -> list[str]:
        """A comment where the weights may be others than those of the source."""
        if self._loaded and not self.backend.weights_seen():
            return []
        return [
            f"# the weights are those of {source!r}: what was changed of them in memory is not in this cell"
        ]

    def _pretrained(self, source: str, model: str, then: str = "") -> list[str]:
        """The lines that load the tokenizer and the model, under its name."""
        said, device = as_python.literal(source), self.info.device
        where = "" if device == "cpu" else f', device_map="{"mps" if device == "mps" else "auto"}"'
        dtype = f"dtype=torch.{self.info.dtype}"
        return [
            f"tokenizer = AutoTokenizer.from_pretrained({said})",
            *with_template(self.tokenizer, source),
            *self._from(source),
            f"{model} = AutoModelForCausalLM.from_pretrained({said}, {dtype}{where}){then}",
        ]

    def hook(self, site: Site) -> Hook:
        """Where a site is touched."""
        return self.backend.hook(site)

    def visits(self, given: Given) -> list[Visit[Intervention]]:
        """Each site for itself."""
        return [Visit(site, self.hook(site), given[site], [], False, [site]) for site in sorted(given)]

    def lab(self) -> tuple[list[str], list[str]]:
        """A lab of the same id or folder, or of a pair from there, which a lab itself might load otherwise."""
        source = self._source("save it with save_pretrained, or give here='lab' for a cell of this notebook")
        sites = _sites(self.backend)
        if self._loaded:
            model = [] if self.embedded else [as_python.literal(source)]
            return [], [
                *self._from(source),
                f"lab = sl.Lab({', '.join([*model, *sites])})",
                *with_template(self.tokenizer, source, "lab.tokenizer"),
            ]
        return ["import torch", "from transformers import AutoModelForCausalLM, AutoTokenizer"], [
            *self._pretrained(source, "model"),
            f"lab = sl.Lab({', '.join(['(model, tokenizer)', *sites])})",
        ]

    def imports(self, asked: Asked, steered: bool) -> tuple[list[str], list[str]]:
        """What loads a model and generates with it."""
        processor = ", LogitsProcessor" if asked.temperature else ""
        return ["import warnings"], [
            "import torch",
            "from nnsight import TransformersModel",
            f"from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig{processor}",
        ]

    def opened(self) -> list[str]:
        """The model with its weights, in nnsight."""
        source = self._source("nnsight_code(…, source='an id or a folder')")
        stop = "tokenizer.eos_token_id if stop is None else stop"
        return [
            *self._pretrained(source, "hf", ".eval()"),
            "# the likeliest token each time: no penalties that a model's own settings may ask for",
            "stop = hf.generation_config.eos_token_id",
            "hf.generation_config = GenerationConfig(",
            f"    eos_token_id={stop}, pad_token_id=tokenizer.pad_token_id or 0",
            ")",
            'model = TransformersModel(hf, tokenizer=tokenizer, task="text-generation")',
            "# an answer that ends early leaves nnsight's loop waiting for the next step, and it warns of that",
            'warnings.filterwarnings("ignore", message=".*was never reached")',
        ]

    def noise(self, asked: Asked) -> list[str]:
        """A logits processor."""
        return [NOISE] if asked.temperature else []

    def generate(self, asked: Asked) -> list[str]:
        """A trace in this process."""
        noise = (
            f"logits_processor=[Noise({asked.seed}, {asked.temperature!r})], " if asked.temperature else ""
        )
        call = f"model.generate(max_new_tokens={asked.tokens}, {noise}do_sample=False)"
        return [f"with torch.no_grad(), {call} as tracer:", *_steps(asked)]


@dataclass(frozen=True)
class There:
    """A model on a server. source: an id or a folder, for its configuration and its tokenizer."""

    backend: OnServer
    source: str
    tokenizer: PreTrainedTokenizerBase

    device = ""

    @property
    def about(self) -> list[str]:
        """Where the model is, and where the key is not."""
        other = ", where NDIF_HOST names no other" if self._hosted else ""
        return [
            f"The model runs on the NDIF server at {self.backend.server}{other}; no weights are loaded here.",
            "nnsight takes the key from NDIF_API_KEY, or from its configuration where nnsight.login() put it.",
        ]

    @property
    def embedded(self) -> bool:
        """Whether the model is the embedded one."""
        return self.source == str(WEIGHTS.resolve())

    @property
    def _hosted(self) -> bool:
        return is_hosted(self.backend.server)

    @property
    def _by_key(self) -> bool:
        """Whether nnsight has to be told the name that the server has for the model: it asks the hub otherwise."""
        return Path(self.source).is_dir()

    def hook(self, site: Site) -> Hook:
        """Where a site is touched."""
        return self.backend.hook(site)

    def visits(self, given: Given) -> list[Visit[Intervention]]:
        """As in the jobs of the lab. Raises ModelError where the hosted NDIF could not do that."""
        found = self.backend.visits(given)
        for visit in found:
            if self._hosted and visit.hook.side == "input":
                raise ModelError(
                    f"the hosted NDIF cannot change the input of {visit.hook.path} while text is generated",
                    "Steer at resid_post of the block before.",
                )
        return found

    def lab(self) -> tuple[list[str], list[str]]:
        """A lab of the same model on the same server."""
        model = [] if self.embedded else [as_python.literal(self.source)]
        server = "remote=True" if self._hosted else f"host={as_python.literal(self.backend.server)}"
        return [], [
            f"lab = sl.Lab({', '.join([*model, server, *_sites(self.backend)])})",
            *with_template(self.tokenizer, self.source, "lab.tokenizer"),
        ]

    def imports(self, asked: Asked, steered: bool) -> tuple[list[str], list[str]]:
        """What sends a block to a server."""
        return [], [
            *(["import torch"] if steered or asked.temperature else []),
            "from nnsight import TransformersModel",
            *(["from nnsight.intervention.backends.remote import RemoteBackend"] if self._by_key else []),
            "from transformers import AutoTokenizer",
        ]

    def opened(self) -> list[str]:
        """The model's tree without weights, and what its server is told."""
        source = as_python.literal(self.source)
        options = {
            **PLAIN,
            "eos_token_id": sorted(self.backend.stop_tokens) or None,
            "pad_token_id": self.tokenizer.pad_token_id or 0,
        }
        return [
            f"tokenizer = AutoTokenizer.from_pretrained({source})",
            *with_template(self.tokenizer, self.source),
            f'model = TransformersModel({source}, tokenizer=tokenizer, task="text-generation")',
            *(["# a folder is on no hub, which nnsight would ask for the model's name: this is the one on the server",
               f"key = {self.backend.model_key!r}"] if self._by_key else []),
            "# the likeliest token each time: nothing that a model's own settings may ask for besides",
            "plain = {",
            *wrap(
                " ".join(f'"{name}": {value!r},' for name, value in options.items()),
                100,
                initial_indent="    ",
                subsequent_indent="    ",
            ),
            "}",
        ]  # fmt: skip

    def noise(self, asked: Asked) -> list[str]:
        """A function of the block: a class of the cell's own would travel as bytecode."""
        return [SAMPLE.format(temperature=repr(asked.temperature))] if asked.temperature else []

    def generate(self, asked: Asked) -> list[str]:
        """A trace on the server."""
        host = None if self._hosted else as_python.literal(self.backend.server)
        lines, where = [], f"remote={host or True}"
        if self._by_key:
            at = f"host={host}, " if host else ""
            env = 'env={"attn_implementation": model.attn_implementation}'
            lines, where = [f"remote = RemoteBackend(key, {at}{env})"], "backend=remote"
        call = f"model.generate(max_new_tokens={asked.tokens}, {where}, **plain)"
        lines.append(f"with {call} as tracer:")
        if not asked.temperature:
            return [*lines, *_steps(asked)]
        return [
            *lines,
            "    with tracer.invoke(inputs):",
            f"        generator = torch.Generator().manual_seed({asked.seed})",
            f"        for step in tracer.iter[:{asked.tokens}]:",
            "            if steer is not None:",
            "                steer(step)",
            "            sample(model.output.logits, generator)",
        ]


def _sites(backend: InProcess | OnServer) -> list[str]:
    """The argument of a lab that says where points are, where a person said it."""
    return [f"sites={as_python.literal(dict(backend.given_sites))}"] if backend.given_sites else []


def _steps(asked: Asked) -> list[str]:
    """Every step steered; a loop that reads nothing would wait for ever."""
    return [
        "    with tracer.invoke(inputs):",
        "        if steer is not None:",
        f"            for step in tracer.iter[:{asked.tokens}]:",
        "                steer(step)",
    ]
