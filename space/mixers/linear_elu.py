"""Linear attention with the positive feature map elu + 1.

    phi(u) = elu(u / h^(1/4)) + 1        A_i = sum_j phi(k_j) v_j^T        z_i = sum_j phi(k_j)
    o_i = phi(q_i) A_i / (phi(q_i) . z_i + 1e-6),   j over the past and i itself (causal), or over all tokens

Source: Katharopoulos et al. 2020, arXiv:2006.16236. The scale h^(-1/4) of queries and keys is ours: it gives
the temperature softmax attention starts with. Rotary positions turn phi(q) and phi(k) in the numerator only;
the denominator stays positive. The causal form runs in chunks: within a chunk by a masked square, between
chunks by running sums.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..choice import LinearMap, Mixer, MixerChoice, Padding, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import HEAD_WIDTH, LayerGene
from ..kernels.attention import merge_heads, split_heads
from ..positions.rope import Rotary
from ..projection import read, write

CHUNK = 64
EPS = 1e-6


class LinearEluConfig(MixerChoice):
    """The state between tokens does not grow with the context."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset({"rope"})
    order_aware: ClassVar[bool] = False
    has_probabilities: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {"num_heads": HEAD_WIDTH}

    kind: Literal["linear_elu"] = "linear_elu"
    num_heads: int = Field(ge=1, le=256, description="Heads; divides the model width.")

    def check(self, at: Surroundings) -> None:
        if at.d_model % self.num_heads:
            raise InvalidArchitectureError(
                f"linear_elu: num_heads={self.num_heads} does not divide d_model={at.d_model}; "
                "choose a divisor"
            )

    def build(self, at: Surroundings) -> "LinearElu":
        self.check(at)
        return LinearElu(self.num_heads, at)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        d = at.d_model
        return (LinearMap(d, (d, d, d)), LinearMap(d, (d,)))

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """State update and state read, and in the causal form the whole square of every chunk.

        Denominators are running sums and elementwise products, left out. Chunks are counted full.
        """
        width = at.d_model // self.num_heads
        if not at.causal:
            return tokens * 2 * at.d_model * width
        size = min(CHUNK, at.context_length)
        padded = -(-tokens // size) * size
        return padded * 2 * at.d_model * (width + size)

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        """Inside a chunk the permitted pairs only."""
        size = min(CHUNK, at.context_length)
        padded = -(-tokens // size) * size
        return padded * at.d_model * (2 * (at.d_model // self.num_heads) + size + 1)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return 2 * at.d_model * (at.d_model // self.num_heads)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """One matrix and one denominator vector per head."""
        return at.d_model * (at.d_model // self.num_heads + 1)

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Queries, keys, values and denominators beside the states and the squares of all chunks."""
        d_model = at.d_model
        width = d_model // self.num_heads
        if not at.causal:
            reads_state = tokens * (3 * d_model + self.num_heads) + d_model * width
            return max(tokens * 4 * d_model, reads_state)
        size = min(CHUNK, at.context_length)
        chunks = -(-tokens // size)
        held = chunks * size * 3 * d_model + tokens * self.num_heads
        squares = chunks * (d_model * width + self.num_heads * size**2)
        return max(tokens * (4 * d_model + self.num_heads), held + squares)


class LinearElu(Mixer):
    """Sums in float32 at least."""

    past: Tensor

    def __init__(self, num_heads: int, at: Surroundings) -> None:
        super().__init__()
        d = at.d_model
        self.num_heads, self.head_width = num_heads, d // num_heads
        self.causal = at.causal
        self.chunk = min(CHUNK, at.context_length)
        self.register_buffer("past", torch.ones(self.chunk, self.chunk).tril(), persistent=False)
        self.qkv = read(at, (d, d, d), "mixer.in")
        self.out = write(at, d, "mixer.out")
        rotates = at.position.kind == "rope"
        self.rotary = Rotary(at.context_length, self.head_width) if rotates else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        projected = split_heads(self.qkv(x), 3 * self.num_heads)
        if projected.dtype in (torch.float16, torch.bfloat16):
            projected = projected.float()
        unmapped, v = torch.split(projected, [2 * self.num_heads, self.num_heads], dim=1)
        features = feature_map(unmapped)
        if mask is not None:
            real = mask[:, None, :, None].to(features.dtype)
            queries, keys = torch.split(features, [self.num_heads, self.num_heads], dim=1)
            features, v = torch.cat([queries, keys * real], dim=1), v * real
        weights = denominators(features, self.num_heads, causal=self.causal)
        q, k = torch.split(self.rotary(features), [self.num_heads, self.num_heads], dim=1)
        mixed = chunked(q, k, v, self.past, self.chunk) if self.causal else bidirectional(q, k, v)
        y: Tensor = self.out(merge_heads(mixed / weights).to(x.dtype))
        return y


def feature_map(u: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
    """Positive features."""
    return functional.elu(u * u.shape[-1] ** -0.25) + 1.0


def denominators(
    features: Float[Tensor, "batch heads2 tokens width"], num_heads: int, *, causal: bool
) -> Float[Tensor, "batch heads tokens 1"]:
    """phi(q_i) . z_i + eps from the features of queries and keys before any rotation."""
    q, k = torch.split(features, [num_heads, num_heads], dim=1)
    z = k.cumsum(dim=2) if causal else k.sum(dim=2, keepdim=True)
    return (q * z).sum(-1, keepdim=True) + EPS


def bidirectional(
    q: Float[Tensor, "batch heads tokens key"],
    k: Float[Tensor, "batch heads tokens key"],
    v: Float[Tensor, "batch heads tokens value"],
) -> Float[Tensor, "batch heads tokens value"]:
    """Numerators when every token sees every token."""
    return q @ (k.transpose(-1, -2) @ v)


def chunked(
    q: Float[Tensor, "batch heads tokens key"],
    k: Float[Tensor, "batch heads tokens key"],
    v: Float[Tensor, "batch heads tokens value"],
    past: Float[Tensor, "chunk chunk"],
    chunk: int,
) -> Float[Tensor, "batch heads tokens value"]:
    """Causal numerators, all chunks at once; `past` is 1 where a query sees a key of its chunk, else 0."""
    b, heads, n, _ = q.shape
    q, k, v = (_in_chunks(part, chunk) for part in (q, k, v))
    keys = k.transpose(-1, -2)
    sums = (keys @ v).cumsum(dim=2)
    before = torch.cat([torch.zeros_like(sums[:, :, :1]), sums[:, :, :-1]], dim=2)
    mixed = ((q @ keys) * past.to(q.dtype)) @ v + q @ before
    return mixed.reshape(b, heads, -1, v.shape[-1])[:, :, :n]


def _in_chunks(
    part: Float[Tensor, "batch heads tokens width"], chunk: int
) -> Float[Tensor, "batch heads chunks chunk width"]:
    """Tokens cut into chunks, the last one filled up with zeros, which add nothing to sums."""
    b, heads, n, width = part.shape
    return functional.pad(part, (0, 0, 0, (-n) % chunk)).reshape(b, heads, -1, chunk, width)


def linear_elu_reference(
    q: Float[Tensor, "batch heads tokens key"],
    k: Float[Tensor, "batch heads tokens key"],
    v: Float[Tensor, "batch heads tokens value"],
    *,
    causal: bool,
    rotary: nn.Module | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch heads tokens value"]:
    """The definition as a recurrence, one token at a time; q and k before the feature map."""
    q, k = feature_map(q), feature_map(k)
    if mask is not None:
        k = k * mask[:, None, :, None]
    turned_q, turned_k = (q, k) if rotary is None else (rotary(q), rotary(k))
    states, sums = (
        [torch.zeros_like(k[:, :, 0, :, None] * v[:, :, 0, None, :])],
        [torch.zeros_like(k[:, :, 0])],
    )
    for j in range(q.shape[2]):
        states.append(states[-1] + torch.einsum("bhk,bhv->bhkv", turned_k[:, :, j], v[:, :, j]))
        sums.append(sums[-1] + k[:, :, j])
    outputs = []
    for i in range(q.shape[2]):
        seen = i + 1 if causal else q.shape[2]
        numerator = torch.einsum("bhk,bhkv->bhv", turned_q[:, :, i], states[seen])
        denominator = torch.einsum("bhk,bhk->bh", q[:, :, i], sums[seen]) + EPS
        outputs.append(numerator / denominator[..., None])
    return torch.stack(outputs, dim=2)
