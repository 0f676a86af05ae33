"""The way of a new user through real pages, in Debian's Chromium, against a real `paretoformer serve`.

Screenshots stay in the test's temporary folder, or in PARETOFORMER_SCREENSHOTS.
"""

import base64
import io
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 300_000
JOB = """\
name: from the browser
space:
  set: {d_model: [32], num_layers: [1, 2], mixer: [softmax, gla, pool], number_format: [fp32, int8_dynamic]}
screen: {candidates: 2}
training: {steps: 20, rungs: 1}
references: {sizes: 1}
finalists: {count: 1, seeds: 2, steps: 20}
budget: {trials: 4}
"""
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
MARKS = "document.querySelectorAll('[data-figure=front] .scatterlayer .points path').length"
COLOURS = """
async (source) => {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
  const counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) || 0) + 1);
  return [counts.size, 1 - Math.max(...counts.values()) / pixels.length];
}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a server with an empty database and one Ray worker."""
    command = Path(sys.executable).with_name("paretoformer")
    environment = {**os.environ, "PARETOFORMER_DB": f"sqlite:///{tmp_path}/p.db"}
    process = subprocess.Popen(
        [command, "serve", "--port", "0", "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert process.stderr is not None
    lines: list[str] = []
    address = ""
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"http://[\d.]+:\d+", line):
            address = found[0]
            break
    drain = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    drain.start()
    assert address, "".join(lines)
    yield address
    process.terminate()
    process.wait(timeout=60)
    drain.join(timeout=10)
    process.stderr.close()
    assert process.returncode == 0, "".join(lines)
    assert "Traceback" not in "".join(lines)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert Path(CHROMIUM).exists(), "chromium is missing; on Debian: sudo apt-get install chromium"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def test_a_new_user_submits_a_job_watches_it_grow_and_takes_a_model(
    server: str, browser: Browser, tmp_path: Path
) -> None:
    shots = Path(os.environ.get("PARETOFORMER_SCREENSHOTS", tmp_path / "screenshots"))
    shots.mkdir(parents=True, exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(30_000)
    complaints: list[str] = []
    page.on("console", lambda message: _note(message, complaints))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(WATCH)

    page.goto(server)
    expect(page.get_by_text("No search yet")).to_be_visible()
    page.screenshot(path=shots / "1-jobs.png", full_page=True)

    page.get_by_role("link", name="New job").first.click()
    page.get_by_text("Edit as YAML").click()
    page.locator("#yaml").fill(JOB)
    page.screenshot(path=shots / "2-new-job.png", full_page=True)
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f]{32}$"), timeout=60_000)

    page.evaluate("window.sameDocument = true")
    first = _wait_for_marks(page, 1)
    _wait_for_marks(page, first + 1)
    page.screenshot(path=shots / "3-growing.png", full_page=True)
    expect(page.locator("#state")).to_have_text("completed", timeout=PATIENCE_MS)
    expect(page.locator("#connection")).to_have_text("ended", timeout=PATIENCE_MS)
    assert page.evaluate("window.sameDocument"), "the page was loaded again"
    _assert_drawn(page)
    page.screenshot(path=shots / "4-completed.png", full_page=True)

    page.locator("[data-fragment=front_table] input[form=compare]").first.check()
    page.locator("[data-fragment=reference_table] input[form=compare]").first.check()
    page.get_by_role("button", name="Compare 2 ticked").click()
    page.wait_for_url(re.compile(r"/compare\?trials=\d+,R\d+$"))
    expect(page.locator(".side-by-side svg.pf-draw")).to_have_count(2)
    page.screenshot(path=shots / "5-compare.png", full_page=True)
    page.go_back()

    page.locator("[data-fragment=front_table] a").first.click()
    page.wait_for_url(re.compile(r"/trials/\d+$"))
    expect(page.locator(".drawing svg").first).to_be_visible()
    page.screenshot(path=shots / "6-trial.png", full_page=True)
    page.locator("#exports select[name=quantize]").select_option("int8")
    page.get_by_role("button", name="Export").click()
    expect(page.locator("#exports .chip.ready")).to_be_visible(timeout=PATIENCE_MS)
    page.screenshot(path=shots / "7-export.png", full_page=True)
    with page.expect_download() as download:
        page.locator("#exports").get_by_role("link", name="Download").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert {"README.md", "model.int8.onnx", "export_report.json"} <= {
        Path(name).name for name in archive.namelist()
    }

    assert page.evaluate("window.violations") == []
    assert complaints == []
    page.close()


def _note(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type in ("error", "warning"):
        complaints.append(f"{message.type}: {message.text}")


def _wait_for_marks(page: Page, least: int) -> int:
    """Marks of the front figure once there are enough; asked from outside: the policy forbids eval."""
    end = time.monotonic() + PATIENCE_MS / 1e3
    while time.monotonic() < end:
        if (count := int(page.evaluate(MARKS))) >= least:
            return count
        page.wait_for_timeout(200)
    raise AssertionError(f"the figure never had {least} marks")


def _assert_drawn(page: Page) -> None:
    """The figure has ink: many colours, and not only background."""
    picture = page.locator("[data-figure=front]").screenshot()
    canvas = page.context.browser.new_page() if page.context.browser else None
    assert canvas is not None
    colours, ink = canvas.evaluate(COLOURS, "data:image/png;base64," + base64.b64encode(picture).decode())
    canvas.close()
    assert colours > 20
    assert ink > 0.01
