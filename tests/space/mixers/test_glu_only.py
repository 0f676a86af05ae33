"""The gated maps over channels and over tokens: definitions, what they see, what they refuse."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from space.activations import build_activation
from space.choice import Surroundings
from space.errors import InvalidArchitectureError
from space.layer_options import Levels, mixer_config
from space.mixers.glu_only import GluOnly, GluOnlyConfig, glu_only_reference
from space.mixers.token_glu import (
    CausalTokenGlu,
    TokenGlu,
    TokenGluConfig,
    causal_token_glu_reference,
    token_glu_reference,
)
from space.mixing.gating import MIXER_ACTIVATION
from space.positions import NonePositionConfig

N = 10


def around(*, causal: bool) -> Surroundings:
    position = NonePositionConfig()
    return Surroundings(d_model=6, context_length=N, num_layers=1, causal=causal, position=position)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def enlarged(module: nn.Module) -> None:
    """Starting weights are so small that differences would hide."""
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)


def assert_same_function(fast: Tensor, slow: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-11)
    direction = random(*fast.shape, seed=9)
    gradients = (torch.autograd.grad((y * direction).sum(), inputs) for y in (fast, slow))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", MIXER_ACTIVATION.values)
@pytest.mark.parametrize("expansion", [1, 2])
def test_the_channel_form_equals_its_definition(activation: str, expansion: int) -> None:
    config = GluOnlyConfig.model_validate({"activation": activation, "expansion": expansion})
    module = config.build(around(causal=True)).double()
    assert isinstance(module, GluOnly)
    enlarged(module)
    x = random(2, 7, 6).requires_grad_()
    gate, up = module.gate_up.get_parameter("weight").chunk(2)
    out = module.out.get_parameter("weight")
    slow = glu_only_reference(x, gate, up, out, build_activation(config.activation))
    assert_same_function(module(x), slow, [x, *module.parameters()])


def test_the_channel_form_commutes_with_permutations_of_tokens() -> None:
    module = GluOnlyConfig().build(around(causal=False)).double()
    x, order = random(2, 7, 6), torch.tensor([3, 1, 6, 0, 2, 5, 4])
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order], rtol=1e-13, atol=1e-13)


def test_the_channel_form_decodes_without_a_state() -> None:
    config, at = GluOnlyConfig(), around(causal=True)
    module = config.build(at).double()
    x = random(2, 4, 6)
    y, state = module.step(x[:, 2:3], module.init_state(2), torch.tensor(2))
    assert state == {}
    assert config.state_size(at, 3) == config.reach(at) == 0
    torch.testing.assert_close(y, module(x)[:, 2:3], rtol=1e-13, atol=1e-13)


def test_counts_of_the_channel_form_are_those_of_the_design() -> None:
    config, at = GluOnlyConfig(expansion=2), around(causal=False)
    assert config.params(at) == 3 * 6 * 12
    assert config.macs(at, 7) == 7 * 3 * 6 * 12


@pytest.mark.parametrize("activation", MIXER_ACTIVATION.values)
@pytest.mark.parametrize("expansion", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("tokens", [1, 7, N])
def test_the_token_form_equals_its_definition(activation: str, expansion: float, tokens: int) -> None:
    config = TokenGluConfig.model_validate({"activation": activation, "expansion": expansion})
    module = config.build(around(causal=False)).double()
    assert isinstance(module, TokenGlu)
    enlarged(module)
    x = random(2, tokens, 6).requires_grad_()
    slow = token_glu_reference(x, module.gate, module.up, module.out, module.activation)
    assert_same_function(module(x), slow, [x, *module.parameters()])


@pytest.mark.parametrize("tokens", [1, 7, N])
def test_the_causal_token_form_equals_its_definition(tokens: int) -> None:
    module = TokenGluConfig(activation="silu").build(around(causal=True)).double()
    assert isinstance(module, CausalTokenGlu)
    enlarged(module)
    x = random(2, tokens, 6).requires_grad_()
    slow = causal_token_glu_reference(x, module.triangles, module.out, module.activation)
    assert_same_function(module(x), slow, [x, *module.parameters()])


def test_the_causal_token_form_reads_every_stored_number() -> None:
    module = TokenGluConfig().build(around(causal=True)).double()
    enlarged(module)
    gradients = torch.autograd.grad(module(random(2, N, 6)).square().sum(), list(module.parameters()))
    assert all(bool((gradient != 0).all()) for gradient in gradients)


@pytest.mark.parametrize("causal", [True, False])
def test_a_token_sees_the_past_or_all(causal: bool) -> None:
    module = TokenGluConfig().build(around(causal=causal)).double()
    enlarged(module)
    for i in (0, 4, N - 1):
        x = random(1, N, 6).requires_grad_()
        (gradient,) = torch.autograd.grad(module(x)[0, i].sum(), x)
        seen = [j for j in range(N) if gradient[0, j].abs().sum() > 0]
        assert seen == (list(range(i + 1)) if causal else list(range(N)))


@pytest.mark.parametrize("causal", [True, False])
def test_padding_anywhere_is_as_if_it_were_not_there(causal: bool) -> None:
    module = TokenGluConfig().build(around(causal=causal)).double()
    enlarged(module)
    x = random(2, 6, 6)
    mask = torch.zeros(2, N, dtype=torch.bool)
    mask[0, [0, 2, 3, 5, 8, 9]] = True
    mask[1, 4:] = True
    padded = 100.0 * random(2, N, 6, seed=2)
    padded[mask] = x.flatten(0, 1)
    y = module(padded, mask)
    torch.testing.assert_close(y[mask], module(x).flatten(0, 1), rtol=1e-11, atol=1e-11)
    assert torch.isfinite(y).all()


def test_counts_of_the_token_form_are_those_of_the_design() -> None:
    both, causal = around(causal=False), around(causal=True)
    config = TokenGluConfig(expansion=2.0)
    assert config.params(both) == 3 * N * 2 * N
    assert config.macs(both, 7) == 3 * 7 * 6 * 2 * N
    assert TokenGluConfig().params(causal) == 2 * (N * (N + 1) // 2) + N
    assert TokenGluConfig().macs(causal, 7) == 2 * 6 * 7**2
    assert TokenGluConfig().macs_causal(causal, 7) == 2 * 6 * (7 * 8 // 2)


def test_activation_peaks_are_those_of_the_operators_in_their_order() -> None:
    both, causal = around(causal=False), around(causal=True)
    assert GluOnlyConfig(expansion=2).activation_size(both, 7) == 7 * (6 + 12 + 12)
    assert TokenGluConfig(expansion=2.0).activation_size(both, 7) == 7 * 6 + 2 * (2 * N * 6)
    # two squares of the whole context are made first; 100 numbers each against 42 of the input
    assert TokenGluConfig().activation_size(causal, 7) == 2 * 42 + 2 * 100


def test_a_causal_token_form_of_another_width_is_refused_and_a_gene_moves_to_one() -> None:
    at = around(causal=True)
    with pytest.raises(InvalidArchitectureError, match="set expansion to 1"):
        TokenGluConfig(expansion=2.0).check(at)
    levels: Levels = {"mixer": "token_glu", "mixer_activation": "relu", "token_expansion": 2.0}
    assert mixer_config(levels, at) == TokenGluConfig(activation="relu")
    assert mixer_config(levels, around(causal=False)) == TokenGluConfig(activation="relu", expansion=2.0)


def test_the_gate_has_the_activation_it_is_given() -> None:
    module = GluOnlyConfig(activation="relu").build(around(causal=False)).double()
    x = random(1, 3, 6)
    gate, up = (x @ weight.T for weight in module.gate_up.get_parameter("weight").chunk(2))
    torch.testing.assert_close(module(x), module.out(functional.relu(gate) * up), rtol=1e-12, atol=1e-12)
