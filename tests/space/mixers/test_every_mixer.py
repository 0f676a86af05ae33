"""What every token mixer owes, whatever it computes."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from space.choice import MixerChoice, Surroundings
from space.mixers import (
    GatedConvConfig,
    LinearEluConfig,
    MixerConfig,
    PoolConfig,
    SlidingWindowConfig,
    SoftmaxConfig,
)
from space.roles import HasRoles

D_MODEL = 16
CONTEXT = 40
CONFIGS: list[MixerChoice] = [
    SoftmaxConfig(num_heads=4, num_kv_heads=2),
    SoftmaxConfig(num_heads=16, num_kv_heads=16),
    SlidingWindowConfig(num_heads=4, num_kv_heads=2, window=5),
    SlidingWindowConfig(num_heads=4, num_kv_heads=2, window=1),
    SlidingWindowConfig(num_heads=4, num_kv_heads=2, window=37),
    LinearEluConfig(num_heads=4),
    GatedConvConfig(width=3, gates=1),
    GatedConvConfig(width=4, gates=2),
    GatedConvConfig(width=1, gates=1),
    PoolConfig(width=5),
    PoolConfig(width=1),
]
every_mixer = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_dump_json())
both_ways = pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
CASES = [(config, position) for config in CONFIGS for position in ("none", *sorted(config.positions))]
every_mixer_and_position = pytest.mark.parametrize(
    ("config", "position"),
    CASES,
    ids=lambda value: value if isinstance(value, str) else value.model_dump_json(),
)


def built(
    config: MixerChoice, *, causal: bool, position: str = "none", context: int = CONTEXT, seed: int = 0
) -> nn.Module:
    torch.manual_seed(seed)
    module = config.build(
        Surroundings(d_model=D_MODEL, context_length=context, num_layers=2, causal=causal, position=position)
    )
    for parameter in module.parameters():  # starting weights are so small that differences would hide
        nn.init.normal_(parameter, std=0.4)
    return module


def random(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@every_mixer_and_position
@both_ways
def test_keeps_shape_and_type_at_every_length(config: MixerChoice, causal: bool, position: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        module = built(config, causal=causal, position=position).to(dtype)
        for batch, tokens in [(1, 1), (3, 2), (1, 5), (2, CONTEXT)]:
            y = module(random(batch, tokens, D_MODEL, dtype=dtype))
            assert y.shape == (batch, tokens, D_MODEL)
            assert y.dtype == dtype


@every_mixer
@both_ways
def test_reads_exactly_the_documented_positions(config: MixerChoice, causal: bool) -> None:
    tokens = 17
    module = built(config, causal=causal).double()
    reach = config.reach(tokens, causal=causal)
    for i in (0, 7, tokens - 1):
        x = random(1, tokens, D_MODEL).requires_grad_()
        (gradient,) = torch.autograd.grad(module(x)[0, i].sum(), x)
        seen = gradient[0].abs().sum(-1)
        for j in range(tokens):
            behind = i - j
            inside = 0 <= behind <= reach if causal else abs(behind) <= reach
            if isinstance(config, GatedConvConfig) and not causal:
                inside = -((config.width - 1) // 2) <= behind <= config.width // 2
            if isinstance(config, PoolConfig) and (config.width == 1 or (causal and i == 0)):
                inside = False  # the mean of one token minus that token
            assert (seen[j] != 0) == inside, (i, j)


@every_mixer_and_position
@both_ways
def test_padding_does_not_change_real_tokens(config: MixerChoice, causal: bool, position: str) -> None:
    module = built(config, causal=causal, position=position).double()
    x = random(2, 11, D_MODEL)
    alone = module(x)
    rubbish = 100.0 * random(2, 6, D_MODEL, seed=3)
    real, padding = torch.ones(2, 11, dtype=torch.bool), torch.zeros(2, 6, dtype=torch.bool)
    right = module(torch.cat([x, rubbish], 1), torch.cat([real, padding], 1))[:, :11]
    torch.testing.assert_close(right, alone, rtol=1e-10, atol=1e-10)
    left = module(torch.cat([rubbish, x], 1), torch.cat([padding, real], 1))[:, 6:]
    # the rotation tables are float32: scores at shifted positions agree to that precision
    tolerance = 1e-5 if position == "rope" else 1e-10
    torch.testing.assert_close(left, alone, rtol=tolerance, atol=tolerance)


@every_mixer_and_position
@both_ways
def test_a_mask_of_real_tokens_only_changes_nothing(config: MixerChoice, causal: bool, position: str) -> None:
    module = built(config, causal=causal, position=position).double()
    x = random(2, 13, D_MODEL)
    everything = torch.ones(2, 13, dtype=torch.bool)
    torch.testing.assert_close(module(x, everything), module(x), rtol=1e-12, atol=1e-12)


@every_mixer_and_position
@both_ways
def test_gradients_are_finite_at_every_scale(config: MixerChoice, causal: bool, position: str) -> None:
    module = built(config, causal=causal, position=position)
    for scale in (0.0, 1e-3, 1.0, 1e3):
        x = (scale * random(2, 9, D_MODEL, dtype=torch.float32)).requires_grad_()
        y = module(x, torch.tensor([[True] * 9, [False] * 3 + [True] * 6]))
        gradients = torch.autograd.grad(y.square().sum(), [x, *module.parameters()])
        assert torch.isfinite(y).all()
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


@every_mixer
@both_ways
def test_counted_parameters_equal_the_formula(config: MixerChoice, causal: bool) -> None:
    module = built(config, causal=causal, position="rope")
    assert sum(parameter.numel() for parameter in module.parameters()) == config.params(D_MODEL)
    linears = [child for child in module.modules() if isinstance(child, nn.Linear)]
    shapes = tuple((linear.in_features, linear.out_features) for linear in linears)
    assert shapes == config.matrices(D_MODEL)


@every_mixer
@both_ways
def test_counted_macs_equal_the_formula(config: MixerChoice, causal: bool) -> None:
    for tokens in (1, 5, 23, 64, 130):
        module = built(config, causal=causal, context=tokens)
        x, everything = torch.zeros(1, tokens, D_MODEL), torch.ones(1, tokens, dtype=torch.bool)
        with FlopCounterMode(display=False) as counter:  # with a mask attention is plain matrix products
            module(x, everything)
        assert counter.get_total_flops() == 2 * config.macs(D_MODEL, tokens, causal=causal)
        assert config.macs_causal(D_MODEL, tokens) <= config.macs(D_MODEL, tokens, causal=True)


@every_mixer
def test_survives_json_state_dict_and_deepcopy(config: MixerChoice) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(MixerConfig)
    assert adapter.validate_json(config.model_dump_json()) == config
    module = built(config, causal=True, position="rope")
    x = random(2, 7, D_MODEL, dtype=torch.float32)
    other = built(config, causal=True, position="rope", seed=5)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))


def exported(module: nn.Module, x: Tensor, path: Path) -> onnxruntime.InferenceSession:
    axes = {0: "batch", 1: "length"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": axes, "y": axes},
        )
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@every_mixer_and_position
@both_ways
def test_exports_with_free_batch_and_length(
    config: MixerChoice, causal: bool, position: str, tmp_path: Path
) -> None:
    module = built(config, causal=causal, position=position).eval()
    session = exported(module, random(2, 9, D_MODEL, dtype=torch.float32), tmp_path / "mixer.onnx")
    for batch, tokens in [(1, 1), (2, 8), (3, CONTEXT)]:
        x = random(batch, tokens, D_MODEL, dtype=torch.float32)
        y = session.run(None, {"x": x.numpy()})[0]
        np.testing.assert_allclose(y, module(x).detach().numpy(), rtol=1e-4, atol=1e-4)


@every_mixer
def test_roles_name_every_parameter_and_parts_fill_the_weight(config: MixerChoice) -> None:
    module = built(config, causal=True)
    parameters = dict(module.named_parameters())
    roles = module.parameter_roles() if isinstance(module, HasRoles) else {}
    assert set(roles) == set(parameters)
    for name, role in roles.items():
        assert not role.parts or sum(role.parts) == parameters[name].shape[0]
