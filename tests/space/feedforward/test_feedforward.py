"""What every feed-forward owes: definitions, counts, roles, the hook of the hidden layer."""

import copy
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from space.activations import GateActivation, HiddenActivation, build_activation
from space.choice import FeedForwardChoice, Surroundings
from space.errors import InvalidArchitectureError
from space.feedforward import (
    FEED_FORWARDS,
    FeedForwardConfig,
    GluConfig,
    MlpConfig,
    MoeConfig,
    NestedConfig,
    NoFeedForwardConfig,
)
from space.feedforward.glu import glu_reference
from space.feedforward.mlp import mlp_reference
from space.model import build_model, parameter_roles

PLAIN = [
    *(MlpConfig(activation=name, d_ff=16) for name in get_args(HiddenActivation)),
    *(GluConfig(activation=name, d_ff=16) for name in get_args(GateActivation)),
    *(MlpConfig(activation=name, d_ff=16, num_hidden=3) for name in ("relu", "polynorm")),
]
CONFIGS: list[FeedForwardChoice] = [
    *PLAIN,
    *(
        MoeConfig(activation=name, d_ff=16, gated=name == "sigmoid", num_experts=4, top_k=k)
        for name, k in (("gelu", 1), ("sigmoid", 2), ("polyrelu", 2))
    ),
    *(
        NestedConfig(activation=name, d_ff=16, gated=name == "silu", granularity=g)
        for name, g in (("gelu", 1), ("silu", 2), ("polynorm", 2))
    ),
]
every_plain = pytest.mark.parametrize("config", PLAIN, ids=lambda config: config.model_dump_json())
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_dump_json())
rank_ratios = pytest.mark.parametrize("rank_ratio", [1.0, 0.5], ids=["dense", "low_rank"])


def test_every_kind_is_tested_here() -> None:
    assert {config.kind for config in CONFIGS} == set(FEED_FORWARDS) - {"none"}


