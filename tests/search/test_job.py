"""Job files: what is accepted, and the one clear line for what is not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.job import JobSpec, TrainingSpec, load_job, parse_job
from space.errors import InvalidInputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart.yaml"


def test_the_example_is_valid_and_says_what_it_means() -> None:
    spec = load_job(EXAMPLE)
    assert spec.budget.trials == 24
    assert spec.budget.time == 600.0
    assert spec.training.rung_steps() == (75, 150)


def test_numeric_strings_and_durations_are_numbers() -> None:
    spec = parse_job({"constraints": {"params": "2e6", "latency": 0.02}, "limits": {"trial_timeout": "5m"}})
    assert spec.constraints == {"params": 2e6, "latency_s": 0.02}
    assert spec.limits.trial_timeout == 300.0


def test_aliases_become_the_one_key_and_quality_comes_first() -> None:
    assert parse_job({"objectives": ["latency", "bits_per_byte"]}).objectives == (
        "bits_per_byte",
        "latency_s",
    )


def test_overrides_reach_into_groups() -> None:
    spec = parse_job(
        {}, ["budget.trials=7", "task.kind=image", "task.dataset=digits", "space.set.d_model=[32]"]
    )
    assert (spec.budget.trials, spec.task.kind, spec.space.set) == (7, "image", {"d_model": [32]})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"budgt": {"trials": 3}}, ["budgt", "unknown key", "did you mean 'budget'"]),
        ({"budget": {"trails": 3}}, ["budget.trails", "did you mean 'trials'"]),
        ({"strategy": {"kind": "nsga-2"}}, ["strategy.kind", "'nsga-2'", "did you mean 'nsga2'"]),
        ({"target": {"runtime": "onnx"}}, ["target.runtime", "onnxruntime"]),
        ({"objectives": ["bits_per_byte", "latncy"]}, ["latncy", "did you mean 'latency'"]),
        ({"objectives": ["latency", "params"]}, ["exactly one quality objective"]),
        ({"budget": {"trials": 0}}, ["budget.trials", "greater than or equal to 1", "got 0"]),
        ({"budget": {"trials": "many"}}, ["budget.trials", "got 'many'"]),
        ({"limits": {"trial_timeout": "soon"}}, ["limits.trial_timeout", "not a duration", "10m"]),
        ({"constraints": {"params": -1}}, ["constraints", "params=-1", "greater than 0"]),
        ({"name": "two\nlines"}, ["name", "one line"]),
        ([1, 2], ["mapping", "list"]),
    ],
)
def test_a_mistake_is_named_with_the_way_out(data: object, words: list[str]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_job(data)
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        b"a: &x 1\nb: *x\n",
        b"task: !!python/object/apply:os.system [ls]\n",
        b"task: {kind: [\n",
        b"\xff\xfe",
        b"[" * 100_000,
        b"x" * 2_000_000,
    ],
)
def test_a11_hostile_text_is_refused_in_one_line(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(text)
    with pytest.raises(InvalidInputError):
        load_job(path)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="paretoformer init"):
        load_job(tmp_path / "none.yaml")


def test_a_spec_survives_json() -> None:
    spec = load_job(EXAMPLE)
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec


@given(st.integers(4, 5000), st.integers(1, 6), st.integers(2, 8))
def test_rungs_grow_to_the_full_budget(steps: int, rungs: int, reduction: int) -> None:
    found = TrainingSpec(steps=steps, rungs=rungs, reduction=reduction).rung_steps()
    assert len(found) == rungs
    assert list(found) == sorted(found)
    assert found[-1] == steps
    assert found[0] >= 1
