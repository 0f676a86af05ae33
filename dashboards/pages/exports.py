"""Exports of a trial as its page shows them: how each stands, and how every file of it was checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from search.objectives import OBJECTIVES
from search.records import ArtefactRecord

from ..wording import format_word, label, shown


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file of an export: how close it is to the trained model, and what it is worth."""

    name: str
    passed: bool
    difference: str
    limit: str
    reason: str
    """Why that much is allowed."""
    same_answers: str
    formats: str
    numbers: tuple[str, ...]
    """Quality and latency of this very file."""
    size: str


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One export of the trial."""

    what: str
    state: str
    message: str
    verdict: str
    files: tuple[CheckedFile, ...]
    report: str
    size: str
    url: str
    cancel_url: str
    created: datetime


def export_row(export: ArtefactRecord) -> ExportRow:
    """What was asked, how it stands, where it is."""
    formats = ", ".join(str(name) for name in export.request.get("formats") or ())
    quantize = export.request.get("quantize") or "none"
    report = dict(export.report or {})
    return ExportRow(
        what=formats + (f", {quantize}" if quantize != "none" else ""),
        state=export.state,
        message=export.message or "",
        verdict=_verdict(report),
        files=checked_files(report),
        report=json.dumps(report, indent=1, default=str) if report else "",
        size="" if export.size_bytes is None else shown("weights_bytes", export.size_bytes),
        url=f"/exports/{export.id}/file",
        cancel_url=f"/exports/{export.id}/cancel",
        created=export.created_at,
    )


def checked_files(report: Mapping[str, Any]) -> tuple[CheckedFile, ...]:
    """Every file of `verification`, with what `files` of the same report measured of it."""
    checked = _part(_part(report, "verification"), "files")
    measured = _part(report, "files")
    return tuple(_checked(name, _part(checked, name), _part(measured, name)) for name in checked)


def _checked(name: str, found: Mapping[str, Any], measured: Mapping[str, Any]) -> CheckedFile:
    tolerance = _part(found, "tolerance")
    against = str(tolerance.get("of", "largest"))
    value, limit = found.get(f"{against}_relative"), tolerance.get("limit")
    is_beyond = isinstance(value, int | float) and isinstance(limit, int | float) and value > limit
    same = found.get("same_argmax")
    size = found.get("size_bytes")
    return CheckedFile(
        name=name,
        passed=not is_beyond,
        difference=f"{value:.2g}" if isinstance(value, int | float) else "–",
        limit=f"{limit:g} of the {against} logit" if isinstance(limit, int | float) else "",
        reason=str(tolerance.get("reason", "")),
        same_answers=f"{100 * same:.4g} %" if isinstance(same, int | float) else "–",
        formats=", ".join(format_word(str(one)) for one in found.get("number_formats") or ()),
        numbers=_numbers(measured),
        size=shown("weights_bytes", size) if isinstance(size, int | float) else "",
    )


def _numbers(measured: Mapping[str, Any]) -> tuple[str, ...]:
    quality, latency = _part(measured, "quality"), _part(measured, "latency")
    found = [
        f"{label(key)} {shown(key, value)}"
        for key, value in _part(quality, "values").items()
        if key in OBJECTIVES and isinstance(value, int | float)
    ]
    if isinstance(latency.get("value"), int | float):
        found.append(f"latency {shown('latency_s', latency['value'])}")
    return tuple(found)


def _verdict(report: Mapping[str, Any]) -> str:
    """One sentence on all files."""
    verification = _part(report, "verification")
    count = len(_part(verification, "files"))
    if not count:
        return ""
    words = "1 file was" if count == 1 else f"{count} files were"
    shapes = len(verification.get("inputs") or ())
    on = f" on inputs of {shapes} shapes" if shapes else ""
    inside = "within its tolerance" if verification.get("passed") else "not all within tolerance"
    return f"{words} reloaded and compared with the trained model{on}: {inside}."


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}
