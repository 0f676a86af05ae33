"""What gradients are taken of.

    task         L   = mean cross-entropy over predicted positions (language) or examples (classes), nats
    projection   L_R = mean over examples b of <R, Y_b> / sqrt(tokens d),   R ~ N(0, 1) [tokens, d], seeded
    sum          L_1 = mean over examples b of sum(Y_b)

Y is the last hidden state. R is the same for every example, so that the order of a batch changes nothing. The
sum is refused behind a norm: the gradient of sum LayerNorm(x) with respect to x is exactly 0, and what a
network then returns is round-off.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from space.errors import InvalidInputError

from .points import Points
from .records import Loss

IGNORED = -100
"""A target that asks nothing."""


def task_loss(
    logits: Float[Tensor, "batch ... classes"], targets: Int64[Tensor, "batch ..."]
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats over predicted positions (language) or examples (classification); 0 where
    every target is IGNORED."""
    if not num_asked(targets):
        return 0.0 * logits.sum()
    return cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED)


def num_asked(targets: Int64[Tensor, "batch ..."]) -> int:
    """Targets that count."""
    return int((targets != IGNORED).sum())


def share_of(kind: Loss, part: Int64[Tensor, "part ..."], whole: Int64[Tensor, "batch ..."]) -> float:
    """What a part of the batch, by its targets, weighs in the whole batch's mean loss."""
    if kind != "task":
        return len(part) / len(whole)
    return num_asked(part) / max(1, num_asked(whole))


def projection(last: Float[Tensor, "batch tokens d_model"], seed: int) -> Float[Tensor, " batch"]:
    """<R, Y_b> / sqrt(tokens d) of every example."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    direction = torch.randn(last.shape[1:], generator=generator).to(last)
    along: Tensor = (last * direction).flatten(1).sum(1)
    return along / math.sqrt(direction.numel())


def loss_of(
    kind: Loss,
    logits: Float[Tensor, "batch ... classes"],
    targets: Int64[Tensor, "batch ..."],
    last: Float[Tensor, "batch tokens d_model"] | None,
    seed: int,
) -> Float[Tensor, ""]:
    """The mean over what is in the batch."""
    if kind == "task":
        return task_loss(logits, targets)
    if last is None:
        raise InvalidInputError(
            f"loss '{kind}' needs the last hidden state, which this network does not show"
        )
    return projection(last, seed).mean() if kind == "projection" else last.flatten(1).sum(1).mean()


def check_loss(kind: Loss, points: Points) -> None:
    """Raises InvalidInputError for a sum of outputs that stands behind a norm."""
    if kind == "sum" and points.ends_in_norm:
        raise InvalidInputError(
            "a sum of outputs is refused behind a norm, where its gradient is exactly 0; "
            "choose loss 'task' or 'projection'"
        )
