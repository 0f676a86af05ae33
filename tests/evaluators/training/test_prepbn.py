"""A training with progressive batch norms: it resumes exactly and is what its files compute."""

from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.export_check import verify_export
from evaluators.training import TaskData, TrainingPlan, train
from evaluators.training.checkpoints import copy_weights, load_checkpoint
from evaluators.training.evaluation import evaluate, module_predictor
from space.architecture import Architecture, parse_architecture
from space.deploy import deployed
from space.export import write_folder
from space.model import build_model
from space.norms.prepbn import PRepBN

PLAN = TrainingPlan(steps=40, batch_size=32)


@pytest.fixture(scope="module")
def architecture(digits_data: TaskData) -> Architecture:
    layer: dict[str, Any] = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
        "feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 32},
        "norm": {"kind": "prepbn"},
    }
    return parse_architecture(
        {
            "model": "vision",
            "interface": digits_data.interface().model_dump(),
            "d_model": 16,
            "position": {"kind": "learned"},
            "layers": [layer],
            "final_norm": {"kind": "prepbn"},
            "head": {"kind": "classification"},
        }
    )


@pytest.mark.slow
def test_it_resumes_exactly_and_its_files_compute_what_was_evaluated(
    digits_data: TaskData, architecture: Architecture, tmp_path: Path
) -> None:
    whole = train(architecture, digits_data, PLAN, seed=0, until=40, folder=tmp_path / "whole")
    for until in (15, 40):
        parts = train(architecture, digits_data, PLAN, seed=0, until=until, folder=tmp_path / "parts")
    assert parts.metrics == whole.metrics
    assert whole.metrics["loss"] < 2.3  # a guess among ten classes

    assert whole.checkpoint is not None
    checkpoint = load_checkpoint(whole.checkpoint)
    assert checkpoint is not None
    model = build_model(architecture)
    copy_weights(checkpoint.weights, model)
    norms = [module for module in model.modules() if isinstance(module, PRepBN)]
    assert [int(norm.batches) for norm in norms] == [40] * 3
    form = deployed(model, architecture)
    metrics = evaluate(module_predictor(form), digits_data, "validation")
    assert metrics.values["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-4)
    model.eval()
    report = verify_export(write_folder(model, architecture, tmp_path / "folder"), model)
    assert report["files"]["model.onnx"]["largest_relative"] < 1e-4
    assert not any(isinstance(module, PRepBN) for module in form.modules())
    assert torch.isfinite(norms[0].var).all()
