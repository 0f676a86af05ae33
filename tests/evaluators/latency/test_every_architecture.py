"""Blocks and whole models of everything that the space can build exist, export and compute the same."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from evaluators.latency import Block, Target, blocks_of
from evaluators.latency.blocks import export_block
from evaluators.latency.timed_input import random_input
from space.architecture import Architecture, parse_architecture
from space.choice import Scheduled, Surroundings
from space.export import export_onnx, input_name, input_shape
from space.feedforward import FEED_FORWARDS
from space.gene import Value
from space.layer_options import feed_forward_config, mixer_config
from space.mixers import MIXERS
from space.model import build_model
from space.norms import NORMS
from space.positions import POSITIONS
from space.projection import LowRank

D_MODEL, TOKENS = 32, 24
INTERFACES: dict[str, dict[str, Any]] = {
    "decoder": {"input": "bytes", "vocab_size": 40, "context_length": TOKENS, "outputs": 40},
    "encoder": {"input": "values", "channels": 3, "context_length": TOKENS, "outputs": 5},
    "vision": {"input": "image", "height": 8, "width": 12, "channels": 1, "patch_size": 2, "outputs": 5},
}


def layer(model: str, mixer: str = "softmax", feed_forward: str = "glu", **more: Any) -> dict[str, Any]:
    """With genes small enough to act at this size."""
    at = Surroundings(
        d_model=D_MODEL, context_length=TOKENS, num_layers=2, causal=model == "decoder",
        position=POSITIONS["none"](), grid=(4, 6) if model == "vision" else None,
    )  # fmt: skip
    genes: dict[str, Value] = {"mixer": mixer, "head_width": 8, "kv_heads": "full", "window": 5}
    return {
        "mixer": mixer_config(genes, at).model_dump(),
        "feed_forward": feed_forward_config({"feed_forward": feed_forward, "ff_ratio": 2}, at).model_dump(),
        "norm": {"kind": "rmsnorm"},
        **more,
    }


def architecture(model: str, layers: list[dict[str, Any]], **more: Any) -> Architecture:
    point = {
        "model": model,
        "interface": INTERFACES[model],
        "d_model": D_MODEL,
        "position": {"kind": "learned"},
        "layers": layers,
        "final_norm": {"kind": "rmsnorm"},
        "head": {"kind": "language" if model == "decoder" else "classification"},
    }
    return parse_architecture({**point, **more})


def everything() -> Iterator[tuple[str, Architecture]]:
    """Every registered kind in every model that takes it, then the ways layers are put together."""
    for model in INTERFACES:
        for index, (kind, config) in enumerate(MIXERS.items()):
            if config.causal if model == "decoder" else config.bidirectional:
                yield f"{model}-{kind}", architecture(model, [layer(model, kind)])
                if model == "vision" and index % 3 == 0:
                    low_rank = {"projection": {"kind": "lowrank", "rank_ratio": 0.25}}
                    yield f"{model}-{kind}-lowrank", architecture(model, [layer(model, kind)], **low_rank)
        for kind in POSITIONS if model != "encoder" else ():
            mixer = "softmax" if kind != "none" else "gated_conv"
            yield f"{model}-{kind}", architecture(model, [layer(model, mixer)], position={"kind": kind})
        for kind, norm in NORMS.items():
            if norm.causal or model != "decoder":
                ways = [layer(model, norm={"kind": kind}, placement=way) for way in ("pre", "post")]
                yield f"{model}-{kind}", architecture(model, ways, final_norm={"kind": kind})
    for kind in FEED_FORWARDS:
        layers = [layer("decoder", "glu_only" if kind == "none" else "softmax", kind)]
        yield f"decoder-{kind}", architecture("decoder", layers)
    for model in ("decoder", "encoder"):
        for residual in ("parallel", "macaron"):
            layers = [layer(model, residual=residual, placement=way) for way in ("pre", "post")]
            yield f"{model}-{residual}", architecture(model, layers)
    for sharing in ({"kind": "all"}, {"kind": "all", "private_norm": True}, {"kind": "groups", "groups": 2}):
        layers = [layer("decoder")] * 3
        yield f"decoder-{sharing}", architecture("decoder", layers, sharing=sharing)
    folding = [layer("encoder", norm={"kind": "prepbn"})] * 2
    yield (
        "encoder-folding norms of their own",
        architecture("encoder", folding, sharing={"kind": "all", "private_norm": True}),
    )
    for pooling in ("max", "last", "cls"):
        head = {"kind": "classification", "pooling": pooling}
        yield f"vision-{pooling}", architecture("vision", [layer("vision")], head=head)
    tied: dict[str, Any] = {"kind": "language", "tied": True}
    yield "decoder-tied", architecture("decoder", [layer("decoder")], head=tied)
    for name, head in (("decoder-factorised", {"kind": "language"}), ("decoder-factorised tied", tied)):
        yield name, architecture("decoder", [layer("decoder")], head=head, embedding_width=8)


EVERYTHING = dict(everything())
every_architecture = pytest.mark.parametrize("name", EVERYTHING)


def lively(model: nn.Module) -> nn.Module:
    """Weights large enough for differences to show, norms and gates away from their start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(spread * noise if parameter.ndim > 1 else parameter + spread * noise)
        for name, buffer in model.named_buffers():
            if name.endswith((".mean", ".var")):
                buffer.add_(0.3 * torch.rand(buffer.shape, generator=generator))
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.set_progress(1.0)
    return model.eval()


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def expected_parts(point: Architecture) -> list[str]:
    parts = ["embedding"]
    for one in point.layers:
        halves = ["feed_forward"] * len(one.feed_forwards)
        parts += [*halves[1:], "mixer", *halves[:1]]
    return [*parts, "head"]


