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

from dashboards import (
    axis_keys,
    compare_page,
    explore_page,
    job_page,
    new_job_page,
    plotly_bundle,
    read_selection,
    report_html,
    static_dir,
    trial_page,
    view,
)
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

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send("application/json", served.pages[self.path])

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
    paused = replace(live, state="paused")
    site.pages["/jobs/x/view.json"] = json.dumps(view(paused, trials, []))
    site.events.put({"seq": 4, "kind": "job.state", "trial": None, "data": {"state": "paused"}})
    tab.page.wait_for_selector("#connection.paused")
    assert tab.page.locator("form[data-action=resume]").is_visible()
    site.pages["/jobs/x/view.json"] = json.dumps(view(job, trials, []))
    site.events.put({"seq": 5, "kind": "job.state", "trial": None, "data": {"state": "completed"}})
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


def test_the_form_shows_what_the_server_says_of_it(site: Site, open_tab: Callable[..., Tab]) -> None:
    site.pages["/jobs/new"] = new_job_page(example="name: quick\n", written="name: first\n")
    answer = {
        "written": "name: mine\n",
        "command": "curl",
        "preview": "<p id=drawn>three</p>",
        "problems": [["budget.trials", "budget.trials: not a number"], ["", HOSTILE]],
    }
    site.pages["/jobs/new/preview"] = json.dumps(answer)
    tab = open_tab("/jobs/new")
    expect(tab.page.locator("[id='p.budget.trials']")).to_have_text("not a number")
    expect(tab.page.locator("[id='f.budget.trials']")).to_have_attribute("aria-invalid", "true")
    expect(tab.page.locator("#problems li")).to_have_text(HOSTILE)
    expect(tab.page.locator("#drawn")).to_be_visible()
    site.pages["/jobs/new/preview"] = json.dumps({**answer, "problems": [], "written": "name: other\n"})
    tab.page.fill("[name='budget.trials']", "24")
    expect(tab.page.locator("#preview-state")).to_have_text("would run")
    expect(tab.page.locator("[aria-invalid]")).to_have_count(0)
    tab.page.click("label[for=mode-yaml]")
    assert tab.page.input_value("textarea") == "name: other\n"
    assert not tab.page.locator("[name='budget.trials']").is_visible()
    tab.page.click("#example")
    assert tab.page.input_value("textarea") == "name: quick\n"
    assert tab.complaints == []


def test_trials_are_compared_from_ticked_boxes_and_the_curves_are_a_picture(
    site: Site,
    open_tab: Callable[..., Tab],
    job: JobRecord,
    trials: list[TrialRecord],
    references: list[TrialRecord],
    measured: Callable[[TrialRecord], list[MeasurementRecord]],
) -> None:
    chosen = [trial for trial in trials if trial.on_front][:3]
    known = {trial.number: measured(trial) for trial in chosen}
    site.pages["/jobs/x"] = job_page(job, view(job, trials, references)).replace(job.id, "x")
    site.pages["/jobs/x/compare"] = compare_page(job, chosen, known, trials)
    tab = open_tab("/jobs/x")
    boxes = tab.page.locator("[data-fragment=front_table] input[form=compare]")
    for place in range(4):
        boxes.nth(place).check()
    expect(tab.page.locator("#compare button")).to_have_text("Compare 4 ticked")
    assert boxes.nth(4).is_disabled()
    tab.page.click("#compare button")
    tab.page.wait_for_url("**/jobs/x/compare?trials=*&trials=*")
    tab.page.wait_for_selector("[data-figure=curves] .scatterlayer path.js-line")
    with tab.page.expect_download() as download:
        tab.page.click("[data-png=curves]")
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    assert tab.complaints == []


def test_axes_change_without_leaving_the_page_and_stand_in_the_address(
    site: Site, open_tab: Callable[..., Tab], job: JobRecord, trials: list[TrialRecord]
) -> None:
    keys = axis_keys(job, trials)
    site.pages["/jobs/x"] = job_page(job, view(job, trials, []), axis_keys=keys).replace(job.id, "x")
    chosen = read_selection(job, x="params")
    site.pages["/jobs/x/view.json"] = json.dumps(view(job, trials, [], selection=chosen))
    tab = open_tab("/jobs/x")
    tab.page.wait_for_selector("[data-figure=front] .scatterlayer path.point")
    tab.page.select_option("#selection select[name=x]", "params")
    tab.page.wait_for_url("**/jobs/x?x=params")
    expect(tab.page.locator("[data-figure=front] .xtitle")).to_have_text("parameters (M), log scale")
    link = tab.page.locator("a[href*='/charts/front.csv']").get_attribute("href")
    assert (link or "").endswith("front.csv?x=params")
    assert tab.complaints == []


def test_a_brushed_axis_filters_cloud_table_and_address(
    site: Site, open_tab: Callable[..., Tab], job: JobRecord, trials: list[TrialRecord]
) -> None:
    hostile = [replace(trial, note=HOSTILE) for trial in trials]
    site.pages["/jobs/x/explore"] = explore_page(job, hostile, len(hostile), [], read_selection(job)).replace(
        job.id, "x"
    )
    tab = open_tab("/jobs/x/explore")
    matches = tab.page.locator("#matches")
    expect(matches).to_have_text("24 of 24 match")
    box = tab.page.locator("#parallel").bounding_box()
    assert box is not None
    right = box["x"] + box["width"] - 52
    tab.page.mouse.move(right, box["y"] + 190)
    tab.page.mouse.down()
    tab.page.mouse.move(right, box["y"] + 336, steps=4)
    tab.page.mouse.up()
    expect(matches).not_to_have_text("24 of 24 match")
    assert "max.bits_per_byte=" in tab.page.url
    left = int((matches.text_content() or "0").split()[0])
    assert 0 < left < 24
    expect(tab.page.locator("#matching tbody tr")).to_have_count(left)
    tab.page.fill("[name='max.bits_per_byte']", "")
    tab.page.fill("[name='min.bits_per_byte']", "")
    tab.page.locator("[name='min.bits_per_byte']").press("Enter")
    expect(matches).to_have_text("24 of 24 match")
    assert tab.page.url.endswith("/explore")
    assert tab.complaints == []


def test_the_report_opens_from_the_file_system(
    open_tab: Callable[..., Tab], tmp_path: Path, job: JobRecord, trials: list[TrialRecord]
) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_html(job, trials, []), encoding="utf-8")
    tab = open_tab(path.as_uri())
    tab.page.wait_for_selector("[data-figure=front] .scatterlayer path.point")
    assert tab.page.locator("svg.pf-draw").count() > 0
    with tab.page.expect_download() as download:
        tab.page.click("[data-csv=front]")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith('"trial","group","state","on front","latency (ms)"')
    assert len(lines) == 1 + sum("latency_s" in trial.values for trial in trials)
    assert tab.complaints == []


def front_line(page: Page) -> Locator:
    """The step line of the search front, the one thick solid line of the figure."""
    return page.locator("[data-figure=front] .scatterlayer path.js-line[style*='stroke-width: 2.4px']")


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"
