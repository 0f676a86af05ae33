"""An architecture as the operators a device runs: how much each computes and how many bytes it moves.

Bytes count every tensor once per operator that reads or writes it, activations and state in 4 bytes, weights
at their number format's width. A norm, and an activation with its gate, is one call that moves bytes; a
residual sum rides on the operator before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from space.architecture import Architecture, LayerConfig
from space.choice import FeedForwardChoice, LinearMap, MixerChoice, Surroundings
from space.costs import BYTES_PER_NUMBER, checked_tokens, head_matrices, is_decodable
from space.errors import UnsupportedError
from space.quantization import NumberFormat, number_format

from .table import Number

Phase = Literal["prefill", "decode"]
Role = Literal["embedding", "mixer", "feed_forward", "norm", "head"]

COMPUTES_IN: dict[NumberFormat, Number] = {
    "fp32": "fp32",
    "bf16": "bf16",
    "int8_dynamic": "int8",
    "int8_mixed": "int8",
    "int4_g32": "fp32",
    "int4_g64": "fp32",
    "fp4_g32": "fp4",
}
"""What arithmetic a number format's products are done in. 4-bit weights are widened before they are used."""

MIXING_CALLS = 8
"""Kernels of a mixer besides its linear maps: heads split and joined, scale, two products, mask, softmax. An
assumption; runtimes fuse some of them."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One call."""

    role: Role
    flops: float
    bytes: float
    number: Number = "fp32"
    rows: int = 0
    """Of a matrix product: tokens that share its weights. 0: no matrix product."""
    outputs: int = 0
    calls: int = 1
    """Kernels that a runtime calls for it."""


def operators_of(
    architecture: Architecture,
    *,
    batch_size: int = 1,
    tokens: int | None = None,
    phase: Phase = "prefill",
) -> tuple[Operator, ...]:
    """Every operator of one forward pass over `tokens` tokens per sequence, or of one more token after them.

    Raises:
        UnsupportedError: decode of a model that does not run token by token.
    """
    n = checked_tokens(architecture, batch_size, tokens)
    if phase == "decode" and not is_decodable(architecture):
        raise UnsupportedError("the model does not run token by token, so that it has no decode phase")
    return tuple(_Listing(architecture, batch_size, n + architecture.class_tokens, phase).all())


@dataclass(frozen=True, slots=True)
class _Listing:
    architecture: Architecture
    batch_size: int
    tokens: int
    """That the layers run on."""
    phase: Phase

    @property
    def rows(self) -> int:
        """Tokens that one pass computes."""
        return self.batch_size * (self.tokens if self.phase == "prefill" else 1)

    def all(self) -> Iterator[Operator]:
        at = self.architecture.surroundings()
        inputs = replace(self, tokens=self.tokens - self.architecture.class_tokens)
        yield from inputs._embedding()
        for layer in self.architecture.layers:
            norm = self._elementwise("norm", at.d_model)
            yield from (norm,) * layer.num_norms
            yield from self._maps("mixer", layer.mixer, layer, at)
            yield self._mixing(layer.mixer, at)
            for feed_forward in layer.feed_forwards:
                yield from self._maps("feed_forward", feed_forward, layer, at)
                yield from self._hidden(feed_forward, at)
        yield self._elementwise("norm", at.d_model)
        yield from self._head()

    def _maps(
        self, role: Role, choice: MixerChoice | FeedForwardChoice, layer: LayerConfig, at: Surroundings
    ) -> Iterator[Operator]:
        for linear_map in choice.deployed_maps(at):
            form: NumberFormat = layer.number_format if linear_map.projected else "fp32"
            for inputs, outputs in linear_map.matrices(at.rank_ratio):
                yield self._product(role, inputs, outputs, form, linear_map)

    def _product(
        self, role: Role, inputs: int, outputs: int, form: NumberFormat, linear_map: LinearMap | None = None
    ) -> Operator:
        active = linear_map.active if linear_map else 1
        read = min(linear_map.copies, active * self.rows) if linear_map else 1
        weights = read * inputs * outputs * float(number_format(form).bits_per_weight(inputs)) / 8
        moved = BYTES_PER_NUMBER * self.rows * active * (inputs + outputs)
        return Operator(
            role=role,
            flops=2.0 * self.rows * active * inputs * outputs,
            bytes=weights + moved,
            number=COMPUTES_IN[form],
            rows=max(1, self.rows * active // read),
            outputs=outputs,
        )

    def _mixing(self, mixer: MixerChoice, at: Surroundings) -> Operator:
        """What a mixer does outside its linear maps; one more token reads the state."""
        if self.phase == "decode":
            macs, moved = mixer.mixing_macs_decode(at, self.tokens), mixer.state_size(at, self.tokens)
        else:
            macs, moved = mixer.mixing_macs(at, self.tokens), mixer.activation_size(at, self.tokens)
        moved_bytes = float(BYTES_PER_NUMBER * self.batch_size * moved)
        return Operator("mixer", 2.0 * self.batch_size * macs, moved_bytes, calls=MIXING_CALLS)

    def _hidden(self, feed_forward: FeedForwardChoice, at: Surroundings) -> Iterator[Operator]:
        """Activation, gate and residual."""
        if not feed_forward.is_present:
            return
        n = self.rows // self.batch_size
        macs = feed_forward.mixing_macs(at, n)
        moved = float(BYTES_PER_NUMBER * self.batch_size * feed_forward.activation_size(at, n))
        yield Operator("feed_forward", 2.0 * self.batch_size * macs, moved)

    def _elementwise(self, role: Role, width: int) -> Operator:
        return Operator(role, 0.0, 2.0 * BYTES_PER_NUMBER * self.rows * width)

    def _embedding(self) -> Iterator[Operator]:
        interface, d_model = self.architecture.interface, self.architecture.d_model
        if interface.input == "bytes":
            width = self.architecture.embedding_width
            yield self._elementwise("embedding", width or d_model)
            if width:
                yield self._product("embedding", width, d_model, "fp32")
            return
        patch = interface.patch_size**2 if interface.input == "image" else 1
        yield self._product("embedding", interface.channels * patch, d_model, "fp32")

    def _head(self) -> Iterator[Operator]:
        """A language head answers at every token, another one once per sequence."""
        listing = self if self.architecture.head.kind == "language" else _Listing(
            self.architecture, self.batch_size, 1, "prefill"
        )  # fmt: skip
        for inputs, outputs in head_matrices(self.architecture):
            yield listing._product("head", inputs, outputs, "fp32")
