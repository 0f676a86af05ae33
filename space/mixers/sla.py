"""Simplified linear attention of SLAB: relu features and a convolution of the values beside.

    k <- k + P,   P [context, d_model] trained, starts at 0 (off: `position_table` false)
    o_i = sum_j (phi(q_i) . phi(k_j)) v_j / (sum_j phi(q_i) . phi(k_j) + 1e-6) + conv(v)_i
    phi(u) = max(u, 0)
    y = concat over heads (o) W_o

j over the past and i itself (causal), or over all tokens. conv is depthwise with one kernel per channel of a
head, the same in every head: `width` taps along the tokens, behind i (causal) or around it, or width x width
on the token grid of an image. Source: Guo et al. 2024, arXiv:2405.11582; the causal form is ours.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..choice import State, Surroundings, off
from ..gene import HEAD_WIDTH, LayerGene
from ..kernels.linear_attention import rows_at
from ..mixing.linear_attention import (
    LinearAttention,
    LinearAttentionConfig,
    linear_attention_reference,
)
from ..roles import ParameterRole


class SlaConfig(LinearAttentionConfig):
    """Sees order by its convolution and its table; the state does not grow with the context."""

    fixed_length: ClassVar[bool] = True
    order_aware: ClassVar[bool] = True
    direction_aware: ClassVar[bool] = True
    positional_by_slot: ClassVar[bool] = True
    reads_grid: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "num_heads": HEAD_WIDTH,
        "conv_width": LayerGene(
            "sla_width", (5,), "Taps of the convolution in sla, on an image to each side.",
            least=3, most=7, odd=True, rare=True,
        ),
        "position_table": LayerGene(
            "position_table", (True,), "sla adds a trained table of positions to its keys.", rare=True
        ),
    }  # fmt: skip

    kind: Literal["sla"] = "sla"
    conv_width: Literal[3, 5, 7] = off(5, description="Taps of the convolution, on an image to each side.")
    position_table: bool = off(True, description="Adds a trained row per position to the keys.")

    @classmethod
    def snapped(cls, values: dict[str, Any], at: Surroundings) -> dict[str, Any]:
        """Without a table where the tokens carry positions already."""
        return {**values, "position_table": False} if at.position.on_tokens else values

    def build(self, at: Surroundings) -> "Sla":
        self.check(at)
        return Sla(self, at)

    def own_params(self, at: Surroundings) -> int:
        """Kernels with biases, and the table."""
        table = at.context_length * at.d_model if self.position_table else 0
        return super().own_params(at) + self.width(at) * (self._taps(at) + 1) + table

    def macs_beside(self, at: Surroundings, tokens: int) -> int:
        """The convolution's taps."""
        return tokens * at.d_model * self._taps(at)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """The last values that the convolution reads, beside the sums."""
        return super().state_size(at, tokens) + (self.conv_width - 1) * at.d_model

    def finishing_size(self, at: Surroundings, tokens: int) -> int:
        """Divided sums, values and convolved values; the causal form lengthens the values first."""
        longer = self.conv_width - 1 if at.causal else 0
        return at.d_model * (3 * self.sums(at).padded(tokens) + longer)

    def _taps(self, at: Surroundings) -> int:
        """Numbers in the kernel of one channel."""
        return self.conv_width**2 if at.grid and not at.causal else self.conv_width


