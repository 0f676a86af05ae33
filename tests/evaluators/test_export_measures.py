"""Figures of published files: each is of the file, on the runtime that the target means."""

from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.export_measures import measured_files
from evaluators.latency import EstimatorLimits, Target
from evaluators.training import TaskData, evaluate, module_predictor, prepare_task
from space.architecture import Architecture, parse_architecture
from space.export import write_folder
from space.model import build_model
from space.number_formats import apply_number_formats

LIMITS = EstimatorLimits(max_seconds=0.2, max_runs=5, attempts=1, rounds=1)


def small(data: TaskData, number_format: str) -> Architecture:
    kind = {"kind": "rmsnorm"}
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
        "feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 32},
        "norm": kind, "number_format": number_format,
    }  # fmt: skip
    head = "language" if data.is_language_model else "classification"
    fields: dict[str, Any] = {
        "model": data.model, "interface": data.interface().model_dump(), "d_model": 16,
        "position": {"kind": "learned"}, "layers": [layer], "final_norm": kind, "head": {"kind": head},
    }  # fmt: skip
    return parse_architecture(fields)


@pytest.mark.slow
def test_files_of_torch_have_the_quality_of_their_number_formats_and_an_eager_latency(tmp_path: Path) -> None:
    data = prepare_task("image", "digits")
    architecture = small(data, "int8_dynamic")
    model = build_model(architecture, seed=0).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)  # rounding shows
    exported = write_folder(model, architecture, tmp_path / "out", formats=["torch", "torch-export"])
    target = Target(runtime="eager")
    found = measured_files(exported, model, data, target, scratch=tmp_path / "scratch", limits=LIMITS)
    assert set(found) == {"model.py", "deployed.py", "model.pt2"}
    rounded = evaluate(module_predictor(apply_number_formats(model, architecture)), data, "validation")
    for name in ("deployed.py", "model.pt2"):
        assert found[name]["quality"]["values"]["loss"] == pytest.approx(rounded.values["loss"], rel=1e-5)
    assert "quality" not in found["model.py"]  # bit for bit the model whose quality is known
    for name in ("model.py", "deployed.py"):
        assert found[name]["latency"]["value"] > 0
        assert found[name]["size_bytes"] == (exported.path / name).stat().st_size
    here = measured_files(exported, model, data, Target(), scratch=tmp_path / "scratch", limits=LIMITS)
    assert set(here) == {"deployed.py", "model.pt2"}
    assert "latency" not in here["deployed.py"]


@pytest.mark.slow
def test_the_step_of_a_decoder_is_timed_where_the_target_decodes(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("def main():\n    return 17\n" * 80)
    data = prepare_task("language-model", str(file), 16)
    architecture = small(data, "fp32")
    model = build_model(architecture, seed=0).eval()
    exported = write_folder(model, architecture, tmp_path / "out", formats=["onnx"])
    target = Target(phase="decode")
    scratch = tmp_path / "scratch"
    found = measured_files(exported, model, data, target, scratch=scratch, limits=LIMITS)
    assert set(found) == {"model.onnx", "step.onnx"}
    assert found["step.onnx"]["latency"]["value"] > 0
    assert found["step.onnx"]["latency"] != found["model.onnx"]["latency"]
    assert not list(scratch.glob("steps-*"))
