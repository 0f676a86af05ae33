"""Gate G10: requests generated from the interface's own description, against a live server with keys.

Every check of the generator is on (`schemathesis.toml` names the exceptions). The suite sends some hundred
requests; `make soak` at least 50,000, the stateful sequences among them.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fastapi import FastAPI

from api.app import create_app
from api.settings import Settings
from search.storage import keys
from search.storage.check import check
from search.storage.database import Database

from ..search.fault_kit import record, recorded
from .conftest import fill
from .test_client import served

CONFIG = Path(__file__).with_name("schemathesis.toml")


def generated(
    application: FastAPI, database: Database, folder: Path, *options: str, timeout_s: float
) -> tuple[int, str]:
    """Runs the generator; the number of requests, and what it says."""
    fill(database)
    with database.write() as session:
        _, secret = keys.create(session, name="generator")
    application.state.services.attempts.failed = lambda *names: (
        None
    )  # wrong keys on purpose, thousands of them
    with served(application) as port:
        address = f"http://127.0.0.1:{port}/openapi.json"
        command = [
            str(Path(sys.executable).with_name("st")), "--config-file", str(CONFIG), "--no-color", "run",
            address, "--checks", "all", "-H", f"Authorization: Bearer {secret}", *options,
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True,
            timeout=timeout_s,
        )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-8000:]
    assert check(database) == []
    found = re.search(r"([\d,]+) generated", said)
    assert found, said[-2000:]
    return int(found[1].replace(",", "")), said


@pytest.mark.slow
def test_g10_generated_requests_find_no_fault(
    any_database: Database, settings: Settings, tmp_path: Path
) -> None:
    quick = ("--exclude-path-regex", "^/v1/(spaces|jobs:preview|architectures:score)$")
    count, _ = generated(
        create_app(settings, any_database), any_database, tmp_path, "--phases", "fuzzing,stateful",
        "--max-examples", "4",
        "--generation-deterministic", *quick, timeout_s=200,
    )  # fmt: skip
    assert count > 100


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_g10_fifty_thousand_generated_requests_find_no_fault(any_database: Database, tmp_path: Path) -> None:
    """And two thousand sequences, in rounds with a seed each; those of an earlier run count."""
    engine = "postgresql" if any_database.url_shown.startswith("postgresql") else "sqlite"
    none = {"requests": 0, "sequences": 0, "rounds": 0, "seconds": 0}
    none |= {"server_errors": 0, "schema_violations": 0, "invariant_breaks": 0}  # one ends the test
    found = none | recorded("G10", engine)
    settings = Settings(rate_limit=0, heartbeat_s=0.2, job_quota=10**6, export_quota=10**6)
    while found["requests"] < 50_000 or found["sequences"] < 2_000:
        began = time.monotonic()
        found["rounds"] += 1
        phases = "coverage,fuzzing,stateful" if found["requests"] < 50_000 else "stateful"
        count, said = generated(
            create_app(settings, any_database), any_database, tmp_path, "--phases", phases,
            "--max-examples", "100" if "fuzzing" in phases else "500", "--seed", str(found["rounds"]),
            timeout_s=7000,
        )  # fmt: skip
        sequences = re.search(r"Scenarios:\s+([\d,]+)", said)
        found["requests"] += count
        found["sequences"] += int(sequences[1].replace(",", "")) if sequences else 0
        found["seconds"] += round(time.monotonic() - began)
        record("G10", engine, **found)
