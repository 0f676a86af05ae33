"""Static limits: violations, repair, the smallest value of a cost, cautions."""

import math
import random
from typing import Any

import pytest
import torch

from space.architecture import Architecture, BytesInterface
from space.constraints import STATIC_KEYS, cautions, repair, smallest, static_costs, violations
from space.costs import costs
from space.errors import InvalidInputError
from space.microcontroller import planned
from space.model import build_model
from space.sampling import enumerate_space, sample
from space.search_space import SearchSpace, load_preset

TEXT = BytesInterface(context_length=32, outputs=256)
SPACE = load_preset("decoder-small").for_interface(TEXT)
LARGEST = SPACE.decode({"num_layers": 4, "d_model": 128})


def test_violations_are_relative_excesses_of_the_costs() -> None:
    counted = costs(LARGEST, batch_size=2)
    limits = {"params": counted.params / 2, "macs": counted.macs, "memory_bytes": counted.memory_bytes / 4}
    assert violations(LARGEST, limits, 2) == pytest.approx({"params": 1.0, "memory_bytes": 3.0})
    assert violations(LARGEST, {}) == {}
    assert static_costs(LARGEST, 2)["weights_bytes"] == counted.weights_bytes
    assert static_costs(LARGEST, 1, 8)["macs"] < static_costs(LARGEST)["macs"]


def test_an_unknown_cost_names_the_nearest() -> None:
    for ask in (lambda: violations(LARGEST, {"parms": 1.0}), lambda: smallest(SPACE, "parms")):
        with pytest.raises(
            InvalidInputError, match="'parms' is not a closed-form cost; did you mean 'params'"
        ):
            ask()


def test_repair_returns_a_member_within_the_limits_or_the_architecture_itself() -> None:
    rng = random.Random(0)
    limits = {"params": 60_000.0}
    repaired = 0
    for _ in range(40):
        drawn = sample(SPACE, rng)
        kept = repair(SPACE, drawn, limits, rng)
        assert kept is not None
        assert SPACE.contains(kept)
        assert not violations(kept, limits)
        repaired += kept.id != drawn.id
        if not violations(drawn, limits):
            assert kept is drawn
    assert repaired > 10


def test_repair_shrinks_depth_width_and_ratio_in_random_order() -> None:
    found = {
        (
            len(one.layers) < 4,
            one.d_model < 128,
            min(layer.feed_forward.model_dump()["d_ff"] for layer in one.layers) < 344,
        )
        for seed in range(12)
        if (one := repair(SPACE, LARGEST, {"params": 500_000.0}, random.Random(seed))) is not None
    }
    assert len(found) > 2
    assert any(depth for depth, _, _ in found)
    assert any(width for _, width, _ in found)


def test_repair_changes_other_genes_where_depth_width_and_ratio_are_least() -> None:
    """Only a smaller number format, fewer key heads or another mixer can keep these limits."""
    space = SPACE.with_domains({"num_layers": 1, "d_model": 32, "ff_ratio": 1})
    largest = space.decode({"layer0.mixer": "softmax", "head_width": 8, "layer0.feed_forward": "mlp"})
    for key in ("params", "weights_bytes", "memory_bytes"):
        limit = 1.02 * smallest(space, key)
        assert violations(largest, {key: limit})
        kept = repair(space, largest, {key: limit}, random.Random(0))
        assert kept is not None
        assert not violations(kept, {key: limit})
        assert space.contains(kept)


def test_repair_gives_up_at_the_bottom() -> None:
    assert repair(SPACE, LARGEST, {"params": 10.0}, random.Random(0)) is None


