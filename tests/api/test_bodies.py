"""Strict JSON: everything odd is refused, quickly."""

import pytest
from fastapi.testclient import TestClient

from api.bodies import MAX_DEPTH, parse_json
from space.errors import InvalidInputError

ODD = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "closed deep lists": b"[" * 500 + b"]" * 500,
    "repeated key": b'{"name": "a", "name": "b"}',
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "long number": b'{"a": ' + b"9" * 100_000 + b"}",
    "lone surrogate": b'{"a": "\\ud800"}',
    "lone surrogate in a key": b'{"\\udfff": 1}',
    "not utf-8": b'{"a": "\xff"}',
    "two values": b"{} {}",
    "nothing": b" ",
    "many keys": b"{" + b",".join(b'"%d":1' % i for i in range(60_000)) + b"}",
    "list": b"[1]",
    "text": b'"job"',
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
def test_a02_odd_json_is_refused(client: TestClient, raw: bytes) -> None:
    answer = client.post("/v1/jobs", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_depth_is_allowed_up_to_the_limit() -> None:
    assert parse_json(b"[" * (MAX_DEPTH - 1) + b"1" + b"]" * (MAX_DEPTH - 1))
    with pytest.raises(InvalidInputError, match="nested"):
        parse_json(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH)


@pytest.mark.parametrize(
    "text", ["__import__('os')", "{{7*7}}", "%s%n", "${jndi}", "os.system", "../../x", "<script>"]
)
@pytest.mark.parametrize("field", ["preset", "dataset", "kind"])
def test_a10_text_in_a_job_is_never_more_than_a_name(client: TestClient, text: str, field: str) -> None:
    body = {
        "preset": {"space": {"preset": text}},
        "dataset": {"task": {"dataset": text}},
        "kind": {"strategy": {"kind": text}},
    }[field]
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert "49" not in answer.json()["detail"]
