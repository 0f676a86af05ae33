"""Small architectures of each model kind."""

from collections.abc import Callable

import pytest

from space.architecture import Architecture, parse_architecture

Factory = Callable[..., Architecture]

SOFTMAX = {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2}
WINDOW = {"kind": "sliding_window", "num_heads": 4, "num_kv_heads": 4, "window": 5}
INTERFACES = {
    "decoder": {"input": "bytes", "vocab_size": 256, "outputs": 256},
    "encoder": {"input": "values", "channels": 3, "outputs": 5},
    "vision": {"input": "image", "height": 8, "width": 8, "channels": 1, "patch_size": 2, "outputs": 10},
}


def architecture(
    model: str = "decoder", *, num_layers: int = 2, d_model: int = 32, tokens: int = 16, **changed: object
) -> Architecture:
    """Alternating softmax and window layers; `changed` replaces fields of every layer."""
    length = {} if model == "vision" else {"context_length": tokens}
    layer = {
        "feed_forward": {"kind": "glu", "activation": "silu", "d_ff": 2 * d_model},
        "norm": {"kind": "rmsnorm"},
    }
    layers = [{**layer, "mixer": (SOFTMAX, WINDOW)[i % 2], **changed} for i in range(num_layers)]
    return parse_architecture(
        {
            "model": model,
            "interface": {**INTERFACES[model], **length},
            "d_model": d_model,
            "position": {"kind": "learned" if model == "vision" else "rope"},
            "layers": layers,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language" if model == "decoder" else "classification"},
        }
    )


@pytest.fixture(scope="session")
def make() -> Factory:
    return architecture
