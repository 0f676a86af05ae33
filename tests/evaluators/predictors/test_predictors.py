"""Predictors: each regression against its textbook form, choice, intervals, transfer."""

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import spearmanr

from evaluators.devices import load_devices
from evaluators.predictors import fit_latency, predict_elsewhere, transfer, work_of
from evaluators.predictors.regressors import fit_additive, fit_kernel, fit_ridge
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError

RNG = np.random.default_rng(0)
Work = list[dict[str, float]]


def drawn(count: int, noise: float, seed: int = 0) -> tuple[Work, list[float]]:
    """Time = 1 ms + layers * 0.5 ms + macs / 1e9, times noise."""
    rng = np.random.default_rng(seed)
    work, seconds = [], []
    for _ in range(count):
        layers, macs = float(rng.integers(1, 13)), 10 ** rng.uniform(5, 7)
        work.append({"layers": layers, "macs": macs})
        seconds.append((1e-3 + 5e-4 * layers + macs / 1e9) * float(np.exp(noise * rng.standard_normal())))
    return work, seconds


def test_additive_work_is_recovered_and_one_disturbed_measurement_does_not_move_it() -> None:
    rows = RNG.uniform(1, 9, (40, 3))
    seconds = rows @ np.array([2e-3, 0.0, 5e-4])
    seconds[7] *= 5
    fitted = fit_additive(rows, seconds)
    assert np.all(fitted.weights >= 0)
    left_out = np.arange(40) != 7
    error = fitted.predict(rows)[left_out] - np.log(seconds[left_out])
    assert np.abs(error).max() < 0.02


def test_additive_without_disturbance_is_the_textbook_fit() -> None:
    rows = RNG.uniform(1, 9, (60, 2))
    seconds = rows @ np.array([1.0, 3.0])
    expected, _ = nnls(rows / seconds[:, None], np.ones(60))
    assert fit_additive(rows, seconds).weights == pytest.approx(expected, rel=0.02)


def test_ridge_finds_a_power_law_and_ignores_a_constant_column() -> None:
    rows = np.column_stack([RNG.uniform(1, 100, 50), np.ones(50), RNG.integers(0, 2, 50)])
    logs = 0.7 * np.log(rows[:, 0]) + 0.3 * rows[:, 2] - 5
    fitted = fit_ridge(rows, logs)
    assert np.abs(fitted.predict(rows) - logs).max() < 0.01


def test_the_kernel_takes_what_a_line_leaves_and_is_silent_far_away() -> None:
    rows = RNG.uniform(1, 10, (80, 1))
    logs = np.sin(rows[:, 0])
    below = fit_ridge(rows, logs)
    fitted = fit_kernel(rows, logs, below)
    assert np.abs(fitted.predict(rows) - logs).mean() < 0.3 * np.abs(below.predict(rows) - logs).mean()
    far = np.array([[1e9]])
    assert fitted.predict(far) == pytest.approx(below.predict(far))


@pytest.mark.parametrize("count", [5, 12, 30, 80])
def test_a_device_is_predicted_from_few_samples(count: int) -> None:
    fitted = fit_latency(*drawn(count, 0.02))
    work, seconds = drawn(200, 0.0, seed=1)
    relative = np.abs(fitted.predict(work) / np.array(seconds) - 1)
    assert relative.mean() < (0.3 if count == 5 else 0.06)
    assert set(fitted.errors) >= {"additive", "ridge", "additive+ridge"}
    assert (len(fitted.errors) == 4) == (count >= 60)
    assert fitted.method in fitted.errors


def test_intervals_cover_new_architectures() -> None:
    """Nominal 95 %; the 300 draws leave room for chance."""
    fitted = fit_latency(*drawn(60, 0.05))
    work, seconds = drawn(300, 0.05, seed=2)
    low, high = fitted.intervals(work)
    assert np.mean((low <= seconds) & (seconds <= high)) > 0.88
    assert np.all(low < high)


def test_what_cannot_be_fitted_is_refused() -> None:
    work, seconds = drawn(5, 0.0)
    for few in ((work[:4], seconds[:4]), (work, seconds[:4])):
        with pytest.raises(InvalidInputError, match="5 or more"):
            fit_latency(*few)
    with pytest.raises(InvalidInputError, match="not positive"):
        fit_latency(work, [*seconds[:4], 0.0])


