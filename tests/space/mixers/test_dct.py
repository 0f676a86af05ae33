"""Cosine mixing: equal to its definition, orthonormal, invertible, exported at any length."""

import math
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from space.choice import Surroundings
from space.errors import InvalidInputError
from space.mixers.dct import Dct, DctConfig, DctMatrix, dct_reference
from space.positions import NonePositionConfig

D = 12
CONFIGS = [DctConfig(), DctConfig(form="head", num_heads=3)]
every_form = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.form)


def around(context: int = 20) -> Surroundings:
    position = NonePositionConfig()
    return Surroundings(d_model=D, context_length=context, num_layers=1, causal=False, position=position)


def built(config: DctConfig, context: int = 20) -> Dct:
    module = config.build(around(context))
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    return module


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@every_form
@pytest.mark.parametrize("tokens", [1, 2, 7, 20])
def test_the_module_equals_its_definition(config: DctConfig, tokens: int) -> None:
    module = built(config).double()
    x = random(2, tokens, D).requires_grad_()
    v = module.value(x).unflatten(2, (config.num_heads, -1))
    fast, slow = module(x), module.out(dct_reference(v).flatten(2))
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    direction, inputs = random(*fast.shape, seed=4), [x, *module.parameters()]
    gradients = (torch.autograd.grad((y * direction).sum(), inputs) for y in (fast, slow))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("places", [1, 2, 9, 64, 301])
def test_the_matrix_is_orthonormal(places: int) -> None:
    matrix = DctMatrix.made(places)
    identity = torch.eye(places, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, identity, rtol=0, atol=1e-12)


def test_the_inverse_returns_the_input() -> None:
    module, x = built(DctConfig()).double(), random(2, 9, D)
    back = DctMatrix.made(9).T @ module(x) @ DctMatrix.made(D)
    torch.testing.assert_close(back, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("places", [1, 2, 9, 64])
def test_the_matrix_is_the_one_that_a_fourier_transform_of_the_mirrored_input_gives(places: int) -> None:
    x = random(places)
    spectrum = torch.fft.fft(torch.cat([x, x.flip(0)]))[:places]
    turned = spectrum * torch.exp(-1j * math.pi * torch.arange(places, dtype=torch.float64) / (2 * places))
    scale = torch.full((places,), math.sqrt(1 / (2 * places)), dtype=torch.float64)
    scale[0] = math.sqrt(1 / (4 * places))
    torch.testing.assert_close(DctMatrix.made(places) @ x, scale * turned.real, rtol=1e-11, atol=1e-11)


@every_form
@pytest.mark.parametrize("context", [20, D])
def test_an_exported_file_chooses_between_constant_and_computed(
    config: DctConfig, context: int, tmp_path: Path
) -> None:
    """Also where there are as many tokens as channels."""
    module, path = built(config, context).eval(), tmp_path / "dct.onnx"
    axes = {0: "batch", 1: "length"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (random(2, context, D, dtype=torch.float32),), path, dynamo=False, opset_version=17,
            input_names=["x"], output_names=["y"], dynamic_axes={"x": axes, "y": axes},
        )  # fmt: skip
    assert sum(node.op_type == "If" for node in onnx.load(path).graph.node) == 1
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for tokens in (1, 2, 9, context - 1, context, 50):
        x = random(3, tokens, D, seed=tokens, dtype=torch.float32)
        y = session.run(None, {"x": x.numpy()})[0]
        np.testing.assert_allclose(y, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_context_without_a_constant_exports_too(tmp_path: Path) -> None:
    module, path = built(DctConfig(), context=600).eval(), tmp_path / "dct.onnx"
    assert module.tokens.table.numel() == 0
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (random(1, 9, D, dtype=torch.float32),), path, dynamo=False, opset_version=17,
            input_names=["x"], dynamic_axes={"x": {1: "length"}},
        )  # fmt: skip
    x = random(1, 600, D, dtype=torch.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    y = session.run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(y, module(x).detach().numpy(), rtol=1e-4, atol=2e-5)


@every_form
def test_counts_are_half_of_the_fourier_form(config: DctConfig) -> None:
    at, n = around(17), 17
    maps = 2 * D * D if config.form == "head" else 0
    assert config.params(at) == maps
    assert config.macs(at, n) == n * maps + n * D * (config.transform_width(at) + n)
    with FlopCounterMode(display=False) as counter:
        built(config, 17)(torch.zeros(1, n, D))
    assert counter.get_total_flops() == 2 * config.macs(at, n)


def test_activation_peak_counts_a_matrix_that_is_no_constant() -> None:
    assert DctConfig().activation_size(around(20), 20) == 2 * 20 * D
    assert DctConfig().activation_size(around(20), 19) == 2 * 19 * D + 19**2
    assert DctConfig().activation_size(around(600), 600) == 2 * 600 * D + 600**2


def test_padding_is_refused() -> None:
    mask = torch.tensor([[True, True, False]])
    with pytest.raises(InvalidInputError, match=r"dct: 1 token.*of one length"):
        built(DctConfig())(random(1, 3, D, dtype=torch.float32), mask)
