"""The decode step as a graph: the same tokens as eager decoding, in every number format it is written in."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from space.architecture import Architecture, parse_architecture
from space.choice import FeedForward
from space.errors import UnsupportedError
from space.export import STEP_STATE, export_onnx, export_step, has_step, write_first_state, write_folder
from space.mixers import MIXERS
from space.model import Model, build_model
from space.number_formats import apply_number_formats

NEW_TOKENS = 200
PROMPT = (5, 17, 3)
SIZES = {"num_heads": 4, "num_kv_heads": 2, "window": 8, "columns": 8, "width": 3}
DECODABLE = [kind for kind, config in MIXERS.items() if config.causal and config.decodable]
GROUPS = [DECODABLE[first : first + 4] for first in range(0, len(DECODABLE), 4)]
POSITIONS = ("rope", "alibi", "t5_bias", "learned", "none", "sinusoidal")


def mixer(kind: str, **options: Any) -> dict[str, Any]:
    fields = MIXERS[kind].model_fields
    sizes = {name: size for name, size in SIZES.items() if name in fields}
    if kind in ("gla", "pool", "gated_conv", "dynconv"):
        sizes.pop("num_kv_heads", None)
    return {"kind": kind, **sizes, **options}


def decoder(mixers: Sequence[dict[str, Any]], **changes: Any) -> Architecture:
    """32 token ids: the likeliest one is then well ahead of the second, for any order of float32 sums."""
    layers = [
        {
            "mixer": one,
            "feed_forward": {"kind": "glu", "activation": "silu", "d_ff": 48},
            "norm": {"kind": "rmsnorm"},
            "number_format": changes.get("number_format", "fp32"),
        }
        for one in mixers
    ]
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "vocab_size": 32, "context_length": 208, "outputs": 32},
            "d_model": 32,
            "position": {"kind": changes.get("position", "rope")},
            "layers": layers,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language"},
            "sharing": changes.get("sharing", {"kind": "none"}),
        }
    )


def files_of(model: Model, architecture: Architecture, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A session on the step and the state before any token."""
    path = export_step(model, architecture, folder / "step.onnx")
    write_first_state(model, folder / STEP_STATE)
    with np.load(folder / STEP_STATE) as stored:
        return onnxruntime.InferenceSession(path), {name: stored[name] for name in stored.files}


def greedy(session: Any, state: dict[str, Any], prompt: Sequence[int], count: int) -> list[int]:
    """As the model card shows it."""
    tokens = list(prompt)
    for position in range(len(prompt) + count - 1):
        feed = {"token": np.array([tokens[position]]), "position": np.array(position), **state}
        logits, *after = session.run(None, feed)
        state = dict(zip(state, after, strict=True))
        if position >= len(prompt) - 1:
            tokens.append(int(logits[0].argmax()))
    return tokens


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(GROUPS)))
def test_every_decoding_mixer_writes_the_same_200_tokens_in_onnx_runtime(index: int, tmp_path: Path) -> None:
    architecture = decoder(
        [mixer(kind) for kind in GROUPS[index]], position=POSITIONS[index % len(POSITIONS)]
    )
    model = build_model(architecture, seed=index).eval()
    session, state = files_of(model, architecture, tmp_path)
    expected = model.generate(torch.tensor([PROMPT]), NEW_TOKENS)[0].tolist()
    assert greedy(session, state, PROMPT, NEW_TOKENS) == expected


OPTIONS: list[dict[str, Any]] = [
    {"qkv_dconv": 3, "gated_attention": "per_token", "clipped_softmax": 4},
    {"score": "wma"},
]


@pytest.mark.parametrize("sharing", [{"kind": "all"}, {"kind": "none"}])
def test_shared_layers_and_options_of_attention_write_the_same_tokens(
    sharing: dict[str, str], tmp_path: Path
) -> None:
    mixers = [mixer("softmax", **(OPTIONS[0] if sharing["kind"] == "all" else one)) for one in OPTIONS]
    architecture = decoder(mixers, sharing=sharing, position="alibi")
    model = build_model(architecture, seed=1).eval()
    session, state = files_of(model, architecture, tmp_path)
    expected = model.generate(torch.tensor([PROMPT]), 40)[0].tolist()
    assert greedy(session, state, PROMPT, 40) == expected


def test_packed_four_bit_steps_write_what_eager_torch_writes(tmp_path: Path) -> None:
    architecture = decoder([mixer("softmax"), mixer("mamba")], number_format="int4_g32")
    model = build_model(architecture, seed=0).eval()
    session, state = files_of(model, architecture, tmp_path)
    rounded = apply_number_formats(model, architecture)
    tokens = list(PROMPT)
    expected: list[int] = []
    with torch.inference_mode():
        for _ in range(20):
            expected.append(int(rounded(torch.tensor([tokens + expected]))[0, -1].argmax()))
    assert greedy(session, state, PROMPT, 20) == tokens + expected


