"""The pages in Chromium, under the content policy they are served with: no breach, real pixels, live updates.

The server is a few lines that hand out the pages and one event stream; the service's own path is tested with
the API.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from dashboards import job_page, new_job_page, plotly_bundle, report_html, static_dir, trial_page, view
from dashboards.theme import DARK, LIGHT
from search.records import JobRecord, MeasurementRecord, TrialRecord

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHROMIUM = "/usr/bin/chromium"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HOSTILE = "<img src=x onerror=document.title='owned'>"
CLICK = """(number) => {
  const points = [{customdata: number}];
  document.querySelector("[data-figure=front]").emit("plotly_click", {points});
}"""
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass
class Site:
    """What the server hands out; `events` are sent to whoever listens, None ends the stream."""

    address: str
    pages: dict[str, str] = field(default_factory=dict)
    events: "queue.Queue[dict[str, Any] | None]" = field(default_factory=queue.Queue)


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.endswith("/events"):
                self.stream()
            elif path in served.pages:
                self.send("application/json" if path.endswith(".json") else "text/html", served.pages[path])
            elif path.startswith("/static/"):
                file = plotly_bundle() if path.endswith("plotly.min.js") else static_dir() / Path(path).name
                self.send(TYPES[file.suffix], file.read_text(encoding="utf-8"))
            else:
                self.send_error(404)

        def send(self, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.end_headers()
            self.wfile.write(body)

        def stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"retry: 200\n\n")
            self.wfile.flush()
            while (event := served.events.get()) is not None:
                text = f"id: {event['seq']}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n"
                self.wfile.write(text.encode())
                self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield served
    served.events.put(None)
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Tab:
    """A page and everything it complained about."""

    page: Page
    complaints: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_tab(site: Site, browser: Browser) -> Iterator[Callable[..., Tab]]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})

    def go(path: str, scheme: Literal["dark", "light"] = "light") -> Tab:
        page = context.new_page()
        page.emulate_media(color_scheme=scheme)
        complaints: list[str] = []

        def hear(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complaints.append(message.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(site.address + path if path.startswith("/") else path)
        return Tab(page, complaints)

    yield go
    context.close()


def running(job: JobRecord) -> JobRecord:
    return replace(job, state="running", reason=None, ended_at=None)


def test_a14_a_job_page_draws_without_breach_and_opens_a_trial(
    site: Site,
    open_tab: Callable[..., Tab],
    job: JobRecord,
    trials: list[TrialRecord],
    references: list[TrialRecord],
) -> None:
    hostile = replace(job, name=HOSTILE, message=HOSTILE)
    noted = [replace(one, note=HOSTILE) for one in references]
    site.pages["/jobs/x"] = job_page(hostile, view(hostile, trials, noted)).replace(job.id, "x")
    for trial in trials:
        site.pages[f"/jobs/x/trials/{trial.number}"] = f"<title>trial {trial.number}</title>"
    tab = open_tab("/jobs/x")
    tab.page.wait_for_selector("[data-figure=front] .scatterlayer path.point")
    assert tab.page.title() == f"{HOSTILE} · paretoformer"
    assert tab.page.locator("main img").count() == 0
    marks = tab.page.locator("[data-figure=front] .scatterlayer path.point").count()
    completed = sum(one.state == "completed" for one in (*trials, *references))
    assert marks == completed + len(job.indicators["suggestions"])
    expect(front_line(tab.page)).to_have_css("stroke", rgb(LIGHT.accent))
    assert tab.complaints == []
    best = max(trial.number for trial in trials if trial.on_front)
    tab.page.evaluate(CLICK, best)
    tab.page.wait_for_url(f"**/trials/{best}")


def test_a_dark_reader_gets_dark_figures(
    site: Site, open_tab: Callable[..., Tab], job: JobRecord, trials: list[TrialRecord]
) -> None:
    site.pages["/jobs/x"] = job_page(job, view(job, trials, []))
    tab = open_tab("/jobs/x", "dark")
    tab.page.wait_for_selector("[data-figure=front] .scatterlayer path.point")
    expect(front_line(tab.page)).to_have_css("stroke", rgb(DARK.accent))
    tab.page.emulate_media(color_scheme="light")
    expect(front_line(tab.page)).to_have_css("stroke", rgb(LIGHT.accent))
    assert tab.complaints == []


def test_a_running_job_grows_on_the_page_and_ends(
    site: Site, open_tab: Callable[..., Tab], job: JobRecord, trials: list[TrialRecord]
) -> None:
    live = running(job)
    site.pages["/jobs/x"] = job_page(live, view(live, trials[:4], [])).replace(job.id, "x")
    tab = open_tab("/jobs/x")
    tab.page.wait_for_selector("#connection.live")
    before = tab.page.locator("[data-fragment=front_table] tbody tr").count()
    site.pages["/jobs/x/view.json"] = json.dumps(view(live, trials, []))
    for seq in (1, 2, 3):
        site.events.put({"seq": seq, "kind": "front.changed", "trial": seq, "data": {}})
    front = sum(trial.on_front for trial in trials)
    assert front != before
    expect(tab.page.locator("[data-fragment=front_table] tbody tr")).to_have_count(front)
    assert tab.page.locator("form[data-action=pause]").is_visible()
    site.pages["/jobs/x/view.json"] = json.dumps(view(job, trials, []))
    site.events.put({"seq": 4, "kind": "job.state", "trial": None, "data": {"state": "completed"}})
    tab.page.wait_for_selector("#connection.ended")
    assert tab.page.locator("#state").inner_text() == "completed"
    assert not tab.page.locator("form[data-action=pause]").is_visible()
    assert tab.complaints == []


def test_a_lost_connection_is_shown_and_taken_up_again(
    site: Site, open_tab: Callable[..., Tab], job: JobRecord, trials: list[TrialRecord]
) -> None:
    live = running(job)
    site.pages["/jobs/x"] = job_page(live, view(live, trials[:4], [])).replace(job.id, "x")
    tab = open_tab("/jobs/x")
    tab.page.wait_for_selector("#connection.live")
    site.events.put(None)
    tab.page.wait_for_selector("#connection.reconnecting")
    tab.page.wait_for_selector("#connection.live")


def test_a_trial_page_draws_its_curve(
    site: Site,
    open_tab: Callable[..., Tab],
    job: JobRecord,
    trials: list[TrialRecord],
    measured: Callable[[TrialRecord], list[MeasurementRecord]],
) -> None:
    site.pages["/t"] = trial_page(job, trials[0], measured(trials[0]), [], trials=trials)
    tab = open_tab("/t")
    tab.page.wait_for_selector("[data-figure=curve] .scatterlayer path.js-line")
    box = tab.page.locator("svg.pf-draw").bounding_box()
    assert box is not None
    assert box["width"] > 300
    assert tab.complaints == []


def test_the_form_becomes_yaml_and_the_example_fills_it(site: Site, open_tab: Callable[..., Tab]) -> None:
    import yaml

    from dashboards import default_form, job_data
    from search.job import parse_job

    site.pages["/jobs/new"] = new_job_page(example="name: quick\n")
    tab = open_tab("/jobs/new")
    tab.page.fill("[name=trials]", "24")
    tab.page.fill("[name=max_latency_ms]", "20")
    tab.page.fill("[name=name]", "mine: a #1 search")
    tab.page.check("[name=objective_params]")
    tab.page.click("label[for=mode-yaml]")
    form = {**default_form(), "trials": "24", "max_latency_ms": "20", "objective_params": "on"}
    typed = yaml.safe_load(tab.page.input_value("textarea"))
    assert parse_job(typed) == parse_job(job_data({**form, "name": "mine: a #1 search"}))
    assert not tab.page.locator("[name=trials]").is_visible()
    tab.page.click("#example")
    assert tab.page.input_value("textarea") == "name: quick\n"
    assert tab.complaints == []


def test_the_report_opens_from_the_file_system(
    open_tab: Callable[..., Tab], tmp_path: Path, job: JobRecord, trials: list[TrialRecord]
) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_html(job, trials, []), encoding="utf-8")
    tab = open_tab(path.as_uri())
    tab.page.wait_for_selector("[data-figure=front] .scatterlayer path.point")
    assert tab.page.locator("svg.pf-draw").count() > 0
    assert tab.complaints == []


def front_line(page: Page) -> Locator:
    """The step line of the search front, the one thick solid line of the figure."""
    return page.locator("[data-figure=front] .scatterlayer path.js-line[style*='stroke-width: 2.4px']")


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"
