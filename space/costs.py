"""What an architecture costs, in closed form.

    memory = weights + state + activation peak

A number outside a linear map of a layer takes 4 bytes: state and activations stay float32 in every number
format. Elementwise work (norms, activations, gates, rotations, softmax) counts nothing; FLOPs are twice the
MACs.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from .architecture import Architecture, BytesInterface, ImageInterface, LayerConfig
from .choice import FeedForwardChoice, MixerChoice, Surroundings
from .errors import InvalidInputError
from .quantization import Format, number_format

BYTES_PER_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of one forward pass; MACs are of one sequence, bytes of the whole batch."""

    params: int
    """Trainable numbers."""
    active_params: int
    """Those that one token meets: without the experts it is not sent to, and without what training alone
    needs."""
    macs: int
    """Multiply-accumulates per sequence, as the built model computes them."""
    macs_causal: int
    """The same without the pairs that a causal mask forbids; `macs` where nothing is masked."""
    macs_decode: int
    """Multiply-accumulates of the last token when the others are in the state; 0 for models that cannot."""
    weights_bytes: int
    """What inference stores: parameters in their number formats, scales included."""
    state_bytes: int
    """Kept between decode steps after all tokens; 0 for models that are not causal."""
    activation_bytes: int
    """Peak of live activations of one forward pass."""

    @property
    def memory_bytes(self) -> int:
        return self.weights_bytes + self.state_bytes + self.activation_bytes


@dataclass(frozen=True, slots=True)
class PartCosts:
    """The mixer or the feed-forwards of one layer; numbers and MACs of one sequence."""

    params: int
    idle_params: int
    """Of experts that a token does not pass through, and what training alone needs."""
    macs: int
    macs_causal: int
    macs_decode: int
    weight_bits: int
    """What inference stores."""
    state: int
    peak: int
    """Live numbers, the residual stream included."""


@dataclass(frozen=True, slots=True)
class EndCosts:
    """Embedding, position, final norm and head at a number of tokens."""

    params: int
    macs: int
    macs_decode: int
    peak: int


