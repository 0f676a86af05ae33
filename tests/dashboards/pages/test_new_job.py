import json
import re
import shlex
from typing import Any

import pytest
import yaml

from dashboards import (
    curl_command,
    default_form,
    job_data,
    job_yaml,
    new_job_page,
    placed_problems,
    preview_html,
)
from dashboards.pages.job_form import LIMITS, USUAL_COSTS
from dashboards.pages.new_job import Preview, planned_steps
from dashboards.pages.schema_form import OMITTED, WORDS, form_fields, form_groups
from search.job import JobSpec, parse_job
from space.errors import InvalidInputError
from space.search_space import preset_names


def leaves(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> set[str]:
    """Paths of every setting of the schema that a choice can be made of."""
    found: set[str] = set()
    for key, part in schema["properties"].items():
        if "$ref" in part:
            inner = definitions[part["$ref"].rpartition("/")[2]]
            found |= leaves(inner, definitions, f"{prefix}{key}.")
        elif "const" not in part and part.get("type") != "null":
            found.add(prefix + key)
    return found


def test_an_untouched_form_is_the_default_job() -> None:
    assert parse_job(job_data(default_form())) == JobSpec(name="my search")


def test_the_form_has_every_setting_of_the_schema_and_no_other() -> None:
    schema = JobSpec.model_json_schema()
    assert {field.name for field in form_fields()} == leaves(schema, schema["$defs"]) - OMITTED
    assert set(WORDS) <= {field.name for field in form_fields()}
    shown = {field.name for group in form_groups(form_fields()) for field in (*group.usual, *group.more)}
    assert shown == {field.name for field in form_fields()}


def test_every_field_of_the_form_is_on_the_page_and_the_other_way_round() -> None:
    on_page = set(re.findall(r'name="([\w.]+)"', new_job_page())) - {"csrf", "viewport"}
    assert on_page == set(default_form())


def test_limits_of_the_schema_are_those_of_the_fields() -> None:
    trials = next(field for field in form_fields() if field.name == "budget.trials")
    assert (trials.kind, trials.minimum, trials.maximum, trials.value) == ("number", 1, 1_000_000, "60")
    length = next(field for field in form_fields() if field.name == "task.length")
    assert (length.kind, length.minimum, length.maximum, length.value) == ("number", 8, 8192, "")
    domains = next(field for field in form_fields() if field.name == "space.set")
    assert (domains.kind, domains.value) == ("yaml", "")


def test_fields_reach_the_job_in_its_units() -> None:
    form = {
        **default_form(),
        "space.preset": preset_names()[0],
        "space.set": "{d_model: [32, 48]}",
        "objective.memory_bytes": "on",
        "constraints.params": "2e6",
        "constraints.latency_s": "20",
        "constraints.memory_bytes": "64",
        "target.runtime": "eager",
        "strategy.kind": "tpe",
        "budget.trials": "24",
        "budget.time": "45m",
        "limits.trial_timeout": "2m",
        "finalists.steps": "150",
    }
    spec = parse_job(job_data(form))
    assert spec.objectives == ("quality", "latency_s", "memory_bytes")
    assert spec.constraints == {"params": 2e6, "latency_s": 0.02, "memory_bytes": 64 * 2**20}
    assert (spec.target.runtime, spec.strategy.kind, spec.budget.trials) == ("eager", "tpe", 24)
    assert (spec.budget.time, spec.finalists.steps, spec.limits.trial_timeout) == (2700, 150, 120)
    assert spec.space.set == {"d_model": [32, 48]}


PROBLEMS = [
    ("budget.trials", "many", "budget.trials"),
    ("target.threads", "0", "target.threads"),
    ("constraints.params", "big", "constraints.params"),
    ("strategy.kind", "nsga", "nsga2"),
    ("objective.latency_s", "", "objectives"),
]


@pytest.mark.parametrize(("field", "value", "named"), PROBLEMS)
def test_what_cannot_work_is_named_by_the_parser(field: str, value: str, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        parse_job(job_data({**default_form(), field: value}))


def test_a_problem_stands_at_its_field_and_the_rest_above() -> None:
    problems = ["budget.trials: not a number (got 'x')", "space.set.d_model: too wide", "the disk is full"]
    assert placed_problems(problems) == [
        ("budget.trials", problems[0]),
        ("space.set", problems[1]),
        ("", problems[2]),
    ]
    html = new_job_page({**default_form(), "budget.trials": "x"}, problems)
    assert 'name="budget.trials" aria-invalid="true" aria-describedby="p.budget.trials"' in html
    assert ">not a number (got &#39;x&#39;)</span>" in html
    assert '<a href="#f.budget.trials">' in html
    assert html.count("aria-invalid") == 2
    assert '<details class="more" open>' in html, "a folded field with a problem is unfolded"


def test_yaml_counts_when_the_mode_says_so() -> None:
    form = {**default_form(), "written_as": "yaml", "yaml": "name: typed\nbudget: {trials: 3}\n"}
    spec = parse_job(job_data(form))
    assert (spec.name, spec.budget.trials) == ("typed", 3)
    with pytest.raises(InvalidInputError, match="line 1"):
        job_data({"written_as": "yaml", "yaml": "a: [1"})


def test_a_setting_that_is_yaml_is_read_with_its_name() -> None:
    with pytest.raises(InvalidInputError, match=r"space\.set"):
        job_data({**default_form(), "space.set": "{d_model: ["})


def test_the_job_file_and_the_command_are_the_form() -> None:
    form = {**default_form(), "name": "it's a #1: search", "constraints.latency_s": "20"}
    data = job_data(form)
    assert parse_job(yaml.safe_load(job_yaml(data))) == parse_job(data)
    command = shlex.split(curl_command(data, "http://127.0.0.1:8765").replace("\\\n", " "))
    assert command[:4] == ["curl", "-X", "POST", "http://127.0.0.1:8765/v1/jobs"]
    assert parse_job(json.loads(command[-1])) == parse_job(data)
    assert "'" not in job_yaml(job_data(default_form())), "numbers stand without quotes"


def test_a_refused_form_comes_back_as_it_was_with_its_problems() -> None:
    sent = {
        **default_form(),
        "name": "mine",
        "objective.latency_s": "",
        "objective.params": "on",
        "budget.trials": "x",
    }
    html = new_job_page({key: value for key, value in sent.items() if value}, ["budget.trials: not a number"])
    assert 'value="mine"' in html
    assert "budget.trials: not a number" in html
    assert 'name="objective.params" value="on" checked' in html
    assert 'name="objective.latency_s" value="on" checked' not in html


def test_the_example_waits_in_the_page() -> None:
    assert '"name: quick\\n"' in new_job_page(example="name: quick\n")
    assert 'id="example"' not in new_job_page()


def test_costs_and_limits_are_objectives() -> None:
    assert set(LIMITS) <= set(USUAL_COSTS)


def test_a_preview_says_size_steps_and_draws(new_architecture: Any) -> None:
    small = {"training": {"steps": 100, "rungs": 2}, "finalists": {"count": 1, "seeds": 2, "steps": 50}}
    spec = parse_job({**small, "budget": {"trials": 10}})
    steps = planned_steps(spec, 4)
    assert [count for _, count in steps] == [750, 400, 200]
    example = (new_architecture({}), {"params": 12_345.0})
    preview = Preview("123456789012345678", ["gpt-like"], ["<b>careful</b>"], [example] * 3, steps)
    html = preview_html(preview)
    assert "about 1.2e+17" in html
    assert html.count('class="pf-draw"') == 3
    assert "parameters 12.35 k" in html
    assert "&lt;b&gt;careful" in html
    assert "predicted" not in html
    timed = preview_html(Preview("1", [], [], [], steps, {"search_s": 75.0, "basis": "three steps"}))
    assert "the search <b>1 min 15 s</b>" in timed
