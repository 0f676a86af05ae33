"""Dynamic convolution: its definition, the identities of its kernel, decoding, counts."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from space.choice import Mixer, Surroundings
from space.errors import InvalidArchitectureError
from space.mixers.dynconv import Dynconv, DynconvConfig, dynconv_reference
from space.positions import NonePositionConfig

D = 8
CONFIGS = [
    DynconvConfig(num_heads=1, width=1),
    DynconvConfig(num_heads=2, width=3),
    DynconvConfig(num_heads=4, width=5),
    DynconvConfig(num_heads=2, width=9),
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.num_heads}-{c.width}")
both_ways = pytest.mark.parametrize("causal", [True, False], ids=["causal", "both"])


def around(*, causal: bool) -> Surroundings:
    position = NonePositionConfig()
    return Surroundings(d_model=D, context_length=20, num_layers=1, causal=causal, position=position)


def built(config: DynconvConfig, *, causal: bool) -> Dynconv:
    module = config.build(around(causal=causal)).double()
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.6, generator=generator)
    return module


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def qkv(module: Dynconv, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = module.qkv(x).split(D, dim=-1)
    return q, k, v


@every_config
@both_ways
@pytest.mark.parametrize("is_padded", [False, True])
def test_dynconv_equals_its_definition(config: DynconvConfig, causal: bool, is_padded: bool) -> None:
    module = built(config, causal=causal)
    x = random(2, 6, D).requires_grad_()
    mask = torch.tensor([[True, False, True, True, True, False], [False, False, True, True, False, True]])
    real = mask if is_padded else None
    fast = module(x, real)
    slow = module.out(dynconv_reference(qkv(module, x), module, causal=causal, mask=real))
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    direction, inputs = random(2, 6, D, seed=4), [x, *module.parameters()]
    gradients = [torch.autograd.grad((y * direction).sum(), inputs, allow_unused=True) for y in (fast, slow)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-9, atol=1e-9)


@both_ways
def test_width_one_is_the_value_path(causal: bool) -> None:
    module = built(DynconvConfig(num_heads=2, width=1), causal=causal)
    x = random(2, 7, D)
    v = qkv(module, x)[2].reshape(2, 7, 2, -1)
    mapped = torch.einsum("bnhv,hov->bnho", v, module.value.reshape(2, D // 2, -1)).flatten(2)
    torch.testing.assert_close(module(x), module.out(mapped + module.value_bias), rtol=1e-12, atol=1e-12)


@every_config
@both_ways
def test_kernels_sum_to_one(config: DynconvConfig, causal: bool) -> None:
    module = built(config, causal=causal)
    with torch.no_grad():  # every value is the bias: what comes out is the sum of the kernel
        module.value.zero_()
        module.value_bias.fill_(1.0)
    x = random(2, 7, D)
    expected = module.out(torch.ones_like(x))
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


@every_config
@both_ways
def test_a_token_sees_its_window_and_nothing_else(config: DynconvConfig, causal: bool) -> None:
    module = built(config, causal=causal)
    back = config.width - 1 if causal else config.width // 2
    for i in (0, 5, 11):
        x = random(1, 12, D).requires_grad_()
        (gradient,) = torch.autograd.grad(module(x)[0, i].sum(), x)
        seen = [j for j in range(12) if gradient[0, j].abs().sum() > 0]
        assert seen == [j for j in range(12) if i - back <= j <= i - back + config.width - 1]
        assert max(abs(i - j) for j in seen) <= config.reach(around(causal=causal))


@every_config
@torch.no_grad()
def test_decoding_equals_the_whole_from_the_first_token(config: DynconvConfig) -> None:
    module, x = built(config, causal=True), random(2, 14, D)
    whole, state = module(x), module.init_state(2, dtype=torch.float64)
    for t in range(14):
        y, state = module.step(x[:, t : t + 1], state, torch.tensor(t))
        torch.testing.assert_close(y, whole[:, t : t + 1], rtol=1e-11, atol=1e-11)
    kept = sum(value[0].numel() for value in state.values())
    assert kept == config.state_size(around(causal=True), 14) == 2 * (config.width - 1) * D + 1


@every_config
@torch.no_grad()
def test_the_fast_prefill_keeps_what_the_slow_one_keeps(config: DynconvConfig) -> None:
    module, x, tokens = built(config, causal=True), random(3, 6, D), torch.arange(6)
    right = tokens[None] < torch.tensor([6, 2, 0])[:, None]
    left = tokens[None] >= torch.tensor([0, 4, 6])[:, None]
    for mask in (None, right, left):
        y, fast = module.prefill(x, mask)
        slow_y, slow = Mixer.prefill(module, x, mask)
        for name, value in slow.items():
            torch.testing.assert_close(fast[name], value, rtol=1e-11, atol=1e-11)
        real = torch.ones(3, 6, dtype=torch.bool) if mask is None else mask
        torch.testing.assert_close(y[real], slow_y[real], rtol=1e-11, atol=1e-11)


@both_ways
def test_a_token_whose_window_is_all_padding_gets_zero(causal: bool) -> None:
    module = built(DynconvConfig(num_heads=2, width=3), causal=causal)
    mask = torch.tensor([[True, False, False, False, False]])
    assert torch.equal(module(random(1, 5, D), mask)[0, 4], torch.zeros(D, dtype=torch.float64))


@every_config
def test_counts_are_those_of_the_design(config: DynconvConfig) -> None:
    at, n, w, heads = around(causal=True), 15, config.width, config.num_heads
    h = D // heads
    own = heads * (w * h + h * h + h) + heads * (h * w + w) + heads * (h * h + h)
    assert config.params(at) == 4 * D * D + own
    # the design's count has d w more: weighing the values, which runs as elementwise operators
    assert config.macs(at, n) == 4 * n * D * D + n * heads * (w * h + 2 * h * h + 2 * h * w) - n * D * w
    assert config.macs_decode(at, n) * n == config.macs(at, n)
    with FlopCounterMode(display=False) as counter:
        config.build(at)(torch.zeros(1, n, D))
    assert counter.get_total_flops() == 2 * config.macs(at, n)


@pytest.mark.parametrize(
    ("heads", "width", "peak"), [(1, 5, 4 * 15 * D + 4 * D), (8, 9, 72 * 15 + 3 * 15 * D + 8 * D)]
)
def test_activation_peak_is_at_the_span_or_at_the_sum(heads: int, width: int, peak: int) -> None:
    config = DynconvConfig(num_heads=heads, width=width)
    assert config.activation_size(around(causal=False), 15) == peak


def test_the_maps_inside_heads_start_with_unit_gain() -> None:
    torch.manual_seed(0)
    position = NonePositionConfig()
    at = Surroundings(d_model=256, context_length=20, num_layers=1, causal=True, position=position)
    module = DynconvConfig(num_heads=16).build(at)
    assert module.value.std().item() == pytest.approx(0.25 * 0.88, rel=0.05)  # cut at two deviations
    assert module.depthwise.std().item() == pytest.approx(0.02 * 0.88, rel=0.1)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValidationError, match="choose 5"):
        DynconvConfig(num_heads=2, width=4)
    with pytest.raises(InvalidArchitectureError, match="num_heads=3 does not divide d_model=8"):
        DynconvConfig(num_heads=3).check(around(causal=True))
