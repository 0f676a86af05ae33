import re

import pytest

from dashboards import default_form, job_data, new_job_page
from search.job import JobSpec, parse_job
from space.errors import InvalidInputError
from space.search_space import preset_names


def test_an_untouched_form_is_the_default_job() -> None:
    assert parse_job(job_data(default_form())) == JobSpec(name="my search")


def test_every_field_of_the_form_is_on_the_page_and_the_other_way_round() -> None:
    on_page = set(re.findall(r'name="(\w+)"', new_job_page())) - {"csrf", "viewport"}
    assert on_page == set(default_form())


def test_fields_reach_the_job_in_its_units() -> None:
    form = {
        **default_form(),
        "preset": preset_names()[0],
        "objective_memory_bytes": "on",
        "max_params": "2e6",
        "max_latency_ms": "20",
        "max_memory_mib": "64",
        "runtime": "eager",
        "strategy": "tpe",
        "trials": "24",
        "time": "45m",
        "finalists_steps": "150",
    }
    spec = parse_job(job_data(form))
    assert spec.objectives == ("quality", "latency_s", "memory_bytes")
    assert spec.constraints == {"params": 2e6, "latency_s": 0.02, "memory_bytes": 64 * 2**20}
    assert (spec.target.runtime, spec.strategy.kind, spec.budget.trials) == ("eager", "tpe", 24)
    assert (spec.budget.time, spec.finalists.steps) == (2700, 150)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("trials", "many", "budget.trials"),
        ("threads", "0", "target.threads"),
        ("max_params", "big", "constraints.params"),
        ("strategy", "nsga", "nsga2"),
        ("objective_latency_s", "", "objectives"),
    ],
)
def test_what_cannot_work_is_named_by_the_parser(field: str, value: str, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        parse_job(job_data({**default_form(), field: value}))


def test_yaml_counts_when_the_mode_says_so() -> None:
    form = {**default_form(), "mode": "yaml", "yaml": "name: typed\nbudget: {trials: 3}\n"}
    spec = parse_job(job_data(form))
    assert (spec.name, spec.budget.trials) == ("typed", 3)
    with pytest.raises(InvalidInputError, match="line 1"):
        job_data({"mode": "yaml", "yaml": "a: [1"})


def test_a_refused_form_comes_back_as_it_was_with_its_problems() -> None:
    sent = {
        **default_form(),
        "name": "mine",
        "objective_latency_s": "",
        "objective_params": "on",
        "trials": "x",
    }
    html = new_job_page({key: value for key, value in sent.items() if value}, ["budget.trials: not a number"])
    assert 'value="mine"' in html
    assert "budget.trials: not a number" in html
    assert 'name="objective_params" value="on" checked' in html
    assert 'name="objective_latency_s" value="on" checked' not in html


def test_the_example_waits_in_the_page() -> None:
    assert '"name: quick\\n"' in new_job_page(example="name: quick\n")
    assert 'id="example"' not in new_job_page()
