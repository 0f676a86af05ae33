"""Devices as plain JSON: this machine, those that jobs of the database were measured on, and the table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from evaluators.devices import Calibration, Device, DeviceTable, load_devices
from evaluators.latency import Target, device_facts, device_key
from search.storage import devices
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError, NotFoundError

CALIBRATION = "calibration"
"""Key of a stored device's facts."""
HERE = "here"
"""What a command calls this machine."""


def device_answers(session: Session) -> list[dict[str, Any]]:
    """This machine first (one ONNX Runtime thread), then the stored ones by key, then the table's."""
    stored = {one.key: dict(one.facts) for one in devices.list_devices(session)}
    own = device_key(Target())
    facts = {**stored.pop(own, {}), **device_facts()}
    found: list[dict[str, Any]] = [{"key": own, "here": True, "kind": "measured", "facts": facts}]
    found += [
        {"key": key, "here": False, "kind": "measured", "facts": facts} for key, facts in stored.items()
    ]
    table = load_devices()
    return found + [model_answer(device, table) for device in table.devices.values()]


def model_answer(device: Device, table: DeviceTable) -> dict[str, Any]:
    """A device of the table; every number with where it is from."""

    def quoted(value: Any) -> Any:
        if isinstance(value, Mapping) and set(value) == {"value", "source"}:
            source = table.sources.get(value["source"])
            return {"value": value["value"], "source": source.model_dump(mode="json") if source else None}
        return {key: quoted(one) for key, one in value.items()} if isinstance(value, Mapping) else value

    described = device.model_dump(mode="json", exclude_none=True, exclude={"name"})
    return {"key": device.name, "here": False, "kind": "analytic", "facts": quoted(described)}


def keep_calibration(session: Session, target: Target, found: Calibration) -> None:
    """Stores it with the device of the target; the newest counts."""
    devices.put(session, device_key(target), {**device_facts(), CALIBRATION: found.described()})


def stored_calibration(session: Session, target: Target) -> Device:
    """
    Raises:
        NotFoundError: this machine was never calibrated for the target's runtime and threads.
    """
    try:
        described = devices.get(session, device_key(target)).facts.get(CALIBRATION)
    except NotFoundError:
        described = None
    if not isinstance(described, Mapping):
        raise NotFoundError(
            f"this machine is not calibrated for {target.runtime} with {target.threads} threads; "
            "run `paretoformer device calibrate` first"
        )
    return Device.model_validate(described["device"])


def read_measured(path: Path) -> Sequence[tuple[Architecture, float]]:
    """A JSON list of `{"architecture": {...}, "latency_s": seconds}`."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [(parse_architecture(row["architecture"]), float(row["latency_s"])) for row in rows]
    except OSError as error:
        raise InvalidInputError(f"'{path}' cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInputError(
            f'\'{path}\' is not a JSON list of {{"architecture": ..., "latency_s": ...}}: {error}'
        ) from error
