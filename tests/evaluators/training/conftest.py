"""Small real tasks and architectures for the training tests."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from evaluators.training.data import TaskData
from evaluators.training.tasks.digits import Digits
from evaluators.training.text import language_model
from space.architecture import Architecture, parse_architecture


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As a worker trains; two threads on a busy machine wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def text_data() -> TaskData:
    """20 kB of JSON text, windows of 32."""
    rng = np.random.default_rng(0)
    rows = [{"id": number, "value": int(rng.integers(100))} for number in range(700)]
    return language_model("rows", [("rows.json", json.dumps(rows).encode())], 32, folder=False)


@pytest.fixture(scope="session")
def digits_data() -> TaskData:
    return Digits().prepare(None)


def _architecture(data: TaskData, d_model: int, num_layers: int, number_format: str) -> Architecture:
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
        "feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 2 * d_model},
        "norm": {"kind": "rmsnorm"},
        "number_format": number_format,
    }
    return parse_architecture(
        {
            "model": data.model,
            "interface": data.interface().model_dump(),
            "d_model": d_model,
            "position": {"kind": "rope" if data.is_language_model else "learned"},
            "layers": [layer] * num_layers,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language" if data.is_language_model else "classification"},
        }
    )


@pytest.fixture(scope="session")
def text_architecture(text_data: TaskData) -> Architecture:
    return _architecture(text_data, d_model=16, num_layers=1, number_format="fp32")


@pytest.fixture(scope="session")
def int8_text_architecture(text_data: TaskData) -> Architecture:
    return _architecture(text_data, d_model=16, num_layers=1, number_format="int8_dynamic")


@pytest.fixture(scope="session")
def image_architecture(digits_data: TaskData) -> Architecture:
    return _architecture(digits_data, d_model=16, num_layers=1, number_format="fp32")
