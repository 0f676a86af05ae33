"""The published folder: everything in it works as its README says, without this project where it says so."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError, UnsupportedError
from space.export import Quantize, load_folder, write_folder
from space.model import build_model

Factory = Callable[..., Architecture]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


ALWAYS = {"architecture.json", "preprocessing.json", "README.md"}
TORCH = {"model.safetensors", "model.py"}
MODELING = "modeling_paretoformer.py"
BESIDE = {
    "deployed.py": ("deployed.safetensors",),
    MODELING: ("config.json", "configuration_paretoformer.py", "tokenizer.json", "tokenizer_config.json"),
}
"""What lies beside a file and is no model of its own."""


@pytest.mark.parametrize(
    ("formats", "number_formats", "quantize", "files", "primary"),
    [
        (["torch"], ("fp32", "fp32"), "none", TORCH, "model.safetensors"),
        (["torch"], ("fp32", "bf16"), "none", TORCH | {"deployed.py"}, "model.safetensors"),
        (["code"], ("fp32", "fp32"), "none", {"model.py"}, "model.py"),
        (["code"], ("fp32", "fp32"), "int8", {"model.py", "deployed.py"}, "deployed.py"),
        (["hf"], ("fp32", "fp32"), "none", TORCH | {MODELING}, MODELING),
        (["hf", "code"], ("fp32", "bf16"), "none", TORCH | {MODELING, "deployed.py"}, MODELING),
        (["onnx"], ("fp32", "fp32"), "none", {"model.onnx"}, "model.onnx"),
        (["onnx"], ("fp32", "fp32"), "int8", {"model.onnx", "model.int8.onnx"}, "model.int8.onnx"),
        (["onnx"], ("fp32", "int8_dynamic"), "none", {"model.onnx", "model.int8.onnx"}, "model.int8.onnx"),
        (["onnx"], ("int8_mixed", "fp32"), "none", {"model.onnx", "model.int8.onnx"}, "model.int8.onnx"),
        (["onnx"], ("int8_mixed", "int4_g32"), "none", {"model.onnx", "model.int4.onnx"}, "model.int4.onnx"),
        (["torch", "onnx"], ("bf16", "fp32"), "none", TORCH | {"deployed.py", "model.onnx"}, "model.onnx"),
    ],
)
def test_a_folder_holds_what_was_asked(
    formats: list[str],
    number_formats: tuple[str, str],
    quantize: Quantize,
    files: set[str],
    primary: str,
    make: Factory,
    tmp_path: Path,
) -> None:
    architecture = make("decoder", number_formats)
    model = build_model(architecture, seed=0)
    exported = write_folder(model, architecture, tmp_path / "out", formats=formats, quantize=quantize)
    if "onnx" in formats:
        files = files | {name.replace("model.", "step.") for name in files if name.endswith(".onnx")}
    beside = {name for file in files for name in BESIDE.get(file, ()) if name in names(exported.path)}
    beside |= {"step_state.npz"} if "onnx" in formats else set()
    assert names(exported.path) == files | beside | ALWAYS
    assert set(exported.files) == files
    assert exported.primary == primary
    assert parse_architecture((exported.path / "architecture.json").read_bytes()).id == architecture.id


@pytest.mark.parametrize("model", ["decoder", "encoder", "vision"])
def test_the_readme_snippet_runs_without_this_project(model: str, make: Factory, tmp_path: Path) -> None:
    architecture = make(model)
    exported = write_folder(build_model(architecture, seed=0), architecture, tmp_path, quantize="int8")
    text = (exported.path / "README.md").read_text()
    onnx_snippet, fixed_snippet, *torch_snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(onnx_snippet.strip().splitlines()) == 5
    assert "model.int8.onnx" in onnx_snippet
    again = "\n".join(onnx_snippet.strip().splitlines()[-2:])
    without = "import sys; sys.modules['space'] = sys.modules['torch'] = None\n"
    run = subprocess.run(
        [sys.executable, "-c", without + onnx_snippet + fixed_snippet + again],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    outputs = {"decoder": "(1, 8, 256)", "encoder": "(1, 5)", "vision": "(1, 10)"}[model]
    assert run.stdout.startswith(outputs)
    once, with_one_shape = run.stdout.splitlines()
    assert once == with_one_shape
    assert any("from model import load" in snippet for snippet in torch_snippets)


def test_weights_come_back_bit_for_bit(make: Factory, tmp_path: Path) -> None:
    architecture = make()
    model = build_model(architecture, seed=3)
    write_folder(model, architecture, tmp_path, formats=["torch"])
    loaded, same = load_folder(tmp_path)
    assert same.id == architecture.id
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)


def test_weights_of_another_architecture_are_refused(make: Factory, tmp_path: Path) -> None:
    write_folder(build_model(make(), seed=0), make(), tmp_path, formats=["torch"])
    (tmp_path / "architecture.json").write_text(make("encoder").canonical_json)
    with pytest.raises(InvalidInputError, match="does not hold this architecture's weights"):
        load_folder(tmp_path)


def test_preprocessing_is_kept(make: Factory, tmp_path: Path) -> None:
    given = {"mean": [0.5], "std": [0.25], "classes": ["a", "b"]}
    write_folder(build_model(make()), make(), tmp_path, formats=["torch"], preprocessing=given)
    assert json.loads((tmp_path / "preprocessing.json").read_text()) == given


def test_unknown_formats_are_refused_with_the_nearest(make: Factory, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'onnx'"):
        write_folder(build_model(make()), make(), tmp_path / "out", formats=["onx"])
    with pytest.raises(InvalidInputError, match="no export format given"):
        write_folder(build_model(make()), make(), tmp_path / "out", formats=[])
    assert not (tmp_path / "out").exists()


def test_f44_a_mix_of_formats_without_onnx_form_is_refused(make: Factory, tmp_path: Path) -> None:
    architecture = make("decoder", ("bf16", "int8_dynamic"))
    with pytest.raises(UnsupportedError, match="layer 0: number format 'bf16'"):
        write_folder(build_model(architecture), architecture, tmp_path, formats=["onnx"])
