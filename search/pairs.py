"""Trials compared on the same validation examples, from the losses that their trainings keep.

Two trainings are paired when they ran under the same conditions: the same schedule on the same data, equally
many steps, the same seed. The longest of these counts. They are trainings of the fp32 form, whatever number
formats a trial runs in.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluators.training.pairs import Paired, load_losses, paired_difference

from .records import MeasurementRecord

Condition = tuple[int, int, str]
"""Steps, minus the seed, schedule and data: the greatest is the longest training with the first seed."""


def paired_quality(
    folder: Path, one: Sequence[MeasurementRecord], other: Sequence[MeasurementRecord]
) -> Paired | None:
    """Mean loss of one minus the other's in nats; None where no two of their trainings can be paired.

    `folder`: below which checkpoints are; the records are those of each trial's trainings.
    """
    mine, theirs = _checkpoints(one), _checkpoints(other)
    for condition in sorted(mine.keys() & theirs.keys(), reverse=True):
        first, second = load_losses(folder / mine[condition]), load_losses(folder / theirs[condition])
        if first is not None and second is not None:
            return paired_difference(first, second)
    return None


def _checkpoints(records: Sequence[MeasurementRecord]) -> Mapping[Condition, str]:
    return {
        (record.fidelity, -record.seed, record.fingerprint): str(record.detail["checkpoint"])
        for record in records
        if record.quantity == "loss" and record.detail.get("checkpoint")
    }
