"""What every backend promises, whatever it runs on."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import models
import pytest
import torch

from steerlab import BASELINE, Ablate, Add, Direction, Recipe, Row, Sampling, Site, errors
from steerlab.backends import looks
from steerlab.backends.base import Backend, Table, before_pass, rows_done
from steerlab.backends.cells import Cells, Look
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.generations import NOT_FINITE, Token
from steerlab.prompts import answered, encode, response_length
from steerlab.sites import Point

PROMPTS = ["How do I bake bread?", "Hi", "Tell me about the sea.", "ünï 🙂"]


@pytest.fixture(scope="module", params=["fake", "local", pytest.param("ndif", marks=pytest.mark.ndif)])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "fake":
        return FakeBackend(d_model=models.D_MODEL)
    if request.param == "ndif":
        from steerlab.backends.ndif.backend import NdifBackend

        url = request.getfixturevalue("ndif_server").url
        folder = request.getfixturevalue("model_folders")["llama"]
        return NdifBackend(folder, host=url, batch_rows=3)
    return LocalBackend(models.build("llama"), byte_tokenizer(), name="random llama", batch_rows=3)


def direction(seed: int = 0, scale: float = 3.0) -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Direction(scale * noise, Site(2, "resid_pre"))


ADD = Recipe([Add(direction(), 1.5)])


def test_rows_are_answered_in_order(backend: Backend) -> None:
    rows = [Row(prompt, recipe) for recipe in (ADD, BASELINE) for prompt in PROMPTS]
    for row, answer in zip(rows, backend.generate(rows, Sampling(5)), strict=True):
        assert (answer.prompt, answer.recipe) == (row.prompt, row.recipe)
    scores = backend.score(rows)
    for i, row in enumerate(rows):
        assert torch.allclose(backend.score([row])[0], scores[i], atol=1e-4)


def test_streamed_tokens_are_the_answer(backend: Backend) -> None:
    rows = [Row(prompt, ADD) for prompt in PROMPTS]
    streamed: list[Token] = []
    answers = backend.generate(rows, Sampling(12), on_tokens=streamed.extend)
    for i, answer in enumerate(answers):
        mine = [token for token in streamed if token.row == i]
        assert tuple(token.id for token in mine) == answer.token_ids
        assert "".join(token.text for token in mine) == answer.text
        assert answer.text == backend.tokenizer.decode(answer.token_ids, skip_special_tokens=True)


def test_tokens_arrive_one_step_at_a_time(backend: Backend) -> None:
    steps: list[Sequence[Token]] = []
    backend.generate([Row(PROMPTS[0])], Sampling(6), on_tokens=steps.append)
    assert all(len(step) == 1 for step in steps)
    assert len(steps) == 6


def test_cancel_ends_within_one_token(backend: Backend) -> None:
    cancel, seen = threading.Event(), []

    def stop_after_three(tokens: Sequence[Token]) -> None:
        seen.extend(tokens)
        if len(seen) == 3:
            cancel.set()

    answer = backend.generate([Row(PROMPTS[0])], Sampling(50), on_tokens=stop_after_three, cancel=cancel)[0]
    assert answer.finish == "cancelled"
    assert len(answer.token_ids) == len(seen) == 3
    whole = backend.generate([Row(PROMPTS[0])], Sampling(50))[0]
    assert whole.token_ids[:3] == answer.token_ids


def test_cancelled_before_the_start_is_an_empty_answer(backend: Backend) -> None:
    cancel = threading.Event()
    cancel.set()
    answers = backend.generate([Row(p) for p in PROMPTS], Sampling(5), cancel=cancel)
    assert [(a.text, a.finish) for a in answers] == [("", "cancelled")] * len(PROMPTS)


def test_length_and_context_are_kept(backend: Backend) -> None:
    answer = backend.generate([Row(PROMPTS[0])], Sampling(7))[0]
    assert (len(answer.token_ids), answer.finish) == (7, "length")
    room = 9
    filler = (
        backend.info.context - room - len(byte_tokenizer()("x", add_special_tokens=False)["input_ids"]) + 1
    )
    full = backend.generate([Row("x" * filler, chat=False)], Sampling(50))[0]
    assert len(full.token_ids) <= room


def test_sampling_follows_the_seed(backend: Backend) -> None:
    def texts(*seeds: int, recipe: Recipe = BASELINE) -> list[tuple[int, ...]]:
        rows = [Row(PROMPTS[0], recipe, seed) for seed in seeds]
        return [a.token_ids for a in backend.generate(rows, Sampling(12, temperature=1.5))]

    one, two, again = texts(1, 2, 1)
    assert one == again != two
    assert texts(1) == [one]
    assert texts(1, recipe=Recipe([Add(direction(), 0.0)])) == [one], (
        "steered and baseline rows share their noise"
    )


def test_applied_is_counted_against_what_the_recipe_asks(backend: Backend) -> None:
    def applied(recipe: Recipe) -> tuple[int, int]:
        return backend.generate([Row(PROMPTS[0], recipe)], Sampling(5))[0].applied

    v = direction()
    assert applied(BASELINE) == (0, 0)
    assert applied(Recipe([Ablate(v)])) == (5, 5)
    assert applied(Recipe([Add(v, tokens="prompt")])) == (1, 1)
    assert applied(Recipe([Add(v, tokens="generated")])) == (4, 4)


def test_chosen_tokens_that_a_prompt_lacks_are_not_applied_whatever_stands_beside(backend: Backend) -> None:
    short, long = "Hi", "Tell me a long story about the sea and about a ship on it, please."
    lengths = [len(encode(backend.tokenizer, prompt)) for prompt in (short, long)]
    assert lengths[0] < 50 < lengths[1]
    v = direction()
    lacking = Recipe([Add(v, tokens=[-50])])
    rows = [
        *(Row(prompt, lacking) for prompt in (short, long)),
        Row(short, Recipe([Add(v, tokens=[-50, -1])])),
        Row(short, Recipe([Add(v), Add(v, tokens=[-50])])),
    ]
    counts = [answer.applied for answer in backend.generate(rows, Sampling(3))]
    assert counts == [(0, 1), (1, 1), (1, 1), (2, 3)]
    assert [backend.generate([row], Sampling(3))[0].applied for row in rows] == counts


def test_every_streamed_token_tells_how_often_its_recipe_was_applied_by_then(backend: Backend) -> None:
    v = direction()
    scoped = [Recipe([Add(v, tokens=tokens)]) for tokens in ("all", "prompt", "generated")]
    heard: list[Token] = []
    rows = [Row(PROMPTS[0], recipe) for recipe in (BASELINE, *scoped)]
    answers = backend.generate(rows, Sampling(4), on_tokens=heard.extend)
    counts = [[token.applied for token in heard if token.row == i] for i in range(len(rows))]
    assert [[steps for steps, _ in each] for each in counts] == [
        [0, 0, 0, 0],
        [1, 2, 3, 4],
        [1, 1, 1, 1],
        [0, 1, 2, 3],
    ]
    assert all(steps == of for each in counts for steps, of in each)
    assert [each[-1] for each in counts] == [answer.applied for answer in answers]


def test_scopes_differ(backend: Backend) -> None:
    texts = {
        tokens: backend.generate(
            [Row(PROMPTS[0], Recipe([Add(direction(), 3.0, tokens=tokens)]))], Sampling(10)
        )[0]
        for tokens in ("all", "prompt", "generated")
    }
    baseline = backend.generate([Row(PROMPTS[0])], Sampling(10))[0]
    assert texts["generated"].token_ids[0] == baseline.token_ids[0], (
        "the first token is chosen from the prompt alone"
    )
    assert texts["prompt"].token_ids[0] == texts["all"].token_ids[0]
    assert len({a.token_ids for a in texts.values()}) == 3


def test_capture_reads_means_norms_and_values(backend: Backend) -> None:
    sites = [Site(2, "resid_pre"), Site(0, "mlp_out"), Site(1, "resid_post")]
    got = backend.capture([Row(p) for p in PROMPTS], sites, (-3, -1), values=True)
    assert got.values is not None
    assert got.values.shape == (len(PROMPTS), 3, 2, models.D_MODEL)
    assert torch.allclose(got.mean, got.values.double().mean(0), atol=1e-6)
    assert torch.allclose(got.norm, got.values.double().norm(dim=-1).mean(0), atol=1e-6)
    assert torch.allclose(got.mean[0], got.mean[2], atol=1e-6), (
        "the output of block 1 is the input of block 2"
    )
    alone = torch.stack([backend.capture([Row(p)], sites, (-3, -1)).mean for p in PROMPTS])
    assert torch.allclose(alone.float(), got.values, atol=1e-4)
    assert backend.capture([Row(PROMPTS[0])], sites, (-1,)).values is None


def test_likelihood_is_what_generation_followed(backend: Backend) -> None:
    """Greedy tokens are the likeliest one by one; their log-probabilities agree with the scores at each step."""
    recipes = [
        BASELINE,
        ADD,
        Recipe([Add(direction(), 2.0, tokens="generated")]),
        Recipe([Ablate(direction())]),
    ]
    rows = [Row(prompt, recipe) for prompt in PROMPTS[:2] for recipe in recipes]
    answers = backend.generate(rows, Sampling(6))
    logprobs = backend.likelihood(rows, [a.token_ids for a in answers])
    for row, answer, got in zip(rows, answers, logprobs, strict=True):
        assert got.shape == (len(answer.token_ids),)
        first = backend.score([row])[0].log_softmax(-1)
        assert torch.isclose(got[0], first.max(), atol=1e-4)
        other = [(t + 1) % 256 for t in answer.token_ids]
        assert got.sum() > backend.likelihood([row], [other])[0].sum()
    alone = [backend.likelihood([r], [a.token_ids])[0] for r, a in zip(rows, answers, strict=True)]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(alone, logprobs, strict=True))
    ragged = backend.likelihood([rows[0]] * 3, [answers[0].token_ids[:n] for n in (0, 2, 6)])
    assert [len(r) for r in ragged] == [0, 2, 6]
    assert torch.allclose(ragged[1], ragged[2][:2], atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_of_no_likeliest_token_says_so(backend: Backend, temperature: float) -> None:
    far = Direction(torch.full((models.D_MODEL,), 3e38), Site(1, "resid_pre"))
    too_far = [Recipe([Add(far, 1.0, tokens=tokens)] * 2) for tokens in ("all", "generated")]
    rows = [Row("Hi", recipe) for recipe in (BASELINE, *too_far)]
    heard: list[Token] = []
    answers = backend.generate(rows, Sampling(5, temperature), on_tokens=heard.extend)
    assert [answer.fault for answer in answers] == ["", NOT_FINITE, NOT_FINITE]
    assert [len(answer.token_ids) for answer in answers[1:]] == [1, 2]
    assert [token.text for token in heard if token.row == 1] == [""]
    assert answers[2].token_ids[0] == answers[0].token_ids[0], "what came before it stays"


def test_decoding_the_last_output_gives_the_scores(backend: Backend) -> None:
    last = Site(backend.info.n_layers - 1, "resid_post")
    rows = [Row(prompt, recipe) for prompt in PROMPTS for recipe in (BASELINE, ADD)]
    resid = backend.capture(rows, [last], (-2, -1), values=True).values
    assert resid is not None
    logits = backend.decode(resid)
    assert (logits.dtype, logits.shape[:-1]) == (torch.float32, resid.shape[:-1])
    assert torch.allclose(logits[:, 0, 1], backend.score(rows), atol=1e-4)
    assert torch.allclose(backend.decode(resid[0, 0, 0]), logits[0, 0, 0], atol=1e-4)


TAIL = (70, 71, 72)
SITES = [Site(3, "resid_post"), Site(0, "resid_pre"), Site(3, "mlp_out")]  # in no order


@pytest.mark.parametrize(
    ("how", "given"),
    [
        (looks.projected, (torch.stack([direction(seed).unit for seed in (0, 5, 6)]),)),
        (looks.whole, ()),
        (looks.likeliest, (3,)),
        (looks.chance, (7,)),
        (looks.rank, (7,)),
        (looks.followed, (torch.arange(5), 2)),
        (looks.shifted, (3, True)),
        (looks.shifted, (3, False)),
        (looks.divergence, ()),
        (looks.beside, (2,)),
    ],
)
def test_what_is_read_of_cells_is_that_of_their_streams(
    backend: Backend,
    how: Callable[..., Sequence[torch.Tensor]],
    given: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("steerlab.backends.cells.DECODED", 4 * len(backend.tokenizer))  # four cells at a time
    n = 2 if how in (looks.shifted, looks.divergence, looks.beside) else 1
    rows = [Row(PROMPTS[0], recipe) for recipe in (ADD, BASELINE)][:n]
    cells = [Cells(row, SITES, range(-7, -2), TAIL) for row in rows]
    streams = [one.read(backend).flatten(0, 1) for one in cells]
    each = [
        one.repeat(len(SITES)) if how is looks.followed and isinstance(one, torch.Tensor) else one
        for one in given
    ]
    wanted = how(*(streams if how is looks.projected else map(backend.decode, streams)), *each)
    (found,) = backend.look([Look(how, cells, given)])
    assert [one.shape for one in found] == [(len(SITES), 5, *one.shape[1:]) for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one.flatten(0, 1), other, atol=1e-4)


def test_questions_of_several_texts_are_answered_together_and_every_cell_is_told(backend: Backend) -> None:
    """Of texts of different lengths, at different sites and positions; and what was read before is not read again."""
    rows = [Row(PROMPTS[0], ADD), Row(PROMPTS[1]), Row(PROMPTS[2])]
    cells = [
        Cells(rows[0], SITES, range(-4, 0), TAIL),
        Cells(rows[1], SITES[:1], range(-2, 0)),
        Cells(rows[2], SITES[1:], [-3]),
        Cells(rows[0], SITES[:2], range(-2, 0), TAIL),
    ]
    cells[3] = replace(cells[3], streams=cells[3].read(backend))
    units = torch.stack([direction(5).unit])
    asked = [Look(looks.likeliest, [one], (2,)) for one in cells] + [
        Look(looks.projected, [one], (units,)) for one in cells
    ]
    told: list[float] = []
    context = contextvars.copy_context()
    context.run(rows_done.set, told.append)
    found = context.run(backend.look, asked)
    for look, one in zip(asked, found, strict=True):
        alone = backend.look([look])[0]
        assert all(torch.allclose(mine, other, atol=1e-4) for mine, other in zip(one, alone, strict=True))
    assert sum(told) == pytest.approx(2 * (12 + 2 + 2 + 4))
    assert torch.allclose(found[0][0][:2, -2:], found[3][0], atol=1e-4)
    last = cells[1].part(slice(1), slice(-1, None)).read(backend)
    assert torch.allclose(found[5][0][:, -1:], last @ units.T, atol=1e-4)


def test_cells_that_no_text_has_are_refused(backend: Backend) -> None:
    for row, error in [
        (Row("ab", chat=False), errors.PromptError),
        (Row("abc", Recipe([Add(direction(), layers=9)]), chat=False), errors.SiteError),
    ]:
        with pytest.raises(error):
            backend.look([Look(looks.likeliest, [Cells(row, SITES, [-3])], (1,))])


@pytest.mark.parametrize("table", ["embedding", "unembedding"])
def test_the_nearest_tokens_are_those_of_the_largest_cosines(backend: Backend, table: Table) -> None:
    rows = backend.token_rows(range(len(backend.tokenizer)), table)
    assert (rows.dtype, rows.shape) == (torch.float32, (len(backend.tokenizer), models.D_MODEL))
    assert torch.equal(backend.token_rows([7, 1], table), rows[[7, 1]])
    v = direction().vector
    cosine = torch.cosine_similarity(rows, v[None], dim=-1)
    values, ids = backend.nearest(v, table, 5)
    for wanted, value, number in zip((cosine, -cosine), values, ids, strict=True):
        assert number.tolist() == wanted.topk(5).indices.tolist()
        assert torch.allclose(value, wanted.topk(5).values, atol=1e-6)
    assert backend.nearest(v, table, 10**6)[1].shape == (2, len(backend.tokenizer))


@pytest.mark.parametrize("point", ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"])
def test_the_jacobian_is_that_of_finite_differences(backend: Backend, point: Point) -> None:
    source, target, position = Site(1, point), Site(3, "resid_post"), -3
    found = backend.linearise(Row(PROMPTS[0]), source, position, target)
    assert {part.dtype for part in found} == {torch.float64}
    ways, step = torch.eye(models.D_MODEL)[[0, 20, 47]], 0.02
    rows = [Row(PROMPTS[0])] + [
        Row(PROMPTS[0], Recipe([Add(Direction(way, source), c, tokens=[position])]))
        for way in ways
        for c in (step, -step)
    ]
    values = backend.capture(rows, [source, target], (position, -1), values=True).values
    assert values is not None
    assert torch.allclose(found.at, values[0, 0, 0].double(), atol=1e-5)
    end = values[:, 1, 1].double()
    assert torch.allclose(found.value, end[0], atol=1e-5)
    wanted = (end[1::2] - end[2::2]) / (2 * step)
    assert ((found.jacobian @ ways.T.double()).T - wanted).norm() < 0.01 * wanted.norm()


def test_the_passes_of_a_jacobian_are_announced(backend: Backend) -> None:
    calls: list[None] = []

    def work() -> None:
        before_pass.set(lambda: calls.append(None))
        backend.linearise(Row(PROMPTS[0]), Site(1, "resid_pre"), -1, Site(2, "resid_post"))

    contextvars.copy_context().run(work)
    assert len(calls) == (1 if backend.info.backend == "fake" else models.D_MODEL // 3), "three rows a pass"


def test_what_comes_before_depends_on_nothing_later(backend: Backend) -> None:
    for target in (Site(2, "resid_pre"), Site(1, "resid_post")):
        with pytest.raises(errors.SiteError, match="does not come after"):
            backend.linearise(Row(PROMPTS[0]), Site(2, "resid_pre"), -1, target)


def test_response_is_the_mean_over_the_answers_tokens(backend: Backend) -> None:
    rows = [
        Row(answered(prompt, answer))
        for prompt, answer in zip(PROMPTS, ["No.", "Yes, of course", "Ü", "a b"], strict=True)
    ]
    sites = [Site(3, "resid_pre"), Site(1, "attn_out")]
    found = backend.capture(rows, sites, "response", values=True)
    assert found.values is not None
    norms = []
    for row, mean in zip(rows, found.values, strict=True):
        length = response_length(backend.tokenizer, row.prompt)
        each = backend.capture([row], sites, range(-length, 0), values=True).values
        assert each is not None
        assert torch.allclose(mean[:, 0], each[0].mean(1), atol=1e-5)
        norms.append(each[0].double().norm(dim=-1).mean(1))
    # the tokens' own, not that of their mean, which is shorter
    assert torch.allclose(found.norm[:, 0], torch.stack(norms).mean(0), atol=1e-5)


def test_continuations_are_read_as_generated_tokens(backend: Backend) -> None:
    """As they were when they were made, alone and in a batch; the mean over them is the mean of them."""
    sites = [Site(0, "resid_pre"), Site(3, "resid_post")]
    recipes = [
        BASELINE,
        *(Recipe([Add(direction(), 2.0, tokens=tokens)]) for tokens in ("all", "prompt", "generated", [-2])),
    ]
    rows = [Row(prompt, recipe) for prompt in PROMPTS[:2] for recipe in recipes]
    tails = [a.token_ids[: 2 + i % 3] for i, a in enumerate(backend.generate(rows, Sampling(5)))]
    got = backend.capture(rows, sites, (-2, -1), values=True, continuations=tails).values
    mean = backend.capture(rows, sites, "response", values=True, continuations=tails).values
    assert got is not None
    assert mean is not None
    for i, (row, tail) in enumerate(zip(rows, tails, strict=True)):
        places = range(-len(tail) - 1, 0)
        alone = backend.capture([row], sites, places, values=True, continuations=[tail]).values
        assert alone is not None
        assert torch.allclose(alone[0, :, -2:], got[i], atol=1e-4)
        assert torch.allclose(alone[0, :, 1:].mean(1), mean[i, :, 0], atol=1e-4)
        following = backend.decode(alone[0, 1]).log_softmax(-1)[:-1].gather(-1, torch.tensor(tail)[:, None])
        assert torch.allclose(following[:, 0], backend.likelihood([row], [tail])[0], atol=1e-4)
    with pytest.raises(errors.PromptError, match="without tokens"):
        backend.capture(rows[:2], sites, "response", continuations=[[], [1]])


def test_positions_before_the_prompt_are_refused(backend: Backend) -> None:
    for positions in [(-3,), (0,), ()]:
        with pytest.raises(errors.PromptError, match="shortest prompt has 2 tokens"):
            backend.capture(
                [Row("ab", chat=False), Row("abc", chat=False)], [Site(0, "resid_pre")], positions
            )


@pytest.mark.parametrize(
    ("row", "error", "says"),
    [
        (Row(""), errors.PromptError, "empty"),
        (Row("  \n "), errors.PromptError, "empty"),
        (Row([]), errors.PromptError, "empty"),
        (Row("word " * 400), errors.PromptError, "at most 256"),
        (
            Row("Hi", Recipe([Add(direction(), layers=9)])),
            errors.SiteError,
            "layer 9 is out of range.* 4 layers",
        ),
        (
            Row("Hi", Recipe([Add(Direction([1.0, 2.0], Site(0, "resid_pre")))])),
            errors.DirectionError,
            "d_model 2",
        ),
        (
            Row("Hi", Recipe([Ablate(Direction([1.0] * models.D_MODEL, model="another"))])),
            errors.RecipeError,
            "found in another",
        ),
    ],
)
def test_bad_rows_are_refused_by_every_verb(
    backend: Backend, row: Row, error: type[errors.SteerlabError], says: str
) -> None:
    calls = (
        lambda: backend.generate([Row("Hi"), row], Sampling(2)),
        lambda: backend.score([Row("Hi"), row]),
        lambda: backend.capture([Row("Hi"), row], [Site(0, "resid_pre")], (-1,)),
    )
    for call in calls:
        with pytest.raises(error, match=says):
            call()
    assert len(backend.generate([Row("Hi")], Sampling(2))[0].token_ids) == 2, "the backend works on"


def test_check_refuses_what_running_would(backend: Backend) -> None:
    backend.check(ADD)
    with pytest.raises(errors.SiteError, match="out of range"):
        backend.check(Recipe([Ablate(direction(), layers=[0, 9])]))


def test_every_forward_pass_is_announced_and_can_be_stopped_there(backend: Backend) -> None:
    """What lets long work give way to the preview between two passes, and end where it was cancelled."""

    class Stopped(BaseException):
        pass

    calls = 0

    def third() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Stopped

    def work() -> None:
        before_pass.set(third)
        backend.score([Row(PROMPTS[0], ADD)])
        backend.capture([Row(PROMPTS[0], ADD)], [Site(1, "resid_pre")], [-1])
        assert calls == 2
        backend.likelihood([Row(PROMPTS[0], ADD)], [[1, 2]])

    with pytest.raises(Stopped):
        contextvars.copy_context().run(work)
    assert backend.score([Row(PROMPTS[0], ADD)]).shape[0] == 1, "the backend goes on, for others"


def test_every_row_is_told_when_it_is_done_and_of_an_answer_its_share_with_each_token(
    backend: Backend,
) -> None:
    rows = [Row(prompt, recipe) for prompt in PROMPTS for recipe in (BASELINE, ADD)] + [Row(PROMPTS[0])]
    n = len(rows)
    verbs: list[tuple[Callable[[], object], int]] = [
        (lambda: backend.capture(rows, [Site(1, "resid_pre")], (-1,)), 1),
        (lambda: backend.score(rows), 1),
        (lambda: backend.likelihood(rows, [[5, 6]] * (n - 1) + [[]]), 1),
        (lambda: backend.generate(rows, Sampling(7)), 7),
    ]
    for verb, least in verbs:
        told: list[float] = []
        context = contextvars.copy_context()
        context.run(rows_done.set, told.append)
        context.run(verb)
        assert sum(told) == pytest.approx(n)
        assert len(told) >= least
        assert min(told) >= 0


def test_an_answer_that_ends_early_is_a_whole_row_done() -> None:
    backend = FakeBackend(d_model=models.D_MODEL)
    answer = backend.generate([Row("Hi")], Sampling(9))[0]
    backend.stop_tokens = {answer.token_ids[2]}
    told: list[float] = []
    context = contextvars.copy_context()
    context.run(rows_done.set, told.append)
    assert context.run(backend.generate, [Row("Hi")], Sampling(9))[0].finish == "stop"
    assert sum(told) == pytest.approx(1)


def test_what_follows_a_prompt_counts_for_the_context(backend: Backend) -> None:
    row, context = Row("Hi", chat=False), backend.info.context
    fits = [65] * (context - 2)
    assert len(backend.likelihood([row], [fits])[0]) == len(fits)
    says = f"have {context + 1} tokens, and the model reads at most {context}"
    with pytest.raises(errors.PromptError, match=says):
        backend.likelihood([row], [[*fits, 65]])
    with pytest.raises(errors.PromptError, match=says):
        backend.capture([row], [Site(1, "resid_pre")], "response", continuations=[[*fits, 65]])