SMALL_DOMAINS: list[dict[str, Any]] = [
    {
        "mixer": ["softmax", "gated_conv", "pool"],
        "head_width": [8, 32],
        "number_format": ["fp32", "int8_dynamic"],
    },
    {"mixer": ["sliding_window", "linear_elu"], "window": [4, 16], "position": ["alibi", "rope"]},
    {"d_model": [80, 88], "mixer": ["softmax"], "head_width": [16]},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", SMALL_DOMAINS)
@pytest.mark.parametrize("key", STATIC_KEYS)
def test_the_smallest_cost_is_the_least_over_the_whole_space(key: str, changes: dict[str, Any]) -> None:
    space = _narrow(changes)
    everything = enumerate_space(space, 10_000)
    assert len(everything) == space.size()
    assert smallest(space, key, 2) == min(static_costs(one, 2)[key] for one in everything)


def _narrow(changes: dict[str, Any]) -> SearchSpace:
    one: dict[str, Any] = {
        "num_layers": [1, 2], "d_model": [32, 40], "position": "rope", "kv_heads": "full", "conv_width": 4,
        "gates": 1, "pool_width": 3, "feed_forward": ["mlp", "glu"], "activation": "relu", "ff_ratio": 1,
        "ffn_gate": "silu", "norm": "rmsnorm", "residual": "serial", "number_format": "fp32",
    }  # fmt: skip
    return load_preset("decoder-small").with_domains({**one, **changes}).for_interface(TEXT)


def test_the_least_memory_may_be_that_of_a_wider_model_with_fewer_heads() -> None:
    narrow = _narrow({"num_layers": 1, "d_model": [80, 88], "mixer": "softmax", "head_width": 16})
    space = narrow.for_interface(BytesInterface(context_length=1024, outputs=256))
    memory: dict[int, float] = {}
    for one in enumerate_space(space, 10):
        memory[one.d_model] = min(static_costs(one)["memory_bytes"], memory.get(one.d_model, math.inf))
    assert smallest(space, "memory_bytes") == memory[88] < memory[80]


@pytest.mark.parametrize("key", ["params", "memory_bytes"])
def test_the_smallest_cost_of_a_large_space_is_below_every_sample(key: str) -> None:
    changes = {"head_width": 16, "kv_heads": "full", "gates": 1, "residual": "serial", "d_model": [32, 64]}
    space, rng = SPACE.with_domains(changes), random.Random(1)
    drawn: list[Architecture] = [sample(space, rng) for _ in range(60)]
    assert smallest(space, key) <= min(static_costs(one)[key] for one in drawn)


def test_cautions_name_what_is_valid_but_doubtful() -> None:
    encoder = load_preset("encoder-small").with_domains({"position": ["rope", "alibi"]})
    space = encoder.for_interface(BytesInterface(context_length=64, outputs=2))
    assert cautions(SPACE.decode({})) == ()
    local = space.decode({"num_layers": 1, "layer0.mixer": "gated_conv", "layer0.conv_width": 5})
    assert any("reach 2 of 63 positions" in caution for caution in cautions(local))
    blind = space.decode({"num_layers": 1, "position": "alibi", "layer0.mixer": "softmax"})
    assert any("direction" in caution for caution in cautions(blind))
    assert cautions(space.decode({"num_layers": 1, "position": "rope", "layer0.mixer": "softmax"})) == ()


def test_the_caution_about_direction_heeds_the_last_token_and_trained_taps() -> None:
    encoder = load_preset("encoder-small").with_domains(
        {"position": "alibi", "pooling": ["mean", "max", "last"], "qkv_dconv": [0, 3], "num_layers": 1}
    )
    space = encoder.for_interface(BytesInterface(context_length=64, outputs=2))
    cases = (("mean", 0, True), ("max", 0, True), ("last", 0, False), ("mean", 3, False))
    for pooling, taps, is_blind in cases:
        one = space.decode({"pooling": pooling, "layer0.mixer": "softmax", "layer0.qkv_dconv": taps})
        assert any("direction" in caution for caution in cautions(one)) is is_blind


@pytest.mark.parametrize(
    ("pooling", "said"),
    [
        ("mean", "only the mean at the end sees all"),
        ("max", "only the maximum at the end sees all"),
        ("last", "the answer sees only the last 3 tokens"),
    ],
)
def test_the_caution_about_reach_follows_the_pooling(pooling: str, said: str) -> None:
    encoder = load_preset("encoder-small").with_domains({"pooling": pooling, "num_layers": 1})
    space = encoder.for_interface(BytesInterface(context_length=64, outputs=2))
    local = space.decode({"layer0.mixer": "gated_conv", "layer0.conv_width": 5})
    assert cautions(local) == (f"the mixers together reach 2 of 63 positions; {said}",)


def test_aligned_blocks_never_see_beyond_their_borders_however_many_there_are() -> None:
    encoder = load_preset("encoder-small").with_domains(
        {"mixer": "block_local", "window": 16, "shift": [False, True], "num_layers": 4}
    )
    space = encoder.for_interface(BytesInterface(context_length=32, outputs=2))
    aligned, shifted = space.decode({}), space.decode({"layer1.shift": True, "layer2.shift": True})
    assert any("reach 15 of 31 positions" in caution for caution in cautions(aligned))
    assert not cautions(shifted)


@pytest.mark.parametrize("kind", ["dft", "dct"])
def test_a_transform_of_reversed_tokens_is_no_reversed_transform(kind: str) -> None:
    encoder = load_preset("encoder-full").with_domains({"mixer": kind, "position": "none", "pooling": "mean"})
    one = encoder.for_interface(BytesInterface(context_length=9, outputs=2)).decode({})
    tokens = torch.arange(9)[None]
    model = build_model(one, seed=0).eval()
    assert not torch.allclose(model(tokens), model(tokens.flip(1)), rtol=1e-3)
    assert not cautions(one)


@pytest.mark.parametrize("limit", [0, -1.0, math.nan])
def test_a_limit_has_to_be_positive(limit: float) -> None:
    with pytest.raises(InvalidInputError, match=r"limit of 'params' is .*; give a number above 0"):
        violations(LARGEST, {"macs": 1.0, "params": limit})


def test_a_microcontroller_s_memory_and_flash_are_limits_that_repair_keeps() -> None:
    """MCUFormer's 320 KB and 1 MB, and what of them half of the largest model's plan leaves."""
    plan = planned(LARGEST)
    assert not violations(LARGEST, {"sram_bytes": 327_680, "flash_bytes": 1_048_576}) or not plan.fits
    limits = {"sram_bytes": plan.peak_bytes / 2, "flash_bytes": plan.weights_bytes / 2}
    assert set(violations(LARGEST, limits)) == set(limits)
    assert violations(LARGEST, limits)["sram_bytes"] == pytest.approx(1.0)
    kept = repair(SPACE, LARGEST, limits, random.Random(0))
    assert kept is not None
    assert planned(kept).peak_bytes <= limits["sram_bytes"]
    assert planned(kept).weights_bytes <= limits["flash_bytes"]
    assert smallest(SPACE, "sram_bytes") == 0.0
