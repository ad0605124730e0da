from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerlab import edits


def tensor(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 2**31), norm=st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_ablation_leaves_no_component_and_nothing_else_changes(seed: int, norm: float) -> None:
    x, v = tensor(seed, 2, 5, 32), norm * tensor(seed + 1, 32)
    y, u = edits.ablate(x, v), v / v.norm()
    assert ((y @ u).abs() / x.norm(dim=-1)).max() < 1e-5
    assert torch.allclose((x - y) - ((x - y) @ u)[..., None] * u, torch.zeros_like(x), atol=1e-5)


def test_partial_ablation_leaves_its_share() -> None:
    x, v = tensor(0, 3, 32), tensor(1, 32)
    u = v / v.norm()
    assert torch.allclose(edits.ablate(x, v, 0.25) @ u, 0.75 * (x @ u), atol=1e-5)


def test_zero_strength_returns_the_input_bit_for_bit() -> None:
    x, v = tensor(0, 3, 32), tensor(1, 32)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        y = x.to(dtype)
        assert torch.equal(edits.add(y, v, 0.0), y)
        assert torch.equal(edits.ablate(y, v, 0.0), y)


def test_clamp_sets_the_component_and_leaves_the_rest() -> None:
    x, v = tensor(0, 3, 32), tensor(1, 32)
    u = v / v.norm()
    y = edits.clamp(x, v, 2.5)
    assert torch.allclose(y @ u, torch.full((3,), 2.5), atol=1e-5)
    assert torch.allclose(edits.ablate(y, v), edits.ablate(x, v), atol=1e-5)


def test_one_sided_ablation_leaves_what_points_away() -> None:
    x, v = tensor(0, 64, 32), tensor(1, 32)
    u = v / v.norm()
    before, after = x @ u, edits.ablate(x, v, one_sided=True) @ u
    assert torch.allclose(after, before.clamp_max(0), atol=1e-5)
    assert (before > 0).any()
    assert (before < 0).any()


def test_addition_can_keep_the_norm() -> None:
    x, v = tensor(0, 3, 32), 5 * tensor(1, 32)
    y = edits.add(x, v, 2.0, keep_norm=True)
    assert torch.allclose(y.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)
    assert torch.cosine_similarity(y, x + 2 * v, dim=-1).min() > 0.9999
    assert torch.equal(edits.add(torch.zeros(2, 32), v, 1.0, keep_norm=True), torch.zeros(2, 32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_worked_on_in_float32(dtype: torch.dtype) -> None:
    x, v = tensor(0, 64, 512).to(dtype), tensor(1, 512)
    u = v / v.norm()
    ours, naive = edits.ablate(x, v), x - (x @ u.to(dtype))[..., None] * u.to(dtype)
    assert ours.dtype == dtype
    left = [(y.double() @ u.double()).abs().mean() for y in (ours, naive)]
    assert left[0] < left[1]
    assert torch.equal(ours, edits.ablate(x.float(), v).to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_vector_of_low_precision_is_worked_on_in_float32(dtype: torch.dtype) -> None:
    x, v = tensor(0, 64, 512), tensor(1, 512).to(dtype)
    wide = v.float()
    assert torch.equal(edits.ablate(x, v), edits.ablate(x, wide))
    assert torch.equal(edits.clamp(x, v, 1.5), edits.clamp(x, wide, 1.5))
    assert torch.equal(edits.add(x, v, 0.3), edits.add(x, wide, 0.3))
    left = (edits.ablate(x, v) @ (wide / wide.norm())).abs() / x.norm(dim=-1)
    assert left.max() < 1e-6


def test_operands_apply_in_order_and_only_where_they_should() -> None:
    x, v = tensor(0, 2, 4, 8), tensor(1, 8)
    u = v / v.norm()
    one, zero = torch.ones(2, 1, 1), torch.zeros(2, 1, 1)
    where = torch.tensor([[True, False, False, True], [False] * 4])[..., None]
    add = edits.Operand("add", v.expand(2, 1, 8), 2 * one, where=where)
    ablate = edits.Operand("project", u.expand(2, 1, 8), one)
    after = edits.apply(x, [ablate, add])
    expected = edits.ablate(x, v)
    expected[0, [0, 3]] += 2 * v
    assert torch.allclose(after, expected, atol=1e-6)
    for kind in ("add", "add_keep_norm", "project", "project_positive"):
        assert torch.equal(edits.apply(x, [edits.Operand(kind, v.expand(2, 1, 8), zero)]), x)
    assert torch.equal(edits.apply(x, []), x)


def test_edits_needs_torch_alone() -> None:
    """It is what travels to a server: read as a file, it must work where steerlab is not installed."""
    code = (
        f"import sys; sys.modules['steerlab'] = None; source = open({edits.__file__!r}).read();"
        "scope = {}; exec(compile(source, 'edits', 'exec'), scope); import torch;"
        "print(scope['add'](torch.zeros(2), torch.ones(2), 3.0).tolist())"
    )
    out = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.strip() == "[3.0, 3.0]", out.stderr


@pytest.mark.parametrize("k", [1, 2])
def test_a_model_in_double_precision_is_ablated_in_place(k: int) -> None:
    basis = torch.linalg.qr(torch.randn(8, k)).Q.T[None]
    operand = edits.Operand("project", basis, torch.ones(1, 1, 1), scaled=basis, turned=basis.mT)
    x = torch.randn(1, 3, 8, dtype=torch.float64)
    wanted = x - x @ basis[0].double().T @ basis[0].double()
    assert torch.allclose(edits.apply_(x.clone(), [operand]), wanted)
