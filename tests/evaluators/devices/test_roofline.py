"""Analytic latency: hand-computed operators, what it must grow with, and that it says what it is."""

import math

import pytest

from evaluators.devices import LABEL, Device, analytic, load_devices, operators_of, predict_on
from evaluators.devices.operators import Operator
from evaluators.devices.quantities import TransformerSize
from evaluators.devices.roofline import operator_s
from evaluators.devices.table import Quoted, Usage
from space.architecture import Architecture, parse_architecture
from space.costs import costs
from space.errors import InvalidInputError, UnsupportedError

TABLE = load_devices()
A100 = TABLE.get("a100-sxm-80gb")
IDEAL = Device(
    name="ideal",
    title="Ideal",
    kind="gpu",
    dense=True,
    peaks={"fp32": Quoted(value=1e12, source="x"), "int8": Quoted(value=4e12, source="x")},
    bandwidth=Quoted(value=1e11, source="x"),
    usage=Usage(compute=1, memory=1, launch_s=1e-6, full_rows=1, tile=1),
)


def decoder(
    *mixers: dict[str, object], d_model: int = 64, tokens: int = 128, **layer: object
) -> Architecture:
    layer = {"feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 4 * d_model}, **layer}
    norm = {"kind": "layernorm"}
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "vocab_size": 256, "context_length": tokens, "outputs": 256},
            "d_model": d_model,
            "position": {"kind": "none"},
            "layers": [{"mixer": one, "norm": norm, **layer} for one in mixers],
            "final_norm": norm,
            "head": {"kind": "language"},
        }
    )


SOFTMAX: dict[str, object] = {"kind": "softmax", "num_heads": 4, "num_kv_heads": 4}
LINEAR: dict[str, object] = {"kind": "linear_elu", "num_heads": 4}


def test_an_operator_is_as_slow_as_its_arithmetic_or_its_bytes_and_a_launch() -> None:
    compute = Operator("head", flops=2e9, bytes=1e6, rows=8, outputs=8)
    seconds, bound = operator_s(compute, IDEAL)
    assert bound == "compute"
    assert seconds == pytest.approx(2e-3 + 1e-6)
    memory = Operator("head", flops=2e6, bytes=1e9, rows=8, outputs=8)
    seconds, bound = operator_s(memory, IDEAL)
    assert bound == "memory"
    assert seconds == pytest.approx(1e-2 + 1e-6)
    assert operator_s(Operator("norm", 0.0, 1e3), IDEAL)[1] == "launch"
    several = Operator("mixer", 0.0, 1e9, calls=8)
    assert operator_s(several, IDEAL)[0] == pytest.approx(1e-2 + 8e-6)


def test_few_rows_and_odd_widths_leave_units_idle() -> None:
    def seconds(rows: int, outputs: int) -> float:
        return operator_s(Operator("head", 1e12, 0.0, "bf16", rows, outputs), A100)[0]

    assert seconds(64, 64) < seconds(32, 64)
    assert seconds(32, 64) - 4e-6 == pytest.approx(2 * (seconds(64, 64) - 4e-6))
    assert seconds(64, 65) - 4e-6 == pytest.approx(128 / 65 * (seconds(64, 64) - 4e-6))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_operators_do_the_arithmetic_that_the_closed_forms_count(phase: str) -> None:
    architecture = decoder(SOFTMAX, LINEAR)
    counted = costs(architecture, tokens=100)
    if phase == "prefill":
        found = operators_of(architecture, tokens=100, batch_size=3)
        assert sum(one.flops for one in found) == 2 * 3 * counted.macs
    else:
        found = operators_of(architecture, tokens=100, batch_size=3, phase="decode")
        later = costs(architecture, tokens=101)
        assert sum(one.flops for one in found) == 2 * 3 * later.macs_decode


