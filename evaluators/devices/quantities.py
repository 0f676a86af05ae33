"""What a transformer of known size computes, moves and keeps, in closed form.

    prefill     FLOPs = 2 P n + attention             attention = 4 n^2 d per layer, half of it where a
                                                      kernel skips the causal half
    decode      FLOPs = (2 P + 4 n d per layer) B     bytes = weights + B cache(n)
    cache       bytes = 2 sum over layers of groups * head width * min(n, window) * bytes per number

P: parameters without embeddings. Recurrent layers have no cache and a state of constant size, which
`space.costs` counts for architectures of this project; here are the formulas for any other model, and what
follows from them on a device.

Source: the summary of a long-context deployment study in evaluators_and_search.md 9.2, whose example (34 B
parameters on an A100 80 GB) the tests reproduce.
"""

import math
from dataclasses import dataclass
from typing import Literal

from .table import Device, Number

Convention = Literal["full", "causal", "paper"]
"""How attention counts: every pair, the pairs a causal mask leaves, or half of these, as one paper does."""

SHARE: dict[Convention, float] = {"full": 4.0, "causal": 2.0, "paper": 1.0}
"""FLOPs per pair of tokens and channel."""


@dataclass(frozen=True, slots=True)
class TransformerSize:
    """A decoder of equal layers."""

    params: float
    """Without embeddings."""
    num_layers: int
    d_model: int
    num_kv_heads: int
    head_width: int
    window: int | None = None
    """Tokens that a layer keeps; None: all of them."""

    def weights_bytes(self, bytes_per_weight: float) -> float:
        return self.params * bytes_per_weight

    def cache_bytes(self, tokens: int, bytes_per_number: float = 2.0) -> float:
        """Keys and values of one sequence."""
        kept = tokens if self.window is None else min(tokens, self.window)
        return 2 * self.num_layers * self.num_kv_heads * self.head_width * kept * bytes_per_number

    def attention_flops(self, tokens: int, convention: Convention = "causal") -> float:
        """Of one forward pass over a sequence."""
        return SHARE[convention] * tokens**2 * self.d_model * self.num_layers

    def prefill_flops(self, tokens: int, convention: Convention = "causal") -> float:
        return 2 * self.params * tokens + self.attention_flops(tokens, convention)

    def decode_flops(self, tokens: int, batch_size: int = 1) -> float:
        """Of one more token per sequence after `tokens` tokens."""
        return batch_size * (2 * self.params + 4 * tokens * self.d_model * self.num_layers)

    def decode_bytes(self, tokens: int, batch_size: int = 1, bytes_per_weight: float = 2.0) -> float:
        """Read from memory for one more token per sequence."""
        cache = self.cache_bytes(tokens)
        return self.weights_bytes(bytes_per_weight) + batch_size * cache


def balance_tokens(device: Device, number: Number, bytes_per_weight: float) -> float:
    """Tokens n * B from which a weight that was read is computed with longer than its reading took: below,
    memory bounds a pass."""
    return device.peak(number) / device.bandwidth.value * bytes_per_weight / 2


def concurrency(memory_bytes: float, weights_bytes: float, cache_bytes: float, reserve_bytes: float) -> int:
    """Sequences whose cache fits beside the weights."""
    return max(0, math.floor((memory_bytes - weights_bytes - reserve_bytes) / cache_bytes))


def swap_s(cache_bytes: float, link_bytes_per_s: float) -> float:
    """Seconds to move one sequence's cache over a link."""
    return cache_bytes / link_bytes_per_s
