"""Pictures of every page in light and dark, with 0, 30 and 100,000 trials.

    python -m benchmarks.page_pictures --out FOLDER [--trials 0 30 100000] [--widths 400 1280 2560]
    python -m benchmarks.page_pictures --out docs/pictures --db sqlite:///paretoformer.db --job JOB --docs

Jobs are made up (`benchmarks.made_up_job`) unless a database with a real job is given. `--docs` takes the
three pictures of README and docs from it: the job page, a trial, a comparison.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from search.records import JobRecord
from search.storage import jobs, trials
from search.storage.database import Database

from .made_up_job import insert_made_up_job
from .served_pages import served

CHROMIUM = "/usr/bin/chromium"
SIZES = (0, 30, 100_000)
WIDTH, HEIGHT = 1280, 900
TALLEST = 4000
"""Of a picture: a table of thousands of rows says no more than its beginning."""
SETTLE_MS = 600
Scheme = Literal["dark", "light"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def paths(database: Database, job: JobRecord) -> dict[str, str]:
    """Name -> address of every page of a job that it has."""
    found = {
        "jobs": "/",
        "new-job": "/jobs/new",
        "job": f"/jobs/{job.id}",
        "explore": f"/jobs/{job.id}/explore",
        "devices": f"/devices?job={job.id}",
        "report": f"/jobs/{job.id}/report.html",
        "error": "/jobs/none",
    }
    with database.read() as session:
        front = trials.front(session, job.id, "search")
        references = trials.front(session, job.id, "reference")
    if front:
        middle = front[len(front) // 2]
        found["trial"] = f"/jobs/{job.id}/trials/{middle.number}"
        beside = [middle.label, front[-1].label, *(one.label for one in references[:1])]
        found["compare"] = f"/jobs/{job.id}/compare?trials={','.join(dict.fromkeys(beside))}"
    return found


def take(page: Page, address: str, path: Path, *, clip: tuple[int, int] | None = None) -> None:
    """One picture once the page is quiet. `clip`: width and height from the top left; by default all."""
    page.goto(address)
    page.wait_for_load_state("load")
    if page.locator("#preview").count():
        page.locator("#preview svg").first.wait_for()
    page.wait_for_timeout(SETTLE_MS)
    tall = min(TALLEST, int(page.evaluate("document.documentElement.scrollHeight")))
    width, height = clip or ((page.viewport_size or {"width": WIDTH})["width"], tall)
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})


def all_pages(
    browser: Browser, database: Database, job: JobRecord, out: Path, prefix: str, widths: Sequence[int]
) -> None:
    """Every page of the job in both schemes and all widths."""
    with served(database) as address:
        for scheme, width in itertools.product(SCHEMES, widths):
            page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
            page.set_default_timeout(120_000)
            for name, path in paths(database, job).items():
                take(page, address + path, out / f"{prefix}-{name}-{width}-{scheme}.png")
            page.close()


DOCS: tuple[tuple[str, Scheme, tuple[int, int]], ...] = (
    ("job", "light", (1280, 1240)),
    ("trial", "light", (1280, 1200)),
    ("compare", "dark", (1280, 1240)),
)
"""Page, scheme and part of the pictures in README and docs."""


def docs_pictures(browser: Browser, database: Database, job: JobRecord, out: Path) -> None:
    """Those of `DOCS`."""
    with served(database) as address:
        for name, scheme, part in DOCS:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            page.set_default_timeout(120_000)
            path = out / f"{name}.png"
            take(page, address + paths(database, job)[name], path, clip=part)
            page.close()
            with Image.open(path) as picture:
                picture.convert("RGB").save(path, optimize=True)


def empty_service(browser: Browser, out: Path) -> None:
    """The list before the first job."""
    with opened(None) as database, served(database) as address:
        for scheme in SCHEMES:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            take(page, address, out / f"none-jobs-{scheme}.png")
            take(page, f"{address}/devices", out / f"none-devices-{scheme}.png")
            page.close()


@contextmanager
def opened(url: str | None) -> Iterator[Database]:
    """The database of this address, or an empty one for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="pages-") as folder:
        database = Database.open(url or f"sqlite:///{folder}/pages.db")
        try:
            yield database
        finally:
            database.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, nargs="*", default=list(SIZES), help="sizes of made-up jobs")
    parser.add_argument("--widths", type=int, nargs="*", default=[WIDTH], help="of the window, in pixels")
    parser.add_argument("--db", help="address of a database with a job")
    parser.add_argument("--job", help="id of the job in it, or its beginning")
    parser.add_argument("--docs", action="store_true", help="only the pictures of README and docs")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        if given.db:
            with opened(given.db) as database:
                with database.read() as session:
                    job = jobs.resolve(session, given.job, "local")
                if given.docs:
                    docs_pictures(browser, database, job, given.out)
                else:
                    all_pages(browser, database, job, given.out, job.id[:8], given.widths)
        else:
            empty_service(browser, given.out)
            for size in given.trials:
                with opened(None) as database:
                    job = insert_made_up_job(database, size)
                    all_pages(browser, database, job, given.out, str(size), given.widths)
        browser.close()


if __name__ == "__main__":
    main()
