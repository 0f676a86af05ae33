"""Pooling `cls`: a trained token before those of the input, read by the head."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evaluators.devices.operators import operators_of
from evaluators.latency import Target, blocks_of
from evaluators.latency.blocks import export_block
from space.architecture import (
    Architecture,
    BytesInterface,
    ClassificationHead,
    ImageInterface,
    parse_architecture,
)
from space.batch_costs import CostTable
from space.constraints import STATIC_KEYS, cautions, smallest, static_costs
from space.costs import costs
from space.deploy import deployed
from space.encoding import VectorEncoding
from space.errors import InvalidArchitectureError, InvalidInputError
from space.export import export_onnx
from space.mixers import MIXERS
from space.model import Model, build_model, parameter_roles
from space.norm_conversion import ExportNorm
from space.sampling import enumerate_space, sample
from space.search_space import SearchSpace, load_preset

TOKENS, D = 12, 16
CLS, MEAN = ({"kind": "classification", "pooling": pooling} for pooling in ("cls", "mean"))
INTERFACES: dict[str, dict[str, Any]] = {
    "bytes": {"input": "bytes", "vocab_size": 40, "context_length": TOKENS, "outputs": 3},
    "values": {"input": "values", "channels": 3, "context_length": TOKENS, "outputs": 3},
    "image": {"input": "image", "height": 6, "width": 8, "channels": 2, "patch_size": 2, "outputs": 3},
}
SOFTMAX: dict[str, Any] = {"kind": "softmax", "num_heads": 2, "num_kv_heads": 1}


def architecture(given: str = "bytes", *mixers: dict[str, Any], **changes: Any) -> Architecture:
    layer = {"feed_forward": {"kind": "mlp", "d_ff": 16}, "norm": {"kind": "layernorm"}}
    point = {
        "model": "vision" if given == "image" else "encoder",
        "interface": INTERFACES[given],
        "d_model": D,
        "position": {"kind": "learned"},
        "layers": [{**layer, "mixer": mixer} for mixer in mixers or (SOFTMAX,)],
        "final_norm": {"kind": "layernorm"},
        "head": CLS,
    }
    return parse_architecture({**point, **changes})


def lively(point: Architecture) -> Model:
    model = build_model(point, seed=0).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def inputs(point: Architecture, length: int = TOKENS, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    if point.interface.input == "bytes":
        return torch.randint(40, (batch, length), generator=generator)
    shape = (batch, 2, 6, 8) if point.interface.input == "image" else (batch, length, 3)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("given", INTERFACES)
@torch.no_grad()
def test_the_answer_is_that_of_the_first_of_one_token_more(given: str) -> None:
    """By hand: the vector before the embedded tokens, the blocks, the head on the first place."""
    point = architecture(given, SOFTMAX, {"kind": "gated_conv", "width": 3})
    model, x = lively(point), inputs(point)
    plain = lively(point.model_copy(update={"head": point.head.model_copy(update={"pooling": "last"})}))
    own = model.get_parameter("embedding.weight")
    tokens = torch.cat([own.expand(2, 1, D), model.get_submodule("embedding.tokens")(x)], dim=1)
    tokens = tokens + model.get_parameter("position.table")
    assert tokens.shape == (2, TOKENS + 1, D)
    for block in model.blocks:
        tokens = block(tokens)
    expected = model.get_submodule("head.projection")(model.final_norm(tokens)[:, 0])
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert plain(x).shape == expected.shape


@pytest.mark.parametrize(
    "mixer", [SOFTMAX, {"kind": "gated_conv", "width": 3}, {"kind": "linear_elu", "num_heads": 2}]
)
@torch.no_grad()
def test_padding_changes_nothing(mixer: dict[str, Any]) -> None:
    point = architecture("values", mixer)
    model, x = lively(point), inputs(point)
    mask = torch.arange(TOKENS).expand(2, -1) < torch.tensor([[7], [TOKENS]])
    rubbish = torch.where(mask[..., None], x, 1e3)
    found = model(rubbish, mask)
    torch.testing.assert_close(found[:1], model(x[:1, :7]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1:], model(x[1:]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("given", INTERFACES)
@pytest.mark.parametrize("kind", ["softmax", "gated_conv", "token_glu", "dct"])
def test_parameters_and_macs_are_the_counted_ones(given: str, kind: str) -> None:
    mixer: dict[str, Any] = {"kind": kind}
    if kind in ("softmax", "gated_conv"):
        mixer = {"softmax": SOFTMAX, "gated_conv": {"kind": kind, "width": 3}}[kind]
    point = architecture(given, mixer)
    model, counted = build_model(point), costs(point)
    assert counted.params == sum(parameter.numel() for parameter in model.parameters())
    assert set(parameter_roles(model)) == {name for name, _ in model.named_parameters()}
    mask = None if kind == "dct" else torch.ones(1, TOKENS, dtype=torch.bool)
    x = inputs(point, batch=1)
    with FlopCounterMode(display=False) as counter:  # with a mask attention is plain matrix products
        model(x if given == "bytes" else x.float(), mask)
    assert counter.get_total_flops() == 2 * counted.macs
    table = CostTable(batch_size=2).costs([point, architecture(given, mixer, head=MEAN)])
    assert table["memory_bytes"][0] == costs(point, batch_size=2).memory_bytes > table["memory_bytes"][1]
    assert table["macs"][0] == counted.macs > table["macs"][1]


def test_it_is_a_pooling_of_encoders_and_images_alone() -> None:
    point = architecture()
    assert '"pooling":"cls"' in point.canonical_json
    assert (point.tokens, point.class_tokens, point.surroundings().context_length) == (TOKENS, 1, TOKENS + 1)
    assert architecture("image").surroundings().grid is None
    with pytest.raises(InvalidInputError, match="13 tokens are more than the context length, 12"):
        build_model(point)(torch.zeros(1, 13, dtype=torch.int64))
    window = {"kind": "sliding_window", "num_heads": 2, "num_kv_heads": 1, "window": 2 * TOKENS - 1}
    assert architecture("bytes", window).layers[0].mixer.kind == "sliding_window"
    assert architecture("bytes", window, head=MEAN).layers[0].mixer.kind == "softmax"


@pytest.mark.parametrize("kind", [kind for kind, mixer in MIXERS.items() if mixer.reads_grid])
def test_mixers_of_a_grid_are_refused_on_images_and_stand_on_sequences(kind: str) -> None:
    mixer: dict[str, Any] = {
        "pool": {"width": 3}, "sla": {"num_heads": 2}, "axial": {**SOFTMAX, "columns": 4},
    }[kind]  # fmt: skip
    with pytest.raises(InvalidArchitectureError, match=f"layer 0: mixer '{kind}' reads the grid of an image"):
        architecture("image", {**mixer, "kind": kind})
    assert build_model(architecture("values", {**mixer, "kind": kind})).context_length == TOKENS + 1


@pytest.mark.parametrize("export_norm", ["keep", "rms", "crms"])
@torch.no_grad()
def test_converted_norms_leave_the_function(export_norm: ExportNorm) -> None:
    for given in ("values", "image"):
        point = architecture(given)
        model = lively(point)
        form = deployed(model, point, export_norm=export_norm)
        torch.testing.assert_close(form(inputs(point)), model(inputs(point)), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["bytes", "image"])
def test_a_file_gives_the_same_at_every_length(given: str, tmp_path: Path) -> None:
    point = architecture(given, SOFTMAX, {"kind": "gated_conv", "width": 3})
    model = lively(point).float()
    path = export_onnx(model, point, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    for length, batch in ((1, 3), (7, 1), (TOKENS, 2)):
        x = inputs(point, length, batch)
        x = x if given == "bytes" else x.float()
        found = session.run(None, {name: x.numpy()})[0]
        np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("given", ["bytes", "image"])
def test_blocks_of_latency_run_on_one_token_more(given: str, tmp_path: Path) -> None:
    point = architecture(given)
    embedding, mixer, feed_forward, head = blocks_of(point, Target())
    assert [block.tokens for block in (embedding, mixer, feed_forward, head)] == [TOKENS] + [TOKENS + 1] * 3
    model = build_model(point, seed=0)
    x = inputs(point) if given == "bytes" else inputs(point).float()
    y = embedding.build()(x)
    assert y.shape == (2, TOKENS + 1, D)
    assert embedding.id != blocks_of(architecture(given, head=MEAN), Target())[0].id
    for block in (mixer, feed_forward, head):
        y = block.build()(y)
    assert y.shape == model(x).shape
    for index, block in enumerate((embedding, mixer, head)):
        path = export_block(block, tmp_path / f"{index}.onnx")
        assert onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()


def test_operators_compute_what_is_counted() -> None:
    for given in INTERFACES:
        point = architecture(given)
        found, before = (
            sum(op.flops for op in operators_of(architecture(given, head=head)) if op.outputs)
            for head in (CLS, MEAN)
        )
        maps = [m for choice in (point.layers[0].mixer, *point.layers[0].feed_forwards)
                for m in choice.maps(point.surroundings())]  # fmt: skip
        assert found - before == sum(2 * one.size(1.0) for one in maps)


def test_cautions_say_what_the_first_token_sees() -> None:
    near = architecture("values", {"kind": "gated_conv", "width": 3})
    assert cautions(near) == (
        "the mixers together reach 1 of 12 positions; the answer sees only the first 1 tokens",
    )
    even = {"position": {"kind": "alibi"}, "head": MEAN}
    heads = {"kind": "softmax", "num_heads": 4, "num_kv_heads": 4}
    assert "direction" in cautions(architecture("values", heads, **even))[0]
    assert not cautions(architecture("values", heads, **{**even, "head": CLS}))


# -- in a space ------------------------------------------------------------------------------------------

ONE: dict[str, Any] = {
    "num_layers": 1, "d_model": 32, "head_width": 16, "kv_heads": "full", "conv_width": 3, "gates": 1,
    "pool_width": 3, "feed_forward": "mlp", "activation": "relu", "ff_ratio": 1, "norm": "rmsnorm",
    "residual": "serial", "number_format": "fp32", "position": "none",
}  # fmt: skip
SPACES: list[dict[str, Any]] = [
    {"num_layers": [1, 2], "mixer": ["softmax", "pool", "gated_conv"], "pooling": ["mean", "cls", "last"]},
    {"mixer": ["softmax", "pool"], "pooling": ["cls", "max"], "position": ["none", "alibi"], "num_layers": 2},
    {"mixer": ["gated_conv", "sliding_window"], "window": [8, 31, 32], "pooling": ["cls", "max"]},
    {"mixer": ["gated_conv", "softmax"], "pooling": "cls", "num_layers": 2,
     "rules": [{"mixer": "softmax", "at_least": 1}]},
    {"mixer": ["pool", "sliding_window", "gated_conv"], "window": 8, "pooling": ["cls", "mean"],
     "num_layers": 2, "rules": [{"mixer": "sliding_window", "at_least": 1}]},
    {"mixer": ["pool", "softmax"], "shared": ["mixer"], "pooling": ["cls", "mean"], "num_layers": 2,
     "position": "learned", "sharing": ["none", "all"]},
]  # fmt: skip


def space_of(preset: str, changes: dict[str, Any]) -> SearchSpace:
    image = ImageInterface(height=8, width=8, patch_size=2, outputs=10)
    sequence = BytesInterface(context_length=16, outputs=5)
    more = {"patch_size": 2} if preset.startswith("vision") else {}
    space = load_preset(preset).with_domains({**ONE, **more, "shared": [], **changes})
    return space.for_interface(image if more else sequence)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["vision-small", "encoder-small"])
@pytest.mark.parametrize("index", range(len(SPACES)))
def test_the_space_is_counted_listed_and_bounded(preset: str, index: int) -> None:
    space = space_of(preset, SPACES[index])
    everything = enumerate_space(space, 10_000)
    assert len(everything) == space.size()
    assert any(one.class_tokens for one in everything)
    for one in everything:
        assert space.decode(space.encode(one)).id == one.id
    for key in STATIC_KEYS:
        least = min(static_costs(one)[key] for one in everything)
        assert (0 if space.rules else 0.98 * least) < smallest(space, key) <= least, key
    rng = random.Random(0)
    drawn = [sample(space, rng) for _ in range(20)]
    assert all(space.contains(one) for one in drawn)
    assert len(VectorEncoding(space).rows(drawn)) == 20


def test_a_space_of_nothing_but_class_tokens_has_no_mixers_of_the_grid() -> None:
    with pytest.raises(InvalidInputError, match="'pool' reads the grid of an image"):
        space_of("vision-small", {"mixer": ["softmax", "pool"], "pooling": "cls", "position": "learned"})
    repaired = space_of(
        "vision-small", {"mixer": ["softmax", "pool"], "pooling": ["cls", "last"], "position": "learned"}
    )
    assert repaired.decode({"layer0.mixer": "pool"}).head == ClassificationHead(pooling="last")
    assert repaired.decode({"layer0.mixer": "softmax"}).class_tokens == 1


def test_presets_offer_it_or_take_it() -> None:
    assert "cls" in load_preset("encoder-full").domains.pooling
    image = ImageInterface(height=8, width=8, patch_size=2, outputs=10)
    vision = load_preset("vision-full").with_domains({"pooling": ["mean", "cls"]}).for_interface(image)
    assert vision.decode({"pooling": "cls", "layer0.mixer": "softmax", "layer1.mixer": "mamba"}).class_tokens
