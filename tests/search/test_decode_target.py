"""A job whose latency is one more token: what it needs, and which mixers it leaves out."""

import pytest

from search.job import parse_job
from search.plan import plan_job
from space.errors import InvalidInputError

DECODE = {"target": {"runtime": "eager", "phase": "decode"}, "references": {"sizes": 1}}


def test_mixers_without_a_state_leave_the_space() -> None:
    mixers = {"space": {"set": {"mixer": ["softmax", "token_glu"], "num_layers": [1, 2]}}}
    plan = plan_job(parse_job({**DECODE, **mixers}))
    assert plan.target.phase == "decode"
    assert set(plan.space.domains.mixer) == {"softmax"}
    kept = plan_job(parse_job({**mixers, "target": {"runtime": "eager"}, "references": {"sizes": 1}}))
    assert set(kept.space.domains.mixer) == {"softmax", "token_glu"}


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"target": {"phase": "decode", "runtime": "torch-compile"}}, r"choose target\.runtime=onnxruntime"),
        ({"task": {"kind": "image", "dataset": "digits"}}, r"choose target\.phase=prefill"),
    ],
)
def test_what_cannot_decode_is_refused(changes: dict[str, object], way_out: str) -> None:
    with pytest.raises(InvalidInputError, match=way_out):
        plan_job(parse_job({**DECODE, **changes}))
