"""The state after a prompt at once is the state after it token by token, padding on either side."""

import pytest
import torch

from space.choice import Mixer, MixerChoice, Surroundings
from space.mixers import GlaConfig, Mamba2Config, MambaConfig, RetentionConfig
from space.positions import NonePositionConfig

CONFIGS: list[MixerChoice] = [
    RetentionConfig(num_heads=2),
    GlaConfig(num_heads=2),
    GlaConfig(num_heads=2, gate="scalar"),
    MambaConfig(state_width=4),
    Mamba2Config(head_width=8, state_width=4),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_dump_json())
@pytest.mark.parametrize("context", [40, 140])
@pytest.mark.parametrize("is_padded", [True, False])
@torch.no_grad()
def test_a_prompt_at_once_leaves_the_state_of_its_tokens(
    config: MixerChoice, context: int, is_padded: bool
) -> None:
    torch.manual_seed(0)
    at = Surroundings(16, context, num_layers=1, causal=True, position=NonePositionConfig())
    module = config.build(at).double()
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.3)
    x = torch.randn(3, 40, 16, dtype=torch.float64)
    mask = torch.ones(3, 40, dtype=torch.bool) if is_padded else None
    if mask is not None:
        mask[0, :5], mask[1, 33:] = False, False
    y, state = module.prefill(x, mask)
    slow_y, slow_state = Mixer.prefill(module, x, mask)
    assert set(state) == set(slow_state)
    for name, value in state.items():
        # rotation tables and the decays of retention are the same in both; sums run in another order
        torch.testing.assert_close(value, slow_state[name], rtol=1e-9, atol=1e-9)
    real = torch.ones(3, 40, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(y[real], slow_y[real], rtol=1e-9, atol=1e-9)
