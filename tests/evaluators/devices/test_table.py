"""The device table: every number has a source, and nothing sparse gets in."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluators.devices import Device, load_devices
from evaluators.devices.table import BUILT_IN
from space.errors import InvalidInputError, NotFoundError

SOURCES = {"sheet": {"text": "a data sheet", "date": "2026-11-22", "checked": True}}


def entry(**changed: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "title": "Toy",
        "kind": "gpu",
        "dense": True,
        "peaks": {"fp32": {"value": 1e12, "source": "sheet"}, "bf16": {"value": 4e12, "source": "sheet"}},
        "bandwidth": {"value": 1e11, "source": "sheet"},
        **changed,
    }


def written(folder: Path, *entries: dict[str, Any], sources: dict[str, Any] = SOURCES) -> Path:
    path = folder / "devices.json"
    path.write_text(json.dumps({"sources": sources, "devices": list(entries)}))
    return path


def test_the_built_in_table_has_the_devices_of_the_design_each_number_with_source_and_date() -> None:
    table = load_devices()
    assert len(table.devices) == len(json.loads(BUILT_IN.read_text())["devices"]) == 18
    for device in table.devices.values():
        for quoted in (*device.peaks.values(), device.bandwidth):
            source = table.sources[quoted.source]
            assert source.text
            assert source.date.year >= 2026
    a100 = table.get("a100-sxm-80gb")
    assert a100.peak("bf16") == 312e12
    assert a100.peak("fp8") == 312e12  # no such units: those of bf16
    assert table.get("raspberry-pi-4").peak("fp32") == pytest.approx(48e9)
    assert table.get("raspberry-pi-4").peak("fp32", 1) == pytest.approx(12e9)


@pytest.mark.parametrize("mark", [None, False, "true"])
def test_an_entry_without_the_mark_dense_is_refused(tmp_path: Path, mark: object) -> None:
    changed = entry(dense=mark)
    if mark is None:
        del changed["dense"]
    with pytest.raises(InvalidInputError, match="'toy' is not marked dense: true"):
        load_devices(written(tmp_path, changed))


def test_a_number_without_a_described_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="source 'rumour' is not described"):
        load_devices(written(tmp_path, entry(bandwidth={"value": 1e11, "source": "rumour"})))
    undated = {"sheet": {"text": "a data sheet", "checked": True}}
    with pytest.raises(InvalidInputError, match="source 'sheet': date"):
        load_devices(written(tmp_path, entry(), sources=undated))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"devices": 3}', '{"devices": [3]}', '{"devices": [{"name": "x", "dense": true}]}']
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "devices.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError):
        load_devices(path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_devices(tmp_path / "absent.json")


def test_a_users_table_adds_devices_and_overrides_those_of_a_name(tmp_path: Path) -> None:
    own = load_devices(written(tmp_path, entry(), entry(name="l4")))
    table = load_devices().joined(own)
    assert table.get("toy").peak("int8") == 1e12
    assert table.get("l4").title == "Toy"
    with pytest.raises(NotFoundError, match="did you mean 'toy'"):
        table.get("toyy")


def test_a_device_without_any_wide_enough_unit_says_so() -> None:
    only_int8 = Device.model_validate(entry(peaks={"int8": {"value": 1e9, "source": "sheet"}}))
    assert only_int8.peak("int8") == 1e9
    with pytest.raises(InvalidInputError, match="no peak for fp32"):
        only_int8.peak("fp32")
