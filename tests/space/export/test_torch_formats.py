"""The folder in PyTorch's own formats, as a machine without this project uses it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.export_formats import moved_model
from evaluators.export_check import verify_export
from space.architecture import Architecture, parse_architecture
from space.errors import UnsupportedError
from space.export import write_folder
from space.export.torch_export import export_program
from space.model import build_model

Factory = Callable[..., Architecture]
CARD: dict[str, Any] = {
    "task": "language-model, data set python-stdlib",
    "data_digest": "abc123",
    "training": "150 steps of batch 32, trained in the search",
    "seeds": "one training, seed 0",
    "numbers": [
        {"name": "bits per byte", "value": 2.5, "kind": "measured", "part": "validation", "seeds": 1},
        {
            "name": "latency", "value": 0.00125, "unit": "s", "kind": "measured",
            "low": 0.001, "high": 0.0015,
            "conditions": "onnxruntime, cpu, 1 thread, batch 1",
        },
        {"name": "parameters", "value": 40960, "kind": "computed"},
    ],
    "lineage": {"job": "a job (17)", "trial": "4", "parents": "trial 2"},
    "found": "strategy random, seed 0, 24 trials in space decoder-small",
    "beats": ["R1 (llama 2x32): latency 1.50 times as large, bits per byte 0.1 higher"],
}  # fmt: skip


def run_snippet(code: str, folder: Path, *, blocked: tuple[str, ...]) -> str:
    """The code as printed, in the folder, where this project and other runtimes cannot be imported."""
    names = ("space", "evaluators", "search", "api", *blocked)
    head = f"import os, sys\nos.environ['HF_HOME'] = {str(folder / 'cache')!r}\n"
    head += "os.environ['HF_HUB_OFFLINE'] = '1'\n"
    head += f"for name in {names!r}: sys.modules[name] = None\nsys.path.insert(0, '')\n"
    (folder.parent / "snippet.py").write_text(head + code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", str(folder.parent / "snippet.py")],
        cwd=folder, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def section(card: str, title: str) -> list[str]:
    """The snippets under a heading."""
    body = card.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", body, re.DOTALL)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("decoder", marks=pytest.mark.slow),
        pytest.param("encoder", marks=pytest.mark.soak),
        pytest.param("vision", marks=pytest.mark.soak),
    ],
)
def test_every_snippet_of_the_card_runs_as_printed(model: str, make: Factory, tmp_path: Path) -> None:
    architecture = make(model)
    folder = tmp_path / "model"
    exported = write_folder(
        moved_model(architecture, 0), architecture, folder, formats=["torch", "torch-export", "onnx", "hf"]
    )
    card = (exported.path / "README.md").read_text(encoding="utf-8")
    shape = {"decoder": "[1, 8, 256]", "encoder": "[1, 5]", "vision": "[1, 10]"}[model]
    torch_code = "".join(section(card, "PyTorch"))
    found = run_snippet(torch_code, folder, blocked=("onnxruntime", "transformers"))
    assert found.startswith(f"torch.Size({shape})")
    (program,) = section(card, "torch.export")
    without = ("onnxruntime", "transformers", "safetensors")
    assert found.splitlines()[0] == run_snippet(program, folder, blocked=without).strip()
    onnx = "".join(section(card, "ONNX Runtime"))
    other = run_snippet(onnx, folder, blocked=("torch", "transformers"))
    assert other.split()[-1] == found.splitlines()[0].split()[-1]  # the same likeliest class or byte
    (hugging,) = section(card, "Hugging Face transformers")
    told = run_snippet(hugging, folder, blocked=("onnxruntime",))
    if model == "decoder":
        assert told.strip("\n") == found.split("\n", 1)[1].strip("\n")  # the same continued text
    else:
        assert told.strip() == f"torch.Size({shape})"


@pytest.mark.soak
def test_every_torch_file_passes_the_check_in_a_process_of_its_own(make: Factory, tmp_path: Path) -> None:
    architecture = make("decoder", ("int8_dynamic", "bf16"))
    model = moved_model(architecture.with_number_format("fp32"), 0)
    formats = ["torch", "torch-export", "hf"]
    report = verify_export(write_folder(model, architecture, tmp_path, formats=formats), model)
    files = report["files"]
    assert set(files) == {
        "model.safetensors", "model.py", "deployed.py", "model.pt2", "modeling_paretoformer.py",
    }  # fmt: skip
    assert all(facts["largest_relative"] < 1e-6 for facts in files.values())
    assert files["model.pt2"]["number_formats"] == ["bf16", "int8_dynamic"]
    assert files["modeling_paretoformer.py"]["number_formats"] == ["fp32"]


@pytest.mark.slow
def test_code_alone_is_checked_with_the_weights_it_is_for(make: Factory, tmp_path: Path) -> None:
    architecture = make("encoder")
    model = moved_model(architecture, 0)
    exported = write_folder(model, architecture, tmp_path, formats=["code"])
    assert verify_export(exported, model)["files"]["model.py"]["max_abs_difference"] == 0
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.soak
def test_layers_that_share_weights_load_in_transformers(make: Factory, tmp_path: Path) -> None:
    plain = make("decoder", ("fp32",) * 3).model_dump(mode="json")
    tied = {"sharing": {"kind": "all"}, "head": {"kind": "language", "tied": True}}
    architecture = parse_architecture({**plain, **tied})
    model = moved_model(architecture, 0)
    report = verify_export(write_folder(model, architecture, tmp_path, formats=["hf"]), model)
    assert report["files"]["modeling_paretoformer.py"]["largest_relative"] == 0


def test_the_config_says_which_classes_to_take_and_what_they_are_called(
    make: Factory, tmp_path: Path
) -> None:
    architecture = make("vision")
    names = [f"digit {i}" for i in range(10)]
    write_folder(
        build_model(architecture, seed=0),
        architecture,
        tmp_path,
        formats=["hf"],
        preprocessing={"classes": names},
    )
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"]["AutoModelForImageClassification"].startswith("modeling_paretoformer.")
    assert config["id2label"]["3"] == "digit 3"
    assert config["label2id"]["digit 9"] == 9
    assert config["architecture_id"] == architecture.id
    assert not (tmp_path / "tokenizer.json").exists()


class Branching(nn.Module):
    """Asks for a number of its input, which a traced program cannot."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x if float(x.sum()) > 0 else -x


