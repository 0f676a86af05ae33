"""Linear maps as products of two narrow ones (choices.md 8.1, E8)."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from space.architecture import Architecture, parse_architecture
from space.choice import LinearMap
from space.costs import costs
from space.model import build_model, parameter_roles
from space.projection import INIT_STD, Dense, LowRank, low_rank_reference, read, write

SOFTMAX = {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2}


def architecture(rank_ratio: float | None = None, *, d_model: int = 32, depth: int = 2) -> Architecture:
    layer = {
        "mixer": SOFTMAX,
        "feed_forward": {"kind": "glu", "activation": "silu", "d_ff": 2 * d_model},
        "norm": {"kind": "rmsnorm"},
    }
    form: dict[str, Any] = {"kind": "dense"}
    if rank_ratio is not None:
        form = {"kind": "lowrank", "rank_ratio": rank_ratio}
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "vocab_size": 40, "context_length": 12, "outputs": 40},
            "d_model": d_model,
            "position": {"kind": "rope"},
            "layers": [layer] * depth,
            "projection": form,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language"},
        }
    )


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_map(inputs: int, parts: tuple[int, ...]) -> Dense:
    made = Dense(inputs, parts, "mixer.in").double()
    with torch.no_grad():
        made.weight.copy_(random(sum(parts), inputs, seed=3))
    return made


@pytest.mark.parametrize("parts", [(24,), (24, 8, 8), (5, 40)])
def test_e8_of_full_rank_it_is_the_dense_map(parts: tuple[int, ...]) -> None:
    dense = dense_map(16, parts)
    product = LowRank.from_dense(dense, tuple(min(16, part) for part in parts))
    x = random(2, 7, 16)
    torch.testing.assert_close(product(x), dense(x), rtol=1e-10, atol=1e-10)
    assert product.down.weight.dtype == torch.float64


def test_of_lower_rank_it_is_the_nearest_product() -> None:
    dense = dense_map(16, (24, 8))
    product = LowRank.from_dense(dense, (6, 3))
    start = 0
    downs = torch.split(product.down.weight, [6, 3])
    for part, rank, down, up in zip((24, 8), (6, 3), downs, product.up, strict=True):
        exact = dense.weight[start : start + part].detach()
        start += part
        near = up.get_parameter("weight") @ down
        left = torch.linalg.svdvals(exact)[rank:].square().sum().sqrt()
        torch.testing.assert_close((exact - near).norm(), left, rtol=1e-9, atol=1e-9)
        # both factors carry the same share of the scale
        torch.testing.assert_close(up.get_parameter("weight").norm(), down.norm(), rtol=1e-9, atol=0)


def test_e8_a_whole_model_of_full_rank_products_is_the_dense_model() -> None:
    model = build_model(architecture(), seed=0).double()
    tokens = torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(0))
    expected, roles = model(tokens), parameter_roles(model)
    for parent in list(model.blocks.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Dense):
                parts = child.parameter_roles()["weight"].parts or (child.out_features,)
                ranks = tuple(min(child.in_features, part) for part in parts)
                setattr(parent, name, LowRank.from_dense(child, ranks))
    torch.testing.assert_close(model(tokens), expected, rtol=1e-10, atol=1e-10)
    found = {role.role for role in parameter_roles(model).values()}
    assert found == {role.role for role in roles.values()}


def test_equals_its_definition() -> None:
    product = LowRank(16, (12, 4), (3, 2), "mixer.in", std=1.0).double()
    downs = torch.split(product.down.weight, [3, 2])
    pairs = tuple((a, up.get_parameter("weight")) for a, up in zip(downs, product.up, strict=True))
    x = random(2, 5, 16)
    torch.testing.assert_close(product(x), low_rank_reference(x, pairs), rtol=1e-12, atol=1e-12)


def test_gradients_reach_both_factors_of_every_map() -> None:
    model = build_model(architecture(0.25), seed=0)
    tokens = torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(0))
    model(tokens).square().sum().backward()
    products = [module for module in model.modules() if isinstance(module, LowRank)]
    assert products
    for product in products:
        for parameter in product.parameters():
            assert parameter.grad is not None
            assert parameter.grad.any()


@pytest.mark.parametrize("rank_ratio", [0.125, 0.25, 0.5, 0.9])
def test_counts_follow_the_factors(rank_ratio: float) -> None:
    low, dense = architecture(rank_ratio), architecture()
    model = build_model(low, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == costs(low).params
    assert costs(low).params <= costs(dense).params
    assert costs(low).macs <= costs(dense).macs
    if rank_ratio <= 0.25:
        assert costs(low).params < costs(dense).params
        assert costs(low).macs < costs(dense).macs
        assert costs(low).macs_decode < costs(dense).macs_decode


def test_a_product_that_would_not_be_smaller_stays_dense() -> None:
    assert LinearMap(32, (32,)).ranks(0.5) is None
    assert LinearMap(32, (32,)).ranks(0.25) == (8,)
    assert LinearMap(32, (128,)).ranks(0.5) == (16,)
    assert LinearMap(32, (32,)).ranks(1.0) is None
    assert LinearMap(32, (32,), projected=False).ranks(0.25) is None
    at = architecture(0.5).surroundings()
    assert isinstance(read(at, 32, "mixer.in"), Dense)
    assert isinstance(read(at, (32, 32), "mixer.in"), Dense)
    assert isinstance(write(at, 128, "ffn.out"), LowRank)


def test_products_start_with_the_spread_of_a_dense_map() -> None:
    at = architecture(0.25, d_model=128).surroundings()
    torch.manual_seed(0)
    for made, std in (
        (read(at, (128, 128), "mixer.in"), INIT_STD),
        (write(at, 128, "mixer.out"), INIT_STD / math.sqrt(2 * at.num_layers)),
    ):
        assert isinstance(made, LowRank)
        downs = torch.split(made.down.weight, list(made.ranks))
        for down, up in zip(downs, made.up, strict=True):
            product = up.get_parameter("weight") @ down
            # each factor is cut at two deviations, which takes 0.88 of its spread
            assert product.std().item() == pytest.approx(0.88**2 * std, rel=0.05)


def test_embedding_and_head_stay_dense() -> None:
    model = build_model(architecture(0.25), seed=0)
    assert isinstance(model.head.get_submodule("projection"), Dense)
    assert isinstance(model.blocks[0].get_submodule("mixer.qkv"), LowRank)
