"""Every mixer against its definition: values and gradients in float64, odd lengths, padding anywhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from space.choice import MixerChoice, Surroundings
from space.mixers import GatedConvConfig, LinearEluConfig, PoolConfig, SlidingWindowConfig, SoftmaxConfig
from space.mixers.gated_conv import GatedConv, gated_conv_reference
from space.mixers.linear_elu import LinearElu, linear_elu_reference
from space.mixers.pool import Pool, pool_reference
from space.mixers.sliding_window import SlidingWindow, sliding_window_reference
from space.mixers.softmax import Softmax, softmax_reference
from space.positions.alibi import alibi_slopes

D_MODEL = 12
CONTEXT = 150
Definition = Callable[[nn.Module, MixerChoice, Tensor, Tensor | None, bool, str], Tensor]


def heads(x: Tensor, weight: Tensor, count: int) -> Tensor:
    return (x @ weight.T).reshape(*x.shape[:2], count, -1).transpose(1, 2)


def slopes_of(position: str, num_heads: int) -> Tensor | None:
    return alibi_slopes(num_heads).float().double() if position == "alibi" else None


def defined_attention(
    module: nn.Module, config: MixerChoice, x: Tensor, mask: Tensor | None, causal: bool, position: str
) -> Tensor:
    assert isinstance(module, Softmax | SlidingWindow)
    assert isinstance(config, SoftmaxConfig | SlidingWindowConfig)
    parts = module.parameter_roles()["qkv.weight"].parts
    counts = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
    weights = torch.split(module.qkv.weight, list(parts))
    q, k, v = (heads(x, weight, count) for weight, count in zip(weights, counts, strict=True))
    q, k = module.rotary(q), module.rotary(k)
    slopes = slopes_of(position, config.num_heads)
    if isinstance(config, SlidingWindowConfig):
        y = sliding_window_reference(q, k, v, window=config.window, causal=causal, slopes=slopes, mask=mask)
    else:
        y = softmax_reference(q, k, v, causal=causal, slopes=slopes, mask=mask)
    return y.transpose(1, 2).flatten(2) @ module.out.weight.T


def defined_linear_elu(
    module: nn.Module, config: MixerChoice, x: Tensor, mask: Tensor | None, causal: bool, position: str
) -> Tensor:
    assert isinstance(module, LinearElu)
    q, k, v = (heads(x, weight, module.num_heads) for weight in module.qkv.weight.chunk(3))
    rotary = module.rotary if position == "rope" else None
    y = linear_elu_reference(q, k, v, causal=causal, rotary=rotary, mask=mask)
    return y.transpose(1, 2).flatten(2) @ module.out.weight.T


def defined_gated_conv(
    module: nn.Module, config: MixerChoice, x: Tensor, mask: Tensor | None, causal: bool, position: str
) -> Tensor:
    assert isinstance(module, GatedConv)
    parts = tuple(x @ weight.T for weight in module.input.weight.chunk(1 + module.gates))
    y = gated_conv_reference(parts, module.kernel, module.bias, causal=causal, mask=mask)
    return y @ module.out.weight.T


def defined_pool(
    module: nn.Module, config: MixerChoice, x: Tensor, mask: Tensor | None, causal: bool, position: str
) -> Tensor:
    assert isinstance(module, Pool)
    return pool_reference(x, module.width, causal=causal, mask=mask)


CASES: list[tuple[MixerChoice, Definition]] = [
    (SoftmaxConfig(num_heads=4, num_kv_heads=4), defined_attention),
    (SoftmaxConfig(num_heads=4, num_kv_heads=2), defined_attention),
    (SoftmaxConfig(num_heads=6, num_kv_heads=1), defined_attention),
    (SlidingWindowConfig(num_heads=4, num_kv_heads=2, window=8), defined_attention),
    (SlidingWindowConfig(num_heads=4, num_kv_heads=4, window=7), defined_attention),
    (SlidingWindowConfig(num_heads=4, num_kv_heads=1, window=140), defined_attention),
    (LinearEluConfig(num_heads=4), defined_linear_elu),
    (LinearEluConfig(num_heads=2), defined_linear_elu),
    (GatedConvConfig(width=3, gates=1), defined_gated_conv),
    (GatedConvConfig(width=4, gates=2), defined_gated_conv),
    (PoolConfig(width=5), defined_pool),
]


@pytest.mark.parametrize(
    ("config", "definition", "position"),
    [(*case, position) for case in CASES for position in ("none", *sorted(case[0].positions))],
    ids=lambda value: getattr(value, "kind", value if isinstance(value, str) else ""),
)
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
def test_module_equals_its_definition(
    config: MixerChoice, definition: Definition, position: str, causal: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    around = Surroundings(
        d_model=D_MODEL, context_length=CONTEXT, num_layers=1, causal=causal, position=position
    )
    module = config.build(around).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    for tokens, is_padded in ((1, False), (10, False), (10, True)):
        x = torch.randn(2, tokens, D_MODEL, generator=generator, dtype=torch.float64, requires_grad=True)
        mask = torch.rand(2, tokens, generator=generator) < 0.7 if is_padded else None
        fast, slow = module(x, mask), definition(module, config, x, mask, causal, position)
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
        direction = torch.randn(fast.shape, generator=generator, dtype=torch.float64)
        inputs = [x, *module.parameters()]
        gradients = (torch.autograd.grad((y * direction).sum(), inputs) for y in (fast, slow))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_linear_elu_over_several_chunks_equals_the_recurrence() -> None:
    around = Surroundings(d_model=8, context_length=CONTEXT, num_layers=1, causal=True, position="rope")
    config = LinearEluConfig(num_heads=2)
    module = config.build(around).double()
    for tokens in (63, 64, 65, 150):
        x = torch.randn(1, tokens, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(tokens))
        slow = defined_linear_elu(module, config, x, None, True, "rope")
        torch.testing.assert_close(module(x), slow, rtol=1e-9, atol=1e-12)
