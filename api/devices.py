"""Devices as plain JSON: this machine and those that jobs of the database were measured on."""

from typing import Any

from sqlalchemy.orm import Session

from evaluators.latency import Target, device_facts, device_key
from search.storage import devices


def device_answers(session: Session) -> list[dict[str, Any]]:
    """This machine first (one ONNX Runtime thread), then the stored ones by key."""
    own = device_key(Target())
    found = [{"key": own, "here": True, "facts": dict(device_facts())}]
    found += [
        {"key": one.key, "here": False, "facts": dict(one.facts)}
        for one in devices.list_devices(session)
        if one.key != own
    ]
    return found