def costs(architecture: Architecture, *, batch_size: int = 1, tokens: int | None = None) -> Costs:
    """Costs at a batch size and a number of tokens per sequence (the full context when None).

    Raises:
        InvalidInputError: batch or tokens below 1, or more tokens than the context.
    """
    n = checked_tokens(architecture, batch_size, tokens)
    at = architecture.surroundings()
    ends, run = end_costs(architecture, at, n), n + architecture.class_tokens
    parts = [
        (mixer_costs(layer, at, run), feed_forward_costs(layer, at, run)) for layer in architecture.layers
    ]
    params, idle = ends.params + position_params(architecture, at), 0
    bits = 8 * BYTES_PER_NUMBER * params
    for index, (layer, owner) in enumerate(zip(architecture.layers, architecture.owners, strict=True)):
        if owner == index:
            params += sum(part.params for part in parts[index])
            idle += sum(part.idle_params for part in parts[index])
            bits += sum(part.weight_bits for part in parts[index])
        if owner == index or has_private_norms(architecture):
            norms = layer.num_norms * layer.norm.params(at.d_model)
            params += norms
            bits += 8 * BYTES_PER_NUMBER * norms
    every = [part for pair in parts for part in pair]
    decodes = is_decodable(architecture)
    return Costs(
        params=params,
        active_params=params - idle,
        macs=ends.macs + sum(part.macs for part in every),
        macs_causal=ends.macs + sum(part.macs_causal for part in every),
        macs_decode=ends.macs_decode + sum(part.macs_decode for part in every) if decodes else 0,
        weights_bytes=-(-bits // 8),
        state_bytes=batch_size * BYTES_PER_NUMBER * sum(part.state for part in every),
        activation_bytes=batch_size * BYTES_PER_NUMBER * max(ends.peak, *(part.peak for part in every)),
    )


def checked_tokens(architecture: Architecture, batch_size: int, tokens: int | None) -> int:
    """The number of tokens, the full context when None.

    Raises:
        InvalidInputError: batch or tokens below 1, or more tokens than the context.
    """
    n = architecture.tokens if tokens is None else tokens
    if not 1 <= n <= architecture.tokens:
        raise InvalidInputError(f"tokens={n} is outside 1..{architecture.tokens}, the context length")
    if batch_size < 1:
        raise InvalidInputError(f"batch_size={batch_size} is below 1")
    return n


def mixer_costs(layer: LayerConfig, at: Surroundings, n: int) -> PartCosts:
    """Of the mixer of a layer that stands there."""
    mixer = layer.mixer
    decodes = at.causal and mixer.decodable
    return PartCosts(
        params=mixer.params(at),
        idle_params=mixer.idle_params(at),
        macs=mixer.macs(at, n),
        macs_causal=mixer.macs_causal(at, n) if at.causal else mixer.macs(at, n),
        macs_decode=mixer.macs_decode(at, n - 1) if decodes else 0,
        weight_bits=weight_bits(mixer, at, number_format(layer.number_format)),
        state=mixer.state_size(at, n) if at.causal else 0,
        peak=n * at.d_model + mixer.activation_size(at, n),
    )


def feed_forward_costs(layer: LayerConfig, at: Surroundings, n: int) -> PartCosts:
    """Of the feed-forwards of a layer that stands there; none costs nothing."""
    feed_forwards, form = layer.feed_forwards, number_format(layer.number_format)
    macs = sum(ffn.macs(at, n) for ffn in feed_forwards)
    # in a parallel block the mixer's output waits for the feed-forward's
    held = n * at.d_model * (2 if layer.residual == "parallel" else 1)
    return PartCosts(
        params=sum(ffn.params(at) for ffn in feed_forwards),
        idle_params=sum(ffn.idle_params(at) for ffn in feed_forwards),
        macs=macs,
        macs_causal=macs,
        macs_decode=sum(ffn.macs(at, 1) for ffn in feed_forwards),
        weight_bits=sum(weight_bits(ffn, at, form) for ffn in feed_forwards),
        state=0,
        peak=max((held + ffn.activation_size(at, n) for ffn in feed_forwards), default=0),
    )


def end_costs(architecture: Architecture, at: Surroundings, n: int) -> EndCosts:
    """Of what stands around the layers, without the position's own parameters; `n` tokens of the input."""
    stream, outputs = (n + architecture.class_tokens) * at.d_model, architecture.interface.outputs
    rows = n if architecture.head.kind == "language" else 1
    sizes = embedding_size(architecture) + _head_size(architecture)
    sizes += architecture.class_tokens * at.d_model
    return EndCosts(
        params=sizes + architecture.final_norm.params(at.d_model),
        macs=_ends_macs(architecture, n),
        macs_decode=_ends_macs(architecture, 1),
        peak=max(n * _numbers_per_token(architecture) + stream, stream + max(stream, rows * outputs)),
    )


def position_params(architecture: Architecture, at: Surroundings) -> int:
    """Trainable numbers of the position choice in the whole model."""
    return architecture.position.params(at, tuple(layer.mixer for layer in architecture.layers))


def has_private_norms(architecture: Architecture) -> bool:
    """Layers that share weights have norms of their own."""
    return bool(getattr(architecture.sharing, "private_norm", False))


def is_decodable(architecture: Architecture) -> bool:
    """The model can run token by token."""
    return architecture.is_causal and all(layer.mixer.decodable for layer in architecture.layers)


def num_params(architecture: Architecture) -> int:
    """Trainable numbers of the whole model; what layers share counts once."""
    return costs(architecture).params


@dataclass(frozen=True, slots=True)
class StoredNumbers:
    """What inference stores of a choice, whatever the number format."""

    floats: int
    """Numbers that stay float32."""
    rows: tuple[tuple[int, int], ...]
    """(inputs, outputs) of what follows the number format."""

    def bits(self, form: Format) -> int:
        """In this number format, scales included."""
        rows = sum(outputs * _row_bits(form, inputs) for inputs, outputs in self.rows)
        return 8 * BYTES_PER_NUMBER * self.floats + rows


def stored_numbers(choice: MixerChoice | FeedForwardChoice, at: Surroundings) -> StoredNumbers:
    """Maps follow the number format, but for those that are not projected; the rest is float32."""
    floats = choice.params(at) - sum(m.copies * m.size(at.rank_ratio) for m in choice.maps(at))
    rows = []
    for linear_map in choice.deployed_maps(at):
        for inputs, outputs in linear_map.matrices(at.rank_ratio):
            if linear_map.projected:
                rows.append((inputs, linear_map.copies * outputs))
            else:
                floats += linear_map.copies * outputs * inputs
    return StoredNumbers(floats, tuple(rows))


def weight_bits(choice: MixerChoice | FeedForwardChoice, at: Surroundings, form: Format) -> int:
    """What inference stores: maps in the number format, the rest float32."""
    return stored_numbers(choice, at).bits(form)


@lru_cache(maxsize=4096)
def _row_bits(form: Format, inputs: int) -> int:
    """Bits of the weights of one output; a fraction of one is stored whole."""
    return math.ceil(form.bits_per_weight(inputs) * inputs)


def embedding_size(architecture: Architecture) -> int:
    """Trainable numbers by which inputs become tokens, positions left out; a tied head is these."""
    interface, width = architecture.interface, architecture.embedding_width
    if isinstance(interface, BytesInterface):
        if width:
            return width * (interface.vocab_size + architecture.d_model)
        return interface.vocab_size * architecture.d_model
    return _numbers_per_token(architecture) * architecture.d_model


def _numbers_per_token(architecture: Architecture) -> int:
    """Input numbers that one token carries."""
    interface = architecture.interface
    if isinstance(interface, BytesInterface):
        return 1
    patch = interface.patch_size**2 if isinstance(interface, ImageInterface) else 1
    return interface.channels * patch


def _head_size(architecture: Architecture) -> int:
    head = architecture.head
    is_tied = head.kind == "language" and head.tied
    return 0 if is_tied else architecture.d_model * architecture.interface.outputs


def _ends_macs(architecture: Architecture, n: int) -> int:
    """Embedding (a table look-up costs nothing) and head (once per token for language, else once)."""
    is_lookup = isinstance(architecture.interface, BytesInterface)
    widened = architecture.embedding_width * architecture.d_model
    rows = n if architecture.head.kind == "language" else 1
    head = sum(inputs * outputs for inputs, outputs in head_matrices(architecture))
    return n * (widened if is_lookup else embedding_size(architecture)) + rows * head


def head_matrices(architecture: Architecture) -> tuple[tuple[int, int], ...]:
    """(in, out) of what the head multiplies by in turn: both factors of a table where it is tied to one."""
    d_model, outputs, head = architecture.d_model, architecture.interface.outputs, architecture.head
    width = architecture.embedding_width if head.kind == "language" and head.tied else 0
    return ((d_model, width), (width, outputs)) if width else ((d_model, outputs),)
