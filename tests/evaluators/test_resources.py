"""Memory, energy and noise of a trained model: measured where the machine can tell, else unsupported."""

from pathlib import Path

import pytest
import torch

from evaluators.latency import Target, measure_memory
from evaluators.resources import measure_resources, trained_noise
from space.architecture import Architecture, parse_architecture
from space.errors import UnsupportedError
from space.model import build_model


def architecture(number_format: str = "fp32", *, tokens: int = 16) -> Architecture:
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
        "feed_forward": {"kind": "mlp", "activation": "relu", "d_ff": 64},
        "norm": {"kind": "rmsnorm"},
        "number_format": number_format,
    }
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {
                "input": "bytes", "vocab_size": 256, "context_length": tokens, "outputs": 256,
            },
            "d_model": 32,
            "position": {"kind": "rope"},
            "layers": [layer],
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language"},
        }
    )  # fmt: skip


EXAMPLES = torch.randint(256, (4, 16), generator=torch.Generator().manual_seed(0))


def test_a_machine_without_a_counter_has_no_energy_and_fp32_no_noise(tmp_path: Path) -> None:
    one = architecture()
    found = measure_resources(build_model(one), one, Target(), EXAMPLES, scratch=tmp_path)
    assert found["memory"]["status"] == "ok"
    assert found["memory"]["kind"] == "measured"
    assert found["memory"]["bytes"] > 0
    decode = measure_memory(build_model(one), one, Target(phase="decode"), scratch=tmp_path)
    assert decode.detail["conditions"]["phase"] == "prefill"  # what was run
    if not list(Path("/sys/class/powercap").glob("intel-rapl:*")):
        assert found["energy"]["status"] == "unsupported"
        assert "no energy counter" in found["energy"]["reason"]
    assert found["quant_noise"]["status"] == "unsupported"


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "eager"])
def test_a_counter_that_runs_gives_joules_per_pass(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 J between the readings around idling, 1,000 J more between those around the passes."""
    readings = iter([0.0, 1.0, 1.0, 1001.0])
    one = architecture("int8_dynamic")
    target = Target(runtime=runtime)  # type: ignore[arg-type]
    found = measure_resources(
        build_model(one), one, target, EXAMPLES, scratch=tmp_path, counter=lambda: next(readings)
    )
    energy = found["energy"]
    assert energy["status"] == "ok"
    spent = 1000.0 - energy["idle_w"] * energy["seconds"]
    assert energy["joules_per_pass"] == pytest.approx(spent / energy["passes"])
    assert energy["seconds"] >= 2.0
    assert found["quant_noise"]["status"] == "ok"


def test_outliers_of_trained_weights_show_in_the_noise() -> None:
    """The same function with one channel a hundred times as large between norm and weight: it coarsens the
    others of its token."""
    one = architecture("int8_dynamic")
    calm, peaked = build_model(one, seed=0), build_model(one, seed=0)
    with torch.no_grad():
        for norm, weight in (("mixer_norm", "mixer.qkv"), ("feed_forward_norm", "feed_forward.up")):
            peaked.get_parameter(f"blocks.0.{norm}.gain")[0] *= 100
            peaked.get_parameter(f"blocks.0.{weight}.weight")[:, 0] /= 100
    torch.testing.assert_close(peaked(EXAMPLES), calm(EXAMPLES), rtol=1e-4, atol=1e-4)
    scores = [trained_noise(model, one, EXAMPLES)["score"] for model in (calm, peaked)]
    assert scores[0] > scores[1] + 1.0  # over two states: a factor of ten at the least
    mixed = architecture("int8_mixed")
    frozen = trained_noise(peaked, mixed, EXAMPLES, calibration=EXAMPLES)["score"]
    assert frozen != trained_noise(peaked, mixed, EXAMPLES)["score"]  # what runs has its outliers frozen
    assert len(trained_noise(calm, one, EXAMPLES)["noise"]) == 2
    with pytest.raises(UnsupportedError, match="there is no quantization noise"):
        trained_noise(calm, architecture(), EXAMPLES)
