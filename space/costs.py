"""What an architecture costs, in closed form.

    memory = weights + state + activation peak

A number outside a linear map of a layer takes 4 bytes: state and activations stay float32 in every number
format. Elementwise work (norms, activations, gates, rotations, softmax) counts nothing; FLOPs are twice the
MACs.
"""

from dataclasses import dataclass
from fractions import Fraction

from .architecture import Architecture, BytesInterface, ImageInterface
from .choice import LinearMap, Surroundings
from .errors import InvalidInputError
from .quantization import Format, number_format

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
    at, causal = architecture.surroundings(), architecture.is_causal
    ends = _ends_macs(architecture, n)
    feed_forward = sum(ffn.macs(at, n) for layer in architecture.layers for ffn in layer.feed_forwards)
    mixers = [layer.mixer for layer in architecture.layers]
    macs = ends + feed_forward + sum(mixer.macs(at, n) for mixer in mixers)
    credited = ends + feed_forward + sum(mixer.macs_causal(at, n) for mixer in mixers) if causal else macs
    state = sum(mixer.state_size(at, n) for mixer in mixers) if causal else 0
    return Costs(
        params=num_params(architecture),
        macs=macs,
        macs_causal=credited,
        macs_decode=_decode_macs(architecture, at, n),
        weights_bytes=weights_bytes(architecture),
        state_bytes=batch_size * BYTES_PER_NUMBER * state,
        activation_bytes=batch_size * BYTES_PER_NUMBER * _activation_peak(architecture, at, n),
    )


def num_params(architecture: Architecture) -> int:
    """Trainable numbers of the whole model; what layers share counts once."""
    d, at = architecture.d_model, architecture.surroundings()
    ends = _embedding_size(architecture) + _head_size(architecture) + architecture.final_norm.params(d)
    position = architecture.position.params(at, tuple(layer.mixer for layer in architecture.layers))
    return ends + position + sum(_owned_params(architecture, at, index) for index in _indices(architecture))


def weights_bytes(architecture: Architecture) -> int:
    """Bytes that inference stores: linear maps of each layer in its number format, the rest float32."""
    at = architecture.surroundings()
    total = Fraction(BYTES_PER_NUMBER * num_params(architecture))
    for index, layer in enumerate(architecture.layers):
        if architecture.owners[index] != index:
            continue
        form = number_format(layer.number_format)
        for choice in (layer.mixer, *layer.feed_forwards):
            total -= BYTES_PER_NUMBER * _map_numbers(choice.maps(at), at)
            for linear_map in choice.deployed_maps(at):
                total += linear_map.copies * _map_bytes(linear_map, at, form)
    return int(total)


def _indices(architecture: Architecture) -> range:
    return range(len(architecture.layers))


def _owned_params(architecture: Architecture, at: Surroundings, index: int) -> int:
    """Of one layer, without what it shares with an earlier one."""
    layer = architecture.layers[index]
    is_owner = architecture.owners[index] == index
    has_norms = is_owner or getattr(architecture.sharing, "private_norm", False)
    norms = layer.num_norms * layer.norm.params(at.d_model) if has_norms else 0
    if not is_owner:
        return norms
    return norms + layer.mixer.params(at) + sum(ffn.params(at) for ffn in layer.feed_forwards)


def _map_numbers(maps: tuple[LinearMap, ...], at: Surroundings) -> int:
    return sum(m.copies * m.size(at.rank_ratio) for m in maps)


def _map_bytes(linear_map: LinearMap, at: Surroundings, form: Format) -> Fraction:
    """Of one copy."""
    matrices = linear_map.matrices(at.rank_ratio)
    if not linear_map.projected:
        return Fraction(BYTES_PER_NUMBER * sum(i * o for i, o in matrices))
    return sum((form.bits_per_weight(i) * i * o / 8 for i, o in matrices), Fraction(0))


def _decode_macs(architecture: Architecture, at: Surroundings, n: int) -> int:
    """Of token n after n - 1 others."""
    layers = architecture.layers
    if not (architecture.is_causal and all(layer.mixer.decodable for layer in layers)):
        return 0
    mixers = sum(layer.mixer.macs_decode(at, n - 1) for layer in layers)
    feed_forwards = sum(ffn.macs(at, 1) for layer in layers for ffn in layer.feed_forwards)
    return mixers + feed_forwards + architecture.d_model * architecture.interface.outputs


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


def _activation_peak(architecture: Architecture, at: Surroundings, n: int) -> int:
    """Largest number of live numbers over embedding, every half of every block, and head; one sequence."""
    stream = n * architecture.d_model
    rows = n if architecture.head.kind == "language" else 1
    peaks = [
        n * _numbers_per_token(architecture) + stream,
        stream + max(stream, rows * architecture.interface.outputs),
    ]
    for layer in architecture.layers:
        peaks.append(stream + layer.mixer.activation_size(at, n))
        # in a parallel block the mixer's output waits for the feed-forward's
        waiting = stream if layer.residual == "parallel" else 0
        peaks += [stream + waiting + ffn.activation_size(at, n) for ffn in layer.feed_forwards]
    return max(peaks)
