"""Groups F and H: gradients of single examples, and the Hessian of the loss times its gradient.

G_b  = gradient of example b's random-projection loss in all matrices        Theta = G G^T
H g  = d/dtheta <dL/dtheta, g>,  g the gradient of the whole batch, held fixed
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .losses import loss_of, projection, share_of
from .observing import Observer
from .records import Loss


def example_gram(
    model: nn.Module,
    x: Tensor,
    weights: Mapping[str, nn.Parameter],
    observer: Observer,
    *,
    seed: int,
) -> Float[Tensor, "examples examples"] | None:
    """Theta in float64; memory grows with examples times parameters. None: there is nothing to take it of."""
    rows: list[list[Tensor]] = [[] for _ in weights]
    for example in x:
        observer.begin(sees="nothing")
        with torch.enable_grad():
            model(example[None])
            last = observer.graph.last
            if last is None or not weights or not last.requires_grad:
                return None
            gradients = torch.autograd.grad(
                projection(last, seed).sum(),
                list(weights.values()),
                allow_unused=True,
                materialize_grads=True,
            )
        for row, gradient in zip(rows, gradients, strict=True):
            row.append(gradient.flatten())
    gram = torch.zeros(len(x), len(x), dtype=torch.float64)
    for row in rows:
        stacked = torch.stack(row).double()
        gram += stacked @ stacked.T
    return gram


def hessian_times(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    chunks: Sequence[slice],
    weights: Mapping[str, nn.Parameter],
    vector: Mapping[str, Tensor],
    observer: Observer,
    *,
    loss: Loss,
    seed: int,
) -> dict[str, Tensor]:
    """H v by name, of the mean loss; attention explicit, for the fused form has no second derivative."""
    whole = y[: chunks[-1].stop]
    result = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for chunk in chunks:
        observer.begin(sees="nothing")
        share = share_of(loss, y[chunk], whole)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            value = loss_of(loss, model(x[chunk]), y[chunk], observer.graph.last, seed)
            slopes = torch.autograd.grad(
                value, list(weights.values()), create_graph=True, allow_unused=True, materialize_grads=True
            )
            along = torch.stack(
                [(slope * vector[name]).sum() for name, slope in zip(weights, slopes, strict=True)]
            ).sum()
            if not along.requires_grad:
                continue
            seconds = torch.autograd.grad(
                along, list(weights.values()), allow_unused=True, materialize_grads=True
            )
        for name, second in zip(weights, seconds, strict=True):
            result[name] += share * second
    return result
