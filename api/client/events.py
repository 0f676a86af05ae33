"""Events of a job as they happen, across broken connections and restarts of the server.

Each event once and in order: the stream is resumed after the last number that was handed out.
"""

import json
import time
from collections.abc import Iterator

import httpx2

from space.errors import UnavailableError

from .records import Event, Job
from .transport import Transport

RETRY_S = 0.5


def follow(transport: Transport, job_id: str, after: int, patience_s: float) -> Iterator[Event]:
    """Events after `after`, until the job's last one.

    Raises:
        NotFoundError: there is no such job.
        UnavailableError: the server was away for longer than `patience_s`.
    """
    seq, since = after, time.monotonic()
    while True:
        try:
            for event in _read(transport, job_id, seq):
                if event.seq > seq:
                    yield event
                    seq, since = event.seq, time.monotonic()
            if _is_over(transport, job_id, seq):
                return
            since = time.monotonic()
        except (httpx2.HTTPError, UnavailableError) as error:
            if time.monotonic() - since > patience_s:
                raise UnavailableError(
                    f"server {transport.server} was away for {patience_s:g} s ({error}); "
                    f"go on with after={seq}"
                ) from error
        transport.rest(RETRY_S)


def _read(transport: Transport, job_id: str, seq: int) -> Iterator[Event]:
    headers = {"Last-Event-ID": str(seq), "Accept": "text/event-stream"}
    with transport.stream(f"/v1/jobs/{job_id}/events", headers) as answer:
        data: list[str] = []
        for line in answer.iter_lines():
            if line.startswith("data:"):
                data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and data:
                yield Event.model_validate(json.loads("\n".join(data)))
                data = []


def _is_over(transport: Transport, job_id: str, seq: int) -> bool:
    """A stream ends with its job, and with its server: in the second case there is more to come."""
    job = Job.model_validate(transport.send("GET", f"/v1/jobs/{job_id}").json())
    if not job.is_over:
        return False
    return next(iter(_read(transport, job_id, seq)), None) is None
