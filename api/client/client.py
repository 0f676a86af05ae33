"""A client of the HTTP interface: jobs submitted, watched, steered, and their models fetched.

    client = Client("http://127.0.0.1:8765")
    job = client.wait(client.submit({"budget": {"trials": 24}}).id, progress=print)
    for point in client.front(job.id).front: ...

The key is an argument or PARETOFORMER_API_KEY. What fails raises the project's own errors; requests that can
be repeated without harm are, while the server is away.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import httpx2

from space.errors import ConflictError, InvalidInputError

from . import events
from .records import Dataset, Event, Export, Front, Job, Trial
from .transport import Transport

Action = Literal["pause", "resume", "stop", "cancel"]
MEDIA_TYPES: Mapping[str, str] = {
    ".npz": "application/x-npz",
    ".csv": "text/csv",
    ".jsonl": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
}
"""By a file's suffix; anything else is sent as text."""
_POLL_S = 1.0


class Client:
    """One server and one key. Serves one thread at a time; `with` closes its connections."""

    def __init__(
        self,
        server: str = "http://127.0.0.1:8765",
        key: str | None = None,
        *,
        timeout_s: float = 120.0,
        patience_s: float = 60.0,
        http: httpx2.Client | None = None,
    ) -> None:
        """`timeout_s`: of one request. `patience_s`: how long a server may be away. `http`: your own."""
        self._patience_s = patience_s
        self._transport = Transport(server, key, timeout_s, patience_s, http=http)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # Jobs

    def submit(self, job: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Queues a job; sent again after a lost answer it is still one job.

        Raises:
            InvalidInputError: it cannot work.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
        answer = self._transport.send("POST", "/v1/jobs", json=job, headers=headers, is_repeatable=True)
        return Job.model_validate(answer.json())

    def preview(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a job would do; stores nothing."""
        return self._dict("POST", "/v1/jobs:preview", json=job)

    def job(self, job_id: str) -> Job:
        """A job by its id or the beginning of it."""
        return Job.model_validate(self._dict("GET", f"/v1/jobs/{job_id}"))

    def jobs(
        self, *, state: str | None = None, query: str | None = None, label: str | None = None
    ) -> Iterator[Job]:
        """Jobs, newest first, page after page."""
        for item in self._items("/v1/jobs", {"state": state, "query": query, "label": label}):
            yield Job.model_validate(item)

    def change(
        self,
        job_id: str,
        *,
        name: str | None = None,
        labels: Sequence[str] | None = None,
        version: int | None = None,
    ) -> Job:
        """Renames or labels a job; with `version` only if it is still that version.

        Raises:
            ServerError: status 412: somebody else changed it.
        """
        body = {"name": name, "labels": None if labels is None else list(labels)}
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        sent = {key: value for key, value in body.items() if value is not None}
        return Job.model_validate(self._dict("PATCH", f"/v1/jobs/{job_id}", json=sent, headers=headers))

    def act(self, job_id: str, action: Action) -> Job:
        """Pauses, resumes, stops or cancels; asking twice changes nothing.

        Raises:
            ConflictError: not possible in the job's state.
        """
        answer = self._transport.send("POST", f"/v1/jobs/{job_id}/{action}", is_repeatable=True)
        return Job.model_validate(answer.json())

    def retrain(
        self, job_id: str, picks: Sequence[str], *, seeds: int | None = None, steps: int | None = None
    ) -> Job:
        """Queues a job that trains picked trials of an ended one again; by default as its finalists were."""
        given = {"picks": list(picks), "seeds": seeds, "steps": steps}
        body = {name: value for name, value in given.items() if value is not None}
        headers = {"Idempotency-Key": uuid4().hex}
        path = f"/v1/jobs/{job_id}/retrain"
        answer = self._transport.send("POST", path, json=body, headers=headers, is_repeatable=True)
        return Job.model_validate(answer.json())

    def delete(self, job_id: str) -> None:
        """Removes an ended job with trials, events and exports."""
        self._transport.send("DELETE", f"/v1/jobs/{job_id}")

    def wait(
        self,
        job_id: str,
        *,
        progress: Callable[[Job], None] | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """The job once it has ended; `progress` hears of it whenever it has changed.

        Raises:
            TimeoutError: it goes on after `timeout_s`.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        tag, job = "", None
        while True:
            answer = self._transport.send("GET", f"/v1/jobs/{job_id}", headers={"If-None-Match": tag})
            if answer.status_code != 304:
                job, tag = Job.model_validate(answer.json()), answer.headers.get("etag", "")
                if progress is not None:
                    progress(job)
                if job.is_over:
                    return job
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"job {job_id} has not ended after {timeout_s:g} s")
            self._transport.rest(_POLL_S)

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """Every event after the given number, once and in order, until the job's last; survives restarts."""
        return events.follow(self._transport, job_id, after, self._patience_s)

    # What a job has found

    def front(self, job_id: str) -> Front:
        """The Pareto front, fastest first, and the references."""
        return Front.model_validate(self._dict("GET", f"/v1/jobs/{job_id}/front"))

    def front_csv(self, job_id: str) -> str:
        """The front as CSV."""
        headers = {"Accept": "text/csv"}
        return self._transport.send("GET", f"/v1/jobs/{job_id}/front", headers=headers).text

    def trials(
        self,
        job_id: str,
        *,
        group: Literal["search", "reference", "all"] = "search",
        state: str | None = None,
        on_front: bool | None = None,
        sort: str = "number",
    ) -> Iterator[Trial]:
        """Trials, page after page, in the order of `sort`."""
        query = {
            "group": group,
            "state": state,
            "on_front": None if on_front is None else str(on_front).lower(),
            "sort": sort,
        }
        for item in self._items(f"/v1/jobs/{job_id}/trials", query):
            yield Trial.model_validate(item)

    def trial(self, job_id: str, number: int) -> Trial:
        """A trial with its measurements; -1 is the reference R1."""
        return Trial.model_validate(self._dict("GET", f"/v1/jobs/{job_id}/trials/{number}"))

    def trial_log(self, job_id: str, number: int, *, lines: int = 1000) -> str:
        """What workers logged about it, one line each; the last `lines`, at most 2,000."""
        path = f"/v1/jobs/{job_id}/trials/{number}/log"
        return self._transport.send("GET", path, query={"lines": str(lines)}).text

    # Models

    def export(
        self,
        job_id: str,
        *,
        pick: str = "knee",
        formats: Sequence[str] = ("torch", "onnx"),
        quantize: str = "none",
    ) -> Export:
        """Asks for a model folder; `wait_export` says when it is there."""
        body = {"pick": pick, "formats": list(formats), "quantize": quantize}
        headers = {"Idempotency-Key": uuid4().hex}
        path = f"/v1/jobs/{job_id}/exports"
        answer = self._transport.send("POST", path, json=body, headers=headers, is_repeatable=True)
        return Export.model_validate(answer.json())

    def wait_export(self, export_id: str, *, timeout_s: float = 600.0) -> Export:
        """The export once it is written.

        Raises:
            ConflictError: it failed; the message says why.
            TimeoutError: it is not ready after `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        while True:
            export = Export.model_validate(self._dict("GET", f"/v1/exports/{export_id}"))
            if export.state == "ready":
                return export
            if export.is_over:
                raise ConflictError(f"export {export_id} is {export.state}: {export.message or 'no reason'}")
            if time.monotonic() >= end:
                raise TimeoutError(f"export {export_id} is {export.state} after {timeout_s:g} s")
            self._transport.rest(_POLL_S)

    def download(self, export_id: str, file: Path) -> Path:
        """Writes the zip of a ready export; a broken download leaves nothing under that name."""
        part = file.with_name(f".{file.name}.part")
        try:
            with (
                self._transport.stream(f"/v1/exports/{export_id}/file", {}) as answer,
                part.open("wb") as out,
            ):
                for piece in answer.iter_bytes():
                    out.write(piece)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        return file

    # Data, and what there is

    def upload(self, file: Path, *, name: str | None = None) -> Dataset:
        """Stores a file of data; its `dataset` is what a job names. The same file is stored once."""
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InvalidInputError(f"'{file}' cannot be read: {error.strerror}") from error
        kind = MEDIA_TYPES.get(file.suffix.lower(), "text/plain")
        answer = self._transport.send(
            "POST",
            "/v1/datasets",
            content=content,
            query={"name": name or file.name},
            headers={"Content-Type": kind},
            is_repeatable=True,
        )
        return Dataset.model_validate(answer.json())

    def datasets(self) -> Iterator[Dataset]:
        """Your data sets, newest first."""
        for item in self._items("/v1/datasets", {}):
            yield Dataset.model_validate(item)

    def delete_dataset(self, dataset_id: str) -> None:
        """Removes a data set that no job uses."""
        self._transport.send("DELETE", f"/v1/datasets/{dataset_id}")

    def score(
        self,
        architecture: Mapping[str, Any],
        *,
        task: Mapping[str, Any] | None = None,
        proxies: Sequence[str] | None = None,
        measure: bool = False,
    ) -> Mapping[str, Any]:
        """Costs, proxies (with a task), predicted and measured latency of one architecture."""
        body = {"architecture": architecture, "task": task, "proxies": proxies, "measure": measure}
        return self._dict("POST", "/v1/architectures:score", json=body)

    def catalogue(self, name: Literal["spaces", "tasks", "proxies", "strategies", "devices"]) -> Any:
        """What a job may name."""
        return self._transport.send("GET", f"/v1/{name}").json()

    def version(self) -> Mapping[str, str]:
        """Of the server's program and schema."""
        return self._dict("GET", "/v1/version")

    def _dict(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._transport.send(method, path, **sent).json()
        return found

    def _items(self, path: str, query: Mapping[str, str | None]) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            page = self._dict("GET", path, query={**query, "cursor": cursor})
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return
