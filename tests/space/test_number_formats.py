"""A model in its number formats."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from space.architecture import Architecture, parse_architecture
from space.costs import weights_bytes
from space.model import build_model
from space.number_formats import apply_number_formats
from space.quantization import Bf16Linear, Int8Linear, NumberFormat, number_format

FORMATS: tuple[NumberFormat, ...] = get_args(NumberFormat)
MIXERS = [
    {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2},
    {"kind": "linear_elu", "num_heads": 2},
    {"kind": "sliding_window", "num_heads": 2, "num_kv_heads": 2, "window": 4},
    {"kind": "gated_conv", "width": 3, "gates": 2},
    {"kind": "pool", "width": 3},
]


def architecture(*formats: NumberFormat) -> Architecture:
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
            "d_model": 16,
            "position": {"kind": "rope"},
            "layers": layers,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language"},
        }
    )


def tokens() -> Tensor:
    return torch.randint(0, 64, (2, 11), generator=torch.Generator().manual_seed(0))


def relative_error(form: NumberFormat) -> float:
    point = architecture(*[form] * len(MIXERS))
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


def test_each_layer_runs_in_its_own_format_and_the_original_stays() -> None:
    point = architecture("int8_dynamic", "fp32", "bf16")
    model = build_model(point, seed=0)
    converted = apply_number_formats(model, point)
    kinds = [
        {type(module) for module in block.modules() if hasattr(module, "weight")}
        for block in converted.get_submodule("blocks").children()
    ]
    assert kinds == [{Int8Linear}, {nn.Linear}, {Bf16Linear}]
    assert not any(isinstance(module, Int8Linear | Bf16Linear) for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("form", FORMATS)
def test_weights_bytes_equal_the_bytes_of_the_state_dict(form: NumberFormat) -> None:
    point = architecture(*[form] * len(MIXERS))
    state = apply_number_formats(build_model(point, seed=0), point).state_dict()
    assert sum(tensor.numel() * tensor.element_size() for tensor in state.values()) == weights_bytes(point)


def test_formats_say_where_they_are_real() -> None:
    runtimes = {name: number_format(name).real_on for name in FORMATS}
    assert runtimes == {
        "fp32": {"eager", "onnxruntime"},
        "bf16": {"eager"},
        "int8_dynamic": {"eager", "onnxruntime"},
    }
    assert all(number_format(name).name == name for name in FORMATS)
