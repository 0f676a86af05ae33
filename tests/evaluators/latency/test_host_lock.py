"""The host lock between threads and processes: exclusion, no starvation, release by death."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from evaluators.latency.host_lock import quiet_host, training_step
from space.errors import EvaluationError


def test_two_measurements_never_overlap(tmp_path: Path) -> None:
    inside = 0
    most = 0
    guard = threading.Lock()

    def measure() -> None:
        nonlocal inside, most
        for _ in range(5):
            with quiet_host(10.0, folder=tmp_path):
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.002)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=measure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_training_steps_share_the_host_but_not_with_a_measurement(tmp_path: Path) -> None:
    with training_step(folder=tmp_path), training_step(folder=tmp_path):
        pass
    stepped = threading.Event()

    def train() -> None:
        with training_step(folder=tmp_path):
            stepped.set()

    with quiet_host(1.0, folder=tmp_path) as quiet:
        assert quiet
        thread = threading.Thread(target=train)
        thread.start()
        assert not stepped.wait(0.1)
    assert stepped.wait(2)
    thread.join()


def test_a_measurement_does_not_starve_behind_busy_trainings(tmp_path: Path) -> None:
    """Two trainings whose steps always overlap; the room is never empty unless new steps wait."""
    stop = threading.Event()

    def train() -> None:
        while not stop.is_set():
            with training_step(folder=tmp_path):
                time.sleep(0.02)

    threads = [threading.Thread(target=train) for _ in range(2)]
    for index, thread in enumerate(threads):
        thread.start()
        time.sleep(0.01 * (index + 1))
    began = time.monotonic()
    for _ in range(3):
        with quiet_host(5.0, folder=tmp_path) as quiet:
            assert quiet
    waited = time.monotonic() - began
    stop.set()
    for thread in threads:
        thread.join()
    assert waited < 2


def test_a_step_that_does_not_end_makes_the_host_not_quiet(tmp_path: Path) -> None:
    with training_step(folder=tmp_path), quiet_host(0.05, folder=tmp_path) as quiet:
        assert not quiet


def test_a_measurement_that_does_not_end_is_an_error(tmp_path: Path) -> None:
    with (
        quiet_host(1.0, folder=tmp_path),
        pytest.raises(EvaluationError, match="another measurement held this host") as caught,
        quiet_host(0.05, folder=tmp_path),
    ):
        pass
    assert caught.value.reason == "timeout"


def test_a_killed_process_gives_the_host_back(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        with quiet_host(5.0, folder=tmp_path):
            os.write(writer, b"held")
            time.sleep(60)
        os._exit(0)
    assert os.read(reader, 4) == b"held"
    with pytest.raises(EvaluationError), quiet_host(0.05, folder=tmp_path):
        pass
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with quiet_host(1.0, folder=tmp_path) as quiet:
        assert quiet
    os.close(reader)
    os.close(writer)


def test_an_exception_inside_releases_the_host(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), quiet_host(1.0, folder=tmp_path):
        raise ZeroDivisionError
    with quiet_host(0.0, folder=tmp_path) as quiet:
        assert quiet


def test_another_user_may_wait_whatever_the_umask_of_the_first(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with training_step(folder=tmp_path):
            pass
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o644}
