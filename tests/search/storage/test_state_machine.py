"""Generated sequences of submit, lease, beat, report, expire, cancel and restart against a model of them.

The model knows a job's state, who holds it with which fence, and its trials; the database has to agree after
every step, on both engines (faults.md 7.4).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete

from search.storage import jobs, trials
from search.storage.check import check
from search.storage.database import Database
from search.storage.models import Base
from space.architecture import Architecture
from space.errors import ConflictError

LEASE_S = 15.0
ENDS = ("completed", "failed", "cancelled")
MOVES = {
    ("queued", "pause"): None, ("queued", "resume"): "queued", ("queued", "stop"): "cancelled",
    ("queued", "cancel"): "cancelled", ("running", "pause"): "paused", ("running", "resume"): "running",
    ("running", "stop"): "stopping", ("running", "cancel"): "cancelled", ("paused", "pause"): "paused",
    ("paused", "resume"): "running", ("paused", "stop"): "stopping", ("paused", "cancel"): "cancelled",
    ("stopping", "pause"): None, ("stopping", "resume"): None, ("stopping", "stop"): "stopping",
    ("stopping", "cancel"): "cancelled", ("cancelled", "cancel"): "cancelled",
}  # fmt: skip
"""(state, what a user asks for) -> the state afterwards; None and what is not named: refused."""


@dataclass
class Model:
    """What a job must look like."""

    state: str = "queued"
    fence: int = 0
    until: float | None = None
    trials: dict[int, str] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)

    def end(self, state: str) -> None:
        self.state, self.until = state, None
        for number, one in self.trials.items():
            if one in ("waiting", "running"):
                self.trials[number] = "cancelled"


class Machine(RuleBasedStateMachine):
    """One database; every coordinator remembers only its fence, so that old ones go on trying."""

    database: Database
    architecture_of: Callable[[int], Architecture]
    known = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.models: dict[str, Model] = {}
        with self.database.write() as session:  # every sequence begins with nothing
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))

    @rule(target=known)
    def submit(self) -> str:
        with self.database.write() as session:
            job = jobs.create(
                session, name="one", spec={}, objectives=["bits_per_byte", "params"], now=self.now
            )
        self.models[job.id] = Model()
        return job.id

    @rule(seconds=st.sampled_from([1.0, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def claim(self) -> None:
        free = [
            key
            for key, model in self.models.items()
            if model.state in ("queued", "running", "stopping")
            and (model.until is None or model.until <= self.now)
        ]
        with self.database.write() as session:
            job = jobs.claim(session, "one", LEASE_S, self.now)
            assert (job.id if job else None) == (free[0] if free else None)
            if job is not None:
                trials.requeue_running(session, job.id, job.fence, now=self.now)
        if job is not None:
            model = self.models[job.id]
            model.fence, model.until = model.fence + 1, self.now + LEASE_S
            model.state = "running" if model.state == "queued" else model.state
            for number, one in model.trials.items():
                if one == "running":
                    model.trials[number] = "waiting"
                    model.attempts[number] += 1

    @rule(job_id=known, action=st.sampled_from(["pause", "resume", "stop", "cancel"]))
    def ask(self, job_id: str, action: Any) -> None:
        model = self.models[job_id]
        wanted = MOVES.get((model.state, action))
        if wanted is None:
            with pytest.raises(ConflictError), self.database.write() as session:
                jobs.request(session, job_id, action, self.now)
            return
        with self.database.write() as session:
            jobs.request(session, job_id, action, self.now)
        if wanted == "cancelled":
            model.end("cancelled")
        model.state = wanted

    def _write(self, job_id: str, fence: int, write: Callable[[Any], object]) -> bool:
        """Whether a coordinator with this fence was let in, as it must be."""
        model = self.models[job_id]
        is_holder = fence == model.fence and model.until is not None and model.state not in ENDS
        if is_holder:
            with self.database.write() as session:
                write(session)
        else:
            with pytest.raises(ConflictError), self.database.write() as session:
                write(session)
        return is_holder

    @rule(job_id=known, old=st.integers(0, 1))
    def beat(self, job_id: str, old: int) -> None:
        model = self.models[job_id]
        fence = model.fence - old
        if fence < 1 or (model.state in ENDS and not old):
            return
        if self._write(job_id, fence, lambda s: jobs.beat(s, job_id, fence, LEASE_S, self.now)):
            model.until = self.now + LEASE_S

    @rule(job_id=known, old=st.integers(0, 1))
    def propose(self, job_id: str, old: int) -> None:
        model = self.models[job_id]
        fence, number = model.fence - old, len(model.trials)
        if fence < 1 or number > 4:
            return
        one = self.architecture_of(number)
        if self._write(
            job_id, fence,
            lambda s: trials.create(s, job_id, fence, number=number, origin="random", architecture=one),
        ):  # fmt: skip
            model.trials[number], model.attempts[number] = "waiting", 0

    @rule(job_id=known, old=st.integers(0, 1), number=st.integers(0, 4))
    def start(self, job_id: str, old: int, number: int) -> None:
        model = self.models[job_id]
        fence = model.fence - old
        if fence < 1 or model.trials.get(number) != "waiting":
            return
        if self._write(job_id, fence, lambda s: trials.set_state(s, job_id, number, fence, "running")):
            model.trials[number] = "running"

    @rule(job_id=known, old=st.integers(0, 1), number=st.integers(0, 4), again=st.booleans())
    def report(self, job_id: str, old: int, number: int, again: bool) -> None:
        """A result, perhaps twice: the second changes nothing."""
        model = self.models[job_id]
        fence = model.fence - old
        if fence < 1 or model.trials.get(number) not in ("waiting", "running"):
            return

        def write(session: Any) -> None:
            for _ in range(1 + again):
                values = {"bits_per_byte": 1.0 + (7 * number) % 5, "params": 10.0 + number}
                trials.record(session, job_id, number, fence, values=values)
                trials.complete(session, job_id, number, fence)

        if self._write(job_id, fence, write):
            model.trials[number] = "completed"

    @rule(job_id=known, old=st.integers(0, 1))
    def release(self, job_id: str, old: int) -> None:
        """A coordinator that ends politely."""
        model = self.models[job_id]
        fence = model.fence - old
        if fence < 1:
            return
        if self._write(job_id, fence, lambda s: jobs.release(s, job_id, fence, "queued", now=self.now)):
            model.until = None
            model.state = "queued" if model.state == "running" else model.state
            for number, one in model.trials.items():
                model.trials[number] = "waiting" if one == "running" else one

    @rule(job_id=known)
    def finish(self, job_id: str) -> None:
        model = self.models[job_id]
        if model.state in ("running", "stopping") and model.fence and self._write(
            job_id, model.fence,
            lambda s: jobs.set_state(s, job_id, "completed", fence=model.fence, reason="user", now=self.now),
        ):  # fmt: skip
            model.end("completed")

    @invariant()
    def the_database_agrees(self) -> None:
        with self.database.read() as session:
            for job_id, model in self.models.items():
                job = jobs.get(session, job_id)
                assert (job.state, job.fence, job.lease_until) == (model.state, model.fence, model.until)
                rows = {row.number: row for row in trials.all_trials(session, job_id)}
                assert {number: row.state for number, row in rows.items()} == model.trials
                assert {number: row.attempt for number, row in rows.items()} == model.attempts

    def teardown(self) -> None:
        assert check(self.database) == []


@pytest.mark.slow
def test_generated_sequences_agree_with_the_model(
    db: Database, architecture_of: Callable[[int], Architecture]
) -> None:
    class Here(Machine):
        pass

    Here.database, Here.architecture_of = db, staticmethod(architecture_of)
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=12, stateful_step_count=25, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
