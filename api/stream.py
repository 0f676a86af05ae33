"""Events of a job as a stream of server-sent events.

    id: 12                      resumes with the header Last-Event-ID: 12
    event: front.changed
    data: {"seq": 12, "at": "...", "kind": "front.changed", "trial": null, "data": {...}}

Ends after the job's last event, and when the server ends; a comment now and then keeps the line open.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence

from fastapi.concurrency import run_in_threadpool

from search.records import FINAL_JOB_STATES, EventRecord
from search.storage import events, jobs
from search.storage.database import Database

from .answers import event_answer
from .deps import Services

POLL_S = 0.3
RETRY_MS = 2000
_BATCH = 500


async def event_stream(held: Services, job_id: str, after: int) -> AsyncIterator[str]:
    """The text of the stream from the event after `after` on."""
    yield f"retry: {RETRY_MS}\n\n"
    seq, spoken = after, time.monotonic()
    while not held.stopping.is_set():
        found, is_over = await run_in_threadpool(_news, held.database, job_id, seq)
        for event in found:
            yield as_text(event)
            seq, spoken = event.seq, time.monotonic()
        if found:
            continue
        if is_over:
            return
        if time.monotonic() - spoken >= held.settings.heartbeat_s:
            spoken = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(POLL_S)


def as_text(event: EventRecord) -> str:
    """One event. JSON escapes line ends, so the data is one line."""
    data = json.dumps(event_answer(event), allow_nan=False, separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n"


def _news(database: Database, job_id: str, seq: int) -> tuple[Sequence[EventRecord], bool]:
    """New events, and whether the job has ended: read together, so that nothing can come after both."""
    with database.read() as session:
        is_over = jobs.get(session, job_id).state in FINAL_JOB_STATES
        return events.after(session, job_id, seq, _BATCH), is_over