@every_architecture
def test_a_model_is_composed_of_blocks(name: str) -> None:
    point = EVERYTHING[name]
    assert [block.part for block in blocks_of(point, Target())] == expected_parts(point)


def distinct_blocks() -> dict[str, Block]:
    """Of every architecture, each once: on fewer tokens than the context where the length is free.

    The mixers of encoders are those of images and decoders; whole models of them come below.
    """
    found: dict[str, Block] = {}
    for name, point in EVERYTHING.items():
        if name.removeprefix("encoder-") not in MIXERS:
            found.update({block.id: block for block in blocks_of(point, Target(length=16))})
    return found


BLOCKS = distinct_blocks()


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS.values(), ids=lambda block: f"{block.name} {block.id[:4]}")
def test_every_block_exports_and_computes_the_same(block: Block, tmp_path: Path) -> None:
    part, x = block.build(), random_input(block.input)
    found = session(export_block(block, tmp_path / "block.onnx")).run(None, feed(block, x))[0]
    np.testing.assert_allclose(found, part(x).numpy(), rtol=2e-4, atol=2e-4)


def whole_models() -> Iterator[tuple[str, Architecture]]:
    """Mixers four to a model; what is put together in other ways as it is."""
    for model in INTERFACES:
        takes = [kind for kind, c in MIXERS.items() if (c.causal if model == "decoder" else c.bidirectional)]
        for start in range(0, len(takes), 4):
            kinds = takes[start : start + 4]
            yield f"{model}-{'-'.join(kinds)}", architecture(model, [layer(model, kind) for kind in kinds])
    singles = {f"{model}-{kind}{end}" for model in INTERFACES for kind in MIXERS for end in ("", "-lowrank")}
    yield from ((name, point) for name, point in EVERYTHING.items() if name not in singles)