def test_it_grows_with_length_batch_and_bits() -> None:
    base = analytic(decoder(SOFTMAX, tokens=256), IDEAL, tokens=128).seconds
    assert analytic(decoder(SOFTMAX, tokens=256), IDEAL, tokens=256).seconds > base
    assert analytic(decoder(SOFTMAX, tokens=256), IDEAL, tokens=128, batch_size=2).seconds > base
    narrow = decoder(SOFTMAX, tokens=256, number_format="int8_dynamic")
    assert analytic(narrow, IDEAL, tokens=128).seconds < base
    byte_bound = IDEAL.model_copy(update={"bandwidth": Quoted(value=1e6, source="x")})
    fp32, int8, int4 = (
        analytic(decoder(SOFTMAX, number_format=form), byte_bound, phase="decode").seconds
        for form in ("fp32", "int8_dynamic", "int4_g32")
    )
    assert fp32 > int8 > int4


def test_decode_of_a_recurrent_stack_does_not_depend_on_the_length() -> None:
    def seconds(mixer: dict[str, object], tokens: int) -> float:
        return analytic(decoder(mixer, mixer, tokens=512), A100, tokens=tokens, phase="decode").seconds

    assert seconds(LINEAR, 16) == seconds(LINEAR, 512)
    assert seconds(SOFTMAX, 16) < seconds(SOFTMAX, 512)


def test_decode_reads_every_weight_and_the_cache() -> None:
    architecture = decoder(SOFTMAX, SOFTMAX)
    counted = costs(architecture)
    (*_, head) = operators_of(architecture, phase="decode")
    moved = sum(one.bytes for one in operators_of(architecture, phase="decode"))
    assert head.bytes >= 4 * 64 * 256
    embedding = 4 * 256 * 64
    assert moved > counted.weights_bytes - embedding + counted.state_bytes


def test_a_model_that_keeps_no_state_has_no_decode_phase() -> None:
    architecture = decoder({"kind": "pool", "width": 3})
    if not architecture.layers[0].mixer.decodable:
        with pytest.raises(UnsupportedError, match="no decode phase"):
            operators_of(architecture, phase="decode")
    encoder = parse_architecture(
        {**architecture.model_dump(), "model": "encoder", "head": {"kind": "classification"}}
    )
    with pytest.raises(UnsupportedError, match="no decode phase"):
        operators_of(encoder, phase="decode")
    with pytest.raises(InvalidInputError):
        operators_of(architecture, tokens=129)


def test_a_prediction_says_that_nobody_measured_it_and_has_a_band_of_a_factor_of_two() -> None:
    found = predict_on(decoder(SOFTMAX), A100)
    assert found.kind == "predicted"
    assert found.detail["label"] == LABEL == "analytic, not measured"
    assert found.value is not None
    assert found.detail["low_s"] == pytest.approx(found.value / 2)
    assert found.detail["high_s"] == pytest.approx(found.value * 2)
    assert "extrapolated" in found.flags
    assert math.isclose(sum(found.detail["by_role_s"].values()), found.value)


def test_what_does_not_fit_into_memory_is_said() -> None:
    mcu = TABLE.get("stm32f746")
    large = decoder(SOFTMAX, SOFTMAX, d_model=256)
    assert not predict_on(large, mcu).detail["fits"]
    assert predict_on(large, A100).detail["fits"]


@pytest.mark.parametrize("tokens", [128, 4096, 50_000])
def test_a_token_of_the_published_example_reads_what_the_closed_forms_say(tokens: int) -> None:
    """34 B parameters in bf16 (evaluators_and_search.md 9.2), whose cache stays in fp32 here."""
    layer: dict[str, object] = {"kind": "softmax", "num_heads": 56, "num_kv_heads": 8}
    feed_forward = {"kind": "glu", "activation": "silu", "d_ff": 20_480}
    model = decoder(layer, d_model=7168, tokens=50_000, number_format="bf16", feed_forward=feed_forward)
    deep = model.model_copy(update={"layers": model.layers * 60})
    size = TransformerSize(float(costs(deep).params), 60, 7168, num_kv_heads=8, head_width=128)
    full = A100.model_copy(update={"usage": Usage(compute=1, memory=1, launch_s=0, full_rows=1, tile=1)})
    found = analytic(deep, full, tokens=tokens, phase="decode")
    expected = size.weights_bytes(2.0) + size.cache_bytes(tokens, 4.0)
    assert found.bytes == pytest.approx(expected, rel=0.01)
    assert found.seconds == pytest.approx(expected / full.bandwidth.value, rel=0.01)
    assert found.flops == pytest.approx(size.decode_flops(tokens), rel=0.01)
