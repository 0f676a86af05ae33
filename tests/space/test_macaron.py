"""Layers with half a feed-forward on each side of the mixer (choices.md 6.4, E7)."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from space.architecture import Architecture, parse_architecture
from space.costs import costs
from space.feedforward import FEED_FORWARDS
from space.model import Block, Model, build_model

D_MODEL, TOKENS = 16, 12
MLP = {"kind": "mlp", "activation": "gelu", "d_ff": 32}
KINDS: dict[str, dict[str, Any]] = {
    "mlp": MLP,
    "glu": {"kind": "glu", "activation": "silu", "d_ff": 32},
    "moe": {"kind": "moe", "activation": "gelu", "d_ff": 16},
    "nested": {"kind": "nested", "activation": "gelu", "d_ff": 32, "granularity": 2},
}


def architecture(feed_forward: dict[str, Any] = MLP, *, depth: int = 1, **more: Any) -> Architecture:
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
        "feed_forward": feed_forward,
        "norm": {"kind": "layernorm"},
        **more,
    }
    return parse_architecture(
        {
            "model": "encoder",
            "interface": {"input": "values", "channels": 3, "context_length": TOKENS, "outputs": 4},
            "d_model": D_MODEL,
            "position": {"kind": "learned"},
            "layers": [layer] * depth,
            "final_norm": {"kind": "layernorm"},
            "head": {"kind": "classification"},
        }
    )


def block_of(model: Model) -> Block:
    block = model.blocks[0]
    assert isinstance(block, Block)
    return block


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_block_is_the_written_composition(placement: str) -> None:
    block = block_of(build_model(architecture(residual="macaron", placement=placement), seed=0).double())
    first, second, mix = block.first_feed_forward, block.feed_forward, block.mixer
    n0, n1, n2 = block.first_norm, block.mixer_norm, block.feed_forward_norm
    assert first is not None
    assert second is not None
    assert n0 is not None
    assert n2 is not None
    assert first is not second
    y = x = random(2, 5, D_MODEL)
    if placement == "pre":
        y = y + 0.5 * first(n0(y))
        y = y + mix(n1(y))
        y = y + 0.5 * second(n2(y))
    else:
        y = n0(y + 0.5 * first(y))
        y = n1(y + mix(y))
        y = n2(y + 0.5 * second(y))
    torch.testing.assert_close(block(x), y, rtol=1e-12, atol=1e-12)


def test_e7_without_its_first_half_and_with_factor_one_it_is_the_serial_layer() -> None:
    macaron = block_of(build_model(architecture(residual="macaron"), seed=0).double())
    serial = block_of(build_model(architecture({**MLP, "d_ff": 16}), seed=1).double())
    first, second = macaron.first_feed_forward, macaron.feed_forward
    assert first is not None
    assert second is not None
    nn.init.normal_(second.get_parameter("down.weight"))
    kept = {name: value for name, value in macaron.state_dict().items() if not name.startswith("first_")}
    serial.load_state_dict(kept)
    with torch.no_grad():
        first.get_parameter("down.weight").zero_()
        second.get_parameter("down.weight").mul_(2.0)  # half of it is the whole
    x = random(2, 5, D_MODEL)
    torch.testing.assert_close(macaron(x), serial(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_both_halves_together_are_as_large_as_the_whole(kind: str) -> None:
    macaron, serial = (architecture(KINDS[kind], residual=way) for way in ("macaron", "serial"))
    model = build_model(macaron, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == costs(macaron).params
    whole, halves = serial.layers[0].feed_forward, macaron.layers[0].feed_forwards
    at = macaron.surroundings()
    assert len(halves) == 2
    routers = 2 * D_MODEL * getattr(whole, "num_experts", 0)  # each half has its own
    assert whole.params(at) <= sum(half.params(at) for half in halves) <= whole.params(at) + routers
    assert costs(macaron).params - costs(serial).params <= 2 * D_MODEL + routers


def test_a_third_norm_is_all_it_costs() -> None:
    macaron, serial = (costs(architecture(residual=way)) for way in ("macaron", "serial"))
    assert macaron.params - serial.params == 2 * D_MODEL
    assert macaron.macs == serial.macs
    assert macaron.activation_bytes <= serial.activation_bytes


def test_gradients_reach_both_halves_and_proxies_see_both() -> None:
    model = build_model(architecture(depth=2, residual="macaron"), seed=0).double()
    model(random(2, TOKENS, 3)).square().sum().backward()
    halves = list(model.feed_forwards())
    assert len(halves) == 4
    for half in halves:
        for parameter in half.parameters():
            assert parameter.grad is not None
            assert parameter.grad.any()


def test_a_layer_without_feed_forward_has_no_halves() -> None:
    assert not FEED_FORWARDS["none"].is_present
    mixer = {"kind": "gated_conv", "width": 3, "gates": 1}
    macaron, serial = (
        architecture({"kind": "none"}, residual=way, mixer=mixer) for way in ("macaron", "serial")
    )
    assert macaron.id == serial.id
    assert list(build_model(macaron, seed=0).feed_forwards()) == []
