"""What is known of a job's architectures: stored measurements, by the marks under which they may be reused.

    training id   --search or final mark, steps, seed-->   quality of the fp32 form, and its checkpoint
    architecture  --running mark, steps, seed-->           quality in the number formats that run
    architecture  --latency mark-->                        whole-model latency          block --> its latency

A mark is a fingerprint of everything a number depends on besides its subject, so what an earlier job measured
under the same conditions is found here too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evaluators.latency import Block, Composition, Pair, blocks_of, device_key, latency_fingerprint
from evaluators.protocol import Measurement, fingerprint
from evaluators.training import TrainingPlan, training_fingerprint
from space.architecture import Architecture, parse_architecture
from space.costs import costs

from .clock import Clock
from .plan import JobPlan, taught
from .records import JobRecord, MeasurementRecord, Spread, TrialRecord
from .storage import architectures, measurements
from .storage.database import Database
from .workers.stages import unpack
from .workers.store import store_of

EARLIER_PAIRS = 200
"""Newest whole models of earlier jobs that the correction of composed latencies learns from."""
_CHUNK = 200


class Evidence:
    """Measurements of one job: found, or stored as workers bring them."""

    def __init__(self, database: Database, job: JobRecord, plan: JobPlan, clock: Clock) -> None:
        self.job = job
        self.plan = plan
        self._db = database
        self._clock = clock
        self._device_key = device_key(plan.target)
        self.search_mark = training_fingerprint(plan.data, plan.training)
        self._block_mark = latency_fingerprint(plan.target, of="block")
        self._store = store_of(database)
        self.blocks: dict[str, float] = {}
        """Latency in seconds of every block known so far, by block id."""

    @property
    def finalist_training(self) -> TrainingPlan:
        """How finalists are trained: with their teacher, once it is chosen."""
        return taught(self.plan.finalist_training, self.job.context)

    @property
    def final_mark(self) -> str:
        return training_fingerprint(self.plan.data, self.finalist_training)

    def training_seed(self, repeat: int) -> int:
        return self.plan.spec.strategy.seed + repeat

    def know_blocks(self, architecture: Architecture) -> list[Block]:
        """Loads what is stored of the architecture's blocks; returns those nobody has measured."""
        blocks = blocks_of(architecture, self.plan.target)
        unknown = {block.id: block for block in blocks if block.id not in self.blocks}
        if unknown:
            stored = self._db.reading(
                lambda session: measurements.find_many(
                    session, list(unknown), "block_latency_s", self._block_mark
                )
            )
            self.blocks |= {key: row.value for key, row in stored.items() if row.value is not None}
        return [block for key, block in unknown.items() if key not in self.blocks]

    def known_blocks(self, models: Iterable[Architecture]) -> set[str]:
        """Ids of the blocks of these architectures whose latency is stored."""
        known: set[str] = set()
        for architecture in models:
            missing = {block.id for block in self.know_blocks(architecture)}
            known |= {block.id for block in blocks_of(architecture, self.plan.target)} - missing
        return known

    def training_values(self, training_ids: Iterable[str], steps: int) -> dict[str, float]:
        """Stored quality of trainings of the search at `steps`, by training id."""
        seed = self.training_seed(0)
        rows = self._db.reading(
            lambda session: measurements.find_many(
                session, training_ids, self.plan.quality, self.search_mark, fidelity=steps, seed=seed
            )
        )
        return {subject: row.value for subject, row in rows.items() if row.value is not None}

    def earlier_pairs(self) -> dict[str, Pair]:
        """Whole models that jobs before this one measured on this target, by architecture id, as far as all
        of their blocks were known then. Nothing stored later changes the answer, so that a coordinator that
        takes over predicts as its predecessor did."""
        before, target, mark = self.job.created_at, self.plan.target, latency_fingerprint(self.plan.target)
        rows = self._db.reading(
            lambda session: measurements.newest(
                session, "latency_s", mark, before=before, limit=EARLIER_PAIRS
            )
        )
        texts = self._db.reading(
            lambda session: architectures.find_many(session, [row.subject for row in rows])
        )
        models = {id: parse_architecture(text) for id, text in texts.items()}
        blocks = {id: blocks_of(model, target) for id, model in models.items()}
        ids = {block.id for model in blocks.values() for block in model}
        stored = self._db.reading(
            lambda session: measurements.find_many(session, ids, "block_latency_s", self._block_mark)
        )
        known = {id: row.value for id, row in stored.items() if row.created_at < before and row.value}
        found: dict[str, Pair] = {}
        for row in rows:
            parts = [(block, known.get(block.id)) for block in blocks.get(row.subject, ())]
            timed = tuple((block, seconds) for block, seconds in parts if seconds is not None)
            if timed and len(timed) == len(parts) and row.value is not None:
                weights_bytes = costs(models[row.subject]).weights_bytes
                found[row.subject] = Composition(timed, weights_bytes).pair(row.value)
        return found

    def stored_architectures(self, ids: Iterable[str]) -> dict[str, Architecture]:
        """Architectures of any job by their ids, as far as they are stored."""
        wanted, found = sorted(set(ids)), dict[str, Architecture]()
        for start in range(0, len(wanted), _CHUNK):
            texts = self._texts(wanted[start : start + _CHUNK])
            found |= {id: parse_architecture(text) for id, text in texts.items()}
        return found

    def _texts(self, ids: Sequence[str]) -> dict[str, str]:
        return self._db.reading(lambda session: architectures.find_many(session, ids))

    def trained(
        self, training_id: str, steps: int, *, mark: str | None = None, repeat: int = 0
    ) -> dict[str, Measurement] | None:
        """Stored metrics of a training at `steps`, from this job or an earlier one, when its checkpoint is
        there."""
        mark = mark or self.search_mark
        if self.checkpoint(training_id, mark=mark, steps=steps, repeat=repeat) is None:
            return None
        rows = {
            key: self._training_row(training_id, mark, steps, repeat, key) for key in self.plan.data.metrics
        }
        return {key: _measurement(row) for key, row in rows.items() if row is not None}

    def checkpoint(self, training_id: str, *, mark: str, steps: int, repeat: int) -> str | None:
        """Folder of a checkpoint below the training folder; None when it was never written or is gone."""
        row = self._training_row(training_id, mark, steps, repeat, self.plan.quality)
        name = str(row.detail.get("checkpoint") or "") if row else ""
        return name if name and self._store.has(f"training/{name}") else None

    def has_training(self, training_id: str, *, mark: str, steps: int, repeat: int) -> bool:
        """Whether a training has come so far, its checkpoint kept or not."""
        return self._training_row(training_id, mark, steps, repeat, self.plan.quality) is not None

    def measured(
        self,
        trial: TrialRecord,
        *,
        mark: str,
        steps: int,
        repeat: int,
        final: bool = False,
        with_latency: bool = True,
    ) -> dict[str, Measurement] | None:
        """Stored numbers of a trial in its number formats; None unless all of them are there."""
        wanted = [*self.plan.data.metrics, *(f"test.{key}" for key in self.plan.data.metrics if final)]
        running, seed = self._running_mark(mark), self.training_seed(repeat)
        rows = {key: self._find(trial.architecture_id, key, running, steps, seed) for key in wanted}
        if with_latency:
            rows["latency_s"] = self.latency(trial, final=final)
        found = {key: _measurement(row) for key, row in rows.items() if row is not None}
        return found if len(found) == len(rows) else None

    def final_latency(self, trial: TrialRecord) -> Measurement | None:
        row = self.latency(trial, final=True)
        return _measurement(row) if row else None

    def known_latency(self, trial: TrialRecord) -> Measurement | None:
        row = self.latency(trial)
        return _measurement(row) if row else None

    def latency(self, trial: TrialRecord, *, final: bool = False) -> MeasurementRecord | None:
        """The stored whole-model latency on this target; a finalist's own, when `final`."""
        return self._find(trial.architecture_id, "latency_s", self._latency_mark(final), 0, 0)

    def _latency_mark(self, final: bool) -> str:
        """A finalist's latency is measured anew, so that the final front stands on fresh numbers."""
        mark = latency_fingerprint(self.plan.target)
        return fingerprint("latency_final", 1, latency=mark, training=self.final_mark) if final else mark

    def _running_mark(self, training_mark: str) -> str:
        return fingerprint("quality.running", 1, training=training_mark, device=self._device_key)

    def _training_row(
        self, training_id: str, mark: str, steps: int, repeat: int, quantity: str
    ) -> MeasurementRecord | None:
        return self._find(training_id, quantity, mark, steps, self.training_seed(repeat))

    def _find(
        self, subject: str, quantity: str, mark: str, steps: int, seed: int
    ) -> MeasurementRecord | None:
        return self._db.reading(
            lambda session: measurements.find(session, subject, quantity, mark, fidelity=steps, seed=seed)
        )

    def computed(self, subjects: Iterable[str], quantity: str, mark: str, *, seed: int) -> dict[str, float]:
        """Stored values that are numbers, by subject."""
        found = self.scores(subjects, quantity, mark, seed=seed)
        return {subject: one.value for subject, one in found.items() if one.value is not None}

    def scores(
        self, subjects: Iterable[str], quantity: str, mark: str, *, seed: int
    ) -> dict[str, Measurement]:
        """What is stored, by subject; that there cannot be a number, too."""
        wanted = list(subjects)
        rows = self._db.reading(
            lambda session: measurements.find_many(session, wanted, quantity, mark, seed=seed)
        )
        return {subject: _measurement(row) for subject, row in rows.items()}

    def record(
        self,
        subject: str,
        measurement: Measurement,
        mark: str,
        *,
        steps: int = 0,
        seed: int = 0,
        quantity: str = "",
    ) -> MeasurementRecord:
        """A measurement as a row of the cache. A spread without an end, of a timing whose every repeat was
        disturbed, is kept as none, and the row says so."""
        is_wild = measurement.spread is not None and not math.isfinite(measurement.spread)
        return MeasurementRecord(
            subject=subject,
            quantity=quantity or measurement.quantity,
            fingerprint=mark,
            fidelity=steps,
            seed=seed,
            value=measurement.value,
            unit=measurement.unit,
            kind=measurement.kind,
            status=measurement.status,
            spread=None if is_wild else measurement.spread,
            repeats=measurement.repeats,
            execution=measurement.execution,
            flags=tuple(sorted(measurement.flags | ({"noisy"} if is_wild else set()))),
            wall_s=measurement.wall_s,
            detail=measurement.detail,
            device_key=self._device_key,
            created_at=self._clock.now(),
        )

    def keep(self, records: Iterable[MeasurementRecord]) -> list[MeasurementRecord]:
        """Stores what is new; returns what is stored, which another worker or job may have measured first."""
        rows = list(records)
        return self._db.storing(lambda session: [measurements.put(session, row) for row in rows])

    def keep_blocks(self, found: Mapping[str, Measurement]) -> None:
        """Stores block latencies; a block that could not be timed now may be next time, and is not stored."""
        timed = {block: value for block, value in found.items() if value.status == "ok"}
        rows = self.keep(self.record(block, value, self._block_mark) for block, value in timed.items())
        self.blocks |= {row.subject: row.value for row in rows if row.value is not None}

    def keep_prediction(self, architecture: Architecture, latency: Measurement) -> None:
        """The latency a trial was screened with, kept beside the one that is measured later."""
        mark = fingerprint(
            "latency_predicted", 1, latency=latency_fingerprint(self.plan.target), job=self.job.id
        )
        named = replace(latency, detail={**latency.detail, "job": self.job.id})
        self.keep([self.record(architecture.id, named, mark)])

    def keep_training(
        self, training_id: str, result: Mapping[str, Any], *, mark: str, repeat: int
    ) -> dict[str, Measurement]:
        """Stores a worker's training result; each metric's row names the checkpoint."""
        packed = {
            key: {**value, "detail": {**value["detail"], "checkpoint": result["checkpoint"]}}
            for key, value in result["metrics"].items()
        }
        found = {key: unpack(value) for key, value in packed.items()}
        seed, steps = self.training_seed(repeat), int(result["step"])
        self.keep(self.record(training_id, value, mark, steps=steps, seed=seed) for value in found.values())
        return found

    def keep_measures(
        self,
        trial: TrialRecord,
        result: Mapping[str, Any],
        *,
        mark: str,
        steps: int,
        repeat: int,
        final: bool = False,
    ) -> dict[str, Measurement]:
        """Stores a worker's whole-model measures; returns them with the latency that was known before."""
        found = {key: unpack(value) for key, value in result["metrics"].items()}
        running, seed = self._running_mark(mark), self.training_seed(repeat)
        rows = [
            self.record(trial.architecture_id, value, self._latency_mark(final), quantity=key)
            if key == "latency_s"
            else self.record(trial.architecture_id, value, running, steps=steps, seed=seed, quantity=key)
            for key, value in found.items()
        ]
        self.keep(rows)
        if "latency_s" not in found and (row := self.latency(trial, final=final)):
            found["latency_s"] = _measurement(row)
        return found


def interval(measurement: Measurement) -> Spread | None:
    """The 95 % interval of a measurement; None where it has no ends."""
    if measurement.value is None or measurement.spread is None or not math.isfinite(measurement.spread):
        return None
    return Spread(
        measurement.value - measurement.spread, measurement.value + measurement.spread, measurement.repeats
    )


def _measurement(row: MeasurementRecord) -> Measurement:
    return Measurement(
        quantity=row.quantity,
        value=row.value,
        unit=row.unit,
        kind=row.kind,  # type: ignore[arg-type]  # stored from a Measurement
        status=row.status,  # type: ignore[arg-type]
        spread=row.spread,
        repeats=row.repeats,
        execution=row.execution,  # type: ignore[arg-type]
        flags=frozenset(row.flags),
        wall_s=row.wall_s,
        detail=row.detail,
    )
