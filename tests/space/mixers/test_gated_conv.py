"""Gated convolution: its definition, identities, reach, start and decoding."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from space.choice import Mixer, Surroundings
from space.mixers.gated_conv import GatedConv, GatedConvConfig, gated_conv_reference
from space.positions import NonePositionConfig

both_ways = pytest.mark.parametrize("causal", [True, False], ids=["causal", "both"])
CONFIGS = [
    GatedConvConfig(width=1),
    GatedConvConfig(width=3),
    GatedConvConfig(width=4, gates=2),
    GatedConvConfig(width=7, gates=2),
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.width}-{c.gates}")


def around(*, causal: bool, d_model: int = 6) -> Surroundings:
    position = NonePositionConfig()
    return Surroundings(d_model=d_model, context_length=20, num_layers=1, causal=causal, position=position)


def built(config: GatedConvConfig, *, causal: bool) -> GatedConv:
    module = config.build(around(causal=causal)).double()
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    return module


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def parts_of(module: GatedConv, x: Tensor) -> tuple[Tensor, ...]:
    projected: Tensor = module.input(x)
    return torch.split(projected, 6, dim=-1)


@every_config
@both_ways
@pytest.mark.parametrize("is_padded", [False, True])
def test_gated_conv_equals_its_definition(config: GatedConvConfig, causal: bool, is_padded: bool) -> None:
    module = built(config, causal=causal)
    x = random(2, 9, 6).requires_grad_()
    mask = torch.rand(2, 9, generator=torch.Generator().manual_seed(1)) < 0.7 if is_padded else None
    fast = module(x, mask)
    mixed = gated_conv_reference(parts_of(module, x), module.kernel, module.bias, causal=causal, mask=mask)
    slow = module.out(mixed)
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-11)
    direction, inputs = random(2, 9, 6), [x, *module.parameters()]
    gradients = (torch.autograd.grad((y * direction).sum(), inputs) for y in (fast, slow))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every_config
@both_ways
def test_a_token_sees_the_taps_of_the_kernel_and_nothing_else(config: GatedConvConfig, causal: bool) -> None:
    module = built(config, causal=causal)
    back = config.width - 1 if causal else config.width // 2
    for i in (0, 5, 11):
        x = random(1, 12, 6).requires_grad_()
        (gradient,) = torch.autograd.grad(module(x)[0, i].sum(), x)
        seen = [j for j in range(12) if gradient[0, j].abs().sum() > 0]
        assert seen == [j for j in range(12) if i - back <= j <= i - back + config.width - 1]
        assert max(abs(i - j) for j in seen) <= config.reach(around(causal=causal))


@pytest.mark.parametrize("gates", [1, 2])
@both_ways
def test_a_delta_kernel_leaves_the_gated_linear_map(causal: bool, gates: int) -> None:
    module = built(GatedConvConfig.model_validate({"width": 5, "gates": gates}), causal=causal)
    here = 4 if causal else 2
    with torch.no_grad():
        module.bias.zero_()
        module.kernel.zero_()
        module.kernel[:, here] = 1.0
    x = random(2, 9, 6)
    parts = parts_of(module, x)
    gated = parts[0] * functional.silu(parts[1]) if gates == 1 else parts[1] * (parts[0] * parts[2])
    torch.testing.assert_close(module(x), module.out(gated), rtol=1e-12, atol=1e-12)


@both_ways
def test_width_one_is_a_gated_linear_map(causal: bool) -> None:
    module = built(GatedConvConfig(width=1), causal=causal)
    x = random(2, 9, 6)
    u, gate = parts_of(module, x)
    expected = module.out((u * module.kernel[:, 0] + module.bias) * functional.silu(gate))
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


def test_the_kernel_starts_as_a_mean() -> None:
    torch.manual_seed(0)
    module = GatedConvConfig(width=64, gates=2).build(around(causal=True, d_model=64))
    assert module.kernel.mean().item() == pytest.approx(1 / 64, abs=2e-3)
    assert module.kernel.std().item() == pytest.approx(0.02, rel=0.05)


@every_config
@torch.no_grad()
def test_decoding_equals_the_whole_over_the_first_tokens(config: GatedConvConfig) -> None:
    module, x = built(config, causal=True), random(2, 12, 6)
    whole, state = module(x), module.init_state(2, dtype=torch.float64)
    for t in range(12):
        y, state = module.step(x[:, t : t + 1], state, torch.tensor(t))
        torch.testing.assert_close(y, whole[:, t : t + 1], rtol=1e-12, atol=1e-12)
        assert state["inputs"][0].numel() == config.state_size(around(causal=True), t + 1)


@every_config
@torch.no_grad()
def test_the_fast_prefill_keeps_what_the_slow_one_keeps(config: GatedConvConfig) -> None:
    module, x, tokens = built(config, causal=True), random(3, 6, 6), torch.arange(6)
    right = tokens[None] < torch.tensor([6, 2, 0])[:, None]
    left = tokens[None] >= torch.tensor([0, 4, 6])[:, None]
    for mask in (None, right, left):
        y, fast = module.prefill(x, mask)
        slow_y, slow = Mixer.prefill(module, x, mask)
        torch.testing.assert_close(fast["inputs"], slow["inputs"], rtol=1e-12, atol=1e-12)
        real = torch.ones(3, 6, dtype=torch.bool) if mask is None else mask
        torch.testing.assert_close(y[real], slow_y[real], rtol=1e-12, atol=1e-12)


def test_a_masked_step_leaves_the_state() -> None:
    module, x = built(GatedConvConfig(width=3), causal=True), random(2, 1, 6)
    state = {"inputs": random(2, 2, 6)}
    _, after = module.step(x, state, torch.tensor(5), torch.tensor([[False], [True]]))
    assert torch.equal(after["inputs"][0], state["inputs"][0])
    assert torch.equal(after["inputs"][1, 0], state["inputs"][1, 1])


@pytest.mark.parametrize("gates", [1, 2])
def test_counts_are_those_of_the_design(gates: int) -> None:
    config, at, n = GatedConvConfig.model_validate({"width": 4, "gates": gates}), around(causal=True), 15
    square = (2 + gates) * 6 * 6
    assert config.params(at) == square + (4 + 1) * 6
    assert config.macs(at, n) == n * (square + 4 * 6)
    assert config.macs_decode(at, n) == square + 4 * 6
