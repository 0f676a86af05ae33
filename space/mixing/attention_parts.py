"""The optional parts of softmax-type attention; every one is off by default (`attention_base`).

    WeightedProjection  q_a <- q_a M_a,  M_a [h, h] starts at I + N(0, 0.02^2)
    HeadConvolution     u_t <- sum_s c_s * u_{t-s}  for all channels u of q, k and v
    Clip                P <- clip((1 - gamma) P + gamma, 0, 1),  gamma = -alpha / T,  T keys per query at most
    gates               o_a <- g_a(x) o_a
        per_head        g_a = sigmoid(alpha_a)
        per_token       g_a = sigmoid(x^(a) . w_a + b_a),  x^(a) the channels of x that are head a's share
        per_token_full  g_a = sigmoid(x w_a + b_a)

Source: M: Tuli et al. 2022, arXiv:2205.11656 (FlexiBERT), its start is ours; convolution: So et al. 2021,
arXiv:2109.08668 (Primer), c starts at 1/2 on the token itself and 1/(2 w) elsewhere, the centred form both
ways is ours; clip and gates: Bondarenko et al. 2023, arXiv:2306.12929, with T of one mixer, not of the whole
training sequence, in windows (ours). Gates start at an openness of their own. A layer that starts with flat
probabilities and is clipped at once passes nothing, so gamma falls from 0 over the first half of a training.
"""

import copy
import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ..choice import Surroundings
from ..kernels.attention import merge_heads, split_heads
from ..kernels.dispatch import fused
from ..projection import Dense, LowRank, read, start
from ..roles import ParameterRole

GateKind = Literal["none", "per_head", "per_token", "per_token_full"]


