"""The line that a job's trainings draw through size and what proxies say beside it."""

import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from evaluators.protocol import Measurement
from evaluators.standing import BeyondSize
from search.taught_screen import fit_line
from search.verdicts import Finished
from space.architecture import BytesInterface
from space.costs import num_params
from space.sampling import sample
from space.search_space import load_preset


def measured(name: str, value: float) -> Measurement:
    return Measurement(name, value, "1", "computed")


def sampled(count: int = 120) -> tuple[BeyondSize, np.ndarray]:
    """`zico` and `snip` are log size and something of their own."""
    rng = np.random.default_rng(1)
    params = np.exp(rng.uniform(np.log(1e4), np.log(1e6), count))
    rows = [
        {name: measured(name, float(np.log(size) + rng.normal())) for name in ("zico", "snip")}
        for size in params
    ]
    return BeyondSize.of(rows, params.tolist()), params


def trainings(zico: float, snip: float, count: int = 40) -> list[Finished]:
    """Quality is size and so much of what each proxy has of its own."""
    rng = np.random.default_rng(2)
    found = []
    for number in range(count):
        size = float(np.exp(rng.uniform(np.log(1e4), np.log(1e6))))
        own, other, noise = rng.normal(size=3)
        scores = {"zico": float(np.log(size) + own), "snip": float(np.log(size) + other)}
        quality = float(np.log(size) + zico * own + snip * other + 0.2 * noise)
        found.append(Finished(number, quality, size, 1.0 + number % 3, scores))
    return found


def test_the_line_finds_the_sign_and_the_weight_that_each_proxy_has_here() -> None:
    beyond, _ = sampled()
    line = fit_line(trainings(zico=1.5, snip=-1.0), beyond)
    weights = line.described()["weights"]
    assert weights["zico"] > 0.5
    assert weights["snip"] < -0.3
    assert weights["log_params"] > 0.5
    assert abs(weights["depth"]) < 0.3
    assert line.tau > 0.6
    nothing = fit_line(trainings(zico=0.0, snip=0.0), beyond).described()["weights"]
    assert abs(nothing["zico"]) + abs(nothing["snip"]) < 0.4


def test_the_line_does_not_depend_on_the_order_and_reads_the_newest() -> None:
    beyond, _ = sampled()
    rows = trainings(zico=1.0, snip=0.0)
    line, turned = fit_line(rows, beyond), fit_line(rows[::-1], beyond)
    assert line.described() == turned.described() == json.loads(json.dumps(line.described()))
    many = [replace(row, number=row.number + 40 * k) for k in range(14) for row in rows]
    assert fit_line(many, beyond).trainings == 500


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_candidates_are_ranked_by_it_a_failed_score_is_last_and_one_that_cannot_be_says_nothing(
    sign: float,
) -> None:
    beyond, _ = sampled()
    line = fit_line(trainings(zico=1.5 * sign, snip=0.0), beyond)
    space = load_preset("decoder-small").for_interface(BytesInterface(context_length=16, outputs=256))
    model = sample(space, Random(0))
    size = float(np.log(num_params(model)))
    low, high = ({"zico": measured("zico", size + sign * by)} for by in (-2.0, 2.0))
    broken, impossible = (
        {"zico": Measurement("zico", None, "1", "computed", status=status)}
        for status in ("nan", "unsupported")
    )
    ranks = line.ranks([model] * 5, [low, {}, impossible, broken, high])
    assert ranks[3] > ranks[0] > ranks[1] == ranks[2] > ranks[4]  # smaller is better


def test_what_is_size_alone_leaves_nothing_beside_it() -> None:
    """Whatever its sign, and also in a sample that says nothing."""
    params = np.geomspace(1e4, 1e6, 60).tolist()
    rows = [{"zico": measured("zico", np.log(one)), "snip": measured("snip", -one)} for one in params]
    beyond = BeyondSize.of(rows, params)
    found = beyond.of_values({"zico": float(np.log(params[7])), "snip": -params[7]}, params[7])
    assert found == pytest.approx({"zico": 0.0, "snip": 0.0}, abs=1e-9)
    assert beyond.of_values({}, 1e5) == {"zico": 0.0, "snip": 0.0}
    unsupported = Measurement("naswot", None, "1", "computed", status="unsupported")
    assert BeyondSize.of([{"naswot": unsupported}] * 3, [1e4, 1e5, 1e6]).curves == {}
    assert BeyondSize.of([{"naswot": measured("naswot", 1.0)}] * 3, [1e4] * 3).of_values(
        {"naswot": 1.0}, 1e4
    ) == pytest.approx({"naswot": 0.0})
