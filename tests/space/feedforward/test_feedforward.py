"""Feed-forwards: definitions, counts, roles, the hook of the hidden layer."""

import copy
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from space.activations import ActivationName, build_activation
from space.choice import Surroundings
from space.feedforward import FeedForwardConfig, GluConfig, MlpConfig
from space.feedforward.glu import glu_reference

AROUND = Surroundings(d_model=6, context_length=10, num_layers=2, causal=True, position="none")
CONFIGS = [
    kind(activation=name, d_ff=10) for kind in (MlpConfig, GluConfig) for name in get_args(ActivationName)
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_dump_json())


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@every_config
def test_values_and_gradients_equal_the_definition(config: FeedForwardConfig) -> None:
    module = config.build(AROUND).double()
    activation = build_activation(config.activation)
    x = random(2, 3, 6).requires_grad_()
    if isinstance(config, GluConfig):
        gate, up = module.get_parameter("gate_up.weight").chunk(2)
        slow = glu_reference(x, gate, up, module.get_parameter("down.weight"), activation)
    else:
        hidden = activation(x @ module.get_parameter("up.weight").T)
        slow = hidden @ module.get_parameter("down.weight").T
    fast = module(x)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    inputs = [x, *module.parameters()]
    for a, b in zip(*(torch.autograd.grad((y**2).sum(), inputs) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@every_config
def test_counted_parameters_and_macs_equal_the_formulas(config: FeedForwardConfig) -> None:
    module = config.build(AROUND)
    assert sum(parameter.numel() for parameter in module.parameters()) == config.params(6)
    assert sum(rows * columns for rows, columns in config.matrices(6)) == config.params(6)
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 9, 6))
    assert counter.get_total_flops() == 2 * config.macs(6, 9)


@every_config
def test_survives_json_state_dict_and_deepcopy(config: FeedForwardConfig) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(FeedForwardConfig)
    assert adapter.validate_json(config.model_dump_json()) == config
    module, other = config.build(AROUND), config.build(AROUND)
    other.load_state_dict(module.state_dict())
    x = random(2, 3, 6).float()
    assert torch.equal(other(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))


@every_config
def test_the_hook_sees_the_hidden_layer_after_the_activation(config: FeedForwardConfig) -> None:
    module = config.build(AROUND)
    seen: list[Tensor] = []
    module.get_submodule("hidden").register_forward_hook(lambda _m, _i, output: seen.append(output))
    x = random(2, 3, 6).float()
    y = module(x)
    assert seen[0].shape == (2, 3, 10)
    torch.testing.assert_close(module.get_submodule("down")(seen[0]), y)


def test_a_gated_layer_without_value_gives_zero() -> None:
    module = GluConfig(activation="silu", d_ff=10).build(AROUND)
    with torch.no_grad():
        module.gate_up.weight[10:].zero_()
    assert torch.equal(module(torch.ones(1, 2, 6)), torch.zeros(1, 2, 6))


@every_config
def test_roles_name_every_parameter(config: FeedForwardConfig) -> None:
    module = config.build(AROUND)
    parameters = dict(module.named_parameters())
    assert set(module.parameter_roles()) == set(parameters)
    for name, role in module.parameter_roles().items():
        assert not role.parts or sum(role.parts) == parameters[name].shape[0]
