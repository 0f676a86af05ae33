"""Exports are compared with the model they came from, and a changed weight is noticed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.export_check import fresh_inputs, relative_difference, verify_export
from space.architecture import Architecture, parse_architecture
from space.errors import EvaluationError
from space.export import write_folder
from space.model import build_model


@pytest.fixture
def architecture() -> Architecture:
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
        "feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 64},
        "norm": {"kind": "layernorm"},
    }
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "vocab_size": 256, "context_length": 24, "outputs": 256},
            "d_model": 32,
            "position": {"kind": "rope"},
            "layers": [layer, layer],
            "final_norm": {"kind": "layernorm"},
            "head": {"kind": "language"},
        }
    )


def test_a_faithful_export_passes_with_its_differences_and_tolerances(
    architecture: Architecture, tmp_path: Path
) -> None:
    model = build_model(architecture, seed=0)
    report = verify_export(write_folder(model, architecture, tmp_path, quantize="int8"), model)
    assert report["passed"]
    assert report["inputs"] == [[b, n] for b in (1, 3) for n in (7, 12, 24)]
    files = report["files"]
    assert set(files) == {"model.safetensors", "model.onnx", "model.int8.onnx"}
    assert files["model.safetensors"]["max_abs_difference"] == 0
    assert files["model.onnx"]["largest_relative"] < 1e-4
    assert 0 < files["model.int8.onnx"]["rms_relative"] < 0.1
    assert files["model.int8.onnx"]["number_formats"] == ["int8_dynamic"]
    assert files["model.onnx"]["size_bytes"] == (tmp_path / "model.onnx").stat().st_size
    assert all(file["tolerance"]["reason"] for file in files.values())


@pytest.mark.parametrize("formats", [["onnx"], ["torch"]])
def test_f45_a_weight_changed_between_export_and_check_is_noticed(
    formats: list[str], architecture: Architecture, tmp_path: Path
) -> None:
    model = build_model(architecture, seed=0)
    exported = write_folder(model, architecture, tmp_path, formats=formats)
    with torch.no_grad():
        next(model.blocks[1].parameters()).mul_(1.1)
    with pytest.raises(EvaluationError, match=r"differs from the trained model by .* more than"):
        verify_export(exported, model)


def test_f45_an_int8_file_of_other_weights_is_noticed(architecture: Architecture, tmp_path: Path) -> None:
    model, other = build_model(architecture, seed=0), build_model(architecture, seed=1)
    exported = write_folder(model, architecture, tmp_path / "a", quantize="int8", formats=["onnx"])
    stranger = write_folder(other, architecture, tmp_path / "b", quantize="int8", formats=["onnx"])
    (exported.path / "model.int8.onnx").write_bytes((stranger.path / "model.int8.onnx").read_bytes())
    with pytest.raises(EvaluationError, match=r"model\.int8\.onnx differs"):
        verify_export(exported, model)


@pytest.mark.slow
def test_a_file_with_four_bit_weights_is_held_to_them_as_tightly_as_float32(
    architecture: Architecture, tmp_path: Path
) -> None:
    packed = architecture.with_number_format("int4_g32")
    model, other = build_model(packed, seed=0), build_model(packed, seed=0)
    exported = write_folder(model, packed, tmp_path / "a", formats=["onnx"])
    report = verify_export(exported, model)["files"]["model.int4.onnx"]
    assert report["compared_with"] == "eager torch in its number formats"
    assert report["largest_relative"] < 1e-4
    with torch.no_grad():  # one weight in a hundred by one code: far less than rounding itself changes
        for block in other.blocks:
            for weight in block.parameters():
                weight.view(-1)[::100] *= 1.2
    stranger = write_folder(other, packed, tmp_path / "b", formats=["onnx"])
    (exported.path / "model.int4.onnx").write_bytes((stranger.path / "model.int4.onnx").read_bytes())
    with pytest.raises(EvaluationError, match=r"model\.int4\.onnx differs .* in its number formats"):
        verify_export(exported, model)


def test_a_file_that_cannot_be_loaded_is_an_error(architecture: Architecture, tmp_path: Path) -> None:
    model = build_model(architecture, seed=0)
    exported = write_folder(model, architecture, tmp_path, formats=["onnx"])
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(EvaluationError):
        verify_export(exported, model)


def test_differences_are_relative_to_the_models_logits() -> None:
    expected = [np.array([[3.0, 4.0]]), np.array([[3.0, 4.0]])]
    found = [np.array([[3.0, 4.5]]), np.array([[3.0, 2.0]])]
    scale = np.sqrt(12.5)
    assert relative_difference(found, expected) == pytest.approx(
        {"absolute": 2.0, "largest": 2 / scale, "rms": np.sqrt(4.25 / 4) / scale, "same_argmax": 0.5}
    )


def test_not_a_number_never_passes(architecture: Architecture, tmp_path: Path) -> None:
    model = build_model(architecture, seed=0)
    exported = write_folder(model, architecture, tmp_path, formats=["onnx"])
    with torch.no_grad():
        next(model.head.parameters()).fill_(float("nan"))
    with pytest.raises(EvaluationError, match="nan"):
        verify_export(exported, model)


def test_fresh_inputs_have_three_lengths_and_two_batches(architecture: Architecture) -> None:
    assert [x.shape for x in fresh_inputs(architecture)] == [(b, n) for b in (1, 3) for n in (7, 12, 24)]