@pytest.mark.slow
def test_f44_a_layer_without_program_is_named_and_leaves_no_file(make: Factory, tmp_path: Path) -> None:
    architecture = make("encoder")
    model = build_model(architecture, seed=0)
    block = model.blocks[1]
    assert isinstance(block, nn.Module)
    block.mixer = Branching()
    with pytest.raises(UnsupportedError, match=r"layer 1 \(softmax, glu\): no torch.export form"):
        export_program(model, architecture, tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_is_known_and_leaves_out_what_is_not(make: Factory, tmp_path: Path) -> None:
    architecture, model = make(), build_model(make(), seed=0)
    write_folder(model, architecture, tmp_path / "a", formats=["code"], card=CARD)
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert "- Task: language-model, data set python-stdlib" in card
    assert "- Data digest: abc123" in card
    assert "- License: none was stated by whoever exported it" in card
    assert "| latency | 0.00125 s | 0.001 to 0.0015 | measured |" in card
    assert "| parameters | 40,960 |  | computed |" in card
    assert "- Parents: trial 2" in card
    assert "- R1 (llama 2x32): latency 1.50 times" in card
    write_folder(model, architecture, tmp_path / "b", formats=["hf"], card={"license": "Apache-2.0"})
    card = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    assert card.startswith(
        "---\nlicense: Apache-2.0\nlibrary_name: transformers\npipeline_tag: text-generation\n"
    )
    assert "## Numbers" not in card
    assert "## What it beats" not in card


@pytest.mark.slow
def test_programs_leave_torch_as_it_was(make: Factory, tmp_path: Path) -> None:
    import torch.fx.experimental._config as shape_config

    before = shape_config.backed_size_oblivious
    architecture = make("vision", ("fp32",))
    path = export_program(build_model(architecture, seed=0), architecture, tmp_path / "model.pt2")
    assert shape_config.backed_size_oblivious == before
    assert torch.export.load(path).module() is not None
