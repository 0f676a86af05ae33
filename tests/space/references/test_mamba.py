"""Both state space mixers against the slow forms of `transformers`, weights copied."""

import pytest
import torch
from torch import Tensor, nn

from space.choice import Surroundings
from space.mixers import Mamba2Config, MambaConfig
from space.mixers.mamba import Mamba
from space.mixers.mamba2 import Mamba2
from space.positions import NonePositionConfig

D_MODEL, CONTEXT = 32, 24


def there() -> Surroundings:
    return Surroundings(D_MODEL, CONTEXT, num_layers=1, causal=True, position=NonePositionConfig())


def copied(target: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in weights.items():
            parameter = target.get_parameter(name)
            parameter.copy_(value.reshape(parameter.shape))


def shaken(module: nn.Module) -> nn.Module:
    """Larger weights, so that differences show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return module.eval()


@pytest.mark.parametrize("tokens", [1, 3, CONTEXT])
@torch.no_grad()
def test_mamba_equals_theirs(tokens: int) -> None:
    source = pytest.importorskip("transformers.models.mamba.modeling_mamba")
    settings = source.MambaConfig(
        hidden_size=D_MODEL, state_size=8, expand=2, conv_kernel=4, use_bias=False, use_mambapy=False
    )
    theirs = shaken(source.MambaMixer(settings, layer_idx=0))
    ours = MambaConfig(state_width=8).build(there())
    assert isinstance(ours, Mamba)
    copied(
        ours,
        {
            "input.weight": theirs.get_parameter("in_proj.weight"),
            "kernel": theirs.get_parameter("conv1d.weight"),
            "bias": theirs.get_parameter("conv1d.bias"),
            "selects.weight": theirs.get_parameter("x_proj.weight"),
            "directions.0.steps.weight": theirs.get_parameter("dt_proj.weight"),
            "directions.0.steps_bias": theirs.get_parameter("dt_proj.bias"),
            "directions.0.a_log": theirs.get_parameter("A_log").T,
            "directions.0.skip": theirs.get_parameter("D"),
            "out.weight": theirs.get_parameter("out_proj.weight"),
        },
    )
    x = torch.randn(2, tokens, D_MODEL, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 3, CONTEXT])
@torch.no_grad()
def test_mamba2_equals_theirs(tokens: int) -> None:
    source = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    settings = source.Mamba2Config(
        hidden_size=D_MODEL, state_size=16, expand=2, conv_kernel=4, head_dim=16, num_heads=4, n_groups=1,
        chunk_size=8, use_bias=False, use_conv_bias=True, layer_norm_epsilon=1e-6,
    )  # fmt: skip
    theirs = shaken(source.Mamba2Mixer(settings, layer_idx=0))
    ours = Mamba2Config(head_width=16, state_width=16).build(there())
    assert isinstance(ours, Mamba2)
    copied(
        ours,
        {
            "input.weight": theirs.get_parameter("in_proj.weight")[:-4],
            "steps.weight": theirs.get_parameter("in_proj.weight")[-4:],
            "kernel": theirs.get_parameter("conv1d.weight"),
            "bias": theirs.get_parameter("conv1d.bias"),
            "steps_bias": theirs.get_parameter("dt_bias"),
            "a_log": theirs.get_parameter("A_log"),
            "skip": theirs.get_parameter("D"),
            "gain": theirs.get_parameter("norm.weight"),
            "out.weight": theirs.get_parameter("out_proj.weight"),
        },
    )
    x = torch.randn(2, tokens, D_MODEL, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
