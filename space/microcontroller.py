"""Whether a model runs on a microcontroller: weights in flash, activations in a few hundred kilobytes.

Activations and weights take one byte. Every block is a schedule of steps with buffers; n tokens of width d,
heads of width w, a hidden layer of width f:

    embedding      one input channel at a time, added into the features       pixels of a channel + n d
    softmax        one head at a time, some rows of its scores at a time      n d + 3 n w + rows n + n w
                   and its part of the output projection added up             + n d
    feed-forward   one token at a time, its output over its input             n d + f + d
    other mixers   all at once                                                n d + their live activations

Source: the schedules are MCUFormer's (Liang et al. 2023, arXiv:2310.16898), in words; the byte counts are
derived here. Biases, scales and the runtime's own memory are not counted.
"""

from dataclasses import dataclass

from .architecture import Architecture, ImageInterface, LayerConfig
from .choice import Surroundings
from .costs import costs
from .liveness import Buffer, arena_bytes, packed
from .mixers import SoftmaxConfig

SRAM_BYTES = 320 * 1024
"""Of an STM32F746, where the device says nothing."""
FLASH_BYTES = 1024 * 1024
ROWS = 1
"""Rows of scores at a time: fewer take less memory, and the same arithmetic."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """One block's buffers; steps begin at 0."""

    name: str
    buffers: tuple[Buffer, ...]

    @property
    def bytes(self) -> int:
        return arena_bytes(packed(self.buffers))


@dataclass(frozen=True, slots=True)
class MicrocontrollerPlan:
    """What a model needs, and what the device has."""

    blocks: tuple[BlockPlan, ...]
    weights_bytes: int
    """With every weight in its number format, or int8 where that is wider."""
    sram_bytes: int
    flash_bytes: int

    @property
    def peak_bytes(self) -> int:
        return max(block.bytes for block in self.blocks)

    @property
    def violation_bytes(self) -> int:
        """What is over, in memory or flash; 0 or less: it fits. The value of the search's constraint."""
        return max(self.peak_bytes - self.sram_bytes, self.weights_bytes - self.flash_bytes)

    @property
    def fits(self) -> bool:
        return self.violation_bytes <= 0


def planned(
    architecture: Architecture,
    *,
    tokens: int | None = None,
    rows: int = ROWS,
    sram_bytes: int = SRAM_BYTES,
    flash_bytes: int = FLASH_BYTES,
) -> MicrocontrollerPlan:
    """The schedule of one sequence, block by block; the device has `sram_bytes` and `flash_bytes`."""
    at, n = architecture.surroundings(), tokens or architecture.tokens
    blocks = [_embedding(architecture, n)]
    n += architecture.class_tokens
    for index, layer in enumerate(architecture.layers):
        blocks.append(_mixer(f"layer {index} {layer.mixer.kind}", layer, at, n, rows))
        if layer.feed_forwards:
            blocks.append(_feed_forward(f"layer {index} feed-forward", layer, at, n))
    blocks.append(_head(architecture, n))
    return MicrocontrollerPlan(
        blocks=tuple(blocks),
        weights_bytes=_weights_bytes(architecture),
        sram_bytes=sram_bytes,
        flash_bytes=flash_bytes,
    )


def _weights_bytes(architecture: Architecture) -> int:
    """fp32 would not be stored on such a device: one byte per parameter, less where the format has fewer."""
    counted = costs(architecture)
    return min(counted.weights_bytes, counted.params)


def _embedding(architecture: Architecture, n: int) -> BlockPlan:
    interface, features = architecture.interface, n * architecture.d_model
    given = interface.height * interface.width if isinstance(interface, ImageInterface) else n
    buffers = (Buffer("one input channel", given, 0, 0), Buffer("features", features, 0, 1))
    return BlockPlan("embedding", buffers)


def _mixer(name: str, layer: LayerConfig, at: Surroundings, n: int, rows: int) -> BlockPlan:
    stream, mixer = n * at.d_model, layer.mixer
    if not isinstance(mixer, SoftmaxConfig):
        live = Buffer("live activations", mixer.activation_size(at, n), 0, 0)
        return BlockPlan(name, (Buffer("stream", stream, 0, 1), live))
    width = mixer.head_width or at.d_model // mixer.num_heads
    buffers = [
        Buffer("stream", stream, 0, 2 * mixer.num_heads),
        Buffer("sum", stream, 0, 2 * mixer.num_heads),
    ]
    for head in range(mixer.num_heads):
        scores, mixed = 2 * head, 2 * head + 1
        buffers += [
            Buffer(f"head {head} queries, keys, values", 3 * n * width, scores, scores),
            Buffer(f"head {head} {rows} rows of scores", rows * n, scores, scores),
            Buffer(f"head {head} output", n * width, scores, mixed),
        ]
    return BlockPlan(name, tuple(buffers))


def _feed_forward(name: str, layer: LayerConfig, at: Surroundings, n: int) -> BlockPlan:
    """What one token needs; the widest of a Macaron layer's two."""
    one_token = max(feed_forward.activation_size(at, 1) for feed_forward in layer.feed_forwards)
    buffers = (Buffer("stream", n * at.d_model, 0, 1), Buffer("one token", one_token, 0, 0))
    return BlockPlan(name, buffers)


def _head(architecture: Architecture, n: int) -> BlockPlan:
    outputs = architecture.interface.outputs
    buffers = (Buffer("features", n * architecture.d_model, 0, 1), Buffer("logits", outputs, 0, 1))
    return BlockPlan("head", buffers)
