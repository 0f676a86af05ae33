"""Targets and the machine's name."""

import json
from collections.abc import Callable

import pytest

from evaluators.latency import Target, check_target, device_facts, device_key, latency_fingerprint
from evaluators.latency.target import allowed_cores, timing_cores
from space.architecture import Architecture
from space.errors import InvalidInputError


def test_the_length_is_the_targets_or_the_whole_context(make: Callable[..., Architecture]) -> None:
    assert Target().tokens(make(tokens=16)) == 16
    assert Target(length=9).tokens(make(tokens=16)) == 9
    assert Target(length=9).tokens(make("vision")) == 16
    with pytest.raises(InvalidInputError, match="choose at most 16"):
        Target(length=17).tokens(make(tokens=16))


def test_facts_are_json_and_the_key_names_machine_threads_and_runtime() -> None:
    facts = device_facts()
    assert json.loads(json.dumps(facts)) == facts
    key = device_key(Target(threads=2))
    assert facts["cpu"] in key
    assert "2 threads" in key
    assert f"onnxruntime {facts['onnxruntime']}" in key
    assert f"eager {facts['torch']}" in device_key(Target(runtime="eager"))


def test_every_condition_changes_the_fingerprint() -> None:
    targets = [
        Target(),
        Target(threads=2),
        Target(batch_size=2),
        Target(length=9),
        Target(runtime="eager"),
    ]
    prints = {latency_fingerprint(target) for target in targets}
    assert len(prints) == len(targets)
    assert latency_fingerprint(Target(), of="block") not in prints
    assert latency_fingerprint(Target()) == latency_fingerprint(Target())


def test_threads_beyond_the_cores_are_refused_and_timing_uses_as_many_cores_as_threads() -> None:
    check_target(Target(threads=len(allowed_cores())))
    with pytest.raises(InvalidInputError, match=f"choose at most {len(allowed_cores())}"):
        check_target(Target(threads=len(allowed_cores()) + 1))
    assert timing_cores(1) == allowed_cores()[-1:]
