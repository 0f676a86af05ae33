"""The same search under your own Ray Tune: `python examples/ray_tune.py [--trials 12] [--steps 200]`.

Tune starts the trials and keeps them alive; this project says which architecture comes next
(`StrategySearcher`), which of them are trained further (`MultiObjectiveASHA`), and how one is trained.
Weights lie in `--folder`, which every machine of a cluster has to see; Tune's checkpoint says only how far a
trial came.
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

from ray import tune

from evaluators.training import TrainingPlan, prepare_task, train
from search.multifidelity import top
from search.proposer import Proposer
from search.strategies import make_strategy
from search.workers.ray import connect
from search.workers.tune import MultiObjectiveASHA, Reports, StrategySearcher
from space.architecture import Architecture, parse_architecture
from space.costs import costs
from space.search_space import load_preset

OBJECTIVES = ("bits_per_byte", "params")
RUNGS = 3
"""A step of Tune is a rung: a quarter of the training, half of it, all of it."""


class Training(tune.Trainable):
    """One architecture; paused between rungs, and taken up by any actor."""

    def setup(self, config: dict[str, Any]) -> None:
        self.architecture, self.rung = parse_architecture(config["architecture"]), 0
        self.steps, self.folder = int(config["steps"]), Path(config["folder"])

    def step(self) -> dict[str, float]:
        self.rung += 1
        data = prepare_task("language-model", "python-stdlib")
        plan = TrainingPlan(steps=self.steps, batch_size=data.batch_size)
        until = self.steps // 2 ** (RUNGS - self.rung)
        found = train(self.architecture, data, plan, seed=0, until=until, folder=self.folder)
        quality = found.metrics["bits_per_byte"]
        return {"bits_per_byte": quality, "params": float(costs(self.architecture).params)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "rung.json").write_text(json.dumps(self.rung))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.rung = json.loads(Path(checkpoint, "rung.json").read_text())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True


def report(number: int, architecture: Architecture, result: Mapping[str, Any]) -> None:
    rung, quality = result["training_iteration"], result["bits_per_byte"]
    print(f"trial {number}, rung {rung}: {quality:.3f} bits per byte, {result['params']:,.0f} parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("ray-tune").absolute())
    parser.add_argument("--ray", default="local", metavar="ADDRESS", help="of a cluster")
    given = parser.parse_args()
    connect(given.ray)
    interface = prepare_task("language-model", "python-stdlib").interface()
    space = load_preset("decoder-small").for_interface(interface)
    proposer = Proposer(make_strategy("surrogate", space, 0, OBJECTIVES), space, seed=0, budget=given.trials)
    scheduler = MultiObjectiveASHA(OBJECTIVES, rungs=range(1, RUNGS + 1), num_trials=given.trials)
    searcher = StrategySearcher(
        proposer, OBJECTIVES, num_trials=given.trials, last=RUNGS,
        more={"steps": given.steps, "folder": str(given.folder.absolute())},
    )  # fmt: skip
    tune.Tuner(
        Training,
        tune_config=tune.TuneConfig(
            scheduler=scheduler, search_alg=searcher, num_samples=given.trials, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            storage_path=str(given.folder.absolute()), callbacks=[Reports(report)], verbose=0
        ),
    ).fit()
    ends = [one for one in scheduler.results if one.rung == RUNGS]
    print("trained to the end, best first:", *top(ends, 1))


if __name__ == "__main__":
    main()
