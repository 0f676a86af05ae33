"""Generated code: the same model in a readable file that knows nothing of this project."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.covering import choices_of, covering, missing
from benchmarks.export_formats import moved_model
from space.architecture import Architecture, parse_architecture
from space.errors import UnsupportedError
from space.export import model_source, write_folder
from space.export.source import generate, packages_of, recorded
from space.export.source.recording import arguments
from space.export.source.text import on_one_line, split_items, wrapped
from space.model import Model, build_model
from space.norms.rmsnorm import RMSNorm
from space.number_formats import apply_number_formats

Factory = Callable[..., Architecture]
OWN_MIXER = Path(__file__).parents[3] / "examples" / "own_mixer"
RULES = "E,F,I,UP,B,SIM,PT,RUF,T20,C4,PERF"


def loaded(path: Path) -> ModuleType:
    """A generated file as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"generated_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def inputs(architecture: Architecture, batch: int, tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch + tokens)
    interface = architecture.interface
    if interface.input == "bytes":
        return torch.randint(0, interface.vocab_size, (batch, tokens), generator=generator)
    if interface.input == "values":
        return torch.randn(batch, tokens, interface.channels, generator=generator)
    return torch.randn(batch, interface.channels, interface.height, interface.width, generator=generator)


def reloaded(model: Model, architecture: Architecture, folder: Path) -> Any:
    """The generated model with the weights of another."""
    path = folder / "model.py"
    path.write_text(model_source(architecture), encoding="utf-8")
    generated = loaded(path).Model().eval()
    generated.load_state_dict(model.state_dict())
    return generated


def decodes(architecture: Architecture) -> bool:
    return architecture.is_causal and all(layer.mixer.decodable for layer in architecture.layers)


