"""A network under observation is afterwards what it was before, bit for bit, whatever happened."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def observed(model: nn.Module, wanted: Collection[nn.Parameter]) -> Iterator[None]:
    """Evaluation mode with gradients on for `wanted` alone.

    Restores train and gradient flags, buffers and the global random state; gradients are never stored, and
    hooks belong to who sets them.
    """
    training = [(module, module.training) for module in model.modules()]
    requiring = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    ids = {id(parameter) for parameter in wanted}
    with torch.random.fork_rng(devices=[]):
        try:
            model.eval()
            for parameter in model.parameters():
                parameter.requires_grad_(id(parameter) in ids)
            yield
        finally:
            for module, flag in training:
                module.training = flag
            for parameter, flag in requiring:
                parameter.requires_grad_(flag)
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
