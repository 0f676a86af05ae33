"""What holds for the HTML of every page; single pages are tested in the files beside this one."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from dashboards import (
    compare_page,
    error_page,
    explore_page,
    job_page,
    jobs_page,
    new_job_page,
    read_selection,
    report_html,
    trial_page,
    view,
)
from search.records import ArtefactRecord, JobRecord, MeasurementRecord, Page, TrialRecord

VOID = {"meta", "link", "input", "br", "img", "hr", "path", "circle", "rect"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"


class Reader(HTMLParser):
    """Collects elements and complains about tags that do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def hostile(job: JobRecord, trials: list[TrialRecord], references: list[TrialRecord]) -> dict[str, Any]:
    """A job whose every free text is an attack."""
    spec = {**job.spec, "task": {**job.spec["task"], "dataset": HOSTILE}}
    context = {**job.context, "warnings": [HOSTILE], "device_key": HOSTILE}
    one = replace(job, name=HOSTILE, message=HOSTILE, spec=spec, context=context)
    marked = [replace(t, note=HOSTILE, message=HOSTILE, flags=(HOSTILE,)) for t in trials]
    return {"job": one, "trials": marked, "references": [replace(r, note=HOSTILE) for r in references]}


def pages_of(found: dict[str, Any], exports: list[ArtefactRecord]) -> dict[str, str]:
    job, trials, references = found["job"], found["trials"], found["references"]
    shown = view(job, trials, references, warnings=[HOSTILE])
    return {
        "job": job_page(job, shown, csrf="secret"),
        "jobs": jobs_page(Page([job], HOSTILE), {"completed": 1}, csrf="secret", query=HOSTILE),
        "empty": jobs_page(Page([], None), {}, csrf="secret", example=HOSTILE),
        "new": new_job_page({"name": HOSTILE, "yaml": HOSTILE}, [HOSTILE], example=HOSTILE, csrf="secret"),
        "trial": trial_page(job, trials[0], [], exports, trials=trials, csrf="secret"),
        "compare": compare_page(job, [*trials[:3], references[0]], {}, trials, limit_ms=1.0, csrf="secret"),
        "explore": explore_page(job, trials, len(trials), [], read_selection(job)),
        "error": error_page(404, "not here", HOSTILE, hint=HOSTILE),
    }


NAMES = ("job", "jobs", "empty", "new", "trial", "compare", "explore", "error")


@pytest.fixture(scope="module")
def pages(hostile: dict[str, Any], new_export: Callable[..., ArtefactRecord]) -> dict[str, str]:
    return pages_of(hostile, [new_export(hostile["trials"][0], message=HOSTILE, report={"a": HOSTILE})])


@pytest.mark.parametrize("name", NAMES)
def test_a14_free_text_is_never_markup_and_no_script_is_inline(pages: dict[str, str], name: str) -> None:
    reader = read(pages[name])
    assert not [attributes for tag, attributes in reader.elements if tag == "img"]
    for attributes, text in reader.scripts:
        if attributes.get("type") == "application/json":
            json.loads(text)
        else:
            assert str(attributes["src"]).startswith("/static/")
            assert text == ""
    for _, attributes in reader.elements:
        assert not [key for key in attributes if key.startswith("on")]
    assert "{{" not in pages[name].replace("{{7*7}}", "")


@pytest.mark.parametrize("name", NAMES)
def test_every_form_that_changes_something_carries_the_token(pages: dict[str, str], name: str) -> None:
    elements = read(pages[name]).elements
    forms = [
        attributes for tag, attributes in elements if tag == "form" and attributes.get("method") == "post"
    ]
    tokens = [
        attributes for tag, attributes in elements if tag == "input" and attributes.get("name") == "csrf"
    ]
    assert len(forms) == len(tokens)
    assert all(token["value"] == "secret" for token in tokens)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_loaded_from_elsewhere(pages: dict[str, str], name: str) -> None:
    for tag, attributes in read(pages[name]).elements:
        for key in ("src", "href", "action"):
            value = attributes.get(key)
            if value is not None and tag != "a":
                assert value.startswith(("/", "data:"))


@pytest.mark.parametrize("name", NAMES)
def test_every_field_has_a_label(pages: dict[str, str], name: str) -> None:
    reader = read(pages[name])
    labelled = {attributes.get("for") for tag, attributes in reader.elements if tag == "label"}
    for tag, attributes in reader.elements:
        if attributes.get("id") and tag in ("input", "textarea") and attributes.get("type") != "hidden":
            assert attributes["id"] in labelled


@pytest.mark.parametrize("name", ["job", "trial", "compare", "report"])
def test_every_chart_has_its_table_its_csv_and_its_picture(
    pages: dict[str, str], hostile: dict[str, Any], name: str
) -> None:
    html = pages.get(name) or report_html(hostile["job"], hostile["trials"], hostile["references"])
    figures = set(re.findall(r'data-figure="([a-z]+)"', html))
    assert figures
    for figure in figures:
        assert f'data-fragment="twin_{figure}"' in html, figure
        assert f'data-png="{figure}"' in html, figure
        assert f'data-csv="{figure}"' in html or re.search(rf'href="[^"]*/charts/{figure}\.csv', html), figure


def test_the_report_escapes_too(hostile: dict[str, Any]) -> None:
    html = report_html(hostile["job"], hostile["trials"], hostile["references"], warnings=[HOSTILE])
    assert "alert(1)</script>" not in html
    assert "<img src=x" not in html


def test_measurement_texts_are_escaped(
    hostile: dict[str, Any], new_measurement: Callable[..., MeasurementRecord]
) -> None:
    trial = hostile["trials"][0]
    record = new_measurement(trial, HOSTILE, 1.0, unit=HOSTILE, flags=(HOSTILE,), detail={"part": HOSTILE})
    reader = read(trial_page(hostile["job"], trial, [record], []))
    assert not [attributes for tag, attributes in reader.elements if tag == "img"]
