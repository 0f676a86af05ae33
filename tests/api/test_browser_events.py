"""Two browsers and a client watch one job while its server is restarted: each sees every event once."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from api.app import create_app
from api.client import Client, Event
from api.settings import Settings
from search.records import JobRecord
from search.storage import events, jobs
from search.storage.database import Database

from .conftest import fill
from .test_client import served

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(200)]

CHROMIUM = "/usr/bin/chromium"
LISTEN = """
window.seen = [];
const Real = window.EventSource;
const KINDS = ["job.state", "trial.created", "trial.state", "trial.measured", "front.changed",
  "indicators.changed", "proxy.verdict", "export.state", "warning"];
window.EventSource = class extends Real {
  constructor(...given) {
    super(...given);
    for (const kind of KINDS) {
      this.addEventListener(kind, (event) => window.seen.push(JSON.parse(event.data).seq));
    }
  }
};
"""


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def test_g5_f67_two_browsers_and_a_client_see_every_event_once_through_a_restart(
    browser: Browser, database: Database, settings: Settings
) -> None:
    job = fill(database, until="running")
    with database.read() as session:
        first = events.last_seq(session, job.id)
    turns = count()
    heard: list[Event] = []
    with served(create_app(settings, database)) as port:
        pages = [_open(browser, f"http://127.0.0.1:{port}/jobs/{job.id}") for _ in range(2)]
        client = threading.Thread(target=_follow, args=(port, job.id, first, heard))
        client.start()
        _happen(database, job, 5, turns)
        _until(lambda: min(len(heard), *(len(_seen(page)) for page in pages)) >= 5)
    _happen(database, job, 5, turns)  # nobody is there to tell
    with served(create_app(settings, database), port):
        _happen(database, job, 5, turns)
        with database.write() as session:
            jobs.set_state(session, job.id, "completed", fence=job.fence, reason="user")
            last = events.last_seq(session, job.id)
        _until(lambda: all(last in _seen(page) for page in pages))
        client.join(timeout=60)
    everything = list(range(first + 1, last + 1))
    assert [event.seq for event in heard] == everything
    for page in pages:
        assert _seen(page) == everything


def _open(browser: Browser, address: str) -> Page:
    page = browser.new_context().new_page()
    page.add_init_script(LISTEN)
    page.goto(address)
    page.wait_for_function("document.querySelector('#connection') !== null")
    return page


def _seen(page: Page) -> list[int]:
    found: list[int] = page.evaluate("window.seen")
    return found


def _happen(database: Database, job: JobRecord, times: int, turns: Iterator[int]) -> None:
    for _ in range(times):
        with database.write() as session:
            jobs.set_indicators(session, job.id, job.fence, {"turn": next(turns)})


def _follow(port: int, job_id: str, after: int, heard: list[Event]) -> None:
    with Client(f"http://127.0.0.1:{port}") as client:
        heard.extend(client.events(job_id, after=after))  # grows with every event


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)
