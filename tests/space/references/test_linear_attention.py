"""Causal linear attention against the naive forms of flash-linear-attention, where that package is there."""

import warnings

import pytest
import torch

from space.choice import Surroundings
from space.mixers import CosformerConfig, LinearEluConfig, NormLinearConfig
from space.mixing.linear_attention import LinearAttention, LinearAttentionConfig
from space.positions import POSITIONS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it finds no GPU
    naive = pytest.importorskip("fla.ops.linear_attn.naive", exc_type=ImportError)


@pytest.mark.parametrize(
    "config",
    [
        LinearEluConfig(num_heads=4),
        LinearEluConfig(num_heads=4, feature_map="relu"),
        CosformerConfig(num_heads=4),
        NormLinearConfig(num_heads=4),
        NormLinearConfig(num_heads=4, phi="silu", norm_per_head=True),
    ],
)
@pytest.mark.parametrize("form", ["naive_recurrent_linear_attn", "naive_chunk_linear_attn"])
@torch.no_grad()
def test_outputs_equal_those_of_the_naive_forms(config: LinearAttentionConfig, form: str) -> None:
    torch.manual_seed(0)
    at = Surroundings(32, 128, num_layers=2, causal=True, position=POSITIONS["none"]())
    module = config.build(at)
    assert isinstance(module, LinearAttention)
    x = torch.randn(2, 128, 32)
    with torch.no_grad():
        module.get_parameter("qkv.weight").mul_(20.0)
    projected = module.qkv(x).reshape(2, 128, 12, 8)
    features = module.features(projected[:, :, :8], None)
    q, k, v = features[:, :, :4], features[:, :, 4:], projected[:, :, 8:]
    theirs = getattr(naive, form)(q, k, v, scale=1.0, normalize=config.has_weights)
    mixed = theirs[0] if isinstance(theirs, tuple) else theirs
    if not config.has_weights:
        mixed = module.finish(mixed, None, v)
    # epsilon is 1e-10 there
    torch.testing.assert_close(module(x), module.out(mixed.flatten(2)), rtol=1e-4, atol=1e-5)
