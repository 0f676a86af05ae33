"""Buffers in one arena: they never overlap, nothing is smaller than what lives; and the schedules add up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.devices import (
    Buffer,
    arena_bytes,
    load_devices,
    microcontroller_plan,
    packed,
    peak_bytes,
    predict_on,
)
from space.architecture import Architecture, parse_architecture

BUFFERS = st.lists(
    st.builds(
        lambda size, first, length: Buffer("b", size, first, first + length),
        st.integers(1, 100),
        st.integers(0, 12),
        st.integers(0, 5),
    ),
    max_size=14,
)


@given(BUFFERS)
@settings(max_examples=150, deadline=None)
def test_what_lives_together_lies_apart_and_no_arena_is_smaller_than_what_lives(
    buffers: list[Buffer],
) -> None:
    placed = packed(buffers)
    assert sorted(one.buffer.bytes for one in placed) == sorted(buffer.bytes for buffer in buffers)
    for index, one in enumerate(placed):
        for other in placed[:index]:
            if one.buffer.meets(other.buffer):
                assert one.end <= other.offset or other.end <= one.offset
    assert arena_bytes(placed) >= peak_bytes(buffers)
    for step in range(20):
        live = [one for one in placed if one.buffer.first <= step <= one.buffer.last]
        assert sum(one.buffer.bytes for one in live) <= arena_bytes(placed)


def test_a_chain_needs_its_two_largest_neighbours() -> None:
    chain = [
        Buffer(name, size, i, i + 1) for i, (name, size) in enumerate(zip("abcd", (4, 8, 2, 6), strict=True))
    ]
    assert peak_bytes(chain) == 12
    assert arena_bytes(packed(chain)) == 12
    assert (peak_bytes([]), arena_bytes(packed([]))) == (0, 0)


def vision(d_model: int, *, size: int = 32, heads: int = 4, mixer: str = "softmax") -> Architecture:
    kinds = {
        "softmax": {"kind": "softmax", "num_heads": heads, "num_kv_heads": heads},
        "pool": {"kind": "pool", "width": 3},
    }
    layer = {
        "mixer": kinds[mixer],
        "feed_forward": {"kind": "mlp", "activation": "relu", "d_ff": 2 * d_model},
        "norm": {"kind": "layernorm"},
        "number_format": "int8_dynamic",
    }
    return parse_architecture(
        {
            "model": "vision",
            "interface": {
                "input": "image", "height": size, "width": size, "channels": 3, "patch_size": 4,
                "outputs": 10,
            },
            "d_model": d_model,
            "position": {"kind": "learned"},
            "layers": [layer] * 2,
            "final_norm": {"kind": "layernorm"},
            "head": {"kind": "classification"},
        }
    )  # fmt: skip


def test_blocks_need_what_their_schedules_say() -> None:
    """64 tokens of width 32, 4 heads of width 8, hidden width 64: bytes by hand."""
    plan = microcontroller_plan(vision(32))
    by_name = {block.name: block.bytes for block in plan.blocks}
    n, d, w = 64, 32, 8
    assert by_name["embedding"] == 32 * 32 + n * d
    assert by_name["layer 0 softmax"] == 2 * n * d + 3 * n * w + n + n * w
    assert by_name["layer 0 feed-forward"] == n * d + 64 + d
    assert by_name["head"] == n * d + 10
    assert plan.peak_bytes == by_name["layer 0 softmax"]
    rows = microcontroller_plan(vision(32), rows=n)
    assert rows.peak_bytes == plan.peak_bytes + n * (n - 1)


def test_more_heads_take_less_memory_and_less_than_all_scores_at_once() -> None:
    few, many = (microcontroller_plan(vision(64, size=64, heads=heads)).peak_bytes for heads in (2, 8))
    assert many < few
    n = (64 // 4) ** 2
    assert many < 8 * n * n


def test_a_model_fits_or_says_by_how_much_it_does_not() -> None:
    device = load_devices().get("stm32f746")
    small = microcontroller_plan(vision(32), device)
    assert small.sram_bytes == 327680
    assert small.fits
    assert small.violation_bytes <= 0
    wide = microcontroller_plan(vision(192, size=128), device)
    assert not wide.fits
    assert wide.violation_bytes == wide.peak_bytes - 327680
    heavy = microcontroller_plan(vision(512, size=8), device)
    assert heavy.violation_bytes == heavy.weights_bytes - 1048576 > 0


def test_other_mixers_run_all_at_once() -> None:
    plan = microcontroller_plan(vision(32, mixer="pool"))
    block = next(block for block in plan.blocks if block.name == "layer 0 pool")
    assert block.bytes > 64 * 32


@pytest.mark.parametrize(("size", "fits"), [(32, True), (256, False)])
def test_a_prediction_for_a_microcontroller_plans_its_memory(size: int, fits: bool) -> None:
    found = predict_on(vision(64, size=size), load_devices().get("stm32f746"))
    assert found.detail["fits"] is fits
    assert found.detail["memory_bytes"] == microcontroller_plan(vision(64, size=size)).peak_bytes
