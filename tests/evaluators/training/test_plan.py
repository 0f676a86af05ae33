from dataclasses import replace

import pytest

from evaluators.training import TaskData, TrainingPlan, steps_of_tokens, training_fingerprint

PLAN = TrainingPlan(steps=300, batch_size=16)


def test_the_rate_warms_up_stays_and_decays_to_the_last_step() -> None:
    rates = [PLAN.rate(step, 64) for step in range(300)]
    assert rates[0] == pytest.approx(0.003 / 15)
    assert set(rates[14:241]) == {0.003}
    assert rates[299] == pytest.approx(0.003 / 60)
    assert rates[:15] == sorted(rates[:15])
    assert rates[240:] == sorted(rates[240:], reverse=True)


def test_wider_models_get_smaller_rates() -> None:
    assert PLAN.rate(100, 256) == pytest.approx(0.0015)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_short_schedules_have_a_positive_rate_everywhere(steps: int) -> None:
    plan = TrainingPlan(steps=steps, batch_size=1)
    assert all(0 < plan.rate(step, 64) <= 0.003 for step in range(steps))


def test_the_fingerprint_changes_with_plan_and_data(text_data: TaskData, digits_data: TaskData) -> None:
    prints = [
        training_fingerprint(text_data, PLAN),
        training_fingerprint(digits_data, PLAN),
        training_fingerprint(text_data, replace(PLAN, steps=301)),
        training_fingerprint(text_data, replace(PLAN, weight_decay=0.0)),
    ]
    assert len(set(prints)) == 4
    assert training_fingerprint(text_data, PLAN) == prints[0]


def test_an_empty_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="steps=0"):
        TrainingPlan(steps=0, batch_size=16)


def test_a_budget_of_tokens_is_as_many_steps_as_see_them(text_data: TaskData) -> None:
    tokens = 16 * text_data.length
    assert steps_of_tokens(10 * tokens, text_data, 16) == 10
    assert steps_of_tokens(10 * tokens + 1, text_data, 16) == 11
    assert steps_of_tokens(1, text_data, 16) == 1
