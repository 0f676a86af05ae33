"""The softmax mixer against the attention layer of a Llama of `transformers`, weights copied."""

import pytest
import torch

from space.choice import Surroundings
from space.mixers import SoftmaxConfig
from space.mixers.softmax import Softmax
from space.positions import RopeConfig

D_MODEL, HEADS, GROUPS, CONTEXT = 32, 4, 2, 24


@pytest.mark.parametrize("tokens", [1, 7, CONTEXT])
def test_equals_a_llama_layer_with_grouped_heads_and_rotation(tokens: int) -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    settings = llama.LlamaConfig(
        hidden_size=D_MODEL, num_attention_heads=HEADS, num_key_value_heads=GROUPS,
        max_position_embeddings=CONTEXT, attn_implementation="eager",
    )  # fmt: skip
    theirs = llama.LlamaAttention(settings, layer_idx=0).double()
    at = Surroundings(
        d_model=D_MODEL, context_length=CONTEXT, num_layers=1, causal=True, position=RopeConfig()
    )
    ours = SoftmaxConfig(num_heads=HEADS, num_kv_heads=GROUPS).build(at).double()
    assert isinstance(ours, Softmax)
    generator = torch.Generator().manual_seed(0)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    kv = D_MODEL // HEADS * GROUPS
    q, k, v = torch.split(ours.get_parameter("qkv.weight"), [D_MODEL, kv, kv])
    o = ours.get_parameter("out.weight")
    weights = {"q_proj.weight": q, "k_proj.weight": k, "v_proj.weight": v, "o_proj.weight": o}
    theirs.load_state_dict(weights)
    x = torch.randn(2, tokens, D_MODEL, generator=generator, dtype=torch.float64)
    turns = llama.LlamaRotaryEmbedding(settings)(x, torch.arange(tokens)[None])
    allowed = torch.full((tokens, tokens), -torch.inf, dtype=torch.float64).triu(1)[None, None]
    y, _ = theirs(x, position_embeddings=turns, attention_mask=allowed)
    # both hold the sines of positions in float32, from angles that are rounded at different places
    torch.testing.assert_close(ours(x), y, rtol=1e-5, atol=2e-5)
