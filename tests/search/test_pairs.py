from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from evaluators.training.pairs import Losses, save_losses
from search.pairs import paired_quality
from search.records import MeasurementRecord

HARD = np.random.default_rng(0).normal(2, 1, 300)


def _record(folder: Path, name: str, losses: Losses, *, steps: int, seed: int = 0) -> MeasurementRecord:
    """A stored training whose validation losses lie in its checkpoint's folder."""
    place = f"{name}/{seed}/{steps}"
    (folder / place).mkdir(parents=True)
    save_losses(folder / place, losses)
    return MeasurementRecord(
        subject=name, quantity="loss", fingerprint="f", fidelity=steps, seed=seed, value=float(losses.mean()),
        unit="nats", kind="measured", status="ok", spread=None, repeats=300, execution="real", flags=(),
        wall_s=0.0, detail={"checkpoint": place}, device_key="", created_at=datetime.now(UTC),
    )  # fmt: skip


def test_the_longest_trainings_under_the_same_conditions_are_paired(tmp_path: Path) -> None:
    one = [_record(tmp_path, "a", HARD + 0.5, steps=10), _record(tmp_path, "a", HARD - 0.1, steps=20)]
    other = [
        _record(tmp_path, "b", HARD, steps=10),
        _record(tmp_path, "b", HARD, steps=20),
        _record(tmp_path, "b", HARD, steps=40),
    ]
    found = paired_quality(tmp_path, one, other)
    assert found is not None
    assert found.mean == pytest.approx(-0.1, abs=1e-5)
    assert found.examples == 300
    assert not found.is_tied


def test_other_seeds_schedules_or_lost_files_are_not_paired(tmp_path: Path) -> None:
    one = _record(tmp_path, "a", HARD, steps=10)
    assert paired_quality(tmp_path, [one], [_record(tmp_path, "b", HARD, steps=10, seed=1)]) is None
    alike = _record(tmp_path, "c", HARD, steps=10)
    assert paired_quality(tmp_path, [one], [replace(alike, fingerprint="g")]) is None
    assert paired_quality(tmp_path, [one], [replace(alike, detail={"checkpoint": "gone"})]) is None
    assert paired_quality(tmp_path, [one], [replace(alike, detail={})]) is None
    assert paired_quality(tmp_path, [one], [alike]) is not None
