"""Where the feed-forwards of these tests stand, and models that hold them."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from space.architecture import Architecture, parse_architecture
from space.choice import Surroundings
from space.positions import NonePositionConfig

Build = Any


@pytest.fixture(autouse=True)
def _same_weights() -> Iterator[None]:
    """Modules start the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def around() -> Surroundings:
    """d_model 6, 10 tokens."""
    return Surroundings(
        d_model=6, context_length=10, num_layers=2, causal=True, position=NonePositionConfig()
    )


@pytest.fixture
def random() -> Build:
    """Shape -> the same float64 numbers every time."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return draw


@pytest.fixture
def decoder() -> Build:
    """Feed-forward, and options of the layers and of the model -> a small decoder."""

    def build(
        feed_forward: Mapping[str, Any],
        *,
        depth: int = 2,
        layer: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
    ) -> Architecture:
        one = {
            "mixer": {"kind": "gated_conv", "width": 3},
            "feed_forward": feed_forward,
            "norm": {"kind": "rmsnorm"},
            **(layer or {}),
        }
        return parse_architecture(
            {
                "model": "decoder",
                "interface": {"input": "bytes", "vocab_size": 16, "context_length": 12, "outputs": 16},
                "d_model": 16,
                "position": {"kind": "none"},
                "layers": [one] * depth,
                "final_norm": {"kind": "rmsnorm"},
                "head": {"kind": "language"},
                **(model or {}),
            }
        )

    return build