def test_int8_steps_are_as_near_to_the_model_as_its_int8_passes(tmp_path: Path) -> None:
    """Both round activations to 8 bits, one token or all at a time; neither is the other."""
    architecture = decoder([mixer("softmax"), mixer("retention")], number_format="int8_dynamic")
    model = build_model(architecture, seed=0).eval()
    session, state = files_of(model, architecture, tmp_path)
    whole = onnxruntime.InferenceSession(export_onnx(model, architecture, tmp_path / "model.onnx"))
    tokens = np.random.default_rng(0).integers(0, 32, (1, 24))
    rows = []
    for position in range(tokens.shape[1]):
        logits, *after = session.run(
            None, {"token": tokens[:, position], "position": np.array(position), **state}
        )
        state = dict(zip(state, after, strict=True))
        rows.append(logits)
    with torch.inference_mode():
        exact = model(torch.from_numpy(tokens)).numpy()
    by_steps = np.linalg.norm(np.stack(rows, axis=1) - exact)
    at_once = np.linalg.norm(whole.run(None, {"tokens": tokens})[0] - exact)
    assert 0 < by_steps < 2 * at_once < 0.1 * np.linalg.norm(exact)


def test_a_batch_of_rows_goes_step_by_step_with_the_state_repeated(tmp_path: Path) -> None:
    architecture = decoder([mixer("softmax"), mixer("axial")])
    model = build_model(architecture, seed=0).eval()
    session, first = files_of(model, architecture, tmp_path)
    state = {name: np.repeat(value, 3, axis=0) for name, value in first.items()}
    tokens = np.random.default_rng(0).integers(0, 32, (3, 20))
    rows = []
    for position in range(20):
        feed = {"token": tokens[:, position], "position": np.array(position), **state}
        logits, *after = session.run(None, feed)
        state = dict(zip(state, after, strict=True))
        rows.append(logits)
    with torch.inference_mode():
        expected = model(torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(
        np.stack(rows, axis=1), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


def test_every_step_takes_token_position_and_state_in_one_order(tmp_path: Path) -> None:
    """Also where nothing reads the position, and the same model gives the same bytes."""
    architecture = decoder([mixer("pool"), mixer("glu_only")])
    model = build_model(architecture, seed=0)
    session, state = files_of(model, architecture, tmp_path)
    assert [one.name for one in session.get_inputs()] == ["token", "position", *state]
    assert [one.name for one in session.get_outputs()] == [
        "logits",
        *(name.replace("state.", "next.") for name in state),
    ]
    again = export_step(model, architecture, tmp_path / "again.onnx")
    assert again.read_bytes() == (tmp_path / "step.onnx").read_bytes()
    assert (tmp_path / STEP_STATE).read_bytes() == write_first_state(model, tmp_path / "b.npz").read_bytes()
    assert onnx.load(again).doc_string == ""


def test_the_snippet_of_the_model_card_writes_what_the_model_writes(tmp_path: Path) -> None:
    described = decoder([mixer("softmax")]).model_dump(mode="json")
    described["interface"] |= {"vocab_size": 256, "outputs": 256, "context_length": 24}
    architecture = parse_architecture(described)
    model = build_model(architecture, seed=0).eval()
    write_folder(model, architecture, tmp_path, formats=["onnx"])
    card = (tmp_path / "README.md").read_text()
    assert STEP_STATE in card
    (code,) = (part for part in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "state" in part)
    without = "import sys; sys.modules['space'] = sys.modules['torch'] = None\n"
    run = subprocess.run(
        [sys.executable, "-c", without + code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    expected = model.generate(torch.tensor([list(b"def main")]), 8)[0].tolist()
    assert run.stdout.strip() == repr(bytes(expected))


def test_models_without_steps_have_none(tmp_path: Path) -> None:
    transform = parse_architecture(
        {
            **decoder([mixer("softmax")]).model_dump(mode="json"),
            "model": "encoder",
            "layers": [
                {
                    "mixer": {"kind": "dft"},
                    "feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 32},
                    "norm": {"kind": "layernorm"},
                }
            ],
            "final_norm": {"kind": "layernorm"},
            "head": {"kind": "classification"},
            "position": {"kind": "learned"},
        }
    )
    assert not has_step(transform)
    assert has_step(decoder([mixer("softmax")]))
    with pytest.raises(UnsupportedError, match="does not run token by token"):
        export_step(build_model(transform, seed=0), transform, tmp_path / "step.onnx")
    assert list(tmp_path.iterdir()) == []


class WithoutForm(FeedForward):
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        mixed: torch.Tensor = torch.special.bessel_j0(x)
        return mixed


def test_f44_a_step_with_an_operator_without_onnx_form_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    architecture = decoder([mixer("softmax")])
    model = build_model(architecture, seed=0)
    block = model.blocks[0]
    assert isinstance(block, nn.Module)
    block.feed_forward = WithoutForm()
    with pytest.raises(UnsupportedError, match=r"decode step: no ONNX form: .*bessel_j0"):
        export_step(model, architecture, tmp_path / "step.onnx")
    assert list(tmp_path.iterdir()) == []
