"""Devices: on the command line and over HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api.cli import app
from api.devices import device_answers, keep_calibration
from evaluators.devices.calibration import fit
from evaluators.devices.micro_kernels import micro_kernels
from evaluators.latency import Target
from search.storage.database import Database


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], prog_name="paretoformer")


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    path = tmp_path / "architecture.json"
    sampled = run("space", "sample", "decoder-small", "--set", "num_layers=[2]", "--json")
    path.write_text(sampled.stdout)
    return path


def predicted(*arguments: object) -> dict[str, Any]:
    result = run("device", "predict", *arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_device_is_shown_with_the_source_of_every_number(tmp_path: Path) -> None:
    found = json.loads(run("device", "show", "h100-sxm", "--json").stdout)
    assert found["kind"] == "analytic"
    assert found["facts"]["peaks"]["bf16"]["value"] == 989.4e12
    assert found["facts"]["peaks"]["bf16"]["source"]["date"] == "2026-11-22"
    text = run("device", "show", "h100-sxm").stdout
    assert "9.894e+14" in text
    assert "glennklockwood" in text
    assert "did you mean 'h100-sxm'" in run("device", "show", "h100").stderr


def test_a_table_of_ones_own_adds_a_device(tmp_path: Path, drawn: Path) -> None:
    own = {
        "sources": {"mine": {"text": "measured here", "date": "2026-11-23", "checked": True}},
        "devices": [
            {
                "name": "toaster",
                "title": "Toaster",
                "kind": "cpu",
                "dense": True,
                "peaks": {"fp32": {"value": 1e9, "source": "mine"}},
                "bandwidth": {"value": 1e9, "source": "mine"},
            }
        ],
    }
    path = tmp_path / "own.json"
    path.write_text(json.dumps(own))
    assert predicted(drawn, "--device", "toaster", "--table", path)["value"] > 0
    own["devices"][0]["dense"] = False  # type: ignore[index]
    path.write_text(json.dumps(own))
    refused = run("device", "show", "toaster", "--table", path)
    assert refused.exit_code == 2
    assert "not marked dense: true" in refused.stderr


def test_an_absent_device_is_predicted_and_says_so(drawn: Path) -> None:
    found = predicted(drawn, "--device", "raspberry-pi-5", "--threads", 4)
    assert found["kind"] == "predicted"
    assert found["detail"]["label"] == "analytic, not measured"
    assert found["detail"]["high_s"] == pytest.approx(4 * found["detail"]["low_s"])
    step = predicted(drawn, "--device", "raspberry-pi-5", "--decode")
    assert step["value"] < found["value"]
    assert "(analytic, not measured)" in run("device", "predict", drawn, "--device", "l4").stdout


def test_measurements_made_there_fit_the_prediction(tmp_path: Path, drawn: Path) -> None:
    sampled = run("space", "sample", "decoder-small", "-n", 12, "--json").stdout
    path = tmp_path / "measured.json"
    measured = [
        {"architecture": one, "latency_s": 0.5 + 0.1 * len(one["layers"])} for one in json.loads(sampled)
    ]
    path.write_text(json.dumps(measured))
    found = predicted(drawn, "--device", "raspberry-pi-4", "--measured", path)
    assert found["detail"]["label"] == "fitted to 12 measurements, not measured"
    carried = predicted(drawn, "--device", "raspberry-pi-4", "--measured", path, "--like", path)
    assert carried["detail"]["label"].startswith("carried over from another device by 12 measurements")
    assert run("device", "predict", drawn, "--device", "l4", "--like", path).exit_code == 2
    assert "in mixer" in run("device", "predict", drawn, "--device", "l4").stdout
    assert "in mixer" not in run("device", "predict", drawn, "--device", "l4", "--measured", path).stdout
    assert 0.3 < found["value"] < 1.5
    for text in ("{", "[3]", '[{"architecture": 3}]'):
        path.write_text(text)
        assert run("device", "predict", drawn, "--measured", path, "--device", "l4").exit_code == 2
    assert run("device", "predict", drawn, "--measured", tmp_path / "no", "--device", "l4").exit_code == 2


def test_this_machine_is_predicted_once_it_is_calibrated(database: Database, drawn: Path) -> None:
    db = ["--db", f"sqlite:///{database.file}"]
    refused = run("device", "predict", drawn, *db)
    assert refused.exit_code == 2
    assert "paretoformer device calibrate" in refused.stderr
    found = fit(dict.fromkeys(micro_kernels(), 1e-4), Target())
    with database.write() as session:
        keep_calibration(session, Target(), found)
    answer = predicted(drawn, *db)
    assert answer["detail"]["device"] == "this-machine-onnxruntime-1"
    assert answer["detail"]["calibrated"]
    with database.read() as session:
        own, *others = device_answers(session)
    assert own["here"]
    assert own["facts"]["calibration"]["device"] == found.described()["device"]
    assert {one["kind"] for one in others} == {"analytic"}
    listed = json.loads(run("device", "list", "--json", *db).stdout)
    assert [one["key"] for one in listed] == [own["key"], *(one["key"] for one in others)]
    assert "raspberry-pi-4" in run("device", "list", *db).stdout
