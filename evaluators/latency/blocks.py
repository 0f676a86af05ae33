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
from typing import Any

import torch
from torch import nn

from evaluators.protocol import fingerprint
from space.architecture import (
    CLASS_TOKEN,
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
from space.model import build_model
from space.norms import NormConfig, RMSNormConfig
from space.number_formats import apply_number_formats
from space.positions import NonePositionConfig, PositionConfig
from space.quantization import NumberFormat

from .block_modules import Part, part_of, step_of
from .runtimes.onnxruntime import InputShape
from .target import Phase, Target
from .timed_input import random_input, timed_input


@dataclass(frozen=True)
class Block:
    """One part of a model on one input shape. Equal ids have equal latency on equal targets."""

    part: Part
    host: Architecture
    batch_size: int
    tokens: int
    phase: Phase = "prefill"
    has_free_length: bool = True
    """Whether the model's file leaves the number of tokens free, as this part alone then does too: the two
    graphs differ, even once a session has fixed the number. A file for images has one size."""

    @cached_property
    def id(self) -> str:
        """32 hex characters: the subject under which its measurement is stored."""
        return fingerprint(
            "block",
            3,
            part=self.part,
            host=self.host.id,
            batch_size=self.batch_size,
            tokens=self.tokens,
            phase=self.phase,
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
    def traits(self) -> tuple[str, ...]:
        """What its time may depend on in ways that a block alone does not show: see `correction`."""
        layer, position = self.host.layers[0], self.host.position.kind
        if self.part not in ("mixer", "feed_forward"):
            return (self.part,)
        common = (f"{self.part} {layer.number_format}", f"norm {layer.norm.kind}")
        if self.part == "feed_forward":
            return (f"feed_forward {layer.feed_forward.kind}", *common)
        kind = f"mixer {layer.mixer.kind}"
        return (kind, *common) if position == "none" else (kind, f"{kind} with {position}", *common)

    @property
    def number_format(self) -> NumberFormat:
        """Of its matrix products; embeddings and heads stay in fp32."""
        return self.host.layers[0].number_format

    @property
    def input(self) -> InputShape:
        """Of one call; one token per sequence in decode."""
        tokens = self.tokens if self.phase == "prefill" else 1
        if self.part == "embedding":
            return timed_input(self.host, self.batch_size, tokens)
        return InputShape((self.batch_size, tokens, self.host.d_model))

    def emptied(self) -> "Block":
        """What a call costs that computes nothing on this shape and runtime."""
        host = _host(self.host.d_model, interface=_tokens_of(self.tokens))
        return replace(self, part="empty", host=host)

    def build(self) -> nn.Module:
        """The part alone, freshly initialised, in its number format."""
        model = apply_number_formats(build_model(self.host, seed=0), self.host)
        module = part_of(model, self.part)
        if self.phase == "prefill":
            return module
        shape = (self.batch_size, self.tokens - 1, self.host.d_model)
        return step_of(module, random_input(InputShape(shape)))


def blocks_of(architecture: Architecture, target: Target) -> tuple[Block, ...]:
    """Embedding, mixer and feed-forward of every layer, head: what a forward pass runs, in order."""
    inputs = target.tokens(architecture)
    tokens = inputs + architecture.class_tokens
    hosts: list[tuple[Part, Architecture]] = []
    for index, layer in enumerate(architecture.layers):
        feed_forward = _feed_forward_host(architecture, index, tokens)
        parts: list[tuple[Part, Architecture]] = [("feed_forward", feed_forward)] * len(layer.feed_forwards)
        parts.insert(len(parts) // 2, ("mixer", _mixer_host(architecture, index, tokens)))
        hosts += parts
    hosts.append(("head", _head_host(architecture, tokens)))
    free = architecture.interface.input != "image"
    embedding = Block(
        "embedding", _embedding_host(architecture), target.batch_size, inputs, target.phase, free
    )
    others = (Block(part, host, target.batch_size, tokens, target.phase, free) for part, host in hosts)
    return (embedding, *others)


def export_block(block: Block, path: Path) -> Path:
    """Writes the part alone as an ONNX file in its number format.

    Raises:
        UnsupportedError: an operator or the number format has no ONNX Runtime form.
    """
    require_onnx_formats(block.host)
    name = input_name(block.host) if block.part == "embedding" else "x"
    dtype = torch.int64 if block.input.dtype == "int64" else torch.float32
    axes = {0: "batch", 1: "length"} if block.has_free_length else {0: "batch"}
    if block.phase == "decode":  # the state before the token is part of the graph
        axes = {}
    part, example = onnx_form(block.build()), torch.zeros(block.input.shape, dtype=dtype)
    export_module(part, (name, example), "y", {name: axes}, path)
    return path


def _mixer_host(architecture: Architecture, index: int, tokens: int) -> Architecture:
    """An image keeps its grid; a mixer with constants of the context length gets that length."""
    layer, at = architecture.layers[index], architecture.surroundings()
    reads = architecture.position.kind in layer.mixer.positions
    host = _layer(mixer=layer.mixer, norm=layer.norm, number_format=layer.number_format)
    seen: InterfaceConfig = _tokens_of(at.context_length if layer.mixer.fixed_length else tokens)
    if at.grid is not None:
        rows, columns = at.grid
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
        head=ClassificationHead(pooling=CLASS_TOKEN) if architecture.class_tokens else ClassificationHead(),
        embedding_width=architecture.embedding_width,
    )


def _head_host(architecture: Architecture, tokens: int) -> Architecture:
    """Tied or not is one time, unless an own weight can take the norm or the shared table has factors."""
    head, outputs, width = architecture.head, architecture.interface.outputs, 0
    interface = _tokens_of(tokens, outputs)
    if isinstance(head, LanguageHead):
        width = architecture.embedding_width if head.tied else 0
        head = LanguageHead(tied=head.tied and (architecture.final_norm.folds or width > 0))
        if head.tied:
            interface = interface.model_copy(update={"vocab_size": outputs})
    return _host(
        architecture.d_model,
        interface=interface,
        final_norm=architecture.final_norm,
        head=head,
        embedding_width=width,
    )


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
    embedding_width: int = 0,
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
        embedding_width=embedding_width,
        **more,
    )
