"""Closed forms against the built model, or by hand."""

import math
from typing import Any

import pytest

from evaluators.passes import Passes
from evaluators.proxies import proxy
from space.architecture import Architecture, parse_architecture
from space.errors import UnsupportedError
from space.model import build_model


def architecture(*, tied: bool = False, model: str = "decoder", **options: Any) -> Architecture:
    head = {"kind": "language", "tied": tied} if model == "decoder" else {"kind": "classification"}
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 1},
        "feed_forward": {"kind": "glu", "activation": "silu", "d_ff": 20},
        "norm": {"kind": "rmsnorm"},
    }
    return parse_architecture(
        {
            "model": model,
            "interface": {"input": "bytes", "vocab_size": 30, "context_length": 8, "outputs": 30},
            "d_model": 16,
            "position": {"kind": "learned"},
            "layers": [layer, {**layer, "feed_forward": {"kind": "moe", "d_ff": 24, "num_experts": 4}}],
            "final_norm": {"kind": "rmsnorm"},
            "head": head,
            **options,
        }
    )


def value(name: str, own: Architecture) -> float:
    return proxy(name).score(Passes(architecture=own)).value


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_with_and_without_the_embedding(tied: bool) -> None:
    own = architecture(tied=tied)
    count = sum(parameter.numel() for parameter in build_model(own, seed=0).parameters())
    assert value("params_total", own) == count
    assert value("params_decoder", own) == count - 30 * 16
    assert proxy("params_total").score(Passes(architecture=own)).detail["active"] == count - 3 * 2 * 16 * 24


def test_sizes_of_the_stream() -> None:
    own = architecture()
    assert [value(name, own) for name in ("depth", "width", "aspect")] == [4.0, 16.0, 8.0]
    macaron = own.model_dump(mode="json")
    macaron["layers"][0]["residual"] = "macaron"
    assert value("depth", parse_architecture(macaron)) == 5.0


def test_state_and_work_per_token_need_a_causal_model() -> None:
    own = architecture()
    assert value("state_size", own) == 2 * 8 * 2 * 8  # keys and values of one group of 8, two layers
    assert 0 < value("macs_decode", own) < value("macs_prefill", own)
    for name in ("state_size", "macs_decode"):
        with pytest.raises(UnsupportedError):
            value(name, architecture(model="encoder"))


def test_the_entropy_of_a_chain_by_hand() -> None:
    """log(8 * 16) * (mixers: 16 and 16, twice; glu: 16 and 20; an expert: 16 and 24) / 2 of their logs."""
    fans = [16, 16, 16, 16, 16, 20, 16, 24]
    own = proxy("entropy_mad").score(Passes(architecture=architecture()))
    assert own.value == pytest.approx(math.log(8 * 16) * sum(math.log(fan) / 2 for fan in fans))
    assert own.detail["effectiveness"] == 4 / 16


def test_number_formats_change_no_size() -> None:
    own = architecture()
    for name in ("params_total", "params_decoder", "macs_prefill", "entropy_mad"):
        assert value(name, own.with_number_format("int8_dynamic")) == value(name, own)
