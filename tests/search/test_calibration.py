"""int8_mixed in a job: its outliers are frozen from training data, in what is judged, timed and published."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.latency import Target
from evaluators.training import TaskData, prepare_task
from search.workers.stages import calibration_of, running_form
from space.architecture import Architecture
from space.model import Model, build_model
from space.search_space import load_preset

OUTLIER = 3
"""Channel whose values a norm multiplies by 50."""


@pytest.fixture(scope="module")
def data() -> TaskData:
    return prepare_task("image", "digits", None)


@pytest.fixture(scope="module")
def architecture(data: TaskData) -> Architecture:
    changes = {
        "d_model": 32, "num_layers": 1, "mixer": "softmax", "feed_forward": "mlp", "norm": "layernorm",
        "number_format": "int8_mixed",
    }  # fmt: skip
    return load_preset("vision-small").with_domains(changes).for_interface(data.interface()).decode({})


@pytest.fixture(scope="module")
def model(architecture: Architecture) -> Model:
    found = build_model(architecture, seed=0).eval()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if name.startswith("blocks") and name.endswith("norm.gain"):
                parameter[OUTLIER] *= 50
    return found


def error(
    model: Model, architecture: Architecture, data: TaskData, folder: Path, calibration: torch.Tensor | None
) -> float:
    """Of the running form's logits, relative to the float32 model's."""
    inputs = data.validation.inputs[:16]
    predict = running_form(model, architecture, Target(), folder, calibration)
    with torch.inference_mode():
        exact = model(torch.from_numpy(inputs)).numpy()
    return float(np.abs(predict(inputs) - exact).max() / np.abs(exact).max())


def test_a_file_of_a_job_keeps_the_outliers_of_the_training_data_in_float(
    model: Model, architecture: Architecture, data: TaskData, tmp_path: Path
) -> None:
    """Without a calibration the one large channel coarsens all others."""
    calibration = calibration_of(architecture, data)
    assert calibration is not None
    frozen = error(model, architecture, data, tmp_path, calibration)
    plain = architecture.with_number_format("int8_dynamic")
    assert calibration_of(plain, data) is None
    assert frozen < 0.5 * error(model, plain, data, tmp_path, None)


def test_equal_data_gives_equal_outliers(architecture: Architecture, data: TaskData) -> None:
    first, again = (
        calibration_of(architecture, one) for one in (data, prepare_task("image", "digits", None))
    )
    assert first is not None
    assert again is not None
    assert torch.equal(first, again)
