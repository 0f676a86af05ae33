"""Verdicts inside a job: made as trainings finish, kept for a successor, told as events."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from api.answers import job_answer
from dashboards.proxy_table import line_words
from evaluators.protocol import Measurement
from evaluators.proxies import proxy, proxy_fingerprint
from search.clock import Clock
from search.coordinator import Coordinator
from search.ledger import Ledger
from search.proxy_trust import ProxyTrust, trusted
from search.storage import events, jobs
from search.storage.database import Database
from search.taught_screen import LEAST_TAUGHT
from search.verdicts import LEAST, stored

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

NAMES = ("w_pca", "zico")


def told(database: Database, job_id: str) -> list[dict[str, Any]]:
    with database.read() as session:
        return [
            dict(event.data)
            for event in events.after(session, job_id, 0, 1000)
            if event.kind == "proxy.verdict"
        ]


@pytest.mark.slow
def test_a_job_judges_its_proxies_and_ignores_one_with_the_wrong_sign(bench: Bench) -> None:
    plan = bench.plan(budget={"trials": 26}, proxies=list(NAMES), finalists={"count": 0})
    database = bench.open()
    job_id = bench.create(plan, database)
    seen: list[frozenset[str]] = []

    def two_more(coordinator: Coordinator) -> None:
        """Near the end: one proxy better and one worse where the training is worse, then a successor."""
        ledger = coordinator.ledger
        if seen or sum(number >= 0 for number, rung in ledger.rung_quality if rung == 1) < 24:
            return
        other = replace(plan, proxies=("snip", "grad_norm"))
        mirror = Ledger(database, replace(ledger.job, context={}), other, Clock())
        for trial in [row for row in mirror.search_trials if (row.number, 1) in mirror.rung_quality]:
            loss = mirror.rung_quality[trial.number, 1]
            for name, value in (("snip", loss), ("grad_norm", -loss)):
                mark = proxy_fingerprint(proxy(name), digest=plan.data.digest)
                own = Measurement(name, value, "1", "computed")
                mirror.keep([mirror.record(trial.architecture_id, own, mark, seed=plan.spec.strategy.seed)])
        seen.append(ProxyTrust(mirror).distrusted())
        before = told(database, job_id)
        seen.append(ProxyTrust(Ledger(database, mirror.job, other, Clock())).distrusted())
        assert told(database, job_id) == before  # it takes over what is kept and judges nothing twice

    bench.work(job_id, plan, database=database, on_tick=two_more)
    assert seen == [frozenset({"snip"})] * 2
    verdict = {one["proxy"]: one["verdict"] for one in told(database, job_id)}
    assert set(verdict) == {*NAMES, "snip", "grad_norm"}
    assert (verdict["snip"], verdict["grad_norm"]) == ("wrong sign", "useful")
    with database.read() as session:
        job = jobs.get(session, job_id)
    kept, trainings = stored(job.context)
    assert trainings >= LEAST
    assert kept
    line = job.context["screen_line"]
    assert line["trainings"] >= LEAST_TAUGHT
    assert set(line["weights"]) == {"log_params", "depth", *NAMES}
    assert job_answer(job)["context"]["screen_line"] == line
    assert f"{line['trainings']} trainings" in line_words(job)


def test_scores_without_those_that_have_no_say() -> None:
    own = {name: Measurement(name, 1.0, "1", "computed") for name in NAMES}
    assert trusted([own], frozenset()) == [own]
    assert trusted([own], frozenset({"zico"})) == [{"w_pca": own["w_pca"]}]
