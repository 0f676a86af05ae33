"""How fast pages are with 100,000 trials: server, browser, zoom, and the largest answer.

    python -m benchmarks.pages [--trials 100000] [--json benchmarks/results/pages.json]

`first pixels`: from the request to the first text on the screen (Chromium's first contentful paint);
`figure`: to the marks of the front; `zoom`: from a zoom of the front to the marks the server chose for it;
`CPU`: of the server alone, which a loaded machine changes less; `load`: running processes on average. Each
page is opened `REPEATS` times by a browser that has nothing but Plotly's bundle in its cache; the server is a
thread of this process. The job is made up (`benchmarks.made_up_job`).
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Response, sync_playwright

from evaluators.latency import device_facts
from search.storage import jobs
from search.storage.database import Database

from .made_up_job import insert_made_up_job
from .page_pictures import CHROMIUM, opened, paths
from .served_pages import served

REPEATS = 5
SETTLED_MS = 1500
"""Between the marks of the front and the zoom: nobody zooms before the charts below are drawn."""
BUNDLE = "plotly.min.js"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1e3"
MARKS = "document.querySelectorAll('[data-figure=front] .scatterlayer .points path').length"
ZOOM = """
(share) => {
  const figure = document.querySelector("[data-figure=front]");
  const { xaxis, yaxis } = figure._fullLayout;
  const part = ([low, high]) => [low + share * (high - low), high - share * (high - low)];
  const ranges = { "xaxis.range": part(xaxis.range), "yaxis.range": part(yaxis.range) };
  return window.Plotly.relayout(figure, ranges);
}
"""
DRAWN = """
JSON.stringify((document.querySelector("[data-figure=front]").data.find((one) => one.name === "evaluated")
  || {}).customdata)
"""


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "largest": round(max(values), 3),
    }


def until(page: Page, holds: Callable[[], bool], patience_s: float = 30.0) -> float:
    """Moment at which it holds; asked from outside, since the content policy forbids eval."""
    end = time.perf_counter() + patience_s
    while time.perf_counter() < end:
        if holds():
            return time.perf_counter()
        page.wait_for_timeout(10)
    raise RuntimeError(f"not within {patience_s:g} s")


def measured(browser: Browser, database: Database, job_id: str, address: str, path: str) -> dict[str, Any]:
    """Seconds of one page, and its answers by size."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    sizes: dict[str, int] = {}

    def weigh(response: Response) -> None:
        if BUNDLE not in response.url:
            sizes[response.url.removeprefix(address)] = len(response.body())

    warm = context.new_page()
    warm.goto(f"{address}/static/{BUNDLE}")
    warm.close()
    names = ("server", "server CPU", "first pixels", "figure", "zoom", "zoom CPU")
    found: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(REPEATS):
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("response", weigh)
        begin, cpu = time.perf_counter(), time.process_time()
        page.goto(address + path, wait_until="commit")
        found["server"].append(time.perf_counter() - begin)
        found["server CPU"].append(time.process_time() - cpu)
        page.wait_for_load_state("load")
        if path == f"/jobs/{job_id}":
            found["figure"].append(drawn(page) - begin)
            page.wait_for_timeout(SETTLED_MS)
            cpu = time.process_time()
            found["zoom"].append(zoomed(page, 0.3 + 0.02 * repeat))
            found["zoom CPU"].append(time.process_time() - cpu)
        page.wait_for_timeout(100)
        found["first pixels"].append(float(page.evaluate(PAINT)))
        page.close()
    context.close()
    largest = max(sizes, key=lambda url: sizes[url])
    return {
        **{name: spread(values) for name, values in found.items() if values},
        "largest answer": {"bytes": sizes[largest], "of": largest.replace(job_id, "JOB")},
    }


def drawn(page: Page) -> float:
    """Moment at which the front has its marks."""
    return until(page, lambda: int(page.evaluate(MARKS)) > 100)


def zoomed(page: Page, share: float) -> float:
    """Seconds from a zoom to the server's marks for it."""
    before = page.evaluate(DRAWN)
    begin = time.perf_counter()
    page.evaluate(ZOOM, share)
    end = until(page, lambda: page.evaluate(DRAWN) != before)
    return end - begin


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--db", help="address of a database that has such a job already")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    before = os.getloadavg()[0]
    with opened(given.db) as database, sync_playwright() as playwright:
        if given.db:
            with database.read() as session:
                job = jobs.list_jobs(session, tenant="local").items[0]
        else:
            job = insert_made_up_job(database, given.trials)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with served(database) as address:
            pages = {
                name: measured(browser, database, job.id, address, path)
                for name, path in paths(database, job).items()
                if name != "error"
            }
        browser.close()
    result = {
        "machine": device_facts(),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        "repeats": REPEATS,
        "job": job.name,
        "seconds": pages,
    }
    print(json.dumps(result, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
