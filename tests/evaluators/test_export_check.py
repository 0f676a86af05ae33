"""Exports are compared with the model they came from, and a changed weight is noticed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluators
from evaluators.export_check import fresh_inputs, relative_difference, verify_export
from evaluators.export_process import Runner, run_exported
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
    steps = {"step.onnx", "step.int8.onnx"}
    whole = {"model.safetensors", "model.py", "deployed.py", "model.onnx", "model.int8.onnx"}
    assert set(files) == whole | steps
    assert files["step.onnx"]["largest_relative"] < 1e-4
    assert 0 < files["step.int8.onnx"]["rms_relative"] < 0.1
    assert all(file["process_peak_bytes"] > 10**7 for name, file in files.items() if name.endswith(".onnx"))
    assert files["model.safetensors"]["max_abs_difference"] == 0
    assert files["model.onnx"]["largest_relative"] < 1e-4
    assert 0 < files["model.int8.onnx"]["rms_relative"] < 0.1
    assert files["model.int8.onnx"]["number_formats"] == ["int8_dynamic"]
    assert files["model.onnx"]["size_bytes"] == (tmp_path / "model.onnx").stat().st_size
    assert all(file["tolerance"]["reason"] for file in files.values())


def test_an_installation_beside_other_packages_finds_them_and_not_this_project(
    architecture: Architecture, tmp_path: Path
) -> None:
    """`pip install .` puts the project into the folder of all packages; the suite has it beside them."""
    site = tmp_path / "site-packages"
    site.mkdir()
    for folder in map(Path, sys.path):
        if folder.name == "site-packages":
            for entry in folder.iterdir():
                (site / entry.name).symlink_to(entry)
    for room in ("space", "evaluators"):
        shutil.copytree(Path(evaluators.__file__).parents[1] / room, site / room)
    model = build_model(architecture, seed=0)
    folder = write_folder(model, architecture, tmp_path / "model").path
    code = (
        "import sys, pathlib, numpy as np\n"
        "from evaluators import export_process as process\n"
        "assert process.__file__.startswith(sys.argv[1])\n"
        "runner, inputs = process.ONNX_RUNNER, [np.zeros((1, 7), np.int64)]\n"
        "run = process.run_exported(runner, pathlib.Path(sys.argv[2]), inputs, 'model.onnx')\n"
        "assert run.outputs[0].shape == (1, 7, 256)\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code, str(site), str(folder)],
        env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("formats", [["onnx"], ["torch"]])
def test_f45_a_weight_changed_between_export_and_check_is_noticed_with_its_layer(
    formats: list[str], architecture: Architecture, tmp_path: Path
) -> None:
    model = build_model(architecture, seed=0)
    exported = write_folder(model, architecture, tmp_path, formats=formats)
    with torch.no_grad():
        next(model.blocks[1].parameters()).mul_(1.1)
    told = r"differs from the trained model by .* more than .*, first in layer 1 \(softmax, mlp\); it was not"
    with pytest.raises(EvaluationError, match=told):
        verify_export(exported, model)


def test_f45_a_difference_behind_the_layers_is_told_too(architecture: Architecture, tmp_path: Path) -> None:
    model = build_model(architecture, seed=0)
    exported = write_folder(model, architecture, tmp_path, formats=["onnx"])
    with torch.no_grad():
        next(model.head.parameters()).mul_(1.5)
    with pytest.raises(EvaluationError, match="first in the norm or head behind the last layer"):
        verify_export(exported, model)


def test_a_file_runs_where_neither_this_project_nor_another_runtime_can_be_imported(
    architecture: Architecture, tmp_path: Path
) -> None:
    write_folder(build_model(architecture, seed=0), architecture, tmp_path, formats=["onnx"])
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import importlib, json, os, sys\n"
        "found = {}\n"
        "for name in ('space', 'evaluators', 'api', 'torch', 'safetensors', 'numpy', 'onnxruntime'):\n"
        "    try:\n        importlib.import_module(name)\n        found[name] = True\n"
        "    except ImportError:\n        found[name] = False\n"
        "assert found == json.loads(sys.argv[4]), found\n"
        "assert os.listdir() == []\n"
        "import numpy\nnumpy.savez(sys.argv[3], out_0=numpy.load(sys.argv[2])['in_0'] + 1)\n"
    )
    names = ("space", "evaluators", "api", "torch", "safetensors", "numpy", "onnxruntime")
    wanted = {name: name in ("numpy", "onnxruntime") for name in names}
    runner = Runner(str(probe.with_suffix("")), ("onnxruntime",))
    run = run_exported(runner, tmp_path, [np.zeros(3)], json.dumps(wanted))
    assert run.outputs[0].tolist() == [1, 1, 1]
    assert 10**7 < run.peak_bytes < 10**9


def test_a_process_that_fails_or_is_late_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    probe = tmp_path / "probe.py"
    probe.write_text("import torch\n")
    with pytest.raises(EvaluationError, match=r"does not run without this project .*torch"):
        run_exported(Runner(str(probe.with_suffix("")), ()), tmp_path, [])
    probe.write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(EvaluationError, match=r"no answer after 0\.5 s") as caught:
        run_exported(Runner(str(probe.with_suffix("")), ()), tmp_path, [], timeout_s=0.5)
    assert caught.value.reason == "timeout"


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
