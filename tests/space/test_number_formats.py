"""A model in its number formats."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from space.architecture import Architecture, parse_architecture
from space.costs import costs
from space.model import build_model
from space.number_formats import apply_number_formats, input_peaks
from space.quantization import (
    Bf16Linear,
    Biased,
    Fp4Linear,
    Int4Linear,
    Int8FrozenLinear,
    Int8Linear,
    Int8MixedLinear,
    NumberFormat,
    number_format,
)

FORMATS: tuple[NumberFormat, ...] = get_args(NumberFormat)
MIXERS = [
    {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2},
    {"kind": "linear_elu", "num_heads": 2},
    {"kind": "sliding_window", "num_heads": 2, "num_kv_heads": 2, "window": 4},
    {"kind": "gated_conv", "width": 3, "gates": 2},
    {"kind": "pool", "width": 3},
]


KINDS: dict[NumberFormat, type[nn.Module]] = {
    "fp32": nn.Linear,
    "bf16": Bf16Linear,
    "int8_dynamic": Int8Linear,
    "int8_mixed": Int8MixedLinear,
    "int4_g32": Int4Linear,
    "int4_g64": Int4Linear,
    "fp4_g32": Fp4Linear,
}


def architecture(*formats: NumberFormat, d_model: int = 16, **more: object) -> Architecture:
    layers = [
        {
            "mixer": MIXERS[index % len(MIXERS)],
            "feed_forward": {"kind": "glu", "d_ff": 24},
            "norm": {"kind": "rmsnorm"},
            "number_format": form,
        }
        for index, form in enumerate(formats)
    ]
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "vocab_size": 64, "context_length": 16, "outputs": 64},
            "d_model": d_model,
            "position": {"kind": "rope"},
            "layers": layers,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language"},
            **more,
        }
    )


def tokens() -> Tensor:
    return torch.randint(0, 64, (2, 11), generator=torch.Generator().manual_seed(0))


def relative_error(form: NumberFormat, d_model: int = 16) -> float:
    point = architecture(*[form] * len(MIXERS), d_model=d_model)
    model = build_model(point, seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(
                    5.0
                )  # starting weights are so small that rounding would hide behind the stream
        exact, rounded = model(tokens()), apply_number_formats(model, point)(tokens())
    return float((exact - rounded).norm() / exact.norm())


def test_every_format_stays_close_and_fp32_is_exact() -> None:
    assert relative_error("fp32") == 0.0
    # 8 and 7 significant bits through five layers
    assert 0.0 < relative_error("bf16") < 0.05
    assert 0.0 < relative_error("int8_dynamic") < 0.1


def test_fewer_bits_cost_more() -> None:
    """int8_mixed, which has the bits of int8_dynamic, left out. Maps of 128 inputs have several groups."""
    bits = {form: float(number_format(form).bits_per_weight(128)) for form in FORMATS}
    errors = {form: relative_error(form, d_model=128) for form in FORMATS}
    order = sorted(set(FORMATS) - {"int8_mixed"}, key=lambda form: -bits[form])
    assert order == ["fp32", "bf16", "int8_dynamic", "int4_g32", "int4_g64", "fp4_g32"]
    assert [errors[form] for form in order] == sorted(errors[form] for form in order)


def linears(module: nn.Module) -> set[type[nn.Module]]:
    found = {type(child) for child in module.modules()}
    return found & {*KINDS.values(), Int8FrozenLinear}


def test_each_layer_runs_in_its_own_format_and_the_original_stays() -> None:
    point = architecture(*FORMATS)
    model = build_model(point, seed=0)
    converted = apply_number_formats(model, point)
    # an fp32 layer keeps its own kind of nn.Linear
    kinds = [linears(block) for block in converted.get_submodule("blocks").children()]
    assert kinds[1:] == [{KINDS[form]} for form in FORMATS[1:]]
    assert kinds[0] <= {nn.Linear}
    assert not any(isinstance(module, tuple(KINDS.values())[1:]) for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_shared_layers_stay_shared() -> None:
    layers = architecture("int4_g32").model_dump(mode="json")["layers"] * 3
    point = architecture("int4_g32", layers=layers, sharing={"kind": "all"})
    converted = apply_number_formats(build_model(point, seed=0), point)
    blocks = converted.get_submodule("blocks")
    assert blocks.get_submodule("0") is blocks.get_submodule("2")
    assert linears(blocks) == {Int4Linear}
    assert converted(tokens()).shape == (2, 11, 64)


def test_factors_of_low_rank_maps_are_converted_each() -> None:
    point = architecture("int8_dynamic", "int8_dynamic", projection={"kind": "lowrank", "rank_ratio": 0.25})
    model = build_model(point, seed=0)
    before = sum(isinstance(module, nn.Linear) for module in model.get_submodule("blocks").modules())
    converted = apply_number_formats(model, point).get_submodule("blocks")
    assert sum(isinstance(module, Int8Linear) for module in converted.modules()) == before
    assert before > len(MIXERS)


class Twins(nn.Module):
    """Two names of one map, a map that stays float, and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.Linear(4, 4, bias=False)
        self.router = nn.Linear(4, 4, bias=False)
        self.router.keeps_float = True  # type: ignore[assignment]  # read by name
        self.biased = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.biased(self.second(self.first(x))) + self.router(x)
        return y


