"""Fourier mixing: equal to its definition and to torch.fft in every form, at any length; refusals."""

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
from space.errors import InvalidArchitectureError, InvalidInputError
from space.layer_options import Levels, mixer_config
from space.mixers.dft import Dft, DftConfig, DftCosine, DftSine, dft_reference
from space.mixing import transforms
from space.mixing.transforms import MATRIX_TOKENS
from space.positions import NonePositionConfig

D = 12
CONFIGS = [DftConfig(), DftConfig(form="head", num_heads=3), DftConfig(form="head", num_heads=12)]
every_form = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.form}-{c.num_heads}")


def around(context: int = 20) -> Surroundings:
    position = NonePositionConfig()
    return Surroundings(d_model=D, context_length=context, num_layers=1, causal=False, position=position)


def built(config: DftConfig, context: int = 20) -> Dft:
    module = config.build(around(context))
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    return module


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def through(config: DftConfig, module: Dft, x: Tensor) -> tuple[Tensor, Tensor]:
    """Result of the definition and of torch.fft, with the module's maps."""
    v = module.value(x).unflatten(2, (config.num_heads, -1))
    spectrum = torch.fft.fft(torch.fft.fft(v, dim=3), dim=1).real / math.sqrt(v.shape[1] * v.shape[3])
    return module.out(dft_reference(v).flatten(2)), module.out(spectrum.flatten(2))


@every_form
@pytest.mark.parametrize("tokens", [1, 2, 7, 20])
def test_the_module_equals_its_definition_and_the_fast_transform(config: DftConfig, tokens: int) -> None:
    module = built(config).double()
    x = random(2, tokens, D).requires_grad_()
    fast, (slow, spectrum) = module(x), through(config, module, x)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fast, spectrum, rtol=1e-10, atol=1e-10)
    direction, inputs = random(*fast.shape, seed=4), [x, *module.parameters()]
    gradients = (torch.autograd.grad((y * direction).sum(), inputs) for y in (fast, slow))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@every_form
def test_the_form_for_long_inputs_is_the_same_function(
    config: DftConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = built(config).double(), random(2, 13, D)
    matrices = module(x)
    monkeypatch.setattr("space.mixers.dft.MATRIX_TOKENS", 12)
    torch.testing.assert_close(module(x), matrices, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("places", [1, 2, 9, 64])
def test_the_complex_transform_keeps_the_norm(places: int) -> None:
    cosine, sine = DftCosine.made(places), DftSine.made(places)
    identity = torch.eye(places, dtype=torch.float64)
    torch.testing.assert_close(cosine @ cosine.T + sine @ sine.T, identity, rtol=0, atol=1e-12)
    torch.testing.assert_close(cosine @ sine.T, torch.zeros_like(identity), rtol=0, atol=1e-12)


def test_every_token_sees_every_token() -> None:
    module = built(DftConfig()).double()
    x = random(1, 7, D).requires_grad_()
    (gradient,) = torch.autograd.grad((module(x)[0, 3] * random(D, seed=8)).sum(), x)
    assert bool((gradient[0].abs().sum(-1) > 0).all())
    assert DftConfig().reach(around()) == 20


def test_the_full_length_uses_the_constant_and_gives_the_same() -> None:
    module, x = built(DftConfig()), random(2, 20, D, dtype=torch.float32)
    other = built(DftConfig(), context=31)
    torch.testing.assert_close(module(x), other(x), rtol=1e-5, atol=1e-6)
    wide = random(2, 20, D)
    torch.testing.assert_close(module.double()(wide), other.double()(wide), rtol=1e-12, atol=1e-12)
    assert module.token_cosine.table.dtype == torch.float32


def test_layers_of_one_model_hold_one_constant() -> None:
    at = around()
    assert DftConfig().build(at).token_sine is DftConfig(form="head", num_heads=3).build(at).token_sine


@every_form
def test_an_exported_file_chooses_between_constant_and_computed(config: DftConfig, tmp_path: Path) -> None:
    module, path = built(config).eval(), tmp_path / "dft.onnx"
    axes = {0: "batch", 1: "length"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (random(2, 20, D, dtype=torch.float32),), path, dynamo=False, opset_version=17,
            input_names=["x"], output_names=["y"], dynamic_axes={"x": axes, "y": axes},
        )  # fmt: skip
    assert sum(node.op_type == "If" for node in onnx.load(path).graph.node) == 2
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for tokens in (1, 2, 9, 19, 20, 50):
        x = random(3, tokens, D, seed=tokens, dtype=torch.float32)
        y = session.run(None, {"x": x.numpy()})[0]
        np.testing.assert_allclose(y, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


@every_form
def test_counts_are_those_of_the_matrix_form(config: DftConfig) -> None:
    at, n = around(17), 17
    width = config.transform_width(at)
    maps = 2 * D * D if config.form == "head" else 0
    assert config.params(at) == maps
    assert config.macs(at, n) == n * maps + 2 * n * D * (width + n)
    with FlopCounterMode(display=False) as counter:
        built(config, 17)(torch.zeros(1, n, D))
    assert counter.get_total_flops() == 2 * config.macs(at, n)


def test_a_long_input_costs_n_log_n() -> None:
    at, n = around(4096), 4096
    assert n > MATRIX_TOKENS
    assert DftConfig().macs(at, n) == math.ceil(2.5 * n * D * (12 + math.log2(D)))


def test_activation_peak_counts_a_matrix_that_is_no_constant() -> None:
    config = DftConfig()
    assert config.activation_size(around(20), 20) == 3 * 20 * D
    assert config.activation_size(around(20), 19) == 3 * 19 * D + 19**2
    assert config.activation_size(around(4096), 4096) == 3 * 4096 * D


def test_padding_is_refused_and_a_mask_without_any_is_not() -> None:
    module, x = built(DftConfig()), random(2, 5, D, dtype=torch.float32)
    mask = torch.ones(2, 5, dtype=torch.bool)
    assert torch.equal(module(x, mask), module(x))
    mask[1, 3:] = False
    with pytest.raises(InvalidInputError, match=r"dft: 2 tokens of the batch are padding.*of one length"):
        module(x, mask)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InvalidArchitectureError, match="num_heads=5 does not divide d_model=12"):
        DftConfig(form="head", num_heads=5).check(around())


def test_the_layer_form_forgets_its_heads() -> None:
    levels: Levels = {"mixer": "dft", "transform_form": "layer", "head_width": 8}
    assert mixer_config(levels, around()) == DftConfig()
    assert DftConfig(num_heads=4).canonical(around()) == DftConfig()
    assert transforms.FORM.default[0] == "layer"
