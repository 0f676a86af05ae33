"""Linear attention with positive features: definitions, modules against them, feature maps, gates."""

import pytest
import torch
from torch import Tensor

from space.choice import Mixer, Surroundings
from space.errors import InvalidArchitectureError
from space.layer_options import mixer_config
from space.mixers import LinearEluConfig
from space.mixers.linear_elu import LinearElu, feature_map, linear_elu_reference
from space.positions import POSITIONS
from space.positions.rope import build_rotary


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def there(*, causal: bool = True, position: str = "none", context: int = 70) -> Surroundings:
    return Surroundings(8, context, num_layers=2, causal=causal, position=POSITIONS[position]())


def built(config: LinearEluConfig, at: Surroundings) -> LinearElu:
    torch.manual_seed(0)
    module = config.build(at).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


def heads_of(module: Mixer, x: Tensor) -> list[Tensor]:
    """q, k and v by head from the module's own projection."""
    projected = module.get_submodule("qkv")(x)
    return [part.reshape(*x.shape[:2], 2, 4) for part in projected.split(8, dim=-1)]


@pytest.mark.parametrize("kind", ["elu1", "relu", "t2r"])
@pytest.mark.parametrize("position", ["none", "rope"])
@pytest.mark.parametrize(("causal", "context", "tokens"), [(True, 20, 9), (True, 70, 37), (False, 20, 9)])
def test_the_module_equals_the_definition_in_values_and_gradients(
    kind: str, position: str, causal: bool, context: int, tokens: int
) -> None:
    at = there(causal=causal, position=position, context=context)
    module = built(LinearEluConfig.model_validate({"num_heads": 2, "feature_map": kind}), at)
    x = random(1, tokens, 8).requires_grad_()
    mask = torch.ones(1, tokens, dtype=torch.bool)
    mask[:, :2] = False
    rotary = build_rotary(at, 4).double() if position == "rope" else None
    mixed = linear_elu_reference(
        *heads_of(module, x), causal=causal, kind=module.feature_map, rotary=rotary, mask=mask,
        matrices=None if module.map is None else module.map.matrix,
    )  # fmt: skip
    ours, reference = module(x, mask)[:, 2:], module.out(mixed.flatten(2))[:, 2:]
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)
    inputs = [x, *module.parameters()]
    for got, wanted in zip(
        *(torch.autograd.grad((y**2).sum(), inputs, retain_graph=True) for y in (ours, reference)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-9)


def test_constant_values_pass_through_up_to_epsilon() -> None:
    q, k, v = random(2, 7, 3, 4), random(2, 7, 3, 4, seed=1), torch.ones(2, 7, 3, 4, dtype=torch.float64)
    for causal in (True, False):
        torch.testing.assert_close(linear_elu_reference(q, k, v, causal=causal), v, rtol=1e-5, atol=0)


def test_definition_equals_the_normalised_square() -> None:
    q, k, v = (random(2, 7, 3, 4, seed=seed) for seed in range(3))
    scores = (feature_map(q).transpose(1, 2) @ feature_map(k).permute(0, 2, 3, 1)).tril()
    square = scores @ v.transpose(1, 2) / (scores.sum(-1, keepdim=True) + 1e-6)
    definition = linear_elu_reference(q, k, v, causal=True)
    torch.testing.assert_close(definition, square.transpose(1, 2), rtol=1e-9, atol=1e-12)


def test_a_query_with_no_permitted_key_gives_zero() -> None:
    module = built(LinearEluConfig(num_heads=2), there())
    absent = torch.zeros(1, 5, dtype=torch.bool)
    assert not module(random(1, 5, 8), absent).any()


def test_features_are_positive_and_t2r_starts_near_relu() -> None:
    u = random(50, 4)
    for kind in ("elu1", "relu"):
        assert (feature_map(u, kind) > 0).all()
    torch.manual_seed(0)
    module = LinearEluConfig(num_heads=2, feature_map="t2r").build(there())
    assert module.map is not None
    distance = module.map.matrix - torch.eye(4)
    assert 0 < distance.abs().max() <= 0.04


def test_the_state_does_not_grow_with_the_context() -> None:
    config, at = LinearEluConfig(num_heads=4), there(context=10_000)
    assert config.state_size(at, 1) == config.state_size(at, 10_000) == 4 * 2 * (2 + 1)


def test_costs_are_those_of_the_formulas() -> None:
    """choices.md 2.2: running sums of weights are left out; chunks of c tokens are counted whole."""
    config, d, h, c, n = LinearEluConfig(num_heads=2), 8, 4, 32, 128
    at = there(context=n)
    assert config.params(at) == 4 * d**2
    assert config.macs(at, n) == 4 * n * d**2 + 2 * n * d * (h + c)
    assert config.macs_causal(at, n) == 4 * n * d**2 + 2 * n * d * h + n * d * (c + 1)
    assert config.macs_decode(at, n) == 4 * d**2 + 2 * d * h
    both_ways = there(context=n, causal=False)
    assert config.macs(both_ways, n) == 4 * n * d**2 + 2 * n * d * h


def test_an_open_gate_changes_nothing_and_a_gate_starts_as_open_as_it_is_told() -> None:
    at, x = there(), random(2, 6, 8)
    plain = built(LinearEluConfig(num_heads=2), at)
    gated = LinearEluConfig(num_heads=2, gated_attention="per_head", gate_openness=0.1).build(at).double()
    gated.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(gated(x), 0.1 * plain(x), rtol=1e-6, atol=0)
    with torch.no_grad():
        gated.get_parameter("gate.logit").fill_(50.0)
    torch.testing.assert_close(gated(x), plain(x))


def test_options_at_their_default_leave_the_json_and_ids_as_they_were() -> None:
    assert LinearEluConfig(num_heads=2).model_dump() == {"kind": "linear_elu", "num_heads": 2}
    closed = LinearEluConfig(num_heads=2, gate_openness=0.5)
    assert closed.canonical(there()) == LinearEluConfig(num_heads=2)
    genes: dict[str, str | int] = {"mixer": "linear_elu", "head_width": 8, "feature_map": "t2r"}
    assert mixer_config(genes, there()) == LinearEluConfig(num_heads=1, feature_map="t2r")


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InvalidArchitectureError, match="num_heads=3 does not divide d_model=8"):
        LinearEluConfig(num_heads=3).check(there())
