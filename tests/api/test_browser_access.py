"""Every page for every reader: axe without serious findings in light and dark, narrow and wide screens,
keyboard, no JavaScript; and under the content policy it is served with.

A made-up job of 30 trials on a real server without a coordinator.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from api import gathering
from benchmarks.made_up_job import insert_made_up_job
from benchmarks.page_pictures import CHROMIUM, paths
from benchmarks.served_pages import served
from dashboards import thinned_plane
from search.records import JobRecord
from search.storage.database import Database

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
NAMES = ("jobs", "new-job", "job", "explore", "devices", "report", "trial", "compare", "error")
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>=1+1"
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
SERIOUS = """
async (options) => (await axe.run(document, options)).violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).join(", ")}`)
"""
TOO_WIDE = "document.documentElement.scrollWidth - window.innerWidth"
ZOOM = """
() => window.Plotly.relayout(document.querySelector("[data-figure=front]"),
  { "xaxis.range": [Math.log10(0.05), Math.log10(0.4)], "yaxis.range": [2.2, 2.9] })
"""
DIMMED = """
[...document.querySelectorAll("[data-figure]")]
  .filter((one) => (one.data || []).some((trace) => trace.name === "outside the filter"))
  .map((one) => one.dataset.figure)
"""
RANGE = "document.querySelector('[data-figure=front]')._fullLayout.yaxis.range"
FOCUSED = """
() => {
  const one = document.activeElement;
  const box = one.getBoundingClientRect();
  const isSeen = box.width > 0 && box.height > 0;
  return [one.tagName, one.getAttribute("href") || one.name || one.id || "", isSeen];
}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Database, JobRecord]]:
    database = Database.open(f"sqlite:///{tmp_path_factory.mktemp('pages')}/p.db")
    job = insert_made_up_job(database, 30, name=HOSTILE)
    with served(database) as address:
        yield address, database, job
    database.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert Path(CHROMIUM).exists(), "chromium is missing; on Debian: sudo apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(60_000)
    opened.add_init_script(WATCH)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_for_everybody(site: tuple[str, Database, JobRecord], page: Page, name: str) -> None:
    address, database, job = site
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address + paths(database, job)[name])
    page.wait_for_load_state("load")
    page.evaluate(AXE)
    assert page.evaluate(SERIOUS, {}) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(SERIOUS, {"runOnly": ["color-contrast"]}) == []
    for width in (400, 2560):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(TOO_WIDE) <= 0, width
    assert page.evaluate("window.violations") == []
    assert page.title() != "owned"
    assert faults == []


def test_a_job_is_read_without_a_mouse(site: tuple[str, Database, JobRecord], page: Page) -> None:
    """Tab comes past every way on, and Enter on a trial of the table opens it."""
    address, _, job = site
    page.goto(f"{address}/jobs/{job.id}")
    page.wait_for_selector("[data-figure=front] .main-svg")
    passed: list[tuple[str, str, bool]] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        passed.append(tuple(page.evaluate(FOCUSED)))
        if "/trials/" in passed[-1][1]:
            break
    assert all(is_seen for _, _, is_seen in passed), passed
    reached = {where for _, where, _ in passed}
    assert {"/devices", "x", "y", "scale"} <= reached
    assert any(where.endswith("report.html") for where in reached)
    page.keyboard.press("Enter")
    page.wait_for_url("**/trials/*")


def test_a_brush_over_one_chart_filters_all_of_them_and_stands_in_the_address(
    site: tuple[str, Database, JobRecord], page: Page
) -> None:
    address, _, job = site
    page.goto(f"{address}/jobs/{job.id}")
    page.wait_for_selector("[data-figure=latency] .main-svg")
    titles = page.locator(".modebar-btn").evaluate_all("(all) => all.map((one) => one.dataset.title)")
    assert set(titles) == {"Zoom in", "Zoom out", "Reset axes"}  # by default one sends the chart elsewhere
    page.locator("[data-drag=select]").click()
    expect(page.locator("[data-drag=select]")).to_have_attribute("aria-pressed", "true")
    chart = page.locator("[data-figure=latency]")
    chart.scroll_into_view_if_needed()
    box = chart.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
    page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"\?min\.latency_s=[\d.]+&max\.latency_s=[\d.]+$"))
    inside = page.locator("[data-fragment=region]")
    expect(inside).to_contain_text("of 30 trials inside")
    assert set(page.evaluate(DIMMED)) == {"front", "latency", "learning"}
    expect(page.locator("[data-fragment=twin_funnel]")).to_contain_text("inside the filter")
    low = page.locator("input[name='min.latency_s']").input_value()
    words, shown = inside.inner_text(), page.url
    page.reload()
    expect(inside).to_have_text(words)
    assert page.locator("input[name='min.latency_s']").input_value() == low
    assert f"min.latency_s={low}" in (
        page.get_by_role("link", name="Explore all").get_attribute("href") or ""
    )
    page.locator("input[name='max.trial']").fill("many")
    page.locator("input[name='max.trial']").press("Enter")
    expect(inside).to_contain_text("max.trial='many' is no number")
    page.locator("input[name='max.trial']").fill("20")
    page.locator("input[name='max.trial']").press("Enter")
    expect(inside).to_contain_text("trial number to 20")
    page.get_by_role("link", name="Show all").click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f]{32}$"))
    expect(inside).to_be_empty()
    assert page.url != shown
    assert page.evaluate("window.violations") == []


def test_without_javascript_front_trial_and_export_work(
    site: tuple[str, Database, JobRecord], browser: Browser
) -> None:
    address, _, job = site
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{address}/jobs/{job.id}")
    rows = page.locator("[data-fragment=front_table] tbody tr")
    shown = rows.count()
    assert shown > 2
    expect(rows.first).to_contain_text("ms")
    page.locator("#selection select[name=x]").select_option("params")
    page.locator("#selection button[type=submit]").click()
    page.wait_for_url("**x=params**")
    page.locator("#region summary").click()
    page.locator("input[name='max.params']").fill("0.2")
    page.locator("#region button").click()
    page.wait_for_url("**max.params=0.2**")
    assert 0 < rows.count() < shown
    expect(page.locator("[data-fragment=region]")).to_contain_text("parameters (M) to 0.2")
    page.locator("[data-fragment=front_table] a").first.click()
    page.wait_for_url("**/trials/*")
    expect(page.locator("svg.pf-draw").first).to_be_visible()
    page.locator("#exports").get_by_role("button", name="Export").click()
    page.wait_for_url("**#exports")
    expect(page.locator("#exports table tbody tr")).to_have_count(1)
    context.close()


def test_a_file_is_sent_from_the_form_and_named_in_the_job(
    site: tuple[str, Database, JobRecord], page: Page, tmp_path: Path
) -> None:
    address, _, _ = site
    text = tmp_path / "prose.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 200, encoding="utf-8")
    page.goto(f"{address}/jobs/new")
    page.locator("#upload").set_input_files(text)
    expect(page.locator("#upload-state")).to_have_class("chip completed")
    named = page.input_value("[name='task.dataset']")
    assert named.startswith("data_")
    page.reload()
    offered: Any = page.locator("#datasets option").evaluate_all("(all) => all.map((one) => one.value)")
    assert named in offered


def test_a_zoom_asks_the_server_for_its_part_and_stands_in_the_address(
    site: tuple[str, Database, JobRecord], page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty trials are many here, and five marks the most of a view."""
    address, _, job = site
    monkeypatch.setattr(gathering, "WHOLE", 10)
    monkeypatch.setattr(thinned_plane, "__defaults__", (5,))
    page.goto(f"{address}/jobs/{job.id}")
    page.wait_for_selector("[data-figure=front] .main-svg")
    expect(page.locator("[data-fragment=twin_front]")).to_contain_text("5 are drawn")
    with page.expect_response("**/charts/front.json?zoom=*") as answered:
        page.evaluate(ZOOM)
    assert answered.value.status == 200
    page.wait_for_url("**?zoom=0.05,0.4,2.2,2.9")
    expect(page.locator("[data-fragment=twin_front]")).not_to_contain_text("5 are drawn")
    link = page.locator("a[href*='/charts/front.csv']").get_attribute("href") or ""
    assert link.endswith("?zoom=0.05,0.4,2.2,2.9")
    page.reload()
    page.wait_for_selector("[data-figure=front] .main-svg")
    assert page.evaluate(RANGE) == pytest.approx([2.2, 2.9])
