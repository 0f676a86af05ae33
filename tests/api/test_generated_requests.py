"""Gate G10: requests generated from the interface's own description, against a live server with keys.

Every check of the generator is on (`schemathesis.toml` names the exceptions). The suite sends at least
2,000 requests in at least 100 stateful sequences and beside them; `make soak` 50,000 and 2,000.
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

UNLIMITED = Settings(rate_limit=0, heartbeat_s=0.2, job_quota=10**6, export_quota=10**6)
QUICK = "^/v1/(spaces|jobs:preview|architectures:score)$"
"""Paths whose answers take seconds of work: left to the long form."""
CONFIG = Path(__file__).with_name("schemathesis.toml")


def generated(
    application: FastAPI, database: Database, folder: Path, *options: str, timeout_s: float
) -> tuple[int, int]:
    """Runs the generator; the numbers of requests and of stateful sequences."""
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
    found = [re.search(pattern, said) for pattern in (r"([\d,]+) generated", r"Scenarios:\s+([\d,]+)")]
    requests, sequences = (int(one[1].replace(",", "")) if one else 0 for one in found)
    return requests, sequences


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_g10_generated_requests_find_no_fault(any_database: Database, tmp_path: Path) -> None:
    common = ("--generation-deterministic", "--exclude-path-regex", QUICK)
    phases = {"fuzzing": "40", "stateful": "200"}
    found = [
        generated(
            create_app(UNLIMITED, any_database), any_database, tmp_path, "--phases", phase,
            "--max-examples", examples, *common, timeout_s=600,
        )
        for phase, examples in phases.items()
    ]  # fmt: skip
    requests, sequences = map(sum, zip(*found, strict=True))
    assert requests >= 2000
    assert sequences >= 100


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_g10_fifty_thousand_generated_requests_find_no_fault(any_database: Database, tmp_path: Path) -> None:
    """And two thousand sequences, in rounds with a seed each; those of an earlier run count."""
    engine = "postgresql" if any_database.url_shown.startswith("postgresql") else "sqlite"
    none = {"requests": 0, "sequences": 0, "rounds": 0, "seconds": 0}
    none |= {"server_errors": 0, "schema_violations": 0, "invariant_breaks": 0}  # one ends the test
    found = none | recorded("G10", engine)
    while found["requests"] < 50_000 or found["sequences"] < 2_000:
        began = time.monotonic()
        found["rounds"] += 1
        phases = "coverage,fuzzing,stateful" if found["requests"] < 50_000 else "stateful"
        requests, sequences = generated(
            create_app(UNLIMITED, any_database), any_database, tmp_path, "--phases", phases,
            "--max-examples", "100" if "fuzzing" in phases else "500", "--seed", str(found["rounds"]),
            timeout_s=7000,
        )  # fmt: skip
        found["requests"] += requests
        found["sequences"] += sequences
        found["seconds"] += round(time.monotonic() - began)
        record("G10", engine, **found)
