"""Normalised linear attention: its norm, its features, the module against the definition."""

import pytest
import torch
from torch import Tensor

from space.choice import Surroundings
from space.mixers import NormLinearConfig
from space.mixers.norm_linear import NormLinear, norm_linear_reference
from space.mixing.linear_features import Phi, mapped, mapped_reference
from space.positions import POSITIONS
from space.positions.rope import build_rotary

PHIS: tuple[Phi, ...] = ("elu", "elu1", "silu", "relu2")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def there(
    *, causal: bool = True, position: str = "none", context: int = 70, rank_ratio: float = 1.0
) -> Surroundings:
    return Surroundings(
        8, context, num_layers=2, causal=causal, position=POSITIONS[position](), rank_ratio=rank_ratio
    )


def built(config: NormLinearConfig, at: Surroundings) -> NormLinear:
    torch.manual_seed(0)
    module = config.build(at).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


def heads_of(module: NormLinear, x: Tensor) -> list[Tensor]:
    return [part.reshape(*x.shape[:2], 2, 4) for part in module.qkv(x).split(8, dim=-1)]


@pytest.mark.parametrize("phi", PHIS)
@pytest.mark.parametrize(
    ("causal", "context", "tokens", "position", "per_head"),
    [(True, 20, 9, "none", False), (True, 70, 37, "rope", True), (False, 20, 9, "rope", False)],
)
def test_the_module_equals_the_definition_in_values_and_gradients(
    phi: Phi, causal: bool, context: int, tokens: int, position: str, per_head: bool
) -> None:
    at = there(causal=causal, context=context, position=position)
    module = built(NormLinearConfig(num_heads=2, phi=phi, norm_per_head=per_head), at)
    rotary = build_rotary(at, 4).double() if position == "rope" else None
    x = random(1, tokens, 8).requires_grad_()
    mixed = norm_linear_reference(
        *heads_of(module, x), causal=causal, phi=phi, norm_per_head=per_head, rotary=rotary
    )
    ours, reference = module(x), module.out(mixed.flatten(2))
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)
    inputs = [x, *module.parameters()]
    for got, wanted in zip(
        *(torch.autograd.grad((y**2).sum(), inputs, retain_graph=True) for y in (ours, reference)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("phi", PHIS)
def test_features_equal_their_definitions_in_values_and_gradients(phi: Phi) -> None:
    u = random(200).requires_grad_()
    ours, reference = mapped(u, phi), mapped_reference(u, phi)
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(y.sum(), u)[0] for y in (ours, reference)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("per_head", [False, True])
def test_the_simple_norm_leaves_a_root_mean_square_of_one(per_head: bool) -> None:
    q, k, v = (random(2, 6, 2, 4, seed=seed) for seed in range(3))
    normed = norm_linear_reference(q, k, v, causal=True, norm_per_head=per_head)
    sizes = normed.square().mean(-1 if per_head else (-2, -1)).sqrt()
    torch.testing.assert_close(sizes, torch.ones_like(sizes), rtol=1e-3, atol=0)


def test_the_scale_of_the_values_does_not_matter() -> None:
    module, x = built(NormLinearConfig(num_heads=2), there()), random(1, 9, 8)
    before = module(x)
    with torch.no_grad():
        module.get_parameter("qkv.weight")[16:] *= 7.0
    torch.testing.assert_close(module(x), before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("norm", "per_channel"), [("simple", 0), ("rmsnorm", 1), ("layernorm", 2)])
@pytest.mark.parametrize("per_head", [False, True])
def test_parameters_and_state_are_those_of_the_formulas(norm: str, per_channel: int, per_head: bool) -> None:
    config = NormLinearConfig.model_validate({"num_heads": 2, "norm": norm, "norm_per_head": per_head})
    assert config.params(there()) == 4 * 8**2 + per_channel * (4 if per_head else 8)
    assert config.state_size(there(), 50) == 2 * 4 * 4


@pytest.mark.parametrize("rank_ratio", [1.0, 0.25])
def test_projections_start_with_the_deviation_of_xavier(rank_ratio: float) -> None:
    torch.manual_seed(0)
    at = Surroundings(128, 20, num_layers=2, causal=True, position=POSITIONS["none"](), rank_ratio=rank_ratio)
    module = NormLinearConfig(num_heads=2).build(at)
    rows: Tensor = module.qkv(torch.eye(128))
    # factors cut at two deviations are 0.88 of the deviation each
    wanted = (0.5 / 128) ** 0.5 * (1.0 if rank_ratio == 1.0 else 0.88**2)
    for part in torch.split(rows, 128, dim=-1):
        assert float(part.detach().std()) == pytest.approx(wanted, rel=0.03)


def test_one_head_has_one_spelling() -> None:
    config = NormLinearConfig(num_heads=1, norm_per_head=True)
    assert config.canonical(there()) == NormLinearConfig(num_heads=1)
