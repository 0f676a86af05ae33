"""The deployed form computes what the trained one computes (E5), and so do converted norms (E4)."""

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from space.architecture import Architecture, parse_architecture
from space.choice import Scheduled
from space.deploy import deployed
from space.errors import UnsupportedError
from space.export import export_onnx
from space.model import Model, build_model
from space.norm_conversion import ExportNorm, Scaled
from space.norm_folding import Affine, Folded
from space.norms.crmsnorm import CRMSNorm, UnscaledRMSNorm
from space.norms.prepbn import PRepBN
from space.number_formats import apply_number_formats

pytestmark = pytest.mark.slow

D_MODEL, TOKENS = 16, 12
INTERFACES: dict[str, dict[str, Any]] = {
    "decoder": {"input": "bytes", "vocab_size": 40, "context_length": TOKENS, "outputs": 40},
    "encoder": {"input": "values", "channels": 3, "context_length": TOKENS, "outputs": 5},
    "vision": {"input": "image", "height": 6, "width": 8, "channels": 1, "patch_size": 2, "outputs": 5},
}
SOFTMAX = {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2}
LINEAR_ENDS: list[dict[str, Any]] = [
    SOFTMAX,
    {"kind": "linear_elu", "num_heads": 2},
    {"kind": "gated_conv", "width": 3, "gates": 2},
    {"kind": "mamba"},
    {
        "kind": "sliding_window",
        "num_heads": 2,
        "num_kv_heads": 1,
        "window": 4,
        "gated_attention": "per_token_full",
    },
    {**SOFTMAX, "score": "wma", "qk_norm": True},
]
"""Mixers that read and write through linear maps alone."""
NESTED = {"kind": "nested", "activation": "gelu", "d_ff": 32, "granularity": 2}
FEED_FORWARDS: list[dict[str, Any]] = [
    {"kind": "mlp", "activation": "gelu", "d_ff": 24},
    {"kind": "glu", "activation": "silu", "d_ff": 24},
    NESTED,
]


def layer(mixer: dict[str, Any], norm: str = "layernorm", **more: Any) -> dict[str, Any]:
    return {"mixer": mixer, "feed_forward": FEED_FORWARDS[1], "norm": {"kind": norm}, **more}


def architecture(layers: list[dict[str, Any]], model: str = "encoder", **more: Any) -> Architecture:
    point = {
        "model": model,
        "interface": INTERFACES[model],
        "d_model": D_MODEL,
        "position": {"kind": "learned"},
        "layers": layers,
        "final_norm": layers[-1]["norm"],
        "head": {"kind": "language" if model == "decoder" else "classification"},
    }
    return parse_architecture({**point, **more})


def trained(point: Architecture, *, seed: int = 1) -> Model:
    """In float64, as after a training: nothing at its start, schedules at their end."""
    model = build_model(point, seed=0).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(spread * noise if parameter.ndim > 1 else parameter + spread * noise)
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.set_progress(1.0)
        if isinstance(module, PRepBN):
            module.mean.normal_(generator=generator)
            module.var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


def inputs(point: Architecture, batch: int = 3, tokens: int = TOKENS) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    if point.model == "decoder":
        return torch.randint(40, (batch, tokens), generator=generator)
    shape = (batch, 1, 6, 8) if point.model == "vision" else (batch, tokens, 3)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def assert_same_function(model: nn.Module, form: nn.Module, point: Architecture) -> None:
    """With and without padding, and the model is as it was."""
    x = inputs(point)
    expected = model(x)
    scale = expected.abs().max().item()
    torch.testing.assert_close(form(x), expected, rtol=1e-10, atol=1e-10 * scale)
    if not any(one.mixer.padding == "packed" for one in point.layers) and point.model != "vision":
        mask = torch.arange(TOKENS).expand(3, TOKENS) < torch.tensor([[12], [5], [1]])
        padded, wanted = form(x, mask), model(x, mask)
        if point.model == "decoder":
            padded, wanted = padded[mask], wanted[mask]
        torch.testing.assert_close(padded, wanted, rtol=1e-10, atol=1e-10 * scale)


