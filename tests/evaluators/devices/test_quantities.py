"""The published example: a model of 34 B parameters on an A100 of 80 GB, 2 bytes per weight, full use."""

import pytest

from evaluators.devices import TransformerSize, balance_tokens, concurrency, load_devices, swap_s

MODEL = TransformerSize(params=34e9, num_layers=60, d_model=7168, num_kv_heads=8, head_width=128)
FLOPS, BANDWIDTH = 312e12, 2e12
DECODED = 250
"""Tokens: the count that the published seconds agree on."""


def decode_s(tokens: int) -> float:
    return DECODED * MODEL.decode_bytes(tokens) / BANDWIDTH


def test_prefill_takes_the_published_seconds() -> None:
    """The published 14.1 s at 50,000 tokens count half of the causal attention."""
    assert 2 * MODEL.params * 4096 / FLOPS == pytest.approx(0.892, rel=0.03)
    assert MODEL.prefill_flops(4096, "paper") / FLOPS == pytest.approx(0.89, rel=0.04)
    assert MODEL.prefill_flops(50_000, "paper") / FLOPS == pytest.approx(14.1, rel=0.03)
    assert MODEL.attention_flops(50_000) == 2 * MODEL.attention_flops(50_000, "paper")
    assert MODEL.attention_flops(50_000, "full") == 2 * MODEL.attention_flops(50_000, "causal")


def test_decode_takes_the_published_seconds() -> None:
    assert decode_s(0) == pytest.approx(8.5, rel=0.03)
    assert decode_s(4096) == pytest.approx(8.6, rel=0.03)
    assert MODEL.cache_bytes(50_000) == pytest.approx(12.3e9, rel=0.03)
    assert decode_s(50_000) == pytest.approx(10.0, rel=0.03)


def test_a_window_bounds_the_cache() -> None:
    windowed = TransformerSize(34e9, 60, 7168, 8, 128, window=1024)
    assert windowed.cache_bytes(50_000) == MODEL.cache_bytes(1024)
    assert windowed.cache_bytes(100) == MODEL.cache_bytes(100)


def test_decode_arithmetic_grows_with_batch_and_length() -> None:
    assert MODEL.decode_flops(0) == 2 * MODEL.params
    assert MODEL.decode_flops(1000, 4) == 4 * MODEL.decode_flops(1000)
    assert MODEL.decode_flops(1000) - MODEL.decode_flops(0) == 4 * 1000 * 7168 * 60


def test_balance_concurrency_and_swapping_follow() -> None:
    a100 = load_devices().get("a100-sxm-80gb")
    assert balance_tokens(a100, "bf16", 2.0) == pytest.approx(153, rel=0.01)
    weights, cache = MODEL.weights_bytes(2.0), MODEL.cache_bytes(4096)
    assert concurrency(80e9, weights, cache, 2e9) == 9
    assert concurrency(60e9, weights, cache, 0.0) == 0
    assert swap_s(1e9, 2e10) == pytest.approx(0.05)
