"""Batch normalisation that a training moves to from layer normalisation, and that inference folds away.

    training     y = l LN(x) + (1 - l) RepBN(x)          l from 1 to 0 over the first 70 % of the steps
    evaluation   y = RepBN(x) = (x - mu) / s * gain + bias + alpha x,      s = sqrt(var + 1e-5)
    folded       y = x (gain / s + alpha) + bias - mu gain / s            one factor and one shift per channel

mu and var are those of the batch's real tokens while training, running ones in evaluation. `space.deploy`
puts the folded form into the maps that read it. Source: Guo et al. 2024, arXiv:2405.11582 (SLAB); the 70 %
and how running statistics meet small batches are ours.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..choice import Norm, NormChoice
from ..roles import ParameterRole
from .layernorm import LayerNorm

EPS = 1e-5
MOMENTUM = 0.1
"""Share of a large batch in the running statistics."""
LARGE = 256
"""Tokens of a large batch; a smaller one has a smaller share."""
MIXED_UNTIL = 0.7
"""Fraction of the steps after which layer normalisation is gone."""


class PRepBNConfig(NormChoice):
    """For encoders: the statistics of a causal batch would show later tokens to earlier ones."""

    causal: ClassVar[bool] = False
    folds: ClassVar[bool] = True
    least_steps: ClassVar[int] = 200

    kind: Literal["prepbn"] = "prepbn"

    def build(self, d_model: int) -> "PRepBN":
        return PRepBN(d_model)

    def params(self, d_model: int) -> int:
        """Gain and bias of either norm, and alpha."""
        return 4 * d_model + 1


class PRepBN(Norm):
    """Statistics in float32 at least. Until the first training step the running ones are 0 and 1."""

    mean: Tensor
    var: Tensor
    batches: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.layernorm = LayerNorm(d_model)
        self.gain = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.alpha = nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.zeros(d_model))
        self.register_buffer("var", torch.ones(d_model))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.layernorm_share = 1.0

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {name: ParameterRole("norm") for name in ("gain", "bias", "alpha")}

    def set_progress(self, fraction: float) -> None:
        """The share of layer normalisation after this fraction of the steps."""
        self.layernorm_share = max(0.0, 1.0 - fraction / MIXED_UNTIL)

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        mean, var = self._batch_statistics(x, mask) if self.training else (self.mean, self.var)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        normed = ((wide - mean) / torch.sqrt(var + EPS)).to(x.dtype)
        y = normed * self.gain + self.bias + self.alpha * x
        share = self.layernorm_share
        if not self.training or share == 0.0:
            return y
        blended: Tensor = share * self.layernorm(x) + (1.0 - share) * y
        return blended

    @torch.no_grad()
    def affine(self) -> tuple[Float[Tensor, " d_model"], Float[Tensor, " d_model"]]:
        """Factor and shift of the folded form."""
        factor = self.gain / torch.sqrt(self.var + EPS)
        return factor + self.alpha, self.bias - self.mean * factor

    def _batch_statistics(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and biased variance over the real tokens; the running ones move towards them."""
        rows = x.flatten(0, -2) if mask is None else x[mask]
        if len(rows) == 0:
            return self.mean, self.var
        rows = rows.to(torch.promote_types(x.dtype, torch.float32))
        mean = rows.mean(0)
        var = (rows - mean).square().mean(0)
        self._remember(mean.detach(), var.detach(), len(rows))
        return mean, var

    def _remember(self, mean: Tensor, var: Tensor, count: int) -> None:
        """The plain mean over the first batches, then an exponential one."""
        share = max(1.0 / (int(self.batches) + 1), MOMENTUM * min(1.0, count / LARGE))
        unbiased = var * (count / max(1, count - 1))
        self.mean.lerp_(mean.to(self.mean.dtype), share)
        self.var.lerp_(unbiased.to(self.var.dtype), share)
        self.batches += 1


def prepbn_reference(
    x: Float[Tensor, "batch tokens d_model"],
    norm: PRepBN,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens d_model"]:
    """The definition in training mode, one channel at a time."""
    centred = x - x.mean(-1, keepdim=True)
    deviation = torch.sqrt((centred**2).mean(-1, keepdim=True) + EPS)
    first = centred / deviation * norm.layernorm.gain + norm.layernorm.bias
    columns = []
    for c in range(x.shape[-1]):
        real = x[..., c].flatten() if mask is None else x[..., c][mask]
        mean = real.sum() / len(real)
        s = torch.sqrt(((real - mean) ** 2).sum() / len(real) + EPS)
        columns.append((x[..., c] - mean) / s * norm.gain[c] + norm.bias[c] + norm.alpha * x[..., c])
    share = norm.layernorm_share
    return share * first + (1.0 - share) * torch.stack(columns, dim=-1)
