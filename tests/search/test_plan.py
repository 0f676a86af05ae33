"""Planning: everything a job file can get wrong is said before anything is stored."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from search.job import parse_job
from search.plan import job_context, plan_job
from search.preview import preview
from space.errors import InvalidInputError
from space.quantization import NumberFormat


def test_the_default_job_resolves_its_objectives_and_space() -> None:
    plan = plan_job(parse_job({}))
    assert plan.objectives == ("bits_per_byte", "latency_s")
    assert plan.space.model == "decoder"
    assert {reference.family for reference in plan.references} == {"gpt-like", "llama-like"}
    assert any("bf16" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("runtime", "left"),
    [
        ("onnxruntime", ("fp32", "int8_dynamic", "int8_mixed", "int4_g32", "int4_g64")),
        ("eager", ("fp32", "bf16", "int8_dynamic", "int8_mixed")),
        ("torch-compile", ("fp32", "bf16", "int8_dynamic")),
    ],
)
def test_formats_that_a_runtime_simulates_leave_the_space_with_a_warning(
    runtime: str, left: tuple[str, ...]
) -> None:
    spec = parse_job(
        {
            "task": {"kind": "image", "dataset": "digits"},
            "space": {"set": {"number_format": list(get_args(NumberFormat))}},
            "target": {"runtime": runtime},
        }
    )
    plan = plan_job(spec)
    assert plan.space.domains.number_format == left
    gone = set(get_args(NumberFormat)) - set(left)
    assert all(any(f"'{name}' does not run on {runtime}" in w for w in plan.warnings) for name in gone)
    assert len(plan.warnings) == len(gone)


def test_a_norm_that_needs_a_longer_training_leaves_the_space_with_a_warning() -> None:
    job = {
        "task": {"kind": "image", "dataset": "digits"},
        "space": {"set": {"norm": ["prepbn", "layernorm"]}},
        "training": {"steps": 200},
    }
    assert plan_job(parse_job(job)).space.domains.norm == ("prepbn", "layernorm")
    short = {**job, "training": {"steps": 199}}
    plan = plan_job(parse_job(short))
    assert plan.space.domains.norm == ("layernorm",)
    message = "gene 'norm' has norm 'prepbn', which needs 200 training steps and not 199"
    assert any(message in warning for warning in plan.warnings)
    with pytest.raises(InvalidInputError, match=message):
        plan_job(parse_job({**short, "space": {"set": {"norm": "prepbn"}}}))


def test_the_same_job_file_works_on_images() -> None:
    plan = plan_job(parse_job({"task": {"kind": "image", "dataset": "digits"}}))
    assert plan.objectives == ("loss", "latency_s")
    assert plan.space.model == "vision"


def test_a_users_npz_and_text_work(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.random((200, 8, 8), dtype=np.float32), y=rng.integers(0, 3, 200))
    (tmp_path / "mine.txt").write_text("all work and no play makes jack a dull boy\n" * 2000)
    images = plan_job(parse_job({"task": {"kind": "image", "dataset": str(tmp_path / "mine.npz")}}))
    assert images.data.describe()["name"]
    text = plan_job(parse_job({"task": {"dataset": str(tmp_path / "mine.txt")}}))
    assert text.objectives[0] == "bits_per_byte"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"task": {"dataset": "python-stdlb"}}, ["python-stdlb", "did you mean 'python-stdlib'"]),
        ({"task": {"dataset": "/no/such/file.txt"}}, ["/no/such/file.txt"]),
        ({"space": {"preset": "decoder-smal"}}, ["decoder-smal", "did you mean 'decoder-small'"]),
        ({"space": {"preset": "vision-small"}}, ["vision-small", "decoder-small"]),
        ({"space": {"set": {"d_modl": [32]}}}, ["d_modl", "did you mean 'd_model'"]),
        ({"space": {"set": {"mixer": ["sofmax"]}}}, ["sofmax", "softmax"]),
        ({"objectives": ["error", "latency"]}, ["error", "bits_per_byte"]),
        ({"constraints": {"params": 10}}, ["params=10", "smallest architecture", "raise the limit"]),
        ({"proxies": ["zicoo"]}, ["zicoo", "did you mean 'zico'"]),
        ({"enqueue": ["/no/such.json"]}, ["/no/such.json"]),
        ({"target": {"threads": 200}}, ["threads=200"]),
    ],
)
def test_what_cannot_work_is_named_with_the_way_out(data: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        plan_job(parse_job(data))
    for word in words:
        assert word in caught.value.message


def test_a_budget_of_tokens_becomes_steps_and_stays_what_it_is_when_it_is_stored() -> None:
    data = {"training": {"tokens": 16 * 128 * 40, "rungs": 2}, "finalists": {"tokens": "1e6"}}
    plan = plan_job(parse_job(data))
    assert (plan.training.steps, plan.finalist_training.steps) == (40, 489)
    assert plan.spec.training.rung_steps() == (20, 40)
    again = plan_job(parse_job(plan.spec.model_dump(mode="json")))
    assert (again.training, again.finalist_training) == (plan.training, plan.finalist_training)


def test_a_budget_of_tokens_too_small_for_a_schedule_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"training.tokens=4000 are 2 steps of 16 x 128 tokens; from 4"
    ):
        plan_job(parse_job({"training": {"tokens": 4000}}))


def test_a_text_of_ten_bytes_is_too_short(tmp_path: Path) -> None:
    (tmp_path / "tiny.txt").write_text("0123456789")
    with pytest.raises(InvalidInputError, match="10 bytes"):
        plan_job(parse_job({"task": {"dataset": str(tmp_path / "tiny.txt")}}))


def test_the_context_of_a_job_is_json_and_complete() -> None:
    context = job_context(plan_job(parse_job({})))
    assert {"task", "data_digest", "target", "device_key", "space_size", "warnings", "enqueued"} <= set(
        context
    )


def test_a_preview_costs_a_moment_and_says_what_it_leaves_out() -> None:
    found = preview(parse_job({"space": {"set": {"d_model": [32], "num_layers": [1]}}}))
    assert len(found["examples"]) == 3
    assert found["estimate"]["search_s"] > 0
    assert found["estimate"]["kind"] == "predicted"
    assert int(found["space_size"]) > 10