@every_plain
def test_values_and_gradients_equal_the_definition(
    config: MlpConfig | GluConfig, around: Surroundings, random: Any
) -> None:
    module = config.build(around).double()
    activation = build_activation(config.activation).double()
    x = random(2, 3, 6).requires_grad_()
    weights = [parameter for name, parameter in module.named_parameters() if name.endswith("weight")]
    if isinstance(config, GluConfig):
        gate, up = weights[0].chunk(2)
        slow = glu_reference(x, gate, up, weights[1], activation)
    else:
        slow = mlp_reference(x, tuple(weights), activation)
    fast = module(x)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    inputs = [x, *weights]
    for a, b in zip(*(torch.autograd.grad((y**2).sum(), inputs) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@rank_ratios
@every_config
def test_counted_parameters_equal_the_formula(
    config: FeedForwardConfig, rank_ratio: float, around: Surroundings
) -> None:
    at = replace(around, rank_ratio=rank_ratio)
    assert sum(parameter.numel() for parameter in config.build(at).parameters()) == config.params(at)
    assert 0 <= config.idle_params(at) < config.params(at)


@rank_ratios
@every_config
def test_counted_macs_equal_the_formula(
    config: FeedForwardConfig, rank_ratio: float, around: Surroundings
) -> None:
    at = replace(around, rank_ratio=rank_ratio)
    module = config.build(at).eval()
    with FlopCounterMode(display=False) as counter:
        module(torch.randn(1, 9, 6, generator=torch.Generator().manual_seed(0)))
    assert counter.get_total_flops() == 2 * config.macs(at, 9)


@every_config
def test_survives_json_state_dict_and_deepcopy(
    config: FeedForwardConfig, around: Surroundings, random: Any
) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(FeedForwardConfig)
    assert adapter.validate_json(config.model_dump_json()) == config
    module, other = config.build(around), config.build(around)
    other.load_state_dict(module.state_dict())
    x = random(2, 3, 6).float()
    assert torch.equal(other(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))


@every_config
def test_the_hook_sees_the_hidden_layer_after_the_activation(
    config: FeedForwardConfig, around: Surroundings, random: Any
) -> None:
    module = config.build(around).eval()
    seen: list[Tensor] = []
    module.get_submodule("hidden").register_forward_hook(lambda _m, _i, output: seen.append(output))
    module(random(2, 3, 6).float())
    rows = sum(output.shape[:-1].numel() for output in seen)
    assert rows == 6 * getattr(config, "top_k", 1)
    assert {output.shape[-1] for output in seen} == {16 // getattr(config, "granularity", 1)}


@every_config
def test_every_token_is_on_its_own(config: FeedForwardConfig, around: Surroundings, random: Any) -> None:
    module = config.build(around).double().eval()
    x = random(2, 5, 6).requires_grad_()
    y = module(x)
    for token in range(5):
        (gradient,) = torch.autograd.grad(y[:, token].square().sum(), x, retain_graph=True)
        assert gradient[:, token].abs().sum() > 0
        assert gradient[:, [t for t in range(5) if t != token]].abs().sum() == 0


@every_config
def test_padding_changes_nothing_at_real_tokens(
    config: FeedForwardConfig, around: Surroundings, random: Any
) -> None:
    module = config.build(around).double().eval()
    x, mask = (
        random(2, 5, 6),
        torch.tensor([[True, True, True, False, False], [False, True, True, True, True]]),
    )
    torch.testing.assert_close(module(x, mask)[mask], module(x)[mask], rtol=1e-12, atol=1e-14)


@every_config
def test_gradients_are_finite_at_every_scale(
    config: FeedForwardConfig, around: Surroundings, random: Any
) -> None:
    module = config.build(around)
    for scale in (0.0, 1e-3, 1.0, 1e3):
        x = (scale * random(2, 3, 6).float()).requires_grad_()
        gradients = torch.autograd.grad(module(x).sum(), [x, *module.parameters()])
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


@every_config
def test_bfloat16_stays_bfloat16(config: FeedForwardConfig, around: Surroundings, random: Any) -> None:
    module = config.build(around).bfloat16().eval()
    x = random(2, 3, 6).bfloat16()
    y = module(x)
    assert y.dtype == torch.bfloat16
    wide = module.float()(x.float()).detach()
    # 8 bits of mantissa in every weight, input and sum
    torch.testing.assert_close(y.detach().float(), wide, rtol=0.0, atol=0.05 * float(wide.abs().max()))


@every_config
def test_roles_name_every_parameter(config: FeedForwardConfig, decoder: Any) -> None:
    model = build_model(decoder(config.model_dump()), seed=0)
    roles, parameters = parameter_roles(model), dict(model.named_parameters())
    assert set(roles) == set(parameters)
    for name, role in roles.items():
        assert not role.parts or sum(role.parts) == parameters[name].shape[0]
        if ".feed_forward." in name:
            assert role.role.startswith("ffn.")


@every_config
def test_the_halves_of_a_macaron_layer_have_half_the_width(config: FeedForwardConfig) -> None:
    half = config.halved()
    assert (half.kind, half.d_ff) == (config.kind, 8)  # type: ignore[attr-defined]  # every kind here has it
    half.check(Surroundings(6, 10, 2, True, None))  # type: ignore[arg-type]  # no feed-forward reads it


def test_a_gated_layer_without_value_gives_zero(around: Surroundings) -> None:
    module = GluConfig(activation="silu", d_ff=10).build(around)
    with torch.no_grad():
        module.get_parameter("gate_up.weight")[10:].zero_()
    assert torch.equal(module(torch.ones(1, 2, 6)), torch.zeros(1, 2, 6))


def test_an_option_at_its_default_leaves_the_json_as_it_was() -> None:
    assert MlpConfig(d_ff=8).model_dump() == {"kind": "mlp", "activation": "gelu", "d_ff": 8}
    assert "gated" not in MoeConfig(d_ff=8).model_dump()
    assert "gated" not in NestedConfig(d_ff=8).model_dump()


def test_activations_stand_only_where_they_fit(around: Surroundings) -> None:
    with pytest.raises(ValidationError):
        GluConfig.model_validate({"activation": "polynorm", "d_ff": 8})
    with pytest.raises(ValidationError):
        MlpConfig.model_validate({"activation": "identity", "d_ff": 8})
    for config in (
        MoeConfig(activation="polyrelu", gated=True, d_ff=8),
        NestedConfig(activation="sigmoid", d_ff=8),
    ):
        with pytest.raises(InvalidArchitectureError, match="does not fit"):
            config.check(around)


@pytest.mark.parametrize("kind", [MoeConfig, NestedConfig])
def test_genes_are_moved_to_what_fits(kind: type[FeedForwardChoice], around: Surroundings) -> None:
    rest = {"num_experts": 2, "top_k": 2} if kind is MoeConfig else {"granularity": 8}
    values = {"activation": "polynorm", "d_ff": 96, "gated": True, **rest}
    config = kind.model_validate(kind.snapped(values, around))
    config.check(around)
    assert config.model_dump()["activation"] == "silu"
    assert config.model_dump()["d_ff"] == 64
    plain = kind.model_validate(kind.snapped({**values, "gated": False}, around))
    plain.check(around)
    assert plain.model_dump()["activation"] == "polynorm"


def test_a_layer_without_feed_forward_is_its_mixer_and_one_norm(decoder: Any) -> None:
    architecture = decoder({"kind": "none"}, layer={"residual": "macaron"})
    assert architecture.layers[0].feed_forward == NoFeedForwardConfig()
    assert architecture.layers[0].residual == "serial"
    model = build_model(architecture, seed=0)
    names = {name.split(".")[2] for name, _ in model.named_parameters() if name.startswith("blocks.")}
    assert names == {"mixer", "mixer_norm"}
    block = model.blocks[0]
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    expected = x + block.get_submodule("mixer")(block.get_submodule("mixer_norm")(x))
    torch.testing.assert_close(block(x), expected)


def test_a_mixer_without_nonlinearity_needs_a_feed_forward(decoder: Any) -> None:
    with pytest.raises(InvalidArchitectureError, match="needs a feed-forward"):
        decoder({"kind": "none"}, layer={"mixer": {"kind": "pool", "width": 3}})


def test_macaron_with_a_first_feed_forward_of_zero_and_a_factor_of_one_is_the_standard_layer(
    decoder: Any,
) -> None:
    macaron = build_model(
        decoder({"kind": "glu", "d_ff": 16}, layer={"residual": "macaron"}, depth=1), seed=0
    )
    standard = build_model(decoder({"kind": "glu", "d_ff": 8}, depth=1), seed=1)
    weights = {name: tensor for name, tensor in macaron.state_dict().items() if ".first_" not in name}
    down = "blocks.0.feed_forward.down.weight"
    standard.load_state_dict({**weights, down: 0.5 * weights[down]})  # the half of the layer, in the weights
    with torch.no_grad():
        macaron.get_parameter("blocks.0.first_feed_forward.down.weight").zero_()
    tokens = torch.arange(12).reshape(1, 12)
    torch.testing.assert_close(macaron(tokens), standard(tokens))
