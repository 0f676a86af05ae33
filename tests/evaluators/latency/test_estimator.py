"""The estimator on synthetic clocks: what it must see through, and what it must say."""

import dataclasses
import random
from collections.abc import Callable

import numpy as np
import pytest

from evaluators.latency.estimator import (
    Estimate,
    EstimatorLimits,
    best_of,
    between,
    estimate,
    flags_of,
    flags_over,
    ratio_half_width,
    warm_up,
)


class SimulatedClock:
    """Wall and CPU seconds that pass only when a simulated network runs."""

    def __init__(self) -> None:
        self.wall_now = 0.0
        self.cpu_now = 0.0
        self.slept: list[float] = []

    def wall(self) -> float:
        return self.wall_now

    def cpu(self) -> float:
        return self.cpu_now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.wall_now += seconds

    def network(self, cost: Callable[[float], tuple[float, float]]) -> Callable[[], object]:
        """A network whose run takes `cost(now) = (wall, cpu)` seconds."""

        def run() -> object:
            wall, cpu = cost(self.wall_now)
            self.wall_now += wall
            self.cpu_now += cpu
            return None

        return run


def steady(seconds: float, noise: float = 0.005, seed: int = 0) -> Callable[[float], tuple[float, float]]:
    rng = random.Random(seed)

    def cost(_: float) -> tuple[float, float]:
        t = seconds * (1 + noise * rng.random())
        return t, t

    return cost


def preempted(seconds: float, share: float, seed: int = 0) -> Callable[[float], tuple[float, float]]:
    """A share of the runs loses the core for one to four scheduler quanta of 4 ms."""
    rng, base = random.Random(f"{seed}/spikes"), steady(seconds, seed=seed)

    def cost(now: float) -> tuple[float, float]:
        wall, cpu = base(now)
        return wall + (0.004 * rng.randint(1, 4) if rng.random() < share else 0.0), cpu

    return cost


LIMITS = EstimatorLimits()


def test_preemption_of_60_percent_of_the_runs_shifts_the_value_by_less_than_a_percent() -> None:
    quiet, busy = SimulatedClock(), SimulatedClock()
    calm = estimate(
        quiet.network(steady(0.002)), quiet.network(steady(0.001, seed=1)), limits=LIMITS, clock=quiet
    )
    disturbed = estimate(
        busy.network(preempted(0.002, 0.6)),
        busy.network(preempted(0.001, 0.6, seed=1)),
        limits=LIMITS,
        clock=busy,
    )
    assert disturbed.value_s == pytest.approx(calm.value_s, rel=0.01)
    assert disturbed.p50_s > 1.5 * calm.p50_s  # what the median would have said


def test_linear_drift_cancels() -> None:
    """The machine gets 40 % slower while measuring; the value stays in units of the reference."""
    clock = SimulatedClock()

    def drifting(seconds: float) -> Callable[[float], tuple[float, float]]:
        def cost(now: float) -> tuple[float, float]:
            t = seconds * (1 + 0.4 * now / 2.4)
            return t, t

        return cost

    limits = dataclasses.replace(LIMITS, target_half_width=0.0)
    result = estimate(
        clock.network(drifting(0.002)),
        clock.network(drifting(0.001)),
        limits=limits,
        long_run_s=0.001,
        clock=clock,
    )
    assert result.value_s == pytest.approx(0.002, rel=0.005)


def test_a_uniformly_slower_machine_gives_the_same_normalised_value() -> None:
    clock = SimulatedClock()
    result = estimate(
        clock.network(steady(0.003)),  # everything takes 1.5 times as long today
        clock.network(steady(0.0015, seed=1)),
        limits=LIMITS,
        long_run_s=0.001,
        clock=clock,
    )
    assert result.value_s == pytest.approx(0.002, rel=0.01)
    assert result.scale == pytest.approx(1 / 1.5, rel=0.01)


def test_a_slow_reference_flags_the_value_although_cpu_time_shows_nothing() -> None:
    """Full caches and a low clock slow wall and CPU time alike: only the reference's history tells."""
    usual, slowed = (dataclasses.replace(some_estimate(), scale=1 / slowness) for slowness in (1.1, 1.3))
    assert flags_of(usual, LIMITS) == frozenset()
    assert not slowed.is_contended
    assert flags_of(slowed, LIMITS) == {"contended"}