def pre_norm_architectures(count: int = 12) -> list[Architecture]:
    """Drawn from all that converts: mixers, feed-forwards, residuals, positions, sharing, low rank, heads."""
    rng = random.Random(0)
    found = []
    for index in range(count):
        model = rng.choice(list(INTERFACES))
        residual = rng.choice(["serial", "parallel", "macaron"])
        layers = [
            layer(rng.choice(LINEAR_ENDS), feed_forward=rng.choice(FEED_FORWARDS), residual=residual)
            for _ in range(2)
        ]
        more: dict[str, Any] = {
            "position": {"kind": rng.choice(["learned", "sinusoidal", "rope", "t5_bias"])}
        }
        if index % 3 == 0:
            layers, more["sharing"] = layers[:1] * 3, {"kind": "all"}
        if index % 4 == 1:
            more["projection"] = {"kind": "lowrank", "rank_ratio": 0.25}
        if model == "decoder":
            more["head"] = {"kind": "language", "tied": index % 2 == 0}
        else:
            more["head"] = {"kind": "classification", "pooling": rng.choice(["mean", "last"])}
        found.append(architecture(layers, model, **more))
    return found


PRE_NORM = pre_norm_architectures()


@pytest.mark.parametrize("point", PRE_NORM, ids=range(len(PRE_NORM)))
@pytest.mark.parametrize("export_norm", ["keep", "rms", "crms"])
def test_e4_pre_norm_models_are_the_same_after_conversion(
    point: Architecture, export_norm: ExportNorm
) -> None:
    model = trained(point)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    form = deployed(model, point, export_norm=export_norm)
    assert_same_function(model, form, point)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not form.training
    norms = {type(m) for m in form.modules()} & {UnscaledRMSNorm, CRMSNorm}
    assert norms == {"keep": set(), "rms": {UnscaledRMSNorm}, "crms": {CRMSNorm}}[export_norm]


def test_a_stream_without_its_last_channel_is_one_narrower() -> None:
    point = architecture([layer(SOFTMAX)] * 2, "decoder", position={"kind": "rope"})
    form = deployed(trained(point), point, export_norm="crms")
    seen: list[int] = []
    form.get_submodule("final_norm").register_forward_hook(lambda _, x, y: seen.append(y.shape[-1]))
    form(inputs(point))
    assert seen == [D_MODEL - 1]


def test_a_pooling_of_maxima_keeps_gain_and_bias_before_it() -> None:
    head = {"kind": "classification", "pooling": "max"}
    point = architecture([layer(SOFTMAX)], head=head)
    model = trained(point)
    form = deployed(model, point, export_norm="rms")
    assert isinstance(form.get_submodule("final_norm"), Scaled)
    assert_same_function(model, form, point)
    with pytest.raises(UnsupportedError, match="the head is not read by linear maps"):
        deployed(model, point, export_norm="crms")


def test_norms_of_their_own_before_shared_weights_keep_gain_and_bias() -> None:
    point = architecture([layer(SOFTMAX)] * 2, sharing={"kind": "all", "private_norm": True})
    model = trained(point)
    assert_same_function(model, deployed(model, point, export_norm="rms"), point)
    with pytest.raises(UnsupportedError, match="layer 0: 'mixer_norm'"):
        deployed(model, point, export_norm="crms")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (layer(SOFTMAX, placement="post"), "layer 0: the norm stands behind its branch"),
        (layer(SOFTMAX, norm="rmsnorm"), "layer 0: the norm is no layer norm"),
        (layer({"kind": "pool", "width": 3}), "layer 0: 'pool' does not end with a linear map"),
        (
            layer(SOFTMAX, feed_forward={"kind": "moe", "activation": "relu", "d_ff": 16}),
            "layer 0: 'moe' does not end with a linear map",
        ),
    ],
)
def test_what_has_no_exact_form_is_refused(changed: dict[str, Any], message: str) -> None:
    point = architecture([changed, layer(SOFTMAX)])
    with pytest.raises(UnsupportedError, match=message):
        deployed(build_model(point, seed=0), point, export_norm="rms")


FOLDING: list[tuple[str, dict[str, Any], list[str]]] = [
    ("dense", {}, ["Folded", "Folded"]),
    ("low rank", {"projection": {"kind": "lowrank", "rank_ratio": 0.25}}, ["Folded", "Folded"]),
    ("shared", {"sharing": {"kind": "all"}}, ["Folded", "Folded"]),
    ("norms of their own", {"sharing": {"kind": "all", "private_norm": True}}, ["Affine", "Affine"]),
]


