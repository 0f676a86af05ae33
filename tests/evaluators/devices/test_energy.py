"""Energy: refused without evidence, exact on work that adds up."""

from pathlib import Path

import pytest

from evaluators.devices import Analytic, energy_counter, fit_energy, gpu_energy_counter, measure_energy
from space.errors import InvalidInputError, UnsupportedError


def run(seconds: float, flops: float, moved: float) -> Analytic:
    return Analytic(seconds, {}, {}, flops, moved)


RUNS = [
    run(1.0, 1e12, 1e9),
    run(2.0, 1e12, 8e9),
    run(1.0, 9e12, 2e9),
    run(4.0, 2e12, 1e9),
    run(1.0, 0.0, 0.0),
]


def test_without_a_calibration_there_is_no_number() -> None:
    with pytest.raises(UnsupportedError, match="3 measured runs; 4 calibrate"):
        fit_energy([(one, one.seconds, 1.0) for one in RUNS[:3]])
    with pytest.raises(InvalidInputError, match="0 J is not positive"):
        fit_energy([(one, one.seconds, 0.0) for one in RUNS])


def test_coefficients_are_found_and_never_negative() -> None:
    def joules(one: Analytic) -> float:
        return 10.0 * one.seconds + 2e-12 * one.flops + 3e-9 * one.bytes

    model = fit_energy([(one, one.seconds, joules(one)) for one in RUNS])
    assert model.static_w == pytest.approx(10.0)
    assert model.joules_per_flop == pytest.approx(2e-12)
    assert model.joules_per_byte == pytest.approx(3e-9)
    assert model.joules(RUNS[0]) == pytest.approx(joules(RUNS[0]))
    assert model.joules(RUNS[0], seconds=2.0) == pytest.approx(joules(RUNS[0]) + 10.0)
    falling = fit_energy([(one, one.seconds, 10.0 / (1 + one.flops / 1e12)) for one in RUNS])
    assert falling.joules_per_flop >= 0


def test_a_counter_is_read_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no energy counter"):
        energy_counter(tmp_path)
    for name, text in (("intel-rapl:0", "1500000"), ("intel-rapl:1", "500000"), ("intel-rapl:0:0", "9")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(text)
    counter = energy_counter(tmp_path)
    assert counter() == pytest.approx(2.0)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("2500000")
    assert counter() == pytest.approx(3.0)


def test_a_counter_that_begins_anew_goes_on(tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("9000000")
    (package / "max_energy_range_uj").write_text("10000000")
    counter = energy_counter(tmp_path)
    before = counter()
    (package / "energy_uj").write_text("1000000")
    assert counter() - before == pytest.approx(2.0)


def test_idle_power_is_taken_off_every_pass() -> None:
    """5 W idle; 100 passes of 20 ms with 25 W while they run: 0.4 J each beyond idling."""
    clock, used = [0.0], [0.0]

    def spend(seconds: float, watts: float) -> None:
        clock[0] += seconds
        used[0] += seconds * watts

    found = measure_energy(
        lambda: spend(0.02, 25.0), lambda: used[0], now=lambda: clock[0], sleep=lambda s: spend(s, 5.0)
    )
    assert found.joules_per_pass == pytest.approx(0.4)
    assert found.idle_w == pytest.approx(5.0)
    with pytest.raises(UnsupportedError, match="cannot be told from 0"):
        measure_energy(
            lambda: spend(0.02, 5.0), lambda: used[0], now=lambda: clock[0], sleep=lambda s: spend(s, 5.0)
        )


def test_a_machine_without_a_gpu_counter_says_so() -> None:
    with pytest.raises(UnsupportedError, match=r"nvidia-ml-py|no energy counter"):
        gpu_energy_counter()
