"""Small architectures and models of each kind."""

from collections.abc import Callable, Sequence

import pytest

from space.architecture import Architecture, parse_architecture

INTERFACES = {
    "decoder": {"input": "bytes", "vocab_size": 256, "context_length": 16, "outputs": 256},
    "encoder": {"input": "values", "channels": 3, "context_length": 16, "outputs": 5},
    "vision": {"input": "image", "height": 8, "width": 8, "channels": 1, "patch_size": 2, "outputs": 10},
}


def architecture(model: str = "decoder", formats: Sequence[str] = ("fp32", "fp32")) -> Architecture:
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2},
        "feed_forward": {"kind": "glu", "activation": "silu", "d_ff": 64},
        "norm": {"kind": "rmsnorm"},
    }
    return parse_architecture(
        {
            "model": model,
            "interface": INTERFACES[model],
            "d_model": 32,
            "position": {"kind": "learned" if model == "vision" else "rope"},
            "layers": [{**layer, "number_format": name} for name in formats],
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language" if model == "decoder" else "classification"},
        }
    )


@pytest.fixture(scope="session")
def make() -> Callable[..., Architecture]:
    return architecture
