"""Every preset: what it draws can be built, counted, stored and run."""

import os
import random
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from space.architecture import (
    Architecture,
    BytesInterface,
    ImageInterface,
    InterfaceConfig,
    parse_architecture,
)
from space.batch_costs import CostTable
from space.costs import costs
from space.export import export_onnx, input_shape
from space.model import build_model
from space.sampling import sample
from space.search_space import SearchSpace, load_preset, preset_names

pytestmark = pytest.mark.slow

TEXT = BytesInterface(context_length=48, outputs=256)
SEQUENCE = BytesInterface(context_length=48, outputs=5)
IMAGE = ImageInterface(height=16, width=16, channels=3, patch_size=4, outputs=10)
INTERFACES: dict[str, InterfaceConfig] = {"decoder": TEXT, "encoder": SEQUENCE, "vision": IMAGE}
SAMPLES = int(os.environ.get("PARETOFORMER_TEST_SAMPLES", "10"))
"""Architectures drawn of each preset: 300 in `make soak`."""
RUNS = 5 if SAMPLES >= 100 else 2
"""How many of them run and export."""
every_preset = pytest.mark.parametrize("name", preset_names())


def space_of(name: str, **changes: object) -> SearchSpace:
    preset = load_preset(name)
    return preset.with_domains(changes).for_interface(INTERFACES[preset.model])


def small(name: str) -> SearchSpace:
    """The same choices at width 64 and little depth."""
    preset = load_preset(name)
    depths = sorted(preset.domains.num_layers)
    return space_of(name, d_model=[64], num_layers=[min(depths[0], 4), min(depths[-1], 4)])


@every_preset
def test_samples_have_the_counted_parameters_and_survive_json(name: str) -> None:
    space, rng = space_of(name), random.Random(0)
    drawn = [sample(space, rng) for _ in range(SAMPLES)]
    params = CostTable().costs(drawn)["params"]
    for architecture, counted in zip(drawn, params.tolist(), strict=True):
        with torch.device("meta"):
            model = build_model(architecture)
        built = sum(parameter.numel() for parameter in model.parameters())
        assert built == counted == costs(architecture).params, architecture.canonical_json
        assert parse_architecture(architecture.canonical_json).id == architecture.id
        assert space.decode(space.encode(architecture)).id == architecture.id


@every_preset
def test_every_preset_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    preset = load_preset(name)
    assert preset.description
    assert preset.source or name.endswith(("-small", "-full"))


@every_preset
@pytest.mark.parametrize("of", ["lengths", pytest.param("onnx", marks=pytest.mark.slow)])
def test_samples_run_and_export(name: str, of: str, tmp_path: Path) -> None:
    space, rng = small(name), random.Random(1)
    for _ in range(RUNS):
        architecture = sample(space, rng).with_number_format("fp32")
        model = build_model(architecture, seed=0).eval()
        model.set_progress(1.0)
        lengths = [None] if space.model == "vision" else [7, architecture.tokens]
        inputs = [random_input(architecture, length) for length in lengths]
        with torch.no_grad():
            outputs = [model(x) for x in inputs]
        assert all(torch.isfinite(y).all() for y in outputs)
        if of == "onnx":
            path = export_onnx(model, architecture, tmp_path / "model.onnx")
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for x, y in zip(inputs, outputs, strict=True):
                found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
                np.testing.assert_allclose(found, y.numpy(), rtol=1e-3, atol=1e-4)


def random_input(architecture: Architecture, length: int | None) -> torch.Tensor:
    shape = input_shape(architecture, 2, length)
    generator = torch.Generator().manual_seed(0)
    if architecture.interface.input == "bytes":
        return torch.randint(0, 256, shape, generator=generator)
    return torch.rand(shape, generator=generator)