def test_transfer_takes_the_device_that_is_alike() -> None:
    old = drawn(10, 0.0)[1]
    other = [float(seconds) for seconds in np.exp(RNG.standard_normal(10))]
    new = [3e-4 * seconds**0.9 for seconds in old]
    found = transfer(new, {"alike": old, "unlike": other})
    assert found.source == "alike"
    assert found.errors["alike"] < found.errors["unlike"]
    further = drawn(50, 0.0, seed=3)[1]
    assert found.predict(further) == pytest.approx(3e-4 * np.array(further) ** 0.9, rel=0.1)
    with pytest.raises(InvalidInputError, match="a transfer needs 3"):
        transfer(new[:2], {"alike": old[:2]})
    with pytest.raises(InvalidInputError, match="'alike' has 9 latencies"):
        transfer(new, {"alike": old[:9]})


def test_from_thirty_samples_on_transfer_learns_what_the_devices_differ_in() -> None:
    work, old = drawn(40, 0.0)
    new = [seconds * (1 + 0.1 * row["layers"]) for seconds, row in zip(old, work, strict=True)]
    plain, learned = transfer(new, {"old": old}), transfer(new, {"old": old}, work)
    assert plain.residual is None
    more_work, more_old = drawn(100, 0.0, seed=4)
    more = np.array([s * (1 + 0.1 * row["layers"]) for s, row in zip(more_old, more_work, strict=True)])
    errors = [float(np.abs(one.predict(more_old, more_work) / more - 1).mean()) for one in (plain, learned)]
    assert errors[1] < 0.5 * errors[0]


def decoder(d_model: int, num_layers: int) -> Architecture:
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 4, "num_kv_heads": 4},
        "feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 4 * d_model},
        "norm": {"kind": "rmsnorm"},
    }
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "vocab_size": 256, "context_length": 64, "outputs": 256},
            "d_model": d_model,
            "position": {"kind": "rope"},
            "layers": [layer] * num_layers,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language"},
        }
    )


def test_an_absent_device_is_analytic_until_it_was_measured_on() -> None:
    device = load_devices().get("raspberry-pi-5")
    models = [decoder(width, depth) for width in (16, 32, 64, 128) for depth in (1, 2, 4)]
    truth = {one.id: 3.0 * work_of(one, device=device)["analytic"] + 1e-3 for one in models}
    plain = predict_elsewhere(models[-1], device)
    assert plain.detail["label"] == "analytic, not measured"
    measured = [(one, truth[one.id]) for one in models[:-1]]
    fitted = predict_elsewhere(models[-1], device, measured)
    assert fitted.detail["label"] == "fitted to 11 measurements, not measured"
    assert fitted.kind == "predicted"
    assert fitted.value == pytest.approx(truth[models[-1].id], rel=0.25)
    assert fitted.detail["low_s"] < fitted.detail["high_s"]
    values = [predict_elsewhere(one, device, measured).value for one in models[::4]]
    assert spearmanr(values, [truth[one.id] for one in models[::4]]).statistic == pytest.approx(1.0)


@pytest.mark.parametrize("is_known", [True, False])
def test_ten_measurements_carry_latencies_over_from_another_device(is_known: bool) -> None:
    device = load_devices().get("raspberry-pi-5")
    models = [decoder(width, depth) for width in (16, 32, 64, 128) for depth in (1, 2, 3, 4)]
    rng = np.random.default_rng(5)
    odd = {one.id: float(np.exp(0.5 * rng.standard_normal())) for one in models}  # what no work tells
    other = {one.id: odd[one.id] * (work_of(one, device=device)["analytic"] + 1e-3) for one in models}
    truth = {id: 2.0 * seconds**0.9 for id, seconds in other.items()}
    wanted, like = models[-1], [(one, other[one.id]) for one in models if is_known or one != models[-1]]
    measured = [(one, truth[one.id]) for one in models[:10]]
    found = predict_elsewhere(wanted, device, measured, like=like)
    assert found.kind == "predicted"
    assert found.detail["label"] == "carried over from another device by 10 measurements, not measured"
    assert found.detail["there"] == ("given" if is_known else "predicted")
    assert found.detail["low_s"] <= truth[wanted.id] <= found.detail["high_s"]
    if is_known:
        assert found.value == pytest.approx(truth[wanted.id], rel=0.1)
        assert found.spread is not None
        assert found.spread < 0.2 * truth[wanted.id]
    with pytest.raises(InvalidInputError, match="10 measurements, 4 of them"):
        predict_elsewhere(wanted, device, measured, like=like[:4])


def test_the_work_of_an_architecture_adds_up() -> None:
    one, two = (work_of(decoder(32, depth)) for depth in (1, 2))
    assert two["mixer.softmax"] == 2
    assert two["feed_forward.flops"] == 2 * one["feed_forward.flops"]
    assert "analytic" not in one
