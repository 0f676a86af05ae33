"""`serve-model`: an exported folder answers over HTTP, says what is wrong, and is reached from here only."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli import app as command_line
from api.model_app import BODY_LIMIT, create_model_app
from api.served_model import ServedModel
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError
from space.export import write_folder
from space.model import build_model

LAYER = {
    "mixer": {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2},
    "feed_forward": {"kind": "glu", "activation": "silu", "d_ff": 32},
    "norm": {"kind": "rmsnorm"},
}
INTERFACES = {
    "decoder": {"input": "bytes", "vocab_size": 256, "context_length": 32, "outputs": 256},
    "encoder": {"input": "bytes", "vocab_size": 256, "context_length": 32, "outputs": 3},
    "vision": {"input": "image", "height": 8, "width": 8, "channels": 1, "patch_size": 2, "outputs": 2},
}
NAMES = {"encoder": ["bad", "good", "fair"], "vision": ["cat", "dog"]}


def architecture(model: str) -> Architecture:
    return parse_architecture(
        {
            "model": model,
            "interface": INTERFACES[model],
            "d_model": 16,
            "position": {"kind": "learned"},
            "layers": [LAYER],
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language" if model == "decoder" else "classification"},
        }
    )


def write(model: str, folder: Path, **more: Any) -> Path:
    described = architecture(model)
    preparation: dict[str, Any] = {"classes": NAMES.get(model, [])}
    if model == "vision":
        preparation["normalisation"] = {"mean": [4.0], "std": [2.0]}
    built = build_model(described, seed=0).eval()
    write_folder(built, described, folder, preprocessing=preparation, **more)
    return folder


def client_of(folder: Path, file: str | None = None) -> TestClient:
    return TestClient(create_model_app(ServedModel(folder, file)), base_url="http://127.0.0.1:8766")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("decoder", tmp_path_factory.mktemp("decoder"))


@pytest.mark.parametrize("formats", [["onnx"], ["torch"]])
def test_a_byte_decoder_continues_a_text_as_the_model_does(formats: list[str], tmp_path: Path) -> None:
    client = client_of(write("decoder", tmp_path, formats=formats))
    answer = client.post("/generate", json={"prompt": "def", "max_new_tokens": 20}).json()
    model = build_model(architecture("decoder"), seed=0).eval()
    expected = model.generate(torch.tensor([list(b"def")]), 20)[0, 3:].tolist()
    assert answer["tokens"] == expected
    assert answer["text"].startswith("def")
    assert answer["with_state"] == (formats == ["onnx"])


def test_a_drawn_continuation_depends_on_its_seed_alone(decoder: Path) -> None:
    client = client_of(decoder)
    ask = {"prompt": "x", "max_new_tokens": 8, "temperature": 2.0}
    drawn = [client.post("/generate", json={**ask, "seed": seed}).json()["tokens"] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_text_classifier_gives_class_names_and_probabilities(tmp_path: Path) -> None:
    client = client_of(write("encoder", tmp_path))
    answer = client.post("/predict", json={"text": "fine"}).json()
    assert answer["classes"] == NAMES["encoder"]
    (shares,) = answer["probabilities"]
    assert sum(shares) == pytest.approx(1.0)
    assert answer["best"] == [NAMES["encoder"][int(np.argmax(shares))]]
    padded = [[*b"fine", *[0] * 28]]
    assert client.post("/predict", json={"inputs": padded}).json()["probabilities"][0] == pytest.approx(
        shares
    )
    refused = client.post("/generate", json={"prompt": "fine"})
    assert (refused.status_code, "writes no text" in refused.json()["detail"]) == (422, True)


def test_images_are_normalised_as_in_training(tmp_path: Path) -> None:
    client = client_of(write("vision", tmp_path))
    pixels = np.random.default_rng(0).integers(0, 16, (3, 1, 8, 8))
    answer = client.post("/predict", json={"inputs": pixels.tolist()}).json()
    model = build_model(architecture("vision"), seed=0).eval()
    with torch.inference_mode():
        logits = model(torch.from_numpy(((pixels - 4.0) / 2.0).astype(np.float32)))
    expected = torch.softmax(logits, dim=-1).numpy()
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


def test_a_language_model_says_the_likeliest_next_tokens(decoder: Path) -> None:
    (best,) = client_of(decoder).post("/predict", json={"text": "abc"}).json()["next"]
    assert len(best) == 5
    assert best[0]["probability"] == max(one["probability"] for one in best)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/predict", {}, "send either"),
        ("/predict", {"text": ""}, "is empty"),
        ("/predict", {"inputs": [[1, 2], [3]]}, "no regular array"),
        ("/predict", {"inputs": [[256]]}, "from 0 to 255"),
        ("/predict", {"inputs": [[0.5]]}, "whole number"),
        ("/predict", {"inputs": [[0] * 33]}, "length up to 32"),
        ("/predict", {"input": [[0]]}, "did you mean 'inputs'"),
        ("/generate", {"prompt": "x" * 30, "max_new_tokens": 3}, "do not fit the context of 32"),
        ("/generate", {"prompt": "x", "temperature": -1}, "temperature"),
        ("/generate", {"prompt": ""}, "prompt"),
    ],
)
def test_what_cannot_be_answered_is_a_problem_with_the_way_out(
    path: str, body: dict[str, Any], words: str, decoder: Path
) -> None:
    answer = client_of(decoder).post(path, json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def test_bodies_hosts_and_types_are_limited(decoder: Path) -> None:
    client = client_of(decoder)
    assert client.post("/predict", content=b" " * (BODY_LIMIT + 1), headers=JSON).status_code == 413
    assert client.post("/predict", content=b"{", headers=JSON).status_code == 422
    assert client.post("/predict", data={"text": "a"}).status_code == 415
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400


JSON = {"Content-Type": "application/json"}


def test_it_describes_itself(decoder: Path) -> None:
    client = client_of(decoder)
    about = client.get("/").json()
    assert (about["file"], about["generates"], about["classes"]) == ("model.onnx", True, None)
    assert {"/predict", "/generate"} <= set(client.get("/openapi.json").json()["paths"])
    page = client.get("/docs").text
    assert "/generate" in page
    assert "<script" not in page


def test_a_folder_that_is_none_or_was_tampered_with_is_refused(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is no exported folder"):
        ServedModel(tmp_path)
    with pytest.raises(InvalidInputError, match=r"did you mean 'model\.onnx'"):
        ServedModel(decoder, "model.onx")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in decoder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "export_report.json").write_text(json.dumps({"sha256": {"model.onnx": "0" * 64}}))
    with pytest.raises(InvalidInputError, match="is not the file that was exported"):
        ServedModel(copy)


def test_it_serves_this_machine_only(decoder: Path) -> None:
    result = CliRunner().invoke(command_line, ["serve-model", str(decoder), "--host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "can be reached by others" in result.output


@pytest.mark.slow
def test_the_command_answers_a_real_request(decoder: Path) -> None:
    server = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-c",
            "from api.cli import main; main()",
            "serve-model",
            str(decoder),
            "--port",
            "0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        request = urllib.request.Request(
            f"{found[0]}/generate", json.dumps({"prompt": "a", "max_new_tokens": 3}).encode(), JSON
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)["tokens"]) == 3
    finally:
        server.terminate()
        server.communicate(timeout=30)
