"""What an architecture costs, in closed form.

    memory = weights + state + activation peak

A number outside a linear map of a layer takes 4 bytes: state and activations stay float32 in every number
format. Elementwise work (norms, activations, gates, rotations, softmax) counts nothing; FLOPs are twice the
MACs.
"""

from dataclasses import dataclass
from fractions import Fraction

from .architecture import Architecture, BytesInterface, ImageInterface, LayerConfig
from .errors import InvalidInputError
from .model import num_norms
from .quantization import number_format

BYTES_PER_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of one forward pass; MACs are of one sequence, bytes of the whole batch."""

    params: int
    """Trainable numbers."""
    macs: int
    """Multiply-accumulates per sequence, as the built model computes them."""
    macs_causal: int
    """The same without the pairs that a causal mask forbids; `macs` where nothing is masked."""
    weights_bytes: int
    """Parameters in their number formats, scales included."""
    state_bytes: int
    """Kept between decode steps after all tokens; 0 for models that are not causal."""
    activation_bytes: int
    """Peak of live activations of one forward pass."""

    @property
    def memory_bytes(self) -> int:
        return self.weights_bytes + self.state_bytes + self.activation_bytes


def costs(architecture: Architecture, *, batch_size: int = 1, tokens: int | None = None) -> Costs:
    """Costs at a batch size and a number of tokens per sequence (the full context when None).

    Raises:
        InvalidInputError: batch or tokens below 1, or more tokens than the context.
    """
    n = architecture.tokens if tokens is None else tokens
    if not 1 <= n <= architecture.tokens:
        raise InvalidInputError(f"tokens={n} is outside 1..{architecture.tokens}, the context length")
    if batch_size < 1:
        raise InvalidInputError(f"batch_size={batch_size} is below 1")
    d, causal = architecture.d_model, architecture.is_causal
    ends = _ends_macs(architecture, n)
    feed_forward = sum(layer.feed_forward.macs(d, n) for layer in architecture.layers)
    mixers = [layer.mixer for layer in architecture.layers]
    macs = ends + feed_forward + sum(mixer.macs(d, n, causal=causal) for mixer in mixers)
    credited = ends + feed_forward + sum(mixer.macs_causal(d, n) for mixer in mixers) if causal else macs
    state = sum(mixer.state_size(d, n) for mixer in mixers) if causal else 0
    return Costs(
        params=num_params(architecture),
        macs=macs,
        macs_causal=credited,
        weights_bytes=weights_bytes(architecture),
        state_bytes=batch_size * BYTES_PER_NUMBER * state,
        activation_bytes=batch_size * BYTES_PER_NUMBER * _activation_peak(architecture, n),
    )


def num_params(architecture: Architecture) -> int:
    """Trainable numbers of the whole model."""
    d = architecture.d_model
    ends = _embedding_size(architecture) + _head_size(architecture) + architecture.final_norm.params(d)
    position = architecture.position.params(d, architecture.tokens)
    return ends + position + sum(_layer_params(layer, d) for layer in architecture.layers)


def weights_bytes(architecture: Architecture) -> int:
    """Bytes of all parameters: linear maps of each layer in its number format, everything else float32."""
    total = Fraction(BYTES_PER_NUMBER * num_params(architecture))
    for layer in architecture.layers:
        form = number_format(layer.number_format)
        for in_features, out_features in _matrices(layer, architecture.d_model):
            saved_bits = 8 * BYTES_PER_NUMBER - form.bits_per_weight(in_features)
            total -= saved_bits * in_features * out_features / 8
    return int(total)


def _matrices(layer: LayerConfig, d_model: int) -> tuple[tuple[int, int], ...]:
    return layer.mixer.matrices(d_model) + layer.feed_forward.matrices(d_model)


def _layer_params(layer: LayerConfig, d_model: int) -> int:
    norms = num_norms(layer) * layer.norm.params(d_model)
    return layer.mixer.params(d_model) + layer.feed_forward.params(d_model) + norms


def _embedding_size(architecture: Architecture) -> int:
    interface = architecture.interface
    if isinstance(interface, BytesInterface):
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
    embedding = 0 if is_lookup else n * _embedding_size(architecture)
    rows = n if architecture.head.kind == "language" else 1
    return embedding + rows * architecture.d_model * architecture.interface.outputs


def _activation_peak(architecture: Architecture, n: int) -> int:
    """Largest number of live numbers over embedding, every half of every block, and head; one sequence."""
    stream = n * architecture.d_model
    rows = n if architecture.head.kind == "language" else 1
    peaks = [
        n * _numbers_per_token(architecture) + stream,
        stream + max(stream, rows * architecture.interface.outputs),
    ]
    for layer in architecture.layers:
        mixer = layer.mixer.activation_size(architecture.d_model, n, causal=architecture.is_causal)
        feed_forward = layer.feed_forward.activation_size(architecture.d_model, n)
        # in a parallel block the mixer's output waits for the feed-forward's
        waiting = stream if layer.residual == "parallel" else 0
        peaks += [stream + mixer, stream + waiting + feed_forward]
    return max(peaks)
