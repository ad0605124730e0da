from __future__ import annotations

from steerlab import BASELINE, Ablate, Add, Clamp, Direction, Recipe, Site
from steerlab.reach import reach

L = 4
V = Direction([3.0, 4.0], Site(1, "resid_pre"))
W = Direction([1.0, -1.0], Site(2, "resid_pre"))


def sites(*steps: object, fold: bool = True) -> list[str]:
    found = reach(Recipe(steps), L, fold=fold).steps  # type: ignore[arg-type]
    return [f"{site.layer}.{site.point}" for site in sorted(found)]


def test_steps_that_change_nothing_are_the_baseline() -> None:
    for idle in (Recipe([Add(V, 0.0)]), Recipe([Ablate(V, strength=0.0), Add(W, 0.0, keep_norm=True)])):
        assert reach(idle, L).key == reach(BASELINE, L).key
        assert reach(idle, L).begins(L, generated=True)[0] == L
    mixed = reach(Recipe([Add(V, 0.0), Add(W, 2.0)]), L)
    assert mixed.key == reach(Recipe([Add(W, 2.0)]), L).key
    assert reach(Recipe([Clamp(V, 0.0)]), L).steps, "a clamp to zero is an ablation"


def test_the_papers_ablation_needs_the_stream_at_the_first_layer_alone() -> None:
    found = sites(Ablate(V))
    assert found == ["0.resid_pre", *[f"{i}.{p}" for i in range(L) for p in ("attn_out", "mlp_out")]]
    assert len(sites(Ablate(V), fold=False)) == 3 * L
    everywhere = ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"]
    assert sites(Ablate(V, sites=everywhere)) == found
    assert sites(Ablate(V, layers=[2, 3])) == [
        "2.resid_pre",
        *[f"{i}.{p}" for i in (2, 3) for p in ("attn_out", "mlp_out")],
    ]


def test_what_is_not_known_to_be_free_of_the_component_is_not_folded() -> None:
    assert len(sites(Ablate(V, sites=["resid_pre"]))) == L
    assert len(sites(Ablate(V, sites=["resid_pre", "attn_out"]))) == 2 * L
    assert len(sites(Ablate(V, strength=0.9))) == 3 * L
    assert len(sites(Ablate(V, one_sided=True))) == 3 * L
    again = sites(Ablate(V), Add(W, 1.0, sites=[Site(2, "resid_mid")]))
    assert "3.resid_pre" in again, "what was added at block 2 is ablated at block 3"
    assert "2.resid_pre" not in again
    assert "2.resid_pre" in sites(Ablate(V), Add(W, 1.0)), (
        "an addition at the same site keeps its ablation before it"
    )


def test_where_a_recipe_begins() -> None:
    def begins(*steps: object, generated: bool = False) -> tuple[int, int | None]:
        return reach(Recipe(steps), L).begins(L, generated=generated)  # type: ignore[arg-type]

    assert begins(Add(V, 1.0)) == (1, None)
    assert begins(Add(V, 1.0, sites=[Site(1, "mlp_out")])) == (1, None)
    assert begins(Add(V, 1.0, sites=[Site(1, "resid_post")])) == (2, None)
    assert begins(Add(V, 1.0, tokens=[-2, -5]), Add(W, 1.0, tokens=[-1])) == (1, -5)
    assert begins(Add(V, 1.0, tokens=[-2]), Add(W, 1.0)) == (1, None)
    assert begins(Add(V, 1.0, tokens="generated")) == (L, None)
    assert begins(Add(V, 1.0, tokens="generated"), generated=True) == (1, 0)
    assert begins(Add(V, 1.0, tokens="generated"), Add(W, 1.0, tokens=[-3])) == (2, -3)