@pytest.mark.parametrize(("name", "more", "kinds"), FOLDING, ids=[name for name, *_ in FOLDING])
@pytest.mark.parametrize(
    "mixer", [*LINEAR_ENDS, {"kind": "axial", "num_heads": 2, "num_kv_heads": 2, "columns": 4}]
)
def test_e5_batch_norm_goes_into_the_maps_behind_it(
    mixer: dict[str, Any], name: str, more: dict[str, Any], kinds: list[str]
) -> None:
    point = architecture([layer(mixer, norm="prepbn")] * 2, **more)
    model = trained(point)
    form = deployed(model, point)
    assert_same_function(model, form, point)
    block = form.get_submodule("blocks.0")
    found = [type(block.get_submodule(norm)).__name__ for norm in ("mixer_norm", "feed_forward_norm")]
    assert found == kinds
    assert not any(isinstance(module, PRepBN) for module in form.modules())


@pytest.mark.parametrize("model_kind", ["encoder", "vision"])
@pytest.mark.parametrize("kind", ["pool", "dft", "dct"])
def test_e5_where_no_map_can_take_it_one_factor_and_shift_stay(kind: str, model_kind: str) -> None:
    mixer = {"kind": kind, **({"width": 3} if kind == "pool" else {})}
    point = architecture([layer(mixer, norm="prepbn")], model_kind)
    model = trained(point)
    form = deployed(model, point)
    assert_same_function(model, form, point)
    assert isinstance(form.get_submodule("blocks.0.mixer_norm"), Affine)
    assert isinstance(form.get_submodule("blocks.0.feed_forward_norm"), Folded)


@pytest.mark.parametrize("residual", ["serial", "parallel", "macaron"])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_e5_in_every_placement_and_residual(residual: str, placement: str) -> None:
    point = architecture([layer(SOFTMAX, norm="prepbn", residual=residual, placement=placement)] * 2)
    model = trained(point)
    form = deployed(model, point)
    assert_same_function(model, form, point)
    norm = form.get_submodule("blocks.1.mixer_norm")
    assert isinstance(norm, Folded if placement == "pre" else Affine)


def test_experts_and_their_router_see_the_normed_input() -> None:
    moe = {"kind": "moe", "activation": "gelu", "d_ff": 16, "num_experts": 2}
    point = architecture([layer(SOFTMAX, norm="prepbn", feed_forward=moe)])
    model = trained(point)
    assert_same_function(model, deployed(model, point), point)


def test_slices_and_weighted_scores_are_folded() -> None:
    point = architecture([layer({**SOFTMAX, "score": "wma"}, feed_forward=NESTED)] * 2, "decoder")
    model = trained(point)
    form = deployed(model, point)
    assert_same_function(model, form, point)
    assert {type(m).__name__ for m in form.modules()}.isdisjoint({"Nested", "WeightedProjection"})
    assert sum(p.numel() for p in form.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("form", ["fp32", "int8_dynamic", "int4_g32"])
def test_number_formats_and_files_have_the_deployed_form(form: str, tmp_path: Path) -> None:
    point = architecture([layer(SOFTMAX, norm="prepbn", number_format=form)] * 2)
    model, x = build_model(point, seed=0), inputs(point).float()
    model(x)  # one training step's statistics
    model.eval()
    converted = apply_number_formats(model, point)
    assert isinstance(converted.get_submodule("blocks.0.mixer_norm"), Folded)
    expected, found = model(x), converted(x)
    limit = {"fp32": 1e-5, "int8_dynamic": 0.05, "int4_g32": 0.5}[form]
    assert ((found - expected).norm() / expected.norm()).item() < limit
    path = export_onnx(model, point, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    y = torch.from_numpy(session.run(None, {"values": x.numpy()})[0])
    # the file's 8-bit activations have one scale per tensor
    assert ((y - found).norm() / found.norm()).item() < (0.05 if form == "int8_dynamic" else 1e-4)


@pytest.mark.parametrize("export_norm", ["rms", "crms"])
def test_a_file_with_converted_norms(export_norm: ExportNorm, tmp_path: Path) -> None:
    point = architecture([layer(SOFTMAX), layer(LINEAR_ENDS[1])], "decoder")
    model = trained(point).float()
    path = export_onnx(model, point, tmp_path / "model.onnx", export_norm=export_norm)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for tokens in (1, 7, TOKENS):
        x = inputs(point, 2, tokens)
        expected = model(x).detach().numpy()
        y = session.run(None, {"tokens": x.numpy()})[0]
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_training_continues_from_the_unfolded_form() -> None:
    point = architecture([layer(SOFTMAX, norm="prepbn")])
    model = trained(point).train()
    twin = copy.deepcopy(model)
    deployed(model, point)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    x = inputs(point)
    torch.testing.assert_close(model(x), twin(x))