def test_warm_up_waits_for_the_end_of_a_decay_and_gives_up_after_50_runs() -> None:
    clock = SimulatedClock()
    count = 0

    def decaying(_: float) -> tuple[float, float]:
        nonlocal count
        count += 1
        t = 0.001 * (1 + 4 * 0.8**count)
        return t, t

    runs = warm_up(clock.network(decaying), clock)
    assert 15 <= runs < 50
    assert 0.8**runs * 4 < 0.1  # what is left of the decay
    assert warm_up(clock.network(steady(0.001, noise=0)), clock) == 6

    def endless(now: float) -> tuple[float, float]:
        return (t := 0.01 * 0.98 ** (now / 0.005)), t

    assert warm_up(clock.network(endless), clock) == 50


def test_warm_up_ends_after_five_seconds() -> None:
    clock = SimulatedClock()
    assert warm_up(clock.network(steady(2.0)), clock) == 3


def test_measuring_ends_when_the_interval_is_narrow_or_at_its_limits() -> None:
    clock = SimulatedClock()
    precise = estimate(
        clock.network(steady(0.001)), clock.network(steady(0.001, seed=1)), limits=LIMITS, clock=clock
    )
    assert precise.runs == 64
    assert precise.half_width <= 0.02

    def erratic(seed: int) -> Callable[[float], tuple[float, float]]:
        rng = random.Random(seed)
        return lambda _: ((t := 0.001 * (1 + 3 * rng.random())), t)

    rough = estimate(clock.network(erratic(0)), clock.network(erratic(1)), limits=LIMITS, clock=clock)
    assert rough.runs == 400
    assert rough.half_width > 0.02
    slow = estimate(
        clock.network(erratic(2)),
        clock.network(steady(1.0)),
        limits=dataclasses.replace(LIMITS, max_seconds=9.0),
        clock=clock,
    )
    assert slow.runs == 10
    assert slow.seconds > 9


def test_contention_is_flagged_above_1_15_and_not_below() -> None:
    def result(wall_over_cpu: float) -> Estimate:
        clock = SimulatedClock()
        candidate = clock.network(lambda _: (0.001 * wall_over_cpu, 0.001))
        return estimate(candidate, clock.network(steady(0.001)), limits=LIMITS, clock=clock)

    assert "contended" not in flags_of(result(1.10), LIMITS)
    assert "contended" in flags_of(result(1.20), LIMITS)
    assert result(1.20).contention == pytest.approx(1.2)


def test_with_several_threads_contention_is_read_from_the_reference() -> None:
    clock = SimulatedClock()
    result = estimate(
        clock.network(lambda _: (0.001, 0.004)),
        clock.network(lambda _: (0.0013, 0.004)),
        limits=LIMITS,
        long_run_s=0.001,
        threads=4,
        clock=clock,
    )
    assert result.contention == pytest.approx(1.3)


def some_estimate(*, contention: float = 1.0, half_width: float = 0.01) -> Estimate:
    return Estimate(
        value_s=0.001,
        p50_s=0.001,
        p95_s=0.001,
        half_width=half_width,
        contention=contention,
        scale=1.0,
        quantiles_s={},
        reference_p10_s=0.001,
        cpu_p50_s=0.001,
        runs=64,
        warm_up_runs=6,
        seconds=1.0,
    )


def test_f48_a_disturbed_measurement_is_postponed_with_growing_pauses_then_stored_with_its_flags() -> None:
    clock = SimulatedClock()
    results = [some_estimate(contention=3.0, half_width=w) for w in (0.3, 0.2, 0.08, 0.4, 0.5)]
    waiting = iter(results)
    best, flags, made = best_of(lambda: next(waiting), limits=LIMITS, sleep=clock.sleep)
    assert made == 5
    assert best is results[2]
    assert flags == {"contended", "noisy"}
    assert clock.slept == [0.25, 0.5, 1.0, 2.0]


def test_f48_the_first_calm_attempt_ends_it() -> None:
    clock = SimulatedClock()
    waiting = iter([some_estimate(half_width=0.2), some_estimate(half_width=0.04), some_estimate()])
    best, flags, made = best_of(lambda: next(waiting), limits=LIMITS, sleep=clock.sleep)
    assert (made, best.half_width, flags) == (2, 0.04, frozenset())


def test_a_calm_rough_attempt_beats_a_contended_narrow_one() -> None:
    calm, contended = some_estimate(half_width=0.06), some_estimate(half_width=0.001, contention=2.5)
    waiting = iter([contended, calm])
    limits = dataclasses.replace(LIMITS, attempts=2)
    best, flags, _ = best_of(lambda: next(waiting), limits=limits, sleep=lambda _: None)
    assert best is calm
    assert flags == {"noisy"}


