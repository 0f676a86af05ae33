"""Closed-form costs against counting."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from space.architecture import Architecture, parse_architecture
from space.batch_costs import CostTable
from space.choice import Surroundings
from space.costs import costs
from space.errors import InvalidInputError
from space.feedforward import GluConfig, MlpConfig
from space.mixers import GatedConvConfig, PoolConfig, SlidingWindowConfig, SoftmaxConfig
from space.model import build_model
from space.positions import NonePositionConfig


def drawn(rng: random.Random) -> Architecture:
    """Any valid architecture of moderate size."""
    kind = rng.choice(["decoder", "encoder", "vision"])
    d_model = rng.choice([16, 24, 32])
    tied = kind == "decoder" and rng.random() < 0.3
    heads = {"kind": "language", "tied": tied} if kind == "decoder" else {"kind": "classification"}
    length = rng.randint(2, 40)
    interface: dict[str, Any] = {"input": "bytes", "vocab_size": 30, "context_length": length, "outputs": 30}
    if kind == "encoder" and rng.random() < 0.5:
        interface = {"input": "values", "channels": 3, "context_length": length, "outputs": 5}
    if kind == "vision":
        interface = {"input": "image", "height": 8, "width": 4, "channels": 3, "patch_size": 2, "outputs": 5}
    return parse_architecture(
        {
            "model": kind,
            "interface": interface,
            "d_model": d_model,
            "position": {"kind": rng.choice(["learned", "rope"])},
            "layers": [drawn_layer(rng) for _ in range(rng.randint(1, 3))],
            "final_norm": {"kind": rng.choice(["layernorm", "rmsnorm"])},
            "head": heads,
        }
    )


def drawn_layer(rng: random.Random) -> dict[str, Any]:
    heads = rng.choice([2, 4])
    groups = rng.choice([1, heads])
    mixer = rng.choice(
        [
            {"kind": "softmax", "num_heads": heads, "num_kv_heads": groups},
            {"kind": "linear_elu", "num_heads": heads},
            {
                "kind": "sliding_window",
                "num_heads": heads,
                "num_kv_heads": groups,
                "window": rng.randint(1, 50),
            },
            {"kind": "gated_conv", "width": rng.randint(1, 7), "gates": rng.choice([1, 2])},
            {"kind": "pool", "width": rng.choice([3, 5])},
        ]
    )
    return {
        "mixer": mixer,
        "feed_forward": {
            "kind": rng.choice(["mlp", "glu"]),
            "activation": rng.choice(["relu", "gelu", "silu", "relu2"]),
            "d_ff": rng.randint(1, 50),
        },
        "norm": {"kind": rng.choice(["layernorm", "rmsnorm"])},
        "placement": rng.choice(["pre", "post"]),
        "residual": rng.choice(["serial", "parallel"]),
        "number_format": rng.choice(["fp32", "bf16", "int8_dynamic"]),
    }


def drawn_architectures(count: int) -> list[Architecture]:
    rng = random.Random(0)
    architectures: list[Architecture] = []
    while len(architectures) < count:
        try:
            architectures.append(drawn(rng))
        except ValueError:
            continue
    return architectures


def test_parameters_of_random_architectures_equal_the_built_count() -> None:
    for architecture in drawn_architectures(150):
        with torch.device("meta"):
            model = build_model(architecture)
        built = sum(parameter.numel() for parameter in model.parameters())
        assert costs(architecture).params == built, architecture.canonical_json


def test_macs_of_random_architectures_equal_the_counted_products() -> None:
    for architecture in drawn_architectures(40):
        n, interface = architecture.tokens, architecture.interface
        shapes = {"bytes": (1, n), "values": (1, n, 3), "image": (1, 3, 8, 4)}
        kind = torch.int64 if interface.input == "bytes" else torch.float32
        model = build_model(architecture)
        inputs = torch.zeros(shapes[interface.input], dtype=kind)
        with FlopCounterMode(display=False) as counter:  # with a mask attention is plain matrix products
            model(inputs, torch.ones(1, n, dtype=torch.bool))
        assert counter.get_total_flops() == 2 * costs(architecture).macs, architecture.canonical_json
        assert costs(architecture).macs_causal <= costs(architecture).macs


def decoder(mixer: dict[str, Any], **changes: Any) -> Architecture:
    layer = {"mixer": mixer, "feed_forward": {"kind": "mlp", "d_ff": 32}, "norm": {"kind": "rmsnorm"}}
    point = {
        "model": "decoder",
        "interface": {"input": "bytes", "vocab_size": 7, "context_length": 20, "outputs": 7},
        "d_model": 8,
        "position": {"kind": "rope"},
        "layers": [layer, {**layer, "mixer": {"kind": "pool", "width": 3}}],
        "final_norm": {"kind": "rmsnorm"},
        "head": {"kind": "language"},
    }
    return parse_architecture({**point, **changes})


def test_state_is_what_a_decoder_keeps_between_tokens() -> None:
    softmax = decoder({"kind": "softmax", "num_heads": 4, "num_kv_heads": 2})
    keys_and_values, last_inputs = 2 * (2 * 2) * 20, 2 * 8 + 1  # and how many of them were real
    assert costs(softmax).state_bytes == 4 * (keys_and_values + last_inputs)
    assert costs(softmax, batch_size=3, tokens=5).state_bytes == 3 * 4 * (2 * 4 * 5 + last_inputs)
    encoder = decoder(
        {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2},
        model="encoder",
        head={"kind": "classification"},
    )
    assert costs(encoder).state_bytes == 0


def test_memory_is_the_sum_and_grows_with_the_batch_but_for_weights() -> None:
    one, three = (costs(decoder({"kind": "linear_elu", "num_heads": 2}), batch_size=b) for b in (1, 3))
    assert one.memory_bytes == one.weights_bytes + one.state_bytes + one.activation_bytes
    assert three.weights_bytes == one.weights_bytes
    assert three.macs == one.macs
    assert three.memory_bytes - three.weights_bytes == 3 * (one.memory_bytes - one.weights_bytes)


@pytest.mark.parametrize(("batch_size", "tokens"), [(0, 5), (1, 0), (1, 21)])
def test_impossible_sizes_are_refused(batch_size: int, tokens: int) -> None:
    with pytest.raises(InvalidInputError):
        costs(decoder({"kind": "linear_elu", "num_heads": 2}), batch_size=batch_size, tokens=tokens)


@dataclass(frozen=True)
class Op:
    """One operator of a schedule: what it makes, how large that is, what it reads.

    A name made again is written in place.
    """

    makes: str
    size: int
    reads: Sequence[str] = ()


def counted_peak(schedule: Sequence[Op]) -> int:
    """Most numbers alive at once; a buffer lives from the operator that makes it to its last reader."""
    last = {name: step for step, op in enumerate(schedule) for name in (*op.reads, op.makes)}
    alive: dict[str, int] = {}
    peak = 0
    for step, op in enumerate(schedule):
        alive[op.makes] = op.size
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last[name] > step}
    return peak


def projections(n: int, d: int, kv: int) -> list[Op]:
    reads = [Op("x", n * d), Op("q", n * d, ("x",)), Op("k", n * kv, ("x",)), Op("v", n * kv, ("x",))]
    # one fused product writes all three before its input dies
    return [*reads, Op("q", n * d, ("x", "q"))]


def filled_up(padded: int, d: int, kv: int) -> list[Op]:
    """Copies with whole blocks of tokens."""
    return [Op(f"{name}_full", padded * width, (name,)) for name, width in (("q", d), ("k", kv), ("v", kv))]


def attention_schedule(n: int, d: int, heads: int, kv: int) -> list[Op]:
    return [
        *projections(n, d, kv),
        Op("scores", heads * n * n, ("q", "k")),
        Op("mixed", n * d, ("scores", "v")),
        Op("out", n * d, ("mixed",)),
    ]


def banded_schedule(n: int, d: int, heads: int, kv: int, block: int, reads: int) -> list[Op]:
    padded = -(-n // block) * block
    full = "" if padded == n else "_full"
    return [
        *projections(n, d, kv),
        *([] if padded == n else filled_up(padded, d, kv)),
        Op("keys", reads * padded * kv, (f"k{full}",)),
        Op("values", reads * padded * kv, (f"v{full}",)),
        Op("scores", heads * reads * padded * block, (f"q{full}", "keys")),
        Op("mixed", padded * d, ("scores", "values")),
        Op("out", n * d, ("mixed",)),
    ]


def there(d: int, n: int, *, causal: bool) -> Surroundings:
    return Surroundings(
        d_model=d, context_length=n, num_layers=1, causal=causal, position=NonePositionConfig()
    )


SIZES = [(1, 8, 2), (20, 8, 4), (64, 8, 2), (100, 16, 4), (200, 32, 2)]


@pytest.mark.parametrize(("n", "d", "heads"), SIZES)
def test_activation_peak_of_softmax_is_the_counted_one(n: int, d: int, heads: int) -> None:
    for groups in (1, heads):
        config = SoftmaxConfig(num_heads=heads, num_kv_heads=groups)
        counted = counted_peak(attention_schedule(n, d, heads, d // heads * groups))
        assert config.activation_size(there(d, n, causal=True), n) == counted


@pytest.mark.parametrize(("n", "d", "heads"), SIZES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 8, 33, 500])
def test_activation_peak_of_a_window_is_the_counted_one(
    n: int, d: int, heads: int, causal: bool, window: int
) -> None:
    config = SlidingWindowConfig(num_heads=heads, num_kv_heads=1, window=window)
    block, reads = (window, 2) if causal else (max(1, window // 2), 3)
    kv = d // heads
    square = -(-n // block) * reads * block**2 >= n**2
    schedule = (
        attention_schedule(n, d, heads, kv) if square else banded_schedule(n, d, heads, kv, block, reads)
    )
    assert config.activation_size(there(d, n, causal=causal), n) == counted_peak(schedule)


@pytest.mark.parametrize(("n", "d", "heads"), SIZES)
def test_activation_peak_of_local_mixers_is_the_counted_one(n: int, d: int, heads: int) -> None:
    for width in (1, 3, 7):
        for gates in (1, 2):
            parts = [Op(name, n * d, ("x",)) for name in ("u", "gate", "first")[: 1 + gates]]
            first = [Op("u", n * d, ("u", "first"))] if gates == 2 else []
            schedule = [
                Op("x", n * d),
                *parts,
                Op("u", n * d, ("x", *(part.makes for part in parts))),
                *first,
                Op("padded", (n + width - 1) * d, ("u",)),
                Op("convolved", n * d, ("padded",)),
                Op("gate", n * d, ("gate", "convolved")),
                Op("out", n * d, ("gate",)),
            ]
            # the second "u" keeps all parts alive until the one fused product that writes them has ended
            counted = counted_peak(schedule)
            config = GatedConvConfig(width=width, gates=2 if gates == 2 else 1)
            assert config.activation_size(there(d, n, causal=True), n) == counted
        pool = [
            Op("x", n * d),
            Op("padded", (n + width - 1) * d, ("x",)),
            Op("sum", n * d, ("padded",)),
            Op("x", n * d, ("sum", "x")),
        ]
        assert PoolConfig(width=width).activation_size(there(d, n, causal=True), n) == counted_peak(pool)


@pytest.mark.parametrize(("n", "d", "heads"), SIZES)
def test_activation_peak_of_feed_forwards_is_the_counted_one(n: int, d: int, heads: int) -> None:
    f = 3 * d
    mlp = [Op("x", n * d), Op("hidden", n * f, ("x",)), Op("out", n * d, ("hidden",))]
    assert MlpConfig(d_ff=f).activation_size(there(d, n, causal=True), n) == counted_peak(mlp)
    glu = [
        Op("x", n * d),
        Op("gate", n * f, ("x",)),
        Op("up", n * f, ("x",)),
        Op("gate", n * f, ("gate", "up")),
        Op("out", n * d, ("gate",)),
    ]
    assert GluConfig(d_ff=f).activation_size(there(d, n, causal=True), n) == counted_peak(glu)


def test_activation_peak_of_a_model_is_its_largest_stage() -> None:
    # 20 tokens of width 8: the stream is 160; the feed-forward holds stream, input and 20 x 32 hidden numbers
    point = decoder({"kind": "gated_conv", "width": 3, "gates": 1})
    assert costs(point).activation_bytes == 4 * (160 + 160 + 640)
    # 20 x 200 logits beside the normed stream
    wide = {"input": "bytes", "vocab_size": 200, "context_length": 20, "outputs": 200}
    logits = decoder({"kind": "gated_conv", "width": 3, "gates": 1}, interface=wide)
    assert costs(logits).activation_bytes == 4 * (160 + 4000)


@pytest.mark.parametrize("tokens", [None, 2])
def test_costs_of_many_at_once_are_those_of_each(tokens: int | None) -> None:
    architectures = [a for a in drawn_architectures(120) if a.tokens >= 2]
    shared = decoder({"kind": "softmax", "num_heads": 4, "num_kv_heads": 2})
    layer = shared.layers[0].model_dump(mode="json")
    alike = {
        **json.loads(shared.canonical_json),
        "layers": [layer] * 4,
        "projection": {"kind": "lowrank", "rank_ratio": 0.25},
    }
    sharings = ({"kind": "all"}, {"kind": "all", "private_norm": True}, {"kind": "groups", "groups": 2})
    architectures += [parse_architecture({**alike, "sharing": sharing}) for sharing in sharings]
    table = CostTable(batch_size=3, tokens=tokens)
    for part in (architectures[:50], architectures[50:], architectures):
        columns = table.costs(part)
        for index, architecture in enumerate(part):
            one = costs(architecture, batch_size=3, tokens=tokens)
            for name, column in columns.items():
                assert column[index] == getattr(one, name), (name, architecture.canonical_json)


def test_the_costs_of_no_architectures_are_empty_columns() -> None:
    (some,) = drawn_architectures(1)
    none, one = CostTable().costs([]), CostTable().costs([some])
    assert list(none) == list(one)
    assert all(len(column) == 0 and column.dtype == one[name].dtype for name, column in none.items())