class WeightedProjection(nn.Module):
    """Queries, keys and values with M behind the queries, for training; inference runs it as one map."""

    def __init__(self, projection: nn.Module, num_heads: int, head_width: int) -> None:
        super().__init__()
        self.num_heads, self.queries = num_heads, num_heads * head_width
        self.projection = projection
        # M_a^T of every head, one below the other: a linear map stores its matrix this way
        self.matrices = Dense(head_width, (head_width,) * num_heads, "mixer.in")
        with torch.no_grad():
            self.matrices.weight.add_(torch.eye(head_width).repeat(num_heads, 1))

    def forward(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch tokens channels"]:
        rows: Tensor = self.projection(x)
        q = split_heads(rows[..., : self.queries], self.num_heads) @ self._transposed().transpose(1, 2)
        return torch.cat([merge_heads(q), rows[..., self.queries :]], dim=-1)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The projection alone, M in its query rows."""
        projection = copy.deepcopy(self.projection)
        last = projection.up[0] if isinstance(projection, LowRank) else projection
        assert isinstance(last, Dense)
        rows = last.weight[: self.queries].reshape(self.num_heads, -1, last.in_features)
        last.weight[: self.queries] = (self._transposed() @ rows).flatten(0, 1)
        return projection

    def _transposed(self) -> Float[Tensor, "heads width width"]:
        return self.matrices.weight.reshape(self.num_heads, -1, self.matrices.in_features)


class HeadConvolution(nn.Module):
    """Depthwise along the tokens, no bias; the last tap meets the token furthest ahead."""

    def __init__(self, channels: int, taps: int, *, causal: bool) -> None:
        super().__init__()
        self.channels = channels
        self.ahead = 0 if causal else taps // 2
        self.behind = taps - 1 - self.ahead
        """Rows before a token that its result depends on."""
        self.kernel = nn.Parameter(torch.full((channels, taps), 0.5 / taps))
        with torch.no_grad():
            self.kernel[:, self.behind] = 0.5

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"kernel": ParameterRole("mixer.state")}

    def forward(self, rows: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "batch tokens channels"]:
        if (run := fused("depthwise", rows, self.kernel)) is not None:
            y: Tensor = run(rows, self.kernel, None, self.ahead)
            return y
        return self.inner(functional.pad(rows, (0, 0, self.behind, self.ahead)))

    def inner(self, rows: Float[Tensor, "batch more channels"]) -> Float[Tensor, "batch tokens channels"]:
        """Results of the tokens that have all their rows there."""
        columns = rows.transpose(1, 2).unsqueeze(2)
        mixed = functional.conv2d(columns, self.kernel[:, None, None, :], groups=self.channels)
        return mixed.squeeze(2).transpose(1, 2)


class Clip(nn.Module):
    """Stretches probabilities by a part of themselves and cuts at 0, so that a head can attend to nothing."""

    gamma: Tensor

    def __init__(self, alpha: int, keys_read: int) -> None:
        super().__init__()
        self.last_gamma = -alpha / keys_read
        self.register_buffer("gamma", torch.zeros(()))  # kept in state_dict: a trained model needs its value

    def set_progress(self, fraction: float) -> None:
        """gamma falls from 0 to its last value over the first half of a training and stays there."""
        self.gamma.fill_(self.last_gamma * min(1.0, 2.0 * fraction))

    def forward(self, weights: Float[Tensor, "*axes queries keys"]) -> Float[Tensor, "*axes queries keys"]:
        gamma = self.gamma.to(weights.dtype)
        return torch.clamp((1.0 - gamma) * weights + gamma, 0.0, 1.0)


class HeadGate(nn.Module):
    """One openness per head, whatever the input."""

    def __init__(self, num_heads: int, openness: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.full((num_heads,), logit(openness)))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"logit": ParameterRole("mixer.state")}

    def forward(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "1 heads 1 1"]:
        return torch.sigmoid(self.logit)[None, :, None, None]


class TokenGate(nn.Module):
    """Each head judges a token by its own share of the channels."""

    def __init__(self, num_heads: int, head_width: int, openness: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.weight = nn.Parameter(torch.empty(num_heads, head_width))
        start(self.weight)
        self.bias = nn.Parameter(torch.full((num_heads,), logit(openness)))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"weight": ParameterRole("mixer.state"), "bias": ParameterRole("mixer.state")}

    def forward(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch heads tokens 1"]:
        scores = split_heads(x, self.num_heads) @ self.weight[:, :, None]
        return torch.sigmoid(scores + self.bias[:, None, None])


class FullTokenGate(nn.Module):
    """Each head judges a token by all of its channels."""

    def __init__(self, num_heads: int, openness: float, at: Surroundings) -> None:
        super().__init__()
        self.map = read(at, num_heads, "mixer.in")
        self.bias = nn.Parameter(torch.full((num_heads,), logit(openness)))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"bias": ParameterRole("mixer.state")}

    def forward(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch heads tokens 1"]:
        return torch.sigmoid(self.map(x) + self.bias).transpose(1, 2)[..., None]


def build_gate(
    kind: GateKind, openness: float, num_heads: int, head_width: int, at: Surroundings
) -> nn.Module | None:
    """A module `gate(x [batch, tokens, d_model])` that broadcasts against heads; None: ungated."""
    if kind == "per_head":
        return HeadGate(num_heads, openness)
    if kind == "per_token":
        return TokenGate(num_heads, head_width, openness)
    if kind == "per_token_full":
        return FullTokenGate(num_heads, openness, at)
    return None


def logit(openness: float) -> float:
    """sigmoid(logit(p)) = p."""
    return math.log(openness / (1.0 - openness))


def head_convolution_reference(
    rows: Float[Tensor, "batch tokens channels"],
    kernel: Float[Tensor, "channels taps"],
    *,
    causal: bool,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens channels"]:
    """The definition, token by token and tap by tap; s counts from -floor(taps / 2) both ways."""
    n, taps = rows.shape[1], kernel.shape[1]
    first = 0 if causal else -(taps // 2)
    results = []
    for t in range(n):
        row = torch.zeros_like(rows[:, 0])
        for s in range(first, first + taps):
            if 0 <= t - s < n:
                there = rows[:, t - s] if mask is None else rows[:, t - s] * mask[:, t - s, None]
                row = row + kernel[:, taps - 1 - (s - first)] * there
        results.append(row)
    return torch.stack(results, dim=1)
