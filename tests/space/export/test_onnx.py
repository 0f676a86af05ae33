"""ONNX files: equal to the model at every length and batch, int8 only where asked, always the same bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from space.architecture import Architecture
from space.errors import UnsupportedError
from space.export import export_onnx, input_name, input_shape
from space.model import build_model

Factory = Callable[..., Architecture]


def inputs(architecture: Architecture, batch: int, tokens: int) -> NDArray[np.generic]:
    rng = np.random.default_rng(batch * 100 + tokens)
    shape = input_shape(architecture, batch, tokens)
    if architecture.interface.input == "bytes":
        return rng.integers(0, 256, size=shape, dtype=np.int64)
    return rng.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("model", ["decoder", "encoder", "vision"])
def test_a_file_gives_the_models_logits_at_every_length_and_batch(
    model: str, make: Factory, tmp_path: Path
) -> None:
    architecture = make(model)
    module = build_model(architecture, seed=0).eval()
    session = onnxruntime.InferenceSession(export_onnx(module, architecture, tmp_path / "m.onnx"))
    assert [i.name for i in session.get_inputs()] == [input_name(architecture)]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    for batch in (1, 3):
        for tokens in (16,) if model == "vision" else (1, 7, 16):
            x = inputs(architecture, batch, tokens)
            with torch.no_grad():
                expected = module(torch.from_numpy(x)).numpy()
            (found,) = session.run(None, {input_name(architecture): x})
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("formats", "quantized"),
    [(("fp32", "fp32"), set()), (("int8_dynamic", "fp32"), {0}), (("int8_dynamic",) * 2, {0, 1})],
)
def test_int8_stands_in_the_layers_that_ask_for_it_and_nowhere_else(
    formats: tuple[str, str], quantized: set[int], make: Factory, tmp_path: Path
) -> None:
    architecture = make("decoder", formats)
    path = export_onnx(build_model(architecture, seed=0), architecture, tmp_path / "m.onnx")
    nodes = onnx.load(path).graph.node
    integer = [node.name for node in nodes if node.op_type == "MatMulInteger"]
    assert {int(name.split("/")[1].removeprefix("blocks.")) for name in integer} == quantized
    assert len(integer) == 4 * len(quantized)  # qkv, out, gate and up, down
    assert all(
        weight.data_type != onnx.TensorProto.INT8 or quantized for weight in onnx.load(path).graph.initializer
    )


def test_int8_logits_are_near_the_models(make: Factory, tmp_path: Path) -> None:
    """Root mean square of the difference under 10 % of the logits': 8 bits, two layers; 1 to 3 % is usual."""
    architecture = make("decoder", ("int8_dynamic",) * 2)
    module = build_model(architecture, seed=0).eval()
    session = onnxruntime.InferenceSession(export_onnx(module, architecture, tmp_path / "m.onnx"))
    x = inputs(architecture, 2, 16)
    (found,) = session.run(None, {"tokens": x})
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    difference = np.sqrt(np.mean((found - expected) ** 2)) / np.sqrt(np.mean(expected**2))
    assert 0 < difference < 0.10


@pytest.mark.parametrize("formats", [("fp32",) * 2, ("int8_dynamic",) * 2])
def test_the_same_model_gives_the_same_bytes_without_paths_of_this_machine(
    formats: tuple[str, str], make: Factory, tmp_path: Path
) -> None:
    architecture = make("decoder", formats)
    module = build_model(architecture, seed=0)
    first = export_onnx(module, architecture, tmp_path / "a.onnx").read_bytes()
    second = export_onnx(module, architecture, tmp_path / "b.onnx").read_bytes()
    assert first == second
    assert b".py" not in first
    assert module.training  # as it was


def test_a_format_without_onnx_form_is_refused_with_its_layer(make: Factory, tmp_path: Path) -> None:
    architecture = make("decoder", ("fp32", "bf16"))
    with pytest.raises(UnsupportedError, match="layer 1: number format 'bf16'"):
        export_onnx(build_model(architecture), architecture, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


class WithoutForm(nn.Module):
    """An operator that has no ONNX form."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mixed: Tensor = torch.special.bessel_j0(x)
        return mixed


def test_f44_an_operator_without_onnx_form_names_its_block_and_leaves_no_file(
    make: Factory, tmp_path: Path
) -> None:
    architecture = make()
    module = build_model(architecture)
    block = module.blocks[1]
    assert isinstance(block, nn.Module)
    block.mixer = WithoutForm()
    with pytest.raises(UnsupportedError, match=r"layer 1 \(softmax, glu\): no ONNX form: .*bessel_j0"):
        export_onnx(module, architecture, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