def test_f49_a_slower_variant_is_reported_as_slower() -> None:
    clock = SimulatedClock()
    result = estimate(
        clock.network(steady(0.005)),
        clock.network(steady(0.001)),
        limits=LIMITS,
        long_run_s=0.001,
        clock=clock,
    )
    assert result.value_s == pytest.approx(0.005, rel=0.01)


def test_quantiles_are_ordered_and_scaled_values_keep_the_order() -> None:
    clock = SimulatedClock()
    result = estimate(
        clock.network(preempted(0.001, 0.3)),
        clock.network(steady(0.001)),
        limits=LIMITS,
        long_run_s=0.0008,
        clock=clock,
    )
    assert list(result.quantiles_s) == ["1", "5", "10", "25", "50", "75", "90", "95", "99"]
    assert list(result.quantiles_s.values()) == sorted(result.quantiles_s.values())
    assert result.value_s <= result.p50_s <= result.p95_s
    assert result.value_s == pytest.approx(result.quantiles_s["10"] * result.scale)


def test_the_bootstrap_interval_covers_the_true_ratio() -> None:
    """At least 80 % of the nominal 95 % intervals: a percentile of few blocks cannot do much better."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        a, b = 2 + 0.5 * rng.exponential(size=128), 1 + 0.25 * rng.exponential(size=128)
        ratio = np.percentile(a, 10) / np.percentile(b, 10)
        covered += bool(abs(ratio - 2.0) <= ratio_half_width(a, b) * ratio)
    assert covered >= 80


def test_few_cycles_have_a_wide_interval() -> None:
    """Student's over the cycles: 2 of them at 1 and 1.2, 4 of them by bootstrap."""
    half = ratio_half_width(np.array([1.0, 1.0, 1.2, 1.2]), np.ones(4))
    assert half == pytest.approx(12.706 * 0.1 / 1.1)
    assert ratio_half_width(np.ones(6), np.ones(6)) == 0.0
    assert ratio_half_width(np.ones(8), np.ones(8)) == 0.0


@pytest.mark.parametrize(("pass_s", "runs"), [(0.1, 8), (5.0, 4)])
def test_a_candidate_slower_than_its_time_is_run_often_enough_for_an_interval(
    pass_s: float, runs: int
) -> None:
    """Blocks have 0.3 s; whatever a pass takes, what comes out can be stored, and says how sure it is."""
    clock = SimulatedClock()
    result = estimate(
        clock.network(steady(pass_s, noise=0.2)),
        clock.network(steady(0.001)),
        limits=EstimatorLimits(max_seconds=0.3, noisy_half_width=0.10),
        clock=clock,
    )
    assert result.runs == runs
    assert 0.0 < result.half_width < float("inf")


def test_the_garbage_collector_is_off_inside_and_back_on_afterwards() -> None:
    import gc

    clock = SimulatedClock()
    seen = set()

    def candidate() -> object:
        seen.add(gc.isenabled())
        clock.wall_now += 0.001
        clock.cpu_now += 0.001
        return None

    estimate(candidate, clock.network(steady(0.001)), limits=LIMITS, clock=clock)
    assert seen == {False}
    assert gc.isenabled()


def test_rounds_in_fresh_processes_widen_the_interval_to_what_repeats() -> None:
    rounds = [dataclasses.replace(some_estimate(half_width=0.01), value_s=value) for value in (1.0, 1.1, 0.9)]
    middle, half_width = between(rounds)
    assert middle is rounds[0]
    assert half_width == pytest.approx(4.303 * 0.1 / 3**0.5)


def test_rounds_that_agree_keep_the_interval_of_the_middle_one() -> None:
    rounds = [dataclasses.replace(some_estimate(half_width=w), value_s=1.0) for w in (0.03, 0.01, 0.02)]
    assert between(rounds)[1] == pytest.approx(between(rounds)[0].half_width)
    assert between(rounds[:1])[1] == pytest.approx(0.03)


def test_rounds_that_are_sure_and_disagree_are_noisy() -> None:
    calm, contended = frozenset[str](), frozenset({"contended"})
    assert flags_over([calm] * 5, 0.05, LIMITS) == set()
    assert flags_over([calm] * 5, 0.19, LIMITS) == {"noisy"}
    assert flags_over([calm, calm, contended, contended, contended], 0.02, LIMITS) == {"contended"}
    assert flags_over([calm, calm, calm, contended, contended], 0.02, LIMITS) == set()
