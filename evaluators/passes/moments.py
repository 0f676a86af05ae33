"""Weighted mean, mean magnitude and variance of gradients over micro-batches.

With c_k predictions in micro-batch k, w_k = c_k / sum c, and g_k the gradient of the micro-batch's mean loss:

    gradient g = sum_k w_k g_k      (the gradient of the whole batch's mean loss, however it was cut)
    E|g|       = sum_k w_k |g_k|
    Var g      = sum_k w_k (g_k - g)^2

accumulated in one sweep. Source: weighted one-pass moments, West 1979, doi:10.1145/359146.359153.
"""

import torch
from jaxtyping import Shaped
from torch import Tensor


class GradientMoments:
    """Of one tensor's gradients, one micro-batch at a time."""

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0.0
        self.mean = torch.zeros(())
        self.mean_abs = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, gradient: Tensor, weight: float) -> None:
        """Equal gradients give a variance of exactly 0, not of round-off."""
        self.count += 1
        self.weight += weight
        difference = gradient - self.mean
        step = weight / self.weight if self.weight else 1.0  # nothing was asked so far
        self.mean = self.mean + step * difference
        self.mean_abs = self.mean_abs + step * (gradient.abs() - self.mean_abs)
        self._squares = self._squares + weight * difference * (gradient - self.mean)

    @property
    def std(self) -> Tensor:
        """Population standard deviation."""
        return (self._squares / self.weight).clamp_min(0.0).sqrt()


def stacked_moments(
    gradients: Shaped[Tensor, "micro ..."], weights: Shaped[Tensor, " micro"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, mean magnitude and population standard deviation by definition; `GradientMoments`, slowly."""
    share = (weights / weights.sum()).view(-1, *[1] * (gradients.ndim - 1))
    mean = (share * gradients).sum(0)
    return mean, (share * gradients.abs()).sum(0), (share * (gradients - mean) ** 2).sum(0).sqrt()
