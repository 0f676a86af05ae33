"""Log lines: one form, no secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from api.logging import PACKAGES, configure_logging
from search.blotting import blotted

SECRET = "pf_0123abcd_" + "x" * 43


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    kept = {name: (logging.getLogger(name).handlers, logging.getLogger(name).propagate) for name in PACKAGES}
    levels = {name: logging.getLogger(name).level for name in PACKAGES}
    yield
    for name, (handlers, propagate) in kept.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(levels[name])


def test_fields_travel_beside_a_constant_message() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    logging.getLogger("search.x").info("trial finished", extra={"trial_id": 7})
    logging.getLogger("search.x").debug("not shown")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["trial_id"], line["level"]) == ("trial finished", 7, "info")


def test_ray_adds_nothing_to_our_lines() -> None:
    """As soon as it is imported, it adds a field to every record of the process."""
    import ray

    assert ray.__version__
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    logging.getLogger("search.x").info("trial finished")
    assert "_ray_timestamp_ns" in vars(logging.makeLogRecord({}))
    assert set(json.loads(stream.getvalue())) == {"event", "level", "logger", "timestamp"}


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_blotted_out(form: str) -> None:
    stream = io.StringIO()
    configure_logging("info", "json" if form == "json" else "text", stream)
    try:
        raise RuntimeError(f"key {SECRET}")
    except RuntimeError:
        logging.getLogger("api").exception("failed", extra={"address": "postgresql://me:hunter2@host/db"})
    assert "hunter2" not in stream.getvalue()
    assert "x" * 43 not in stream.getvalue()


def test_a_password_may_have_a_slash() -> None:
    assert blotted("at postgresql://me:hunt/er2@host/db") == "at postgresql://***@host/db"
