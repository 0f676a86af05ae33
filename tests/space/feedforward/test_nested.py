"""Nested feed-forwards: slices are models of their own."""

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from space.architecture import Architecture
from space.choice import Foldable, Granular, Surroundings
from space.costs import costs
from space.errors import InvalidArchitectureError
from space.export import export_onnx
from space.feedforward import GluConfig, MlpConfig, NestedConfig
from space.feedforward.nested import Nested
from space.model import build_model
from space.number_formats import apply_number_formats

pytestmark = pytest.mark.slow

FORMS = [(False, "gelu"), (False, "polynorm"), (True, "silu")]
every_form = pytest.mark.parametrize(("gated", "activation"), FORMS)
every_divisor = pytest.mark.parametrize("divisor", [1, 2, 4, 8])


def small_model(nested: Nested, gated: bool, activation: str, at: Surroundings) -> nn.Module:
    """The feed-forward of the nested one's slice, built alone, with the weights copied by hand."""
    width, granularity = nested.d_ff, nested.granularity
    kind = GluConfig if gated else MlpConfig
    config = kind.model_validate({"activation": activation, "d_ff": width // granularity})
    small, f = config.build(at).double(), width // granularity
    up = nested.up.get_parameter("weight").detach()
    rows = torch.cat((up[:f], up[width : width + f])) if gated else up[:f]
    name = "gate_up" if gated else "up"
    own = {f"activation.{key}": value for key, value in nested.activation.state_dict().items()}
    down = nested.down.get_parameter("weight").detach()[:, :f]
    small.load_state_dict({f"{name}.weight": rows, "down.weight": down, **own})
    return small


@every_form
@every_divisor
def test_a_slice_is_a_separate_model_in_values_and_gradients(
    gated: bool, activation: str, divisor: int, around: Surroundings, random: Any
) -> None:
    config = NestedConfig.model_validate(
        {"activation": activation, "d_ff": 64, "gated": gated, "granularity": divisor}
    )
    nested = config.build(around).double()
    nested.set_granularity(divisor)
    small = small_model(nested, gated, activation, around)
    x = random(2, 5, 6)
    for module in (nested, nested.eval(), nested.folded()):
        torch.testing.assert_close(module(x), small(x), rtol=1e-12, atol=1e-14)
    gradients = [torch.autograd.grad(m(x.requires_grad_()).square().sum(), x)[0] for m in (nested, small)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


@every_form
def test_the_gradient_of_unused_units_is_zero(
    gated: bool, activation: str, around: Surroundings, random: Any
) -> None:
    config = NestedConfig.model_validate({"activation": activation, "d_ff": 64, "gated": gated})
    nested = config.build(around).double()
    nested.set_granularity(4)
    up, down = nested.up.get_parameter("weight"), nested.down.get_parameter("weight")
    of_up, of_down = torch.autograd.grad(nested(random(2, 5, 6)).square().sum(), (up, down))
    for part in of_up.chunk(2) if gated else (of_up,):
        assert bool((part[:16] != 0).any(dim=1).all())
        assert not part[16:].any()
    assert not of_down[:, 16:].any()


def test_training_runs_the_granularity_that_was_set_and_evaluation_its_own(
    around: Surroundings, random: Any
) -> None:
    nested = NestedConfig(d_ff=32, granularity=2).build(around).double()
    assert isinstance(nested, Granular)
    assert isinstance(nested, Foldable)
    assert nested.granularities == (1, 2, 4)
    widths = []
    for divisor in (1, 2, 4, 8):
        nested.set_granularity(divisor)
        widths.append(nested.width)
    assert widths == [32, 16, 8, 8]  # eight would leave four units
    assert nested.eval().width == 16


def test_the_whole_is_the_ordinary_feed_forward(around: Surroundings, random: Any) -> None:
    torch.manual_seed(3)
    ordinary = MlpConfig(d_ff=32).build(around)
    torch.manual_seed(3)
    nested = NestedConfig(d_ff=32).build(around)
    x = random(2, 5, 6).float()
    assert torch.equal(nested(x), ordinary(x))


def test_slices_that_are_too_narrow_are_refused_and_halves_have_the_narrowest(around: Surroundings) -> None:
    with pytest.raises(InvalidArchitectureError, match="granularity=8 of d_ff=32 leaves a slice of 4 units"):
        NestedConfig(d_ff=32, granularity=8).check(around)
    assert NestedConfig(d_ff=64, granularity=8).halved() == NestedConfig(d_ff=32, granularity=4)
    values = {"activation": "gelu", "d_ff": 24, "gated": False, "granularity": 4}
    assert NestedConfig.snapped(values, around)["granularity"] == 2


@every_form
@pytest.mark.parametrize("rank_ratio", [1.0, 0.25])
@pytest.mark.parametrize("number_format", ["fp32", "int8_dynamic", "int4_g32"])
def test_what_is_deployed_is_the_slice_and_no_more(
    gated: bool, activation: str, rank_ratio: float, number_format: str, decoder: Any, tmp_path: Path
) -> None:
    feed_forward = {"kind": "nested", "activation": activation, "d_ff": 64, "gated": gated, "granularity": 4}
    projection = {"kind": "dense"} if rank_ratio == 1.0 else {"kind": "lowrank", "rank_ratio": rank_ratio}
    architecture: Architecture = decoder(
        feed_forward,
        layer={"number_format": number_format},
        model={"projection": projection, "d_model": 32},
    )
    model = build_model(architecture, seed=0).eval()
    before = torch.get_rng_state()
    running = apply_number_formats(model, architecture)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(isinstance(module, Nested) for module in running.modules())
    tokens = torch.arange(12).reshape(1, 12)
    if number_format == "fp32":
        assert torch.equal(running(tokens), model(tokens))
        stored = sum(parameter.numel() for parameter in running.parameters())
        assert stored == costs(architecture).active_params
        assert 4 * stored == costs(architecture).weights_bytes
    path = export_onnx(model, architecture, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"tokens": tokens[:, :7].numpy()})
    with torch.inference_mode():
        expected = running(tokens[:, :7])
    close = 0.3 if number_format == "int8_dynamic" else 1e-5
    assert float((torch.tensor(found) - expected).abs().max()) < close * float(expected.std())


def test_a_layer_shared_over_the_depth_is_folded_once(decoder: Any) -> None:
    shared = {"sharing": {"kind": "all", "private_norm": True}}
    architecture = decoder({"kind": "nested", "d_ff": 64, "granularity": 2}, depth=3, model=shared)
    running = apply_number_formats(build_model(architecture, seed=0), architecture)
    halves: set[Any] = {running.get_submodule(f"blocks.{index}.feed_forward") for index in range(3)}
    assert len(halves) == 1
    assert not isinstance(halves.pop(), Nested)


@every_divisor
def test_costs_are_those_of_the_slice_beside_the_parameters_of_the_whole(divisor: int, decoder: Any) -> None:
    nested = costs(decoder({"kind": "nested", "d_ff": 64, "granularity": divisor}))
    small = costs(decoder({"kind": "mlp", "d_ff": 64 // divisor}))
    whole = costs(decoder({"kind": "mlp", "d_ff": 64}))
    assert nested.params == whole.params
    assert (nested.macs, nested.weights_bytes, nested.activation_bytes, nested.active_params) == (
        small.macs, small.weights_bytes, small.activation_bytes, small.params
    )  # fmt: skip


def test_slices_of_fused_low_rank_maps_are_slices_of_the_product(around: Surroundings, random: Any) -> None:
    at = Surroundings(
        d_model=16, context_length=10, num_layers=2, causal=True, position=around.position, rank_ratio=0.25
    )
    nested = NestedConfig(d_ff=64, gated=True, activation="silu", granularity=4).build(at).double().eval()
    x: Tensor = random(2, 5, 16)
    gate, up = nested.up(x).split(64, dim=-1)
    hidden = torch.nn.functional.silu(gate[..., :16]) * up[..., :16]
    padded = torch.nn.functional.pad(hidden, (0, 48))
    for module in (nested, nested.folded()):
        torch.testing.assert_close(module(x), nested.down(padded), rtol=1e-10, atol=1e-14)
