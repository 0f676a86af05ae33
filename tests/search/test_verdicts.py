import itertools
import json
import random
from collections.abc import Sequence

import numpy as np
import pytest

from search.verdicts import (
    KEY,
    LEAST,
    NEWEST,
    Finished,
    ProxyVerdict,
    distrusted,
    is_due,
    storable,
    stored,
    verdicts,
)


def trainings(count: int = 40, *, pull: float = 2.0, seed: int = 0) -> list[Finished]:
    """Quality is size, `pull` times what `zico` sees beside size, and noise; `w_pca` sees noise alone."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        params, beside, noise = float(rng.uniform(1e4, 1e6)), float(rng.normal()), float(rng.normal())
        scores = {
            "zico": np.log(params) + beside,
            "w_pca": np.log(params) + float(rng.normal()),
            "params_total": params,
        }
        rows.append(
            Finished(number, np.log(params) + pull * beside + 0.3 * noise, params, 1.0 + number % 3, scores)
        )
    return rows


def verdict(rows: Sequence[Finished], name: str = "zico") -> ProxyVerdict:
    (found,) = verdicts(rows, [name])
    return found


def test_a_proxy_that_orders_beyond_size_is_useful() -> None:
    own = verdict(trainings())
    assert (own.verdict, own.trainings) == ("useful", 40)
    assert own.low is not None
    assert own.high is not None
    assert own.partial is not None
    assert 0.0 < own.low < own.partial < own.high <= 1.0
    assert own.tau is not None
    assert own.params_tau is not None
    assert own.tau > own.params_tau


def test_f42_a_proxy_that_orders_the_other_way_round_has_the_wrong_sign_and_no_say() -> None:
    rows = trainings(pull=-2.0)
    assert verdict(rows).verdict == "wrong sign"
    assert distrusted(verdicts(rows, ["zico", "w_pca"])) == {"zico"}


def test_a_proxy_that_sees_noise_gives_no_evidence() -> None:
    own = verdict(trainings(), "w_pca")
    assert own.verdict == "no evidence"
    assert own.low is not None
    assert own.high is not None
    assert own.low < 0.0 < own.high


def test_a_measure_of_size_says_nothing_given_size() -> None:
    own = verdict(trainings(), "params_total")
    assert (own.verdict, own.partial, own.low, own.high) == ("no evidence", None, None, None)
    assert own.tau == own.params_tau


def test_nothing_is_said_of_fewer_than_fifteen_trainings() -> None:
    assert verdicts(trainings(LEAST - 1), ["zico"]) == []
    assert len(verdicts(trainings(LEAST), ["zico", "snip"])) == 1


def test_the_order_of_the_trainings_does_not_matter() -> None:
    rows = trainings()
    shuffled = random.Random(0).sample(rows, len(rows))
    assert verdicts(rows, ["zico", "w_pca"]) == verdicts(shuffled, ["zico", "w_pca"])


@pytest.mark.slow
def test_only_the_newest_trainings_count() -> None:
    rows = trainings(NEWEST + 50)
    assert verdict(rows) == verdict(rows[50:])


def test_equal_qualities_give_no_evidence() -> None:
    rows = [Finished(row.number, 1.0, row.params, row.depth, row.scores) for row in trainings(20)]
    own = verdict(rows)
    assert (own.verdict, own.tau, own.partial) == ("no evidence", None, None)


def test_what_is_stored_comes_back() -> None:
    found = verdicts(trainings(), ["zico", "params_total"])
    context = json.loads(json.dumps(storable(found, 40), allow_nan=False))
    assert stored(context) == (found, 40)
    assert stored({"other": 1}) == ([], 0)
    assert list(context) == [KEY]


def test_a_new_look_waits_for_enough_that_is_new() -> None:
    looks, judged = [], 0
    for count in range(200):
        if is_due(count, judged):
            judged = count
            looks += [count]
    assert looks[:4] == [15, 20, 25, 30]
    assert all(b >= 1.1 * a for a, b in itertools.pairwise(looks))
