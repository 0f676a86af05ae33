"""Positions against those of `transformers`: T5 buckets, part of a head turned, ALiBi slopes."""

import pytest
import torch

from space.positions.alibi import alibi_slopes
from space.positions.rope import Rotary
from space.positions.t5_bias import bucket

MODELS = "transformers.models"


@pytest.mark.parametrize("causal", [True, False])
def test_buckets_are_those_of_t5(causal: bool) -> None:
    t5 = pytest.importorskip(f"{MODELS}.t5.modeling_t5")
    relative = torch.arange(-400, 401)
    theirs = t5.T5Attention._relative_position_bucket(
        relative, bidirectional=not causal, num_buckets=32, max_distance=128
    )
    assert [bucket(r, causal=causal) for r in relative.tolist()] == theirs.tolist()


@pytest.mark.parametrize("part", [0.25, 0.5, 1.0])
def test_a_part_of_a_head_turns_as_in_gpt_neox(part: float) -> None:
    neox = pytest.importorskip(f"{MODELS}.gpt_neox.modeling_gpt_neox")
    config = neox.GPTNeoXConfig(
        hidden_size=32, num_attention_heads=2, num_hidden_layers=1, vocab_size=8, intermediate_size=8
    )
    config.rope_parameters = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": part}
    heads = torch.randn(1, 2, 9, 16, generator=torch.Generator().manual_seed(0))
    cos, sin = neox.GPTNeoXRotaryEmbedding(config)(heads, torch.arange(9)[None])
    theirs, _ = neox.apply_rotary_pos_emb(heads, heads, cos, sin)
    torch.testing.assert_close(Rotary(9, 16, rotary_pct=part)(heads), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("heads", [4, 8, 12, 20])
def test_slopes_are_those_of_bloom(heads: int) -> None:
    bloom = pytest.importorskip(f"{MODELS}.bloom.modeling_bloom")
    theirs = bloom.build_alibi_tensor(torch.ones(1, 3), heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(alibi_slopes(heads).float(), theirs)
