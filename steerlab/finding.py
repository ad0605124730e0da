"""The verbs of a Lab that find directions and look into the stream: the estimators and the lens, for its own model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import traitlets

from steerlab import estimators, lens
from steerlab.backends.base import Backend, Table
from steerlab.directions import Direction
from steerlab.estimators import DirectionMap, LinearRelation
from steerlab.estimators.vectors import Tokens
from steerlab.generations import Generation
from steerlab.lens import Lens, Probe, Projections
from steerlab.lens.probes import Labels
from steerlab.progress import bar, bar_of_rows
from steerlab.prompts import ContrastSet, Position, Positions, Prompt
from steerlab.recipes import Recipe
from steerlab.search import search
from steerlab.selection import MAX_KL, MIN_INDUCE, Selection
from steerlab.sites import Point, Site
from steerlab.worker import Worker, goes_first

READING = "reading the stream"


class Finding(traitlets.HasTraits):
    """What a Lab has of `search`, `estimators` and `lens`."""

    directions = traitlets.Dict(
        value_trait=traitlets.Instance(Direction),
        key_trait=traitlets.Unicode(),
        help="Known directions, by name, as the panel lists them. Assign a new dict, `lab.directions = "
        "{**lab.directions, d.name: d}`: what is changed in place is not seen.",
    )
    backend: Backend
    worker: Worker
    map = traitlets.Instance(
        DirectionMap, allow_none=True, help="The candidates of the newest search, by position and layer."
    )
    candidates: Selection | None = None

    @goes_first
    def find_direction(
        self,
        harmful: Sequence[Prompt],
        harmless: Sequence[Prompt],
        *,
        name: str = "refusal",
        refusal_tokens: Sequence[int] | None = None,
        drop: bool = True,
        max_kl: float = MAX_KL,
        min_induce: float = MIN_INDUCE,
        full_map: bool = False,
    ) -> Direction:
        """The paper's search: difference in means at every position and layer, filtered and ranked
        (`search.search`).

        A fifth of the prompts, at most 32 a side, is kept for the selection and not used in the means. The direction
        joins `lab.directions` under `name`; `lab.candidates` keeps every candidate with its scores and the reason it
        fell, and `lab.map` their directions: `lab.map.at(position, layer)`.

        refusal_tokens: ids of the tokens with which the model begins its refusals, by default derived from its answers
        to these prompts. drop: whether harmful prompts that the model does not refuse and harmless ones that it does
        are dropped from both parts, as in the paper; the direction's provenance says how many were kept. max_kl: a
        candidate falls whose ablation moves the next token on harmless prompts by more, in nats. min_induce: one falls
        whose addition leaves the refusal score (log-odds) of harmless prompts below this. full_map: all three scores of
        each candidate, for the map, at about three times the work.

        Raises PromptError where the prompts are too few or are not refused and answered. Where every candidate falls,
        raises `selection.AllRejectedError`, a DirectionError, whose `candidates` has them with their scores and
        reasons: `lab.candidates` is None then, and `lab.map` has the vectors.
        """
        with bar("step") as shown:
            _, self.candidates = search(
                self.backend,
                harmful,
                harmless,
                name=name,
                refusal_tokens=refusal_tokens,
                drop=drop,
                max_kl=max_kl,
                min_induce=min_induce,
                full_map=full_map,
                on_map=self._mapped,
                tell=shown,
            )
        self.directions = {**self.directions, name: self.candidates.direction}
        return self.candidates.direction

    def _mapped(self, found: DirectionMap) -> None:
        """Keep a map whose candidates are yet to be tried, also where they all fall or the cell is interrupted."""
        self.map, self.candidates = found, None

    @goes_first
    def difference_in_means(
        self,
        positive: Sequence[Prompt],
        negative: Sequence[Prompt],
        *,
        name: str = "direction",
        point: Point = "resid_pre",
        positions: Positions | None = None,
    ) -> DirectionMap:
        """The mean of the positive prompts minus that of the negative ones, at every position and layer
        (`estimators.difference_in_means`): `.at(position, layer)` is one direction, `.vectors` all of them,
        `[positions layers d_model]`.

        point: of the stream, where it is read at every layer. positions: counted from the prompt's end, -1 is the last
        token; by default every token of the chat template after the person's words. "response" for conversations that
        end with an answer (`prompts.answered`), over whose tokens the mean is taken. Raises PromptError for an empty
        side.
        """
        contrast = ContrastSet(positive, negative, name)
        with bar_of_rows(READING, len(positive) + len(negative)):
            return estimators.difference_in_means(self.backend, contrast, point=point, positions=positions)

    @goes_first
    def principal_component(
        self,
        positive: Sequence[Prompt],
        negative: Sequence[Prompt],
        *,
        name: str = "direction",
        point: Point = "resid_post",
        positions: Positions = (-1,),
    ) -> DirectionMap:
        """The first principal component of the differences of pairs, the n-th positive prompt and the n-th negative
        one, at every position and layer, as unit vectors (`estimators.principal_component`). point and positions as in
        `difference_in_means`, by default the last token.
        """
        contrast = ContrastSet(positive, negative, name)
        with bar_of_rows(READING, len(positive) + len(negative)):
            return estimators.principal_component(self.backend, contrast, point=point, positions=positions)

    @goes_first
    def logistic_probe(
        self,
        positive: Sequence[Prompt],
        negative: Sequence[Prompt],
        *,
        name: str = "direction",
        point: Point = "resid_pre",
        positions: Positions | None = None,
        seed: int = 0,
    ) -> DirectionMap:
        """The weights of a logistic regression that tells the sides apart, as unit vectors at every position and layer;
        the provenance has the held-out accuracy (`estimators.logistic_probe`). point and positions as in
        `difference_in_means`.
        """
        contrast = ContrastSet(positive, negative, name)
        with bar_of_rows(READING, len(positive) + len(negative)):
            return estimators.logistic_probe(
                self.backend, contrast, point=point, positions=positions, seed=seed
            )

    @goes_first
    def caa(
        self,
        questions: Sequence[tuple[Prompt, str, str]],
        *,
        name: str = "direction",
        point: Point = "resid_post",
        position: Position = -2,
    ) -> DirectionMap:
        """Contrastive activation addition (`estimators.caa`): the mean difference of two answers to the same prompts,
        at every layer of one position, `.at(position, layer)`.

        questions: (prompt, answer that shows it, answer that lacks it). position: where the answer is read, counted
        from its end; -2, the default, is the letter of "(A)" and "(B)", -1 the last token, "response" the mean over the
        answer. point: of the stream. Raises PromptError where the two answers are the same up to the position.
        """
        with bar_of_rows(READING, 2 * len(questions)):
            return estimators.caa(self.backend, questions, point=point, position=position, name=name)

    @goes_first
    def prompt_pair(
        self, shows: Prompt, lacks: Prompt, *, site: Site, position: int = -1, name: str = "direction"
    ) -> Direction:
        """The difference of two plain texts, without chat template, at a site: "Love" minus "Hate" (ActAdd,
        `estimators.prompt_pair`).

        site: the layer and point at which both are read, and where the direction acts. position: the token that is
        read, counted from the end of each text. Raises DirectionError where the two do not differ there.
        """
        return estimators.prompt_pair(self.backend, shows, lacks, site=site, position=position, name=name)

    def token_row(
        self,
        tokens: Tokens,
        *,
        minus: Tokens = (),
        table: Table = "unembedding",
        site: Site,
        name: str | None = None,
    ) -> Direction:
        """The row of a token, or the mean row of several, as a direction (`estimators.token_row`)."""
        return estimators.token_row(self.backend, tokens, minus=minus, table=table, site=site, name=name)

    @goes_first
    def mean_projection(
        self,
        direction: Direction,
        prompts: Sequence[Prompt],
        *,
        site: Site | None = None,
        position: Position | None = None,
    ) -> float:
        """The mean projection of prompts on a direction's unit vector: `Clamp(v, lab.mean_projection(v, harmless))` is
        affine concept editing (`estimators.mean_projection`).
        """
        with bar_of_rows(READING, len(prompts)):
            return estimators.mean_projection(self.backend, direction, prompts, site=site, position=position)

    @goes_first
    def linear_relation(
        self,
        examples: Sequence[tuple[Prompt, str, str]],
        *,
        source: Site | None = None,
        target: Site | None = None,
        linearise: int = 8,
        name: str = "relation",
    ) -> LinearRelation:
        """A relation, as (prompt, subject, object), to first order; `.direction("Paris")` is a direction of it
        (`estimators.linear_relation`).
        """
        with bar("Jacobian") as shown:
            return estimators.linear_relation(
                self.backend,
                examples,
                source=source,
                target=target,
                linearise=linearise,
                name=name,
                progress=lambda done, total: shown(done, total, "linearising"),
            )

    @goes_first
    def logit_lens(
        self,
        text: Prompt | Generation,
        recipe: Recipe | None = None,
        *,
        point: Point = "resid_post",
        layers: Iterable[int] | None = None,
        chat: bool = True,
    ) -> Lens:
        """What every layer would say next, at every token of a prompt or a generation (`lens.logit_lens`)."""
        return lens.logit_lens(self.backend, text, recipe, point=point, layers=layers, chat=chat)

    @goes_first
    def projections(
        self,
        text: Prompt | Generation,
        directions: Direction | Sequence[Direction],
        recipe: Recipe | None = None,
        *,
        point: Point = "resid_pre",
        layers: Iterable[int] | None = None,
        chat: bool = True,
    ) -> Projections:
        """How far every token lies along directions, at every layer (`lens.projections`)."""
        return lens.projections(self.backend, text, directions, recipe, point=point, layers=layers, chat=chat)

    @goes_first
    def probe(
        self,
        prompts: Sequence[Prompt],
        labels: Labels,
        *,
        point: Point = "resid_pre",
        position: int = -1,
        held_out: float = 0.25,
        seed: int = 0,
    ) -> list[Probe]:
        """A linear probe of every layer, with its held-out accuracy (`lens.probe`)."""
        with bar_of_rows(READING, len(prompts)):
            return lens.probe(
                self.backend, prompts, labels, point=point, position=position, held_out=held_out, seed=seed
            )
