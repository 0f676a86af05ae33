"""What a network is fed while it is timed: values do not matter, shape and type do."""

import torch
from torch import Tensor

from space.architecture import Architecture, BytesInterface
from space.export import input_shape

from .runtimes.onnxruntime import InputShape


def timed_input(architecture: Architecture, batch_size: int, tokens: int | None = None) -> InputShape:
    """A batch of `tokens` tokens each (all of the context by default; images have one size)."""
    shape = input_shape(architecture, batch_size, tokens)
    if isinstance(architecture.interface, BytesInterface):
        return InputShape(shape, "int64", architecture.interface.vocab_size)
    return InputShape(shape)


def random_input(described: InputShape) -> Tensor:
    """A tensor of the described kind, always the same."""
    generator = torch.Generator().manual_seed(0)
    if described.dtype == "int64":
        return torch.randint(described.below, described.shape, generator=generator)
    return torch.randn(described.shape, generator=generator)
