"""The blocks a model's latency is composed of.

    embedding (with position) | norm + mixer + residual | norm + feed-forward + residual | final norm + head

A layer without feed-forward has one block, a Macaron layer three: mixer and twice the half feed-forward. A
layer that shares its weights is timed as often as it is applied.

A block is described by a small *host* architecture in which everything that cannot change the block's time
is fixed; so its id, and its measurement, are shared by every architecture that contains it. It is built in
its deployed form, as a model is.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evaluators.protocol import fingerprint
from space.architecture import (
    IN_MIXERS,
    Architecture,
    BytesInterface,
    ClassificationHead,
    HeadConfig,
    ImageInterface,
    InterfaceConfig,
    LanguageHead,
    LayerConfig,
    ProjectionConfig,
    SharedLayers,
)
from space.costs import has_private_norms
from space.export import export_module, input_name, onnx_form, require_onnx_formats
from space.feedforward import FeedForwardConfig, MlpConfig
from space.mixers import MixerConfig, PoolConfig
from space.model import Block as ModelBlock
from space.model import build_model
from space.norms import NormConfig, RMSNormConfig
from space.number_formats import apply_number_formats
from space.positions import NonePositionConfig, PositionConfig
from space.quantization import NumberFormat

from .runtimes.onnxruntime import InputShape
from .target import Target
from .timed_input import timed_input

Part = Literal["embedding", "mixer", "feed_forward", "head", "empty"]


@dataclass(frozen=True)
class Block:
    """One part of a model on one input shape. Equal ids have equal latency on equal targets."""

    part: Part
    host: Architecture
    batch_size: int
    tokens: int
    has_free_length: bool = True
    """Whether the model's file takes any number of tokens: it then computes shapes in every call, as this
    part alone must too. A file for images has one size, and its shapes are constants."""

    @cached_property
    def id(self) -> str:
        """32 hex characters: the subject under which its measurement is stored."""
        return fingerprint(
            "block",
            2,
            part=self.part,
            host=self.host.id,
            batch_size=self.batch_size,
            tokens=self.tokens,
            has_free_length=self.has_free_length,
        )

    @property
    def name(self) -> str:
        """For people: part, kind, number format and size."""
        layer = self.host.layers[0]
        kinds = {"mixer": layer.mixer.kind, "feed_forward": layer.feed_forward.kind}
        kind = f" {kinds[self.part]} {layer.number_format}" if self.part in kinds else ""
        return f"{self.part}{kind}, d_model {self.host.d_model}, {self.tokens} tokens"

    @property
    def number_format(self) -> NumberFormat:
        """Of its matrix products; embeddings and heads stay in fp32."""
        return self.host.layers[0].number_format

    @property
    def input(self) -> InputShape:
        if self.part == "embedding":
            return timed_input(self.host, self.batch_size, self.tokens)
        return InputShape((self.batch_size, self.tokens, self.host.d_model))

    def emptied(self) -> "Block":
        """What a call costs that computes nothing on this shape and runtime."""
        host = _host(self.host.d_model, interface=_tokens_of(self.tokens))
        return replace(self, part="empty", host=host)

    def build(self) -> nn.Module:
        """The part alone, freshly initialised, in its number format."""
        return _part_of(apply_number_formats(build_model(self.host, seed=0), self.host), self.part)


def blocks_of(architecture: Architecture, target: Target) -> tuple[Block, ...]:
    """Embedding, mixer and feed-forward of every layer, head: what a forward pass runs, in order."""
    tokens = target.tokens(architecture)
    hosts: list[tuple[Part, Architecture]] = [("embedding", _embedding_host(architecture))]
    for index, layer in enumerate(architecture.layers):
        feed_forward = _feed_forward_host(architecture, index, tokens)
        parts: list[tuple[Part, Architecture]] = [("feed_forward", feed_forward)] * len(layer.feed_forwards)
        parts.insert(len(parts) // 2, ("mixer", _mixer_host(architecture, index, tokens)))
        hosts += parts
    hosts.append(("head", _head_host(architecture, tokens)))
    has_free_length = architecture.interface.input != "image"
    return tuple(Block(part, host, target.batch_size, tokens, has_free_length) for part, host in hosts)


def export_block(block: Block, path: Path) -> Path:
    """Writes the part alone as an ONNX file in its number format.

    Raises:
        UnsupportedError: an operator or the number format has no ONNX Runtime form.
    """
    require_onnx_formats(block.host)
    name = input_name(block.host) if block.part == "embedding" else "x"
    dtype = torch.int64 if block.input.dtype == "int64" else torch.float32
    axes = {0: "batch", 1: "length"} if block.has_free_length else {0: "batch"}
    part, example = onnx_form(block.build()), torch.zeros(block.input.shape, dtype=dtype)
    export_module(part, (name, example), "y", {name: axes}, path)
    return path


class Residual(nn.Module):
    """x + factor part(norm(x)), or norm(x + factor part(x)) where the norm stands behind the sum."""

    def __init__(
        self, norm: nn.Module | None, part: nn.Module, *, factor: float = 1.0, is_behind: bool = False
    ) -> None:
        super().__init__()
        self.norm, self.part = norm or nn.Identity(), part
        self.factor, self.is_behind = factor, is_behind

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.part(x if self.is_behind else self.norm(x))
        total = x + (mixed if self.factor == 1.0 else self.factor * mixed)
        return self.norm(total) if self.is_behind else total


def _part_of(model: nn.Module, part: Part) -> nn.Module:
    block = model.get_submodule("blocks.0")
    assert isinstance(block, ModelBlock)
    is_behind = block.placement == "post"
    match part:
        case "embedding":
            return nn.Sequential(model.get_submodule("embedding"), model.get_submodule("position"))
        case "mixer":
            return Residual(block.mixer_norm, block.mixer, is_behind=is_behind)
        case "feed_forward":
            assert block.feed_forward is not None
            factor = 0.5 if block.residual == "macaron" else 1.0
            return Residual(block.feed_forward_norm, block.feed_forward, factor=factor, is_behind=is_behind)
        case "head":
            return nn.Sequential(model.get_submodule("final_norm"), model.get_submodule("head"))
        case "empty":
            return nn.Identity()


def _mixer_host(architecture: Architecture, index: int, tokens: int) -> Architecture:
    """An image keeps its grid; a mixer with constants of the context length gets that length."""
    layer, interface = architecture.layers[index], architecture.interface
    reads = architecture.position.kind in layer.mixer.positions
    host = _layer(mixer=layer.mixer, norm=layer.norm, number_format=layer.number_format)
    seen: InterfaceConfig = _tokens_of(architecture.tokens if layer.mixer.fixed_length else tokens)
    if isinstance(interface, ImageInterface):
        rows, columns = interface.grid
        seen = ImageInterface(height=rows, width=columns, patch_size=1, outputs=1)
    return _host(
        architecture.d_model,
        interface=seen,
        layer=_placed(host, layer),
        position=architecture.position if reads else NonePositionConfig(),
        causal=architecture.is_causal,
        projection=architecture.projection,
        has_private_norms=_keeps_norms(architecture, index),
    )


def _feed_forward_host(architecture: Architecture, index: int, tokens: int) -> Architecture:
    """A parallel layer with its norm behind it has one norm, counted with the mixer."""
    layer = architecture.layers[index]
    host = _layer(feed_forward=layer.feed_forward, norm=layer.norm, number_format=layer.number_format)
    if layer.residual == "macaron":
        host = host.model_copy(update={"residual": "macaron"})
    if layer.placement == "post" and layer.residual == "parallel":
        host = host.model_copy(update={"placement": "post", "residual": "parallel"})
    return _host(
        architecture.d_model,
        interface=_tokens_of(tokens),
        layer=_placed(host, layer),
        causal=architecture.is_causal,
        projection=architecture.projection,
        has_private_norms=_keeps_norms(architecture, index),
    )


def _placed(host: LayerConfig, layer: LayerConfig) -> LayerConfig:
    """A norm takes as long behind its branch as before it, unless it folds into what it stands before."""
    return host.model_copy(update={"placement": layer.placement}) if layer.norm.folds else host


def _keeps_norms(architecture: Architecture, index: int) -> bool:
    """Weights behind several norms of their own cannot take any of them."""
    owners = architecture.owners
    is_shared = owners.count(owners[index]) > 1
    return architecture.layers[index].norm.folds and is_shared and has_private_norms(architecture)


def _embedding_host(architecture: Architecture) -> Architecture:
    acts = architecture.position.kind not in IN_MIXERS
    return _host(
        architecture.d_model,
        interface=architecture.interface.model_copy(update={"outputs": 1}),
        position=architecture.position if acts else NonePositionConfig(),
        head=ClassificationHead(),
    )


def _head_host(architecture: Architecture, tokens: int) -> Architecture:
    """Tied or not is one time, unless an own weight can take the norm."""
    head, outputs = architecture.head, architecture.interface.outputs
    interface = _tokens_of(tokens, outputs)
    if isinstance(head, LanguageHead):
        head = LanguageHead(tied=head.tied and architecture.final_norm.folds)
        if head.tied:
            interface = interface.model_copy(update={"vocab_size": outputs})
    return _host(architecture.d_model, interface=interface, final_norm=architecture.final_norm, head=head)


def _tokens_of(tokens: int, outputs: int = 1) -> BytesInterface:
    return BytesInterface(vocab_size=2, context_length=tokens, outputs=outputs)


def _layer(
    *,
    mixer: MixerConfig | None = None,
    feed_forward: FeedForwardConfig | None = None,
    norm: NormConfig | None = None,
    number_format: NumberFormat = "fp32",
) -> LayerConfig:
    """A layer whose parts are the cheapest ones unless they are given."""
    return LayerConfig(
        mixer=mixer or PoolConfig(width=1),
        feed_forward=feed_forward or MlpConfig(activation="relu", d_ff=1),
        norm=norm or RMSNormConfig(),
        number_format=number_format,
    )


def _host(
    d_model: int,
    *,
    interface: InterfaceConfig,
    layer: LayerConfig | None = None,
    position: PositionConfig | None = None,
    causal: bool = True,
    final_norm: NormConfig | None = None,
    head: HeadConfig | None = None,
    projection: ProjectionConfig | None = None,
    has_private_norms: bool = False,
) -> Architecture:
    """The model kind only says whether mixers are causal: a host is built, never proposed."""
    more: dict[str, Any] = {} if projection is None else {"projection": projection}
    if has_private_norms:
        more["sharing"] = SharedLayers(private_norm=True)
    return Architecture(
        model="decoder" if causal else "encoder",
        interface=interface,
        d_model=d_model,
        position=position or NonePositionConfig(),
        layers=(layer or _layer(),) * (2 if has_private_norms else 1),
        final_norm=final_norm or RMSNormConfig(),
        head=head or ClassificationHead(),
        **more,
    )