def test_two_names_of_a_map_routers_and_biases() -> None:
    point = architecture("int8_dynamic", "int4_g32")
    model = build_model(point, seed=0)
    twins = Twins()
    model.blocks[0] = model.blocks[1] = twins
    found = apply_number_formats(model, point).get_submodule("blocks.1")
    assert isinstance(found, Twins)
    assert isinstance(found.first, Int8Linear)  # layer 0 came first
    assert found.second is found.first
    assert type(found.router) is nn.Linear
    assert isinstance(found.biased, Biased)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found(x), twins(x), rtol=0.05, atol=0.05)


def test_a_calibration_freezes_the_inputs_that_reached_six() -> None:
    point = architecture("int8_mixed", "int8_dynamic", d_model=32)
    model = build_model(point, seed=0).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.get_submodule("feed_forward_norm").get_parameter("gain")[5] = 40.0
    linear = next(
        m for m in model.blocks[0].get_submodule("feed_forward").modules() if isinstance(m, nn.Linear)
    )
    peaks = input_peaks(model, tokens())[linear]
    assert (peaks >= 6).nonzero().flatten().tolist() == [5]
    frozen = apply_number_formats(model, point, calibration=tokens())
    maps = [m for m in frozen.modules() if isinstance(m, Int8FrozenLinear)]
    assert [5] in [m.columns.tolist() for m in maps]
    assert linears(frozen.get_submodule("blocks.1")) == {Int8Linear}
    exact, found, plain = (
        m(tokens())
        for m in (model, frozen, apply_number_formats(model, point.with_number_format("int8_dynamic")))
    )
    assert (found - exact).norm() < (plain - exact).norm()


@pytest.mark.parametrize("form", FORMATS)
def test_weights_bytes_equal_the_bytes_of_the_state_dict(form: NumberFormat) -> None:
    point = architecture(*[form] * len(MIXERS))
    state = apply_number_formats(build_model(point, seed=0), point).state_dict()
    assert (
        sum(tensor.numel() * tensor.element_size() for tensor in state.values()) == costs(point).weights_bytes
    )


def test_formats_say_where_they_are_real() -> None:
    runtimes = {name: number_format(name).real_on for name in FORMATS}
    assert runtimes == {
        "fp32": {"cudagraph", "eager", "onnxruntime", "torch-compile"},
        "bf16": {"cudagraph", "eager", "torch-compile"},
        "int8_dynamic": {"cudagraph", "eager", "onnxruntime", "torch-compile"},
        "int8_mixed": {"eager", "onnxruntime"},
        "int4_g32": {"onnxruntime"},
        "int4_g64": {"onnxruntime"},
        "fp4_g32": set(),
    }
    assert number_format("bf16").execution("eager") == "real"
    assert number_format("bf16").execution("onnxruntime") == "simulated"
    assert all(number_format(name).name == name for name in FORMATS)
