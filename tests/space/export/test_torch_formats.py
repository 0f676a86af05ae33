"""The folder in PyTorch's own formats, as a machine without this project uses it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
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
SHAPES = {"decoder": "[1, 8, 256]", "encoder": "[1, 5]", "vision": "[1, 10]"}
"""Model -> shape of the logits that its snippets print."""
END = "-- end of a snippet --"
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


Snippets = Sequence[tuple[Path, str]]
"""Each with the folder that it runs in."""

DRIVER = """
import os, sys
os.environ |= {"HF_HOME": %(cache)r, "HF_HUB_OFFLINE": "1"}
for name in %(blocked)r:
    sys.modules[name] = None
sys.path.insert(0, "")
for folder, code in %(snippets)r:
    os.chdir(folder)
    for name in ("model", "deployed"):
        sys.modules.pop(name, None)
    exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})
    print(%(end)r)
"""


SAME_WITHOUT_STATE = """
import torch
calls = []
model.model.register_forward_hook(lambda *_: calls.append(1))
rows = torch.cat([inputs["input_ids"]] * 2)
rows[1, :4] += 1
padded = torch.ones_like(rows)
padded[1, :2] = 0
for options, whole_passes in (({}, 0), ({"num_beams": 3}, 0), ({"attention_mask": padded}, 8)):
    calls.clear()
    options |= {"max_new_tokens": 8, "do_sample": False}
    kept = model.generate(rows, **options)
    assert len(calls) == whole_passes, calls
    assert torch.equal(kept, model.generate(rows, use_cache=False, **options))
try:
    model.generate(rows, max_new_tokens=10, do_sample=False)
except ValueError as error:
    assert "context of 16" in str(error)
else:
    raise AssertionError
"""
"""Behind the snippet of a decoder: the state gives the text that all tokens in every step give."""


def run_snippets(snippets: Snippets, scratch: Path, *, blocked: tuple[str, ...]) -> list[str]:
    """What each prints, as printed in the card, in its folder, where this project and other runtimes cannot
    be imported; in one process, since most of the time goes into imports."""
    names = ("space", "evaluators", "search", "dashboards", "api", *blocked)
    pairs = [(str(folder), code) for folder, code in snippets]
    words = {"cache": str(scratch / "cache"), "blocked": names, "snippets": pairs, "end": END}
    (scratch / "driver.py").write_text(DRIVER % words, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", str(scratch / "driver.py")],
        cwd=scratch, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split(END + "\n")[:-1]


def section(card: str, title: str) -> list[str]:
    """The snippets under a heading."""
    body = card.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", body, re.DOTALL)


@pytest.mark.parametrize(
    "programs",
    [pytest.param(["decoder"], marks=pytest.mark.slow), pytest.param([*SHAPES], marks=pytest.mark.soak)],
)
def test_every_snippet_of_the_card_runs_as_printed(
    programs: list[str], make: Factory, tmp_path: Path
) -> None:
    """`programs`: the models that are written as `model.pt2` too, which takes several seconds each."""
    cards = {}
    for model in SHAPES:
        formats = ["torch", "onnx", "hf", *(["torch-export"] if model in programs else [])]
        write_folder(moved_model(make(model), 0), make(model), tmp_path / model, formats=formats)
        cards[model] = (tmp_path / model / "README.md").read_text(encoding="utf-8")

    def run(
        title: str,
        *blocked: str,
        models: Sequence[str] = tuple(SHAPES),
        also: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        codes = {model: "".join(section(cards[model], title)) for model in models}
        parts = [(tmp_path / model, code + (also or {}).get(model, "")) for model, code in codes.items()]
        return dict(zip(models, run_snippets(parts, tmp_path, blocked=blocked), strict=True))

    found = run("PyTorch", "onnxruntime", "transformers")
    assert all(told.startswith(f"torch.Size({SHAPES[model]})") for model, told in found.items())
    first = {model: told.splitlines()[0] for model, told in found.items()}
    for model, told in run(
        "torch.export", "onnxruntime", "transformers", "safetensors", models=programs
    ).items():
        assert told.strip() == first[model]
    for model, told in run("ONNX Runtime", "torch", "transformers").items():
        assert told.split()[-1] == first[model].split()[-1]  # the same likeliest class or byte
    also = {"decoder": SAME_WITHOUT_STATE}
    hugging = run("Hugging Face transformers", "onnxruntime", also=also)
    # the same continued text
    assert hugging.pop("decoder").strip("\n") == found["decoder"].split("\n", 1)[1].strip("\n")
    for model, told in hugging.items():
        assert told.strip() == first[model].replace(") ", ") class ")  # of folders without names of classes


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