def check_equal(model: Model, generated: Any, architecture: Architecture) -> None:
    """Bit for bit: the same operators in the same order."""
    has_mask = architecture.interface.input != "image"
    has_mask = has_mask and all(layer.mixer.padding != "packed" for layer in architecture.layers)
    for batch, tokens in ((1, architecture.tokens), (3, 7), (2, 1)):
        x = inputs(architecture, batch, tokens)
        with torch.inference_mode():
            assert torch.equal(generated(x), model(x))
            if has_mask:
                mask = torch.arange(tokens) < torch.tensor([[tokens], [max(1, tokens // 2)], [1]])[:batch]
                expected, found = model(x, mask), generated(x, mask)
                is_per_token = architecture.head.kind == "language"
                assert torch.equal(
                    found[mask] if is_per_token else found, expected[mask] if is_per_token else expected
                )
    if decodes(architecture):
        prompt = inputs(architecture, 2, 5)
        assert torch.equal(generated.generate(prompt, 9), model.generate(prompt, 9))


def linted(*paths: Path) -> str:
    """What the linter says of generated files, by the rules of this project."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--line-length", "110"]
    done = subprocess.run(
        [*command, "--select", RULES, "--ignore", "F722", *map(str, paths)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout if done.returncode else ""


FIRST = 6
"""Of the covering architectures: they have most of the choices."""


@pytest.mark.parametrize(
    "index", [pytest.param(i, marks=[] if i == 2 else pytest.mark.slow) for i in range(FIRST)]
)
def test_the_generated_model_is_the_model(index: int, tmp_path: Path) -> None:
    architecture = covering(30)[index]
    model = moved_model(architecture, index)
    generated = reloaded(model, architecture, tmp_path)
    assert set(generated.state_dict()) == set(model.state_dict())
    check_equal(model, generated, architecture)
    check_stands_alone((tmp_path / "model.py").read_text(encoding="utf-8"))
    assert linted(tmp_path / "model.py") == ""


@pytest.mark.soak
@pytest.mark.parametrize("index", range(FIRST, 30))
def test_every_choice_can_be_generated(index: int, tmp_path: Path) -> None:
    test_the_generated_model_is_the_model(index, tmp_path)


def check_stands_alone(text: str) -> None:
    """Python's own library, torch and safetensors; typed; no leftovers of configs and shape strings."""
    tree = ast.parse(text)
    packages = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    packages |= {
        str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    assert packages <= {"torch", "safetensors"} | sys.stdlib_module_names
    code = re.sub(r"#.*", "", text)
    assert not re.search(r"jaxtyping|pydantic|Surroundings|ParameterRole|is_in_onnx_export|fused\(", code)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert all(node.returns for node in functions), [node.name for node in functions if not node.returns]
    assert max(map(len, text.splitlines())) <= 110


def test_the_covering_architectures_have_every_choice() -> None:
    architectures = covering(30)
    assert missing(architectures) == set()
    every = {choice for one in architectures for choice in choices_of(one)}
    assert {"sharing all", "sharing groups", "sharing none", "projection lowrank", "input image"} <= every
    assert {
        f"block {place}, {way}" for place in ("pre", "post") for way in ("serial", "parallel", "macaron")
    } <= every


def test_the_constructor_is_the_table_of_layers(make: Factory) -> None:
    text = model_source(make("decoder"))
    body = text[text.index("self.blocks = ") : text.index("self.final_norm = ")]
    assert "# 1 to 2: softmax, glu, rmsnorm" in body
    assert "for _ in range(2)" in body
    assert re.search(r"num_heads=4,\s+num_kv_heads=2,\s+head_width=8", body)
    assert "nn.Linear(32, 64, bias=False)" in body


def test_what_the_architecture_does_not_have_is_not_in_the_file(make: Factory) -> None:
    text = model_source(make("encoder"))
    assert "def generate" not in text
    assert "def step" not in text
    assert "class Clip" not in text
    assert "parameter_roles" not in text
    assert "def prefill" in model_source(make("decoder"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "formats", [("bf16", "int8_dynamic"), ("int4_g32", "int8_mixed"), ("fp4_g32", "int4_g64")]
)
def test_number_formats_are_what_was_evaluated(
    formats: tuple[str, str], make: Factory, tmp_path: Path
) -> None:
    architecture = make("decoder", formats)
    model = moved_model(architecture.with_number_format("fp32"), 0)
    calibration = inputs(architecture, 4, 16)
    write_folder(model, architecture, tmp_path, formats=["torch"], calibration=calibration)
    running = apply_number_formats(model, architecture, calibration=calibration)
    deployed, trained = (loaded(tmp_path / name).load() for name in ("deployed.py", "model.py"))
    for batch, tokens in ((1, 16), (3, 7), (1, 1)):
        x = inputs(architecture, batch, tokens)
        with torch.inference_mode():
            assert torch.equal(deployed(x), running(x))
            assert torch.equal(trained(x), model(x))
    assert linted(tmp_path / "deployed.py", tmp_path / "model.py") == ""
    check_stands_alone((tmp_path / "deployed.py").read_text(encoding="utf-8"))


def with_mixer(architecture: Architecture, build: Callable[[], nn.Module], package: str) -> Model:
    """Another module in place of the first mixer, as a package of the user's would give."""
    with recorded(packages_of(architecture) | {package}):
        model = build_model(architecture, seed=0).eval()
        block = model.blocks[0]
        assert isinstance(block, nn.Module)
        block.mixer = build()
    return model


class Shifted(nn.Module):
    """A mixer of a user that needs another package."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x.roll(int(np.argmax([0, 1])), dims=1)


def test_f44_code_that_needs_another_package_is_refused_with_its_layer(
    make: Factory,
) -> None:
    architecture = make("encoder")
    model = with_mixer(architecture, Shifted, __name__.split(".")[0])
    with pytest.raises(UnsupportedError, match=r"layer 0 \(softmax, glu\) needs the package 'numpy'"):
        generate(model, architecture, weights="model.safetensors", title="A model.")


def test_the_mixer_of_another_package_is_collected(
    make: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(OWN_MIXER))
    own = importlib.import_module("running_mean")
    architecture = make("decoder")
    at = architecture.surroundings()
    model = with_mixer(
        architecture, lambda: own.RunningMeanConfig(half_life=4).build(at), "running_mean"
    ).eval()
    path = tmp_path / "model.py"
    path.write_text(
        generate(model, architecture, weights="model.safetensors", title="A model."), encoding="utf-8"
    )
    generated = loaded(path).Model().eval()
    generated.load_state_dict(model.state_dict())
    check_equal(model, generated, architecture)
    assert "class RunningMean(" in path.read_text(encoding="utf-8")
    check_stands_alone(path.read_text(encoding="utf-8"))
    assert linted(path) == ""


def test_arguments_are_kept_only_while_they_are_recorded() -> None:
    with recorded(frozenset({"space"})):
        inside = RMSNorm(8)
    assert arguments(inside, RMSNorm) == {"d_model": 8}
    assert arguments(RMSNorm(8), RMSNorm) == {}


def test_the_same_architecture_gives_the_same_text(make: Factory) -> None:
    assert model_source(make("vision")) == model_source(make("vision"))


@pytest.mark.parametrize("sharing", [{"kind": "all"}, {"kind": "all", "private_norm": True}])
def test_shared_layers_are_made_once(sharing: dict[str, Any], make: Factory, tmp_path: Path) -> None:
    plain = make("decoder", ("fp32",) * 3).model_dump(mode="json")
    architecture = parse_architecture({**plain, "sharing": sharing})
    model = moved_model(architecture, 0)
    generated = reloaded(model, architecture, tmp_path)
    assert sum(p.numel() for p in generated.parameters()) == sum(p.numel() for p in model.parameters())
    check_equal(model, generated, architecture)


def test_long_lines_are_opened_at_their_brackets() -> None:
    call = f"first = function({', '.join(f'argument_{i}={i}' for i in range(12))}).method(x)"
    lines = wrapped(call, 4).splitlines()
    assert lines[0] == "    first = function("
    assert lines[1] == "        argument_0=0,"
    assert lines[-1] == "    ).method(x)"
    assert on_one_line("f(\n    a,\n    b[\n        0\n    ],\n)") == "f(a, b[0])"
    assert split_items("a, (b, c), 'd, e', {f: g}") == ["a", "(b, c)", "'d, e'", "{f: g}"]
    assert wrapped("x = 1", 2) == "  x = 1"
