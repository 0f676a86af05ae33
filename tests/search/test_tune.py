"""Our strategies and our successive halving inside a run of Ray Tune."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from search.multifidelity import RungResult, top
from search.proposer import Proposer
from search.strategies import make_strategy
from search.workers.tune import MultiObjectiveASHA, Reports, StrategySearcher
from space.architecture import Architecture, BytesInterface, parse_architecture
from space.costs import costs
from space.errors import InvalidInputError
from space.search_space import SearchSpace, load_preset

KEYS = ("bits_per_byte", "macs")
RUNGS = (1, 2, 4)


def space() -> SearchSpace:
    interface = BytesInterface(context_length=32, outputs=256)
    changes = {"num_layers": [1, 2], "d_model": [32, 48], "number_format": ["fp32"]}
    return load_preset("decoder-small").with_domains(changes).for_interface(interface)


def proposer(trials: int) -> Proposer:
    made = space()
    return Proposer(make_strategy("nsga2", made, 0, KEYS), made, seed=0, budget=trials)


def loss(architecture: Architecture, step: int) -> float:
    return 1.0 + int(architecture.id[:6], 16) / 2**24 + 1.0 / step


class Asked:
    """A trial of Tune as a scheduler sees it."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id, self.status = trial_id, "RUNNING"


class Controller:
    def __init__(self, trials: list[Asked]) -> None:
        self.trials, self.stopped = trials, list[str]()

    def get_trials(self) -> list[Asked]:
        return self.trials

    def stop_trial(self, trial: Asked) -> None:
        self.stopped.append(trial.trial_id)


def test_trials_pause_at_rungs_and_go_on_when_they_are_among_the_best() -> None:
    asha = MultiObjectiveASHA(KEYS, rungs=(1, 2), num_trials=4)
    trials = [Asked(name) for name in "abcd"]
    controller: Any = Controller(trials)
    vectors = {"a": (3.0, 9.0), "b": (2.0, 3.0), "c": (4.0, 1.0), "d": (5.0, 8.0)}
    for trial in trials:
        asha.on_trial_add(controller, trial)  # type: ignore[arg-type]
        bits, macs = vectors[trial.trial_id]
        answer = asha.on_trial_result(
            controller, trial, {"training_iteration": 1, "bits_per_byte": bits, "macs": macs}  # type: ignore[arg-type]
        )  # fmt: skip
        assert answer == "PAUSE"
        trial.status = "PAUSED"
    chosen: Any = asha.choose_trial_to_run(controller)
    assert chosen.trial_id == "b"  # the front is b and c, and b has the better quality
    chosen.status = "RUNNING"
    end = {"training_iteration": 2, "bits_per_byte": 1.5, "macs": 3.0}
    assert asha.on_trial_result(controller, chosen, end) == "STOP"
    chosen.status = "TERMINATED"
    second: Any = asha.choose_trial_to_run(controller)
    assert second.trial_id == "c"
    second.status = "TERMINATED"
    assert asha.choose_trial_to_run(controller) is None
    assert sorted(controller.stopped) == ["a", "d"]
    asha.on_trial_error(controller, trials[3])  # type: ignore[arg-type]
    assert {one.number for one in asha.results} == {0, 1, 2}


def test_what_was_asked_and_reached_survives_a_restart(tmp_path: Path) -> None:
    first = StrategySearcher(proposer(6), KEYS, num_trials=6, last=4)
    for name in "abc":
        config: Any = first.suggest(name)
        values = {"bits_per_byte": 2.0, "macs": 1e6 + config["number"], "training_iteration": 2}
        first.on_trial_result(name, values)
    first.on_trial_complete("c", None, error=True)
    file = str(tmp_path / "searcher.json")
    first.save(file)
    second = StrategySearcher(proposer(6), KEYS, num_trials=6, last=4)
    second.restore(file)
    assert second.suggest("d") == first.suggest("d")
    assert [second.suggest("e") != "FINISHED", second.suggest("f") != "FINISHED"] == [True, True]
    assert second.suggest("g") == "FINISHED"
    told = first._told()
    assert [(one.fidelity, one.complete, one.objectives is None) for one in told] == [
        (0.5, False, False), (0.5, False, False), (1.0, True, True)
    ]  # fmt: skip

    asha = MultiObjectiveASHA(KEYS, rungs=RUNGS, num_trials=6)
    asha._numbers, asha._results = {"a": 0}, {(0, 1): RungResult(0, 1, (1.0, 2.0))}
    asha.save(file)
    again = MultiObjectiveASHA(KEYS, rungs=RUNGS, num_trials=6)
    again.restore(file)
    assert again.results == asha.results
    with pytest.raises(InvalidInputError, match="do not rise"):
        MultiObjectiveASHA(KEYS, rungs=(2, 1), num_trials=6)


@pytest.mark.slow
def test_a_run_of_tune_halves_and_reports(tmp_path: Path) -> None:
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    import ray
    from ray import tune

    class Curve(tune.Trainable):
        """Every step is one of training; the loss is a formula."""

        def setup(self, config: dict[str, Any]) -> None:
            self.architecture, self.steps = parse_architecture(config["architecture"]), 0

        def step(self) -> dict[str, float]:
            self.steps += 1
            value = 1.0 + int(self.architecture.id[:6], 16) / 2**24 + 1.0 / self.steps
            return {"bits_per_byte": value, "macs": float(costs(self.architecture).macs)}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            Path(checkpoint_dir, "steps.json").write_text(json.dumps(self.steps))

        def load_checkpoint(self, checkpoint: Any) -> None:
            self.steps = json.loads(Path(checkpoint, "steps.json").read_text())

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

    from search.workers.ray_connection import connect

    seen: list[tuple[int, int]] = []

    def take(number: int, architecture: Architecture, result: Mapping[str, Any]) -> None:
        seen.append((number, int(result["training_iteration"])))
        assert result["bits_per_byte"] == pytest.approx(loss(architecture, result["training_iteration"]))

    asha = MultiObjectiveASHA(KEYS, rungs=RUNGS, num_trials=8, reduction=4)
    was_started = connect("local", 2)
    try:
        tune.Tuner(
            Curve,
            tune_config=tune.TuneConfig(
                scheduler=asha, search_alg=StrategySearcher(proposer(8), KEYS, num_trials=8, last=4),
                num_samples=8, reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=str(tmp_path), callbacks=[Reports(take)], verbose=0),
        ).fit()  # fmt: skip
    finally:
        if was_started:
            ray.shutdown()
    steps = {number: max(step for one, step in seen if one == number) for number, _ in seen}
    assert set(steps) == set(range(8))
    assert set(steps.values()) <= {1, 2, 4}
    assert 1 <= sum(step == 4 for step in steps.values()) < 8
    first = [one for one in asha.results if one.rung == 1]
    assert set(top(first, 4)) <= {number for number, step in steps.items() if step > 1}
