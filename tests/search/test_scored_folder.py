"""An exported folder is scored by its own files, with quality where its data are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.latency import EstimatorLimits, Target
from evaluators.training import evaluate, prepare_task
from evaluators.training.data import Array
from search.scored_folder import score_folder
from space.architecture import Architecture, parse_architecture
from space.costs import costs
from space.export import write_folder
from space.model import build_model
from space.number_formats import apply_number_formats


@pytest.fixture(scope="module")
def architecture() -> Architecture:
    interface = prepare_task("image", "digits").interface()
    return parse_architecture(
        {
            "model": "vision",
            "interface": interface.model_dump(),
            "d_model": 16,
            "position": {"kind": "learned"},
            "layers": [
                {
                    "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
                    "feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 32},
                    "norm": {"kind": "layernorm"},
                }
            ],
            "final_norm": {"kind": "layernorm"},
            "head": {"kind": "classification"},
        }
    )


def write(architecture: Architecture, folder: Path, digest: str | None) -> Path:
    write_folder(build_model(architecture, seed=0), architecture, folder, formats=["onnx"], quantize="int8")
    data = prepare_task("image", "digits")
    report = {"task": data.describe(), "data_digest": digest or data.digest, "quantize": "int8"}
    (folder / "export_report.json").write_text(json.dumps(report))
    return folder


def test_quality_and_size_of_every_file_are_found_again(architecture: Architecture, tmp_path: Path) -> None:
    folder = write(architecture, tmp_path / "out", None)
    found = score_folder(folder, Target(), data=None, scratch=tmp_path, measure=False)
    assert set(found["files"]) == {"model.onnx", "model.int8.onnx"}
    plain, rounded = (found["files"][name]["quality"]["values"]["loss"] for name in found["files"])
    assert plain == pytest.approx(rounded, rel=0.1)
    assert found["files"]["model.onnx"]["size_bytes"] == (folder / "model.onnx").stat().st_size
    assert "no_quality" not in found


def test_formats_that_nothing_runs_are_rounded_and_marked(architecture: Architecture, tmp_path: Path) -> None:
    data = prepare_task("image", "digits")
    model = build_model(architecture, seed=0)
    write_folder(model, architecture, tmp_path / "out", formats=["torch"])
    found = score_folder(tmp_path / "out", Target(), data=data, scratch=tmp_path)
    assert found["files"] == {}
    assert "no_quality" not in found
    assert list(found["simulated"]) == ["fp4_g32"]
    fp4 = found["simulated"]["fp4_g32"]
    assert (fp4["execution"], "latency" in fp4) == ("simulated", False)
    assert fp4["weights_bytes"] < 0.5 * costs(architecture).weights_bytes
    rounded = apply_number_formats(model, architecture.with_number_format("fp4_g32")).eval()

    def predict(inputs: Array) -> Array:
        with torch.inference_mode():
            logits: Array = rounded(torch.from_numpy(np.array(inputs))).numpy()
            return logits

    assert fp4["quality"]["values"] == dict(evaluate(predict, data, "validation").values)


@pytest.mark.parametrize(
    ("digest", "words"), [("0" * 64, "is not the one the model was trained on"), (None, "says its task")]
)
def test_why_there_is_no_quality_is_said(
    digest: str | None, words: str, architecture: Architecture, tmp_path: Path
) -> None:
    folder = write(architecture, tmp_path / "out", digest)
    if digest is None:
        (folder / "export_report.json").unlink()
    found = score_folder(folder, Target(), data=None, scratch=tmp_path, measure=False)
    assert words in found["no_quality"]
    assert "quality" not in found["files"]["model.onnx"]


@pytest.mark.slow
def test_latency_is_that_of_the_files(
    architecture: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With quick limits: what is measured is tested elsewhere."""
    import evaluators.latency.measure

    quick = EstimatorLimits(max_seconds=0.2, max_runs=20, attempts=1, rounds=1)
    monkeypatch.setattr(evaluators.latency.measure, "EstimatorLimits", lambda: quick)
    folder = write(architecture, tmp_path / "out", "0" * 64)
    found = score_folder(folder, Target(), data=None, scratch=tmp_path)
    latencies = [found["files"][name]["latency"] for name in ("model.onnx", "model.int8.onnx")]
    assert all(one["value"] > 0 for one in latencies)
    assert latencies[1]["detail"]["conditions"]["number_formats"] == ["int8_dynamic"]
