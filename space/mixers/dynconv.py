"""Span-based dynamic convolution: every token makes the kernel of a short window from its query and its span.

    s_t = P (sum_p c_p * k_{t+p-b}) + bias          the span: depthwise along the tokens, then a map per head
    e_t = softmax_p( (q_t * s_t) W_f + b_f )        over the w places of the window that hold a real token
    o_t = sum_p e_{t,p} (v_{t+p-b} W_c + b_c)       y = concat over heads (o) W_o
    p = 0 .. w-1;  b = w - 1 (causal), floor(w/2) (both ways)

Source: Jiang et al. 2020, arXiv:2008.02496 (ConvBERT); per head as in Tuli et al. 2022, arXiv:2205.11656
(FlexiBERT). The causal form, its decoding and the softmax over existing places only are ours. So is the start
of the maps inside heads, with a deviation of 1 / sqrt(h): after 150 steps of 16 x 128 bytes (python-stdlib,
2 layers of width 64, 4 heads, w = 5, one seed) 2.809 bits per byte at rate 0.003 and 3.617 at 0.0005; with
0.02 it is 2.913 and 3.672.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from ..choice import LinearMap, Mixer, MixerChoice, Padding, State, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import HEAD_WIDTH, LayerGene
from ..kernels.attention import FORBIDDEN
from ..kernels.windows import advanced, convolved, newest, num_real
from ..projection import read, start, write
from ..roles import ParameterRole


class DynconvConfig(MixerChoice):
    """Sees order by itself; reaches as far as a convolution of this width."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    direction_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "num_heads": HEAD_WIDTH,
        "width": LayerGene(
            "dynconv_width", (5, 9), "Tokens a dynamic convolution reads.", least=1, most=63, odd=True
        ),
    }

    kind: Literal["dynconv"] = "dynconv"
    num_heads: int = Field(ge=1, le=256, description="Heads; divides the model width.")
    width: int = Field(5, ge=1, le=63, description="Tokens in the window; odd.")

    @field_validator("width")
    @classmethod
    def _is_odd(cls, width: int) -> int:
        if width % 2 == 0:
            raise ValueError(f"width={width} is even; a window around a token is odd, choose {width + 1}")
        return width

    def check(self, at: Surroundings) -> None:
        if at.d_model % self.num_heads:
            raise InvalidArchitectureError(
                f"dynconv: num_heads={self.num_heads} does not divide d_model={at.d_model}; choose a divisor"
            )

    def build(self, at: Surroundings) -> "Dynconv":
        self.check(at)
        return Dynconv(self.num_heads, self.width, at)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        """Queries, keys, values and output; the small maps inside heads stay dense and float32."""
        d = at.d_model
        return (LinearMap(d, (d, d, d)), LinearMap(d, (d,)))

    def own_params(self, at: Surroundings) -> int:
        """Depthwise kernel, span map, kernel map and value map of every head, the last three with bias."""
        h, w = at.d_model // self.num_heads, self.width
        return self.num_heads * (w * h + (h * h + h) + (h * w + w) + (h * h + h))

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """The depthwise kernel and the maps inside heads; the sum of w weighted values is elementwise, left
        out."""
        return tokens * self.mixing_macs_decode(at, tokens)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return 2 * at.d_model * (self.width + at.d_model // self.num_heads)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """The last `width - 1` keys and mapped values, and how many of them there are."""
        return 2 * (self.width - 1) * at.d_model + 1

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Query, value, padded keys and their convolution; or kernels, what forbids places, padded values
        and two running sums."""
        n, d, w, kernels = tokens, at.d_model, self.width, tokens * self.num_heads * self.width
        sums = kernels + 3 * n * d + (w - 1) * d
        return max(4 * n * d + (w - 1) * d, sums, kernels + n * d + n * w + n + w - 1)

    def reach(self, at: Surroundings) -> int:
        return min(at.context_length, self.width - 1 if at.causal else self.width // 2)


class Dynconv(Mixer):
    """Channels first between the two outer maps: all inner ones are convolutions with groups."""

    def __init__(self, num_heads: int, width: int, at: Surroundings) -> None:
        super().__init__()
        d, h = at.d_model, at.d_model // num_heads
        self.num_heads, self.width, self.d_model = num_heads, width, d
        self.ahead = 0 if at.causal else width // 2
        self.qkv = read(at, (d, d, d), "mixer.in")
        self.depthwise = nn.Parameter(torch.empty(d, width))
        self.span = nn.Parameter(torch.empty(d, h))
        self.span_bias = nn.Parameter(torch.zeros(d))
        self.kernel = nn.Parameter(torch.empty(num_heads * width, h))
        self.kernel_bias = nn.Parameter(torch.zeros(num_heads * width))
        self.value = nn.Parameter(torch.empty(d, h))
        self.value_bias = nn.Parameter(torch.zeros(d))
        start(self.depthwise)
        for weight in (self.span, self.kernel, self.value):
            start(weight, std=h**-0.5)
        self.out = write(at, d, "mixer.out")

    def parameter_roles(self) -> dict[str, ParameterRole]:
        names = ("depthwise", "span", "span_bias", "kernel", "kernel_bias", "value", "value_bias")
        return {name: ParameterRole("mixer.state") for name in names}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        return self._mixed(*self._projected(x, mask), mask)

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        zeros = self.span_bias.new_zeros
        return {
            "keys": zeros(batch_size, self.width - 1, self.d_model, dtype=dtype),
            "values": zeros(batch_size, self.width - 1, self.d_model, dtype=dtype),
            "count": zeros(batch_size, 1, dtype=dtype),
        }

    def step(
        self, x: Tensor, state: State, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        q, k, v = self._projected(x, None)
        keys = torch.cat([state["keys"], k.transpose(1, 2)], dim=1)
        values = torch.cat([state["values"], v.transpose(1, 2)], dim=1)
        span = (keys.transpose(1, 2) * self.depthwise).sum(2, keepdim=True)
        # the newest of the places before this token hold what `count` says
        age = torch.arange(self.width - 1, -1, -1, device=x.device)
        absent = (age > state["count"]).to(x.dtype)[:, None, :, None] * FORBIDDEN
        weights = self._kernels(self._logits(q, span), absent)
        mixed = (weights * self._heads(values.transpose(1, 2)).transpose(2, 3)).sum(2).flatten(1)
        count = state["count"] + (1.0 if mask is None else mask.to(x.dtype))
        kept = {
            "keys": advanced(keys, mask),
            "values": advanced(values, mask),
            "count": count.clamp(max=float(self.width - 1)),
        }
        return self.out(mixed[:, None]), kept

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        q, k, v = self._projected(x, mask)
        kept = {
            "keys": newest(k.transpose(1, 2), self.width - 1, mask),
            "values": newest(v.transpose(1, 2), self.width - 1, mask),
            "count": num_real(x, self.width - 1, mask),
        }
        return self._mixed(q, k, v, mask), kept

    def _projected(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and mapped values [batch, d_model, tokens]; keys and values of padding are zeros."""
        q, k, v = self.qkv(x).transpose(1, 2).split(self.d_model, dim=1)
        v = self._per_head(v, self.value, self.value_bias)
        if mask is None:
            return q, k, v
        real = mask[:, None].to(v.dtype)
        return q, k * real, v * real

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        n, w = q.shape[2], self.width
        span = convolved(k, self.depthwise, None, ahead=self.ahead)
        logits = self._logits(q, span)
        weights = self._kernels(logits, self._absent(logits, mask))
        ends = (w - 1 - self.ahead, self.ahead)
        padded = self._heads(functional.pad(v, ends))
        total = weights[:, :, :1] * padded[..., :n]
        for p in range(1, w):
            total = total + weights[:, :, p : p + 1] * padded[..., p : p + n]
        y: Tensor = self.out(total.flatten(1, 2).transpose(1, 2))
        return y

    def _logits(self, q: Tensor, span: Tensor) -> Tensor:
        """[batch, heads * width, tokens] from queries and spans before their map."""
        mapped = self._per_head(span, self.span, self.span_bias)
        return self._per_head(q * mapped, self.kernel, self.kernel_bias)

    def _kernels(self, logits: Tensor, absent: Tensor) -> Tensor:
        """[batch, heads, width, tokens]; they sum to 1 over the width."""
        scores = self._heads(logits) + absent
        wide = torch.promote_types(scores.dtype, torch.float32)
        return torch.softmax(scores, dim=2, dtype=wide).to(scores.dtype)

    def _absent(self, like: Tensor, mask: Tensor | None) -> Tensor:
        """What forbids places without a real token, [batch or 1, 1, width, tokens]."""
        n, w = like.shape[2], self.width
        missing = torch.zeros_like(like[:1, 0]) if mask is None else 1.0 - mask.to(like.dtype)
        padded = functional.pad(missing, (w - 1 - self.ahead, self.ahead), value=1.0)
        return torch.stack([padded[:, p : p + n] for p in range(w)], dim=1)[:, None] * FORBIDDEN

    def _per_head(self, u: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """A map inside every head of u [batch, d_model, tokens]."""
        mapped = functional.conv2d(u.unsqueeze(2), weight[:, :, None, None], bias, groups=self.num_heads)
        return mapped.squeeze(2)

    def _heads(self, u: Tensor) -> Tensor:
        """[batch, heads, numbers per head, tokens]."""
        return u.reshape(u.shape[0], self.num_heads, -1, u.shape[2])


def dynconv_reference(
    qkv: tuple[
        Float[Tensor, "batch tokens d_model"],
        Float[Tensor, "batch tokens d_model"],
        Float[Tensor, "batch tokens d_model"],
    ],
    module: Dynconv,
    *,
    causal: bool,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens d_model"]:
    """The definition up to W_o, one sequence, head and token at a time; parameters as `module` has them."""
    w, heads = module.width, module.num_heads
    back = w - 1 if causal else w // 2
    batch, n, d = qkv[0].shape
    h = d // heads
    real = torch.ones(batch, n, dtype=torch.bool) if mask is None else mask
    sequences = []
    for b in range(batch):
        columns = []
        for a in range(heads):
            inside, rows = slice(a * h, (a + 1) * h), slice(a * w, (a + 1) * w)
            q, k, v = (part[b, :, inside] for part in qkv)
            mapped = v @ module.value[inside].T + module.value_bias[inside]
            outputs = []
            for t in range(n):
                there = [t + p - back for p in range(w)]
                exists = torch.tensor([0 <= j < n and bool(real[b, j]) for j in there])
                places = [j if e else None for j, e in zip(there, exists.tolist(), strict=True)]
                nothing = torch.zeros_like(q[0])
                keys = torch.stack([nothing if j is None else k[j] for j in places])
                values = torch.stack([nothing if j is None else mapped[j] for j in places])
                pooled = (module.depthwise[inside].T * keys).sum(0)
                span = module.span[inside] @ pooled + module.span_bias[inside]
                logits = module.kernel[rows] @ (q[t] * span) + module.kernel_bias[rows]
                weights = torch.softmax(logits.masked_fill(~exists, -torch.inf), 0).nan_to_num(0.0)
                outputs.append(weights @ values)
            columns.append(torch.stack(outputs))
        sequences.append(torch.cat(columns, dim=1))
    return torch.stack(sequences)
