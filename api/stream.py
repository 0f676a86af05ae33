"""Events of a job as a stream of server-sent events.

    id: 12                      resumes with the header Last-Event-ID: 12
    event: front.changed
    data: {"seq": 12, "at": "...", "kind": "front.changed", "trial": null, "data": {...}}

Ends after the job's last event, and when the server ends; a comment now and then keeps the line open. Memory
per reader is bounded: the next events are read when the last ones are gone, and who takes nothing for
`STALL_S` is cut off and resumes where it was.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

from search.records import FINAL_JOB_STATES, EventRecord
from search.storage import events, jobs
from search.storage.database import Database
from space.errors import NotFoundError, UnavailableError

from .answers import event_answer
from .deps import Services

SSE = "text/event-stream"
RETRY_MS = 2000
STALL_S = 30.0
_BATCH = 500


class EventResponse(StreamingResponse):
    """A stream whose reader has to read."""

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), STALL_S)

        await super().stream_response(in_time)


def stream_answer(held: Services, job_id: str, after: int, caller: str) -> EventResponse:
    """
    Raises:
        RequestError: 429: the caller has too many streams open.
    """
    held.streams.check(caller)
    return EventResponse(
        _counted(held, job_id, after, caller), media_type=SSE, headers={"X-Accel-Buffering": "no"}
    )


async def _counted(held: Services, job_id: str, after: int, caller: str) -> AsyncIterator[str]:
    with held.streams.opened(caller):
        async for text in event_stream(held, job_id, after):
            yield text


async def event_stream(held: Services, job_id: str, after: int) -> AsyncIterator[str]:
    """The text of the stream from the event after `after` on."""
    yield f"retry: {RETRY_MS}\n\n"
    seq, spoken = after, time.monotonic()
    with held.watch.seat(job_id) as seat:
        while not held.stopping.is_set():
            try:
                found, is_over = await run_in_threadpool(_news, held.database, job_id, seq)
            except UnavailableError:  # resumes on a new connection, by its last event
                return
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
            await seat.rest(seq, held.settings.heartbeat_s)


def as_text(event: EventRecord) -> str:
    """One event. JSON escapes line ends, so the data is one line."""
    data = json.dumps(event_answer(event), allow_nan=False, separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n"


def _news(database: Database, job_id: str, seq: int) -> tuple[Sequence[EventRecord], bool]:
    """New events, and whether the job has ended: read together, so that nothing can come after both."""
    with database.read() as session:
        try:
            is_over = jobs.get(session, job_id).state in FINAL_JOB_STATES
        except NotFoundError:  # deleted while somebody watched
            return [], True
        return events.after(session, job_id, seq, _BATCH), is_over
