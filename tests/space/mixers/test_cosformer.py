"""cosFormer: features against the cosine form, zero queries, the fixed horizon."""

import math

import pytest
import torch
from torch import Tensor

from space.choice import Surroundings
from space.mixers import CosformerConfig
from space.mixers.cosformer import Cosformer, cosformer_reference
from space.positions import POSITIONS


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(*, causal: bool, context: int) -> Cosformer:
    torch.manual_seed(0)
    at = Surroundings(8, context, num_layers=2, causal=causal, position=POSITIONS["none"]())
    module = CosformerConfig(num_heads=2).build(at).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


@pytest.mark.parametrize("causal", [True, False])
def test_features_give_the_quadratic_cosine_form(causal: bool) -> None:
    q, k, v = (random(2, 9, 2, 3, seed=seed) for seed in range(3))
    i = torch.arange(9, dtype=torch.float64)
    cosine = torch.cos(math.pi * (i[:, None] - i[None, :]) / (2 * 12))
    scores = (q.relu().transpose(1, 2) @ k.relu().permute(0, 2, 3, 1)) * cosine
    scores = scores.tril() if causal else scores
    square = (scores @ v.transpose(1, 2) / (scores.sum(-1, keepdim=True) + 1e-6)).transpose(1, 2)
    definition = cosformer_reference(q, k, v, horizon=12, causal=causal)
    torch.testing.assert_close(definition, square, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("causal", "context", "tokens"), [(True, 20, 9), (True, 70, 37), (False, 20, 9)])
def test_the_module_equals_the_definition_in_values_and_gradients(
    causal: bool, context: int, tokens: int
) -> None:
    module = built(causal=causal, context=context)
    x = random(1, tokens, 8).requires_grad_()
    q, k, v = (part.reshape(1, tokens, 2, 4) for part in module.qkv(x).split(8, dim=-1))
    reference = module.out(cosformer_reference(q, k, v, horizon=context, causal=causal).flatten(2))
    ours = module(x)
    # the module's tables are float32
    torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-6)
    inputs = [x, *module.parameters()]
    for got, wanted in zip(
        *(torch.autograd.grad((y**2).sum(), inputs, retain_graph=True) for y in (ours, reference)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_query_of_zeros_gives_zero() -> None:
    q, k, v = (random(1, 4, 1, 3, seed=seed) for seed in range(3))
    mixed = cosformer_reference(-q.abs(), k, v, horizon=4, causal=True)
    assert not mixed.any()


def test_earlier_outputs_do_not_change_with_the_length() -> None:
    module, x = built(causal=True, context=70), random(1, 60, 8)
    torch.testing.assert_close(module(x[:, :17]), module(x)[:, :17], rtol=1e-10, atol=1e-12)


def test_costs_are_those_of_the_formulas() -> None:
    config, d, h, n = CosformerConfig(num_heads=2), 8, 4, 128
    both_ways = Surroundings(d, n, num_layers=2, causal=False, position=POSITIONS["none"]())
    assert config.params(both_ways) == 4 * d**2
    assert config.macs(both_ways, n) == 4 * n * d**2 + 4 * n * d * h
    assert config.state_size(both_ways, n) == 2 * d * (h + 1)