WHOLE = dict(whole_models())
SEEN_ELSEWHERE = {f"{model}-{kind}" for model in ("encoder", "vision") for kind in (*NORMS, *POSITIONS)}
"""Decoders have the same."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.soak if n in SEEN_ELSEWHERE else []) for n in WHOLE]
)
def test_every_model_exports_and_computes_the_same_at_three_lengths(name: str, tmp_path: Path) -> None:
    point = WHOLE[name]
    model = lively(build_model(point, seed=0))
    whole = session(export_onnx(model, point, tmp_path / "model.onnx"))
    lengths = (TOKENS,) if point.model == "vision" else (1, 7, TOKENS)
    for batch, length in zip((2, 1, 3), lengths, strict=False):
        x = inputs(point, batch, length)
        logits = whole.run(None, {input_name(point): x.numpy()})[0]
        expected = model(x).detach().numpy()
        # in units of the logits: a long product of random matrices may have any size
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def feed(block: Block, x: Tensor) -> dict[str, Any]:
    return {input_name(block.host) if block.part == "embedding" else "x": x.numpy()}


def inputs(point: Architecture, batch: int, length: int) -> Tensor:
    shape, generator = input_shape(point, batch, length), torch.Generator().manual_seed(2)
    if point.interface.input == "bytes":
        return torch.randint(40, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def ids(point: Architecture) -> list[str]:
    return [block.id for block in blocks_of(point, Target())]


def test_a_macaron_layer_is_its_mixer_and_twice_half_a_feed_forward() -> None:
    macaron, serial = (
        blocks_of(architecture("decoder", [layer("decoder", residual=way)]), Target())
        for way in ("macaron", "serial")
    )
    assert [block.part for block in macaron[1:-1]] == ["feed_forward", "mixer", "feed_forward"]
    assert macaron[1].id == macaron[3].id != serial[2].id
    assert macaron[2].id == serial[1].id
    half, whole = (block.build().get_submodule("part.down") for block in (macaron[1], serial[2]))
    assert 2 * half.get_parameter("weight").numel() == whole.get_parameter("weight").numel()


def test_a_shared_block_counts_as_often_as_it_is_applied() -> None:
    layers = [layer("decoder")] * 4
    shared, own = (architecture("decoder", layers, **more) for more in ({"sharing": {"kind": "all"}}, {}))
    assert ids(shared) == ids(own)
    assert Counter(ids(shared))[ids(shared)[1]] == 4


def test_a_low_rank_model_has_blocks_of_low_rank() -> None:
    more = {"projection": {"kind": "lowrank", "rank_ratio": 0.25}}
    low, dense = (
        architecture("decoder", [layer("decoder")], **more),
        architecture("decoder", [layer("decoder")]),
    )
    assert [a == b for a, b in zip(ids(low), ids(dense), strict=True)] == [True, False, False, True]
    for block in blocks_of(low, Target())[1:3]:
        assert any(isinstance(module, LowRank) for module in block.build().modules())


def test_a_mixer_of_images_keeps_the_grid() -> None:
    tall = {**INTERFACES["vision"], "height": 12, "width": 8}
    wide, high = (
        architecture("vision", [layer("vision", "pool")], interface=interface)
        for interface in (INTERFACES["vision"], tall)
    )
    block, other = (blocks_of(point, Target())[1] for point in (wide, high))
    assert block.id != other.id
    assert block.host.surroundings().grid == (4, 6)
    mixer = block.build().get_submodule("part")
    x = torch.randn(2, TOKENS, D_MODEL, generator=torch.Generator().manual_seed(0))
    whole = build_model(wide, seed=3).blocks[0].get_submodule("mixer")
    torch.testing.assert_close(mixer(x), whole(x))  # a pool starts with the same gains everywhere


@pytest.mark.parametrize("kind", ["t5_bias", "decay", "rope"])
def test_a_position_is_part_of_the_mixers_that_read_it(kind: str) -> None:
    layers = [layer("decoder"), layer("decoder", "gated_conv")]
    with_it, without = (architecture("decoder", layers, position={"kind": k}) for k in (kind, "none"))
    same = [a == b for a, b in zip(ids(with_it), ids(without), strict=True)]
    assert same == [True, False, True, True, True, True]


@pytest.mark.parametrize("kind", ["learned", "sinusoidal"])
def test_a_position_of_the_embedding_is_part_of_that_block(kind: str) -> None:
    with_it, without = (
        architecture("decoder", [layer("decoder")], position={"kind": k}) for k in (kind, "none")
    )
    same = [a == b for a, b in zip(ids(with_it), ids(without), strict=True)]
    assert same == [False, True, True, True]


def test_a_norm_that_folds_makes_a_difference_where_it_cannot() -> None:
    """Before a map it is gone; behind its branch, or where shared weights have several norms, it stays."""
    pre, post = (
        architecture("encoder", [layer("encoder", norm={"kind": "prepbn"}, placement=way)] * 2)
        for way in ("pre", "post")
    )
    shared = architecture(
        "encoder",
        [layer("encoder", norm={"kind": "prepbn"})] * 2,
        sharing={"kind": "all", "private_norm": True},
    )
    found = {ids(point)[1] for point in (pre, post, shared)}
    assert len(found) == 3
    built = [blocks_of(point, Target())[1].build() for point in (pre, post, shared)]
    kinds = [type(block.get_submodule("norm")).__name__ for block in built]
    assert kinds == ["Folded", "Affine", "Affine"]


def test_the_deployed_form_is_what_is_timed() -> None:
    nested = {"kind": "nested", "activation": "relu", "d_ff": 64, "granularity": 4}
    point = architecture("decoder", [{**layer("decoder"), "feed_forward": nested}])
    block = blocks_of(point, Target())[2]
    widths = {m.out_features for m in block.build().modules() if isinstance(m, nn.Linear)}
    assert widths == {16, D_MODEL}


def test_every_kind_of_the_space_is_here() -> None:
    seen = {one.mixer.kind for point in EVERYTHING.values() for one in point.layers}
    assert seen >= set(MIXERS)
    assert {point.position.kind for point in EVERYTHING.values()} == set(POSITIONS)
    assert {one.feed_forward.kind for point in EVERYTHING.values() for one in point.layers} == set(
        FEED_FORWARDS
    )
    assert {one.norm.kind for point in EVERYTHING.values() for one in point.layers} == set(NORMS)
