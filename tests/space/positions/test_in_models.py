"""Every position choice in whole models: counted parameters, roles, and decoding against the whole input."""

from typing import Any

import pytest
import torch

from space.architecture import Architecture, parse_architecture
from space.costs import costs, num_params
from space.errors import InvalidArchitectureError
from space.model import build_model, parameter_roles

pytestmark = pytest.mark.slow

HEADS = {"num_heads": 4, "num_kv_heads": 2}
MIXERS: list[dict[str, Any]] = [
    {"kind": "softmax", **HEADS},
    {"kind": "block_local", "window": 5, "shift": True, **HEADS},
    {"kind": "axial", "columns": 5, **HEADS},
    {"kind": "axial", "columns": 5, "form": "shared", "num_heads": 8, "num_kv_heads": 8},
    {"kind": "sliding_window", "window": 6, **HEADS},
]
POSITIONS: list[dict[str, Any]] = [
    {"kind": "none"},
    {"kind": "learned"},
    {"kind": "sinusoidal"},
    {"kind": "rope"},
    {"kind": "rope", "rotary_pct": 0.5},
    {"kind": "alibi"},
    {"kind": "t5_bias"},
    {"kind": "decay"},
]
INTERFACES: dict[str, dict[str, Any]] = {
    "decoder": {"input": "bytes", "context_length": 16, "outputs": 256},
    "vision": {"input": "image", "height": 8, "width": 10, "patch_size": 2, "outputs": 3},
}


def architecture(position: dict[str, Any], mixers: list[dict[str, Any]], model: str) -> Architecture:
    rest = {"feed_forward": {"kind": "mlp", "d_ff": 16, "activation": "gelu"}, "norm": {"kind": "rmsnorm"}}
    return parse_architecture(
        {
            "model": model,
            "interface": INTERFACES[model],
            "d_model": 32,
            "position": position,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language" if model == "decoder" else "classification"},
            "layers": [{"mixer": mixer, **rest} for mixer in mixers],
        }
    )


@pytest.mark.parametrize("position", POSITIONS, ids=str)
@torch.no_grad()
def test_token_by_token_a_model_gives_what_it_gives_at_once(position: dict[str, Any]) -> None:
    point = architecture(position, MIXERS, "decoder")
    assert point.position.model_dump() == position
    model = build_model(point, seed=0).double().eval()
    tokens = torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(0))
    whole = model(tokens)
    prefilled, states = model.prefill(tokens[:, :7])
    torch.testing.assert_close(prefilled, whole[:, :7], rtol=1e-9, atol=1e-9)
    for start, state in ((7, states), (0, model.init_state(2, dtype=torch.float64))):
        for t in range(start, 16):
            logits, state = model.step(tokens[:, t], state, torch.tensor(t))
            torch.testing.assert_close(logits, whole[:, t], rtol=1e-9, atol=1e-9)
        numbers = sum(value.numel() for layer in state for value in layer.values())
        assert 4 * numbers == costs(point, batch_size=2).state_bytes


@pytest.mark.parametrize("position", POSITIONS, ids=str)
@pytest.mark.parametrize("model", ["decoder", "vision"])
def test_parameters_are_counted_and_have_roles(position: dict[str, Any], model: str) -> None:
    if model == "vision" and position["kind"] == "none":
        with pytest.raises(InvalidArchitectureError, match="blind to order"):
            architecture(position, MIXERS, model)
        return
    mixers = MIXERS if model == "decoder" else MIXERS[:3]
    point = architecture(position, mixers, model)
    built = build_model(point, seed=0)
    assert sum(parameter.numel() for parameter in built.parameters()) == num_params(point)
    roles = parameter_roles(built)
    assert set(roles) == {name for name, _ in built.named_parameters()}
    tables = [name for name, role in roles.items() if role.role == "pos"]
    heads = {mixer["num_heads"] for mixer in mixers}
    assert len(tables) == {"learned": 1, "t5_bias": len(heads)}.get(position["kind"], 0)


def test_a_bias_that_no_mixer_reads_is_no_position() -> None:
    conv = {"kind": "gated_conv", "width": 3}
    for kind in ("rope", "alibi", "t5_bias", "decay"):
        assert architecture({"kind": kind}, [conv], "decoder").position.kind == "none"


def test_heads_too_narrow_for_rope_are_refused_by_the_layer() -> None:
    narrow = {"kind": "softmax", "num_heads": 8, "num_kv_heads": 8}
    with pytest.raises(InvalidArchitectureError, match=r"layer 0: rope with rotary_pct=0\.5 on 2 axes"):
        architecture({"kind": "rope", "rotary_pct": 0.5}, [narrow], "vision")
