"""The loss every task is trained and judged by unless it brings its own.

loss = mean over targets of -ln softmax(logits)[target]          targets of IGNORED do not count
"""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""A target that asks nothing: positions of a sequence task that have no answer."""


def mean_loss(logits: Tensor, targets: Tensor, *, per_example: bool = False) -> Tensor:
    """Mean cross-entropy in nats, over all targets or (float64) over those of each example."""
    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    if not per_example:
        return F.cross_entropy(flat, wanted, ignore_index=IGNORED)
    losses = F.cross_entropy(flat, wanted, reduction="none", ignore_index=IGNORED)
    return mean_of_asked(losses, targets)


def mean_wrong(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of each example's targets (float64) whose largest logit is another class."""
    return mean_of_asked((logits.argmax(-1) != targets).reshape(-1), targets)


def mean_of_asked(values: Tensor, targets: Tensor) -> Tensor:
    """Values of all targets, flat -> their mean per example (float64) over the targets that ask something."""
    asked = (targets != IGNORED).view(len(targets), -1)
    known = torch.where(asked, values.view(asked.shape).double(), 0.0)
    return known.sum(1) / asked.sum(1)


def num_asked(targets: Tensor) -> int:
    """Targets that count."""
    return int((targets != IGNORED).sum())