class Sla(LinearAttention):
    """Values pass the convolution as they leave their projection, 0 at padded tokens."""

    def __init__(self, config: SlaConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        d = at.d_model
        self.conv = HeadConvolution(config, at)
        self.table = nn.Parameter(torch.zeros(at.context_length, d)) if config.position_table else None
        self.unused_rows = config.sums(at).slots - at.context_length

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {} if self.table is None else {"table": ParameterRole("pos")}

    def features(
        self, heads: Float[Tensor, "batch tokens heads2 width"], start: Int[Tensor, ""] | None
    ) -> Float[Tensor, "batch tokens heads2 width"]:
        if self.table is None:
            return functional.relu(heads)
        # queries get zeros: one addition for both, in the layout the projection leaves
        table = functional.pad(self.table, (self.table.shape[1], 0, 0, self.unused_rows))
        by_head = table.reshape(-1, 2 * self.num_heads, self.head_width).to(heads.dtype)
        return functional.relu(heads + rows_at(by_head, heads, start))

    def finish(
        self,
        mixed: Float[Tensor, "batch tokens heads width"],
        weights: Float[Tensor, "batch tokens heads 1"] | None,
        v: Float[Tensor, "batch tokens heads width"],
    ) -> Float[Tensor, "batch tokens heads width"]:
        assert weights is not None
        convolved: Tensor = self.conv(v)
        return mixed / weights + convolved

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        state = super().init_state(batch_size, dtype=dtype)
        rows = (batch_size, self.conv.width - 1, self.num_heads, self.head_width)
        return {**state, "values": torch.zeros(*rows, dtype=state["sums"].dtype, device=state["sums"].device)}

    def finish_step(
        self,
        mixed: Float[Tensor, "batch one heads width"],
        weights: Float[Tensor, "batch one heads 1"] | None,
        v: Float[Tensor, "batch one heads width"],
        mask: Bool[Tensor, "batch one"] | None,
        state: State,
        after: State,
    ) -> Float[Tensor, "batch one heads width"]:
        assert weights is not None
        known = torch.cat([state["values"], v], dim=1)
        moved = known[:, 1:]
        after["values"] = (
            moved if mask is None else torch.where(mask[..., None, None], moved, state["values"])
        )
        return mixed / weights + self.conv.last(known)

    def prefill(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> tuple[Float[Tensor, "batch tokens d_model"], State]:
        y, (k, turned, v) = self._run(x, mask)
        n, kept = x.shape[1], self.conv.width - 1
        values = v[:, :n]
        if mask is not None:
            # real tokens behind padded ones, each kind in its order
            order = mask.int().argsort(dim=1, stable=True)
            values = torch.take_along_dim(values, order[..., None, None], dim=1)
        known = functional.pad(values, (0, 0, 0, 0, kept, 0))
        return y, {**self.state_of(k[:, :n], turned[:, :n], v[:, :n]), "values": known[:, n:]}


class HeadConvolution(nn.Module):
    """One kernel and one bias per channel of a head, the same in every head."""

    def __init__(self, config: SlaConfig, at: Surroundings) -> None:
        super().__init__()
        self.width, self.causal, self.num_heads = config.conv_width, at.causal, config.num_heads
        self.grid = None if at.causal else at.grid
        channels = config.width(at)
        shape = (self.width, self.width) if self.grid else (1, self.width)
        bound = (shape[0] * shape[1]) ** -0.5
        self.kernel = nn.Parameter(torch.empty(channels, 1, *shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"kernel": ParameterRole("mixer.state"), "bias": ParameterRole("mixer.state")}

    def forward(
        self, v: Float[Tensor, "batch tokens heads width"]
    ) -> Float[Tensor, "batch tokens heads width"]:
        heads, width = self.num_heads, self.kernel.shape[0]
        columns = v.reshape(v.shape[0], -1, heads * width).transpose(1, 2)
        image = columns.unsqueeze(2)
        if self.grid:
            image = columns.reshape(columns.shape[0], heads * width, *self.grid)
        if self.causal:
            image = functional.pad(image, (self.width - 1, 0))
        half = 0 if self.causal else self.width // 2
        kernel, bias = self.kernel.to(v.dtype), self.bias.to(v.dtype)
        convolved = functional.conv2d(
            image,
            kernel.repeat(heads, 1, 1, 1),
            bias.repeat(heads),
            padding=(half if self.grid else 0, half),
            groups=heads * width,
        )
        channels_last = convolved.permute(0, 2, 3, 1)
        return channels_last.reshape(channels_last.shape[0], -1, heads, width)

    def last(self, v: Float[Tensor, "batch taps heads width"]) -> Float[Tensor, "batch one heads width"]:
        """Of the last token, from as many tokens as taps."""
        taps = self.kernel[:, 0, 0].to(v.dtype).T[:, None]
        return (v * taps).sum(dim=1, keepdim=True) + self.bias.to(v.dtype)


def sla_reference(
    q: Float[Tensor, "batch tokens heads width"],
    k: Float[Tensor, "batch tokens heads width"],
    v: Float[Tensor, "batch tokens heads width"],
    kernel: Float[Tensor, "width rows columns"],
    bias: Float[Tensor, " width"],
    *,
    causal: bool,
    grid: tuple[int, int] | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens heads width"]:
    """The definition, pair by pair and tap by tap; k with its table's rows, kernels [1, taps] in 1-D."""
    q, k = (torch.where(u > 0, u, 0.0) for u in (q, k))
    mixed = linear_attention_reference(q, k, v, causal=causal, mask=mask)
    rows, columns = grid or (1, q.shape[1])
    convolved = []
    for i in range(q.shape[1]):
        total = bias.expand(v[:, 0].shape)
        for down in range(kernel.shape[1]):
            for right in range(kernel.shape[2]):
                row = i // columns + down - kernel.shape[1] // 2
                ahead = kernel.shape[2] - 1 if causal else kernel.shape[2] // 2
                column = i % columns + right - ahead
                if 0 <= row < rows and 0 <= column < columns:
                    j = row * columns + column
                    there = v[:, j] if mask is None else v[:, j] * mask[:, j, None, None]
                    total = total + kernel[:, down, right] * there
        convolved.append(total)
    return mixed + torch.stack(convolved, dim=1)
