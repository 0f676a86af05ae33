"""The size of a space against its definition: decode every genotype and count what is distinct."""

from itertools import product
from typing import Any

import pytest

from space import search_space
from space.architecture import BytesInterface, ImageInterface, InterfaceConfig
from space.sampling import enumerate_space
from space.search_space import SearchSpace, load_preset
from space.space_size import count

pytestmark = pytest.mark.slow

TEXT = BytesInterface(context_length=16, outputs=256)
SEQUENCE = BytesInterface(context_length=16, outputs=5)
IMAGE = ImageInterface(height=8, width=8, patch_size=2, outputs=10)

ONE: dict[str, Any] = {
    "num_layers": 1, "d_model": 32, "mixer": "softmax", "head_width": 16, "kv_heads": "full", "window": 8,
    "conv_width": 4, "gates": 1, "pool_width": 3, "feed_forward": "mlp", "activation": "relu", "ff_ratio": 2,
    "norm": "rmsnorm", "residual": "serial", "number_format": "fp32",
}  # fmt: skip
"""One architecture; the cases widen it."""

HEADS = {"head_width": [8, 16, 32], "kv_heads": ["one", "half", "full"]}
POSITIONS = ["alibi", "rope", "none", "learned"]
DECODERS: list[dict[str, Any]] = [
    {"position": "rope"},
    {"num_layers": [1, 2, 3], "mixer": ["softmax", "pool"], "window": [4, 8]},
    {"num_layers": [1, 2], "mixer": ["sliding_window", "softmax"], "window": [8, 16, 32]},
    {"num_layers": 2, "mixer": ["softmax", "linear_elu"], **HEADS},
    {"num_layers": 2, "mixer": ["softmax", "linear_elu", "pool"], "head_width": [8, 32],
     "position": POSITIONS},
    {"num_layers": 2, "mixer": ["linear_elu", "pool"], "position": ["alibi"]},
    {"num_layers": 2, "d_model": [8, 24, 32], "feed_forward": ["mlp", "glu"], "ff_ratio": [1, 1.5, 2]},
    {"num_layers": 2, "norm": ["rmsnorm", "layernorm"], "residual": ["serial", "parallel"],
     "tied": [True, False], "shared": ["residual"]},
    {"num_layers": [1, 2], "mixer": ["softmax", "pool"], "head_width": [8, 16], "ff_ratio": [1, 2],
     "shared": ["mixer", "ff_ratio"]},
]  # fmt: skip
ENCODERS: list[dict[str, Any]] = [
    {"num_layers": 2, "mixer": ["softmax", "linear_elu", "pool"], "position": ["none", "alibi"],
     "head_width": [8, 16]},
    {"num_layers": 2, "mixer": ["softmax", "gated_conv"], "position": "none", "gates": [1, 2],
     "shared": ["mixer"]},
]  # fmt: skip
VISION: list[dict[str, Any]] = [
    {"num_layers": [1, 2], "patch_size": [2, 4], "mixer": ["sliding_window", "softmax"], "window": [4, 8]},
]
CASES: list[tuple[str, InterfaceConfig, dict[str, Any]]] = [
    *(("decoder-small", TEXT, changes) for changes in DECODERS),
    *(("encoder-small", SEQUENCE, changes) for changes in ENCODERS),
    *(("vision-small", IMAGE, changes) for changes in VISION),
]


def _space(preset: str, interface: InterfaceConfig, changes: dict[str, Any]) -> SearchSpace:
    defaults = ONE if preset != "vision-small" else {**ONE, "patch_size": 2}
    return (
        load_preset(preset)
        .with_domains({**defaults, "shared": ["head_width"], **changes})
        .for_interface(interface)
    )


def _by_definition(space: SearchSpace) -> set[str]:
    genes = space.genes()
    return {
        space.decode(dict(zip((gene.name for gene in genes), values, strict=True))).id
        for values in product(*(gene.options for gene in genes))
    }


@pytest.mark.parametrize(("preset", "interface", "changes"), CASES)
def test_size_is_the_number_of_distinct_architectures(
    preset: str, interface: InterfaceConfig, changes: dict[str, Any]
) -> None:
    space = _space(preset, interface, changes)
    defined = _by_definition(space)
    assert space.size() == len(defined)
    listed = enumerate_space(space, 10**6)
    assert len(listed) == len(defined)
    assert {architecture.id for architecture in listed} == defined
    assert all(space.contains(architecture) for architecture in listed)


def test_one_architecture_is_a_space_of_size_one() -> None:
    assert _space("decoder-small", TEXT, {"position": "rope"}).size() == 1


def test_enumeration_stops_at_its_limit() -> None:
    space = load_preset("decoder-small").for_interface(TEXT)
    assert len({architecture.id for architecture in enumerate_space(space, 100)}) == 100


def test_the_size_of_a_deep_space_is_counted_without_listing_it() -> None:
    space = load_preset("decoder-small").with_domains({"num_layers": [12]}).for_interface(TEXT)
    assert space.size() > 10**25


def test_a_space_is_counted_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are stored in a transaction that has the size; a count takes seconds there."""
    counted: list[str] = []

    def seen(space: SearchSpace) -> int:
        counted.append(space.name)
        return count(space)

    monkeypatch.setattr(search_space, "count", seen)
    monkeypatch.setattr(search_space, "_SIZES", {})
    sizes = [load_preset("decoder-small").for_interface(TEXT).size() for _ in range(2)]
    assert sizes[0] == sizes[1]
    narrow = load_preset("decoder-small").for_interface(TEXT).with_domains({"num_layers": [1]})
    assert narrow.size() < sizes[0]
    assert len(counted) == 2
