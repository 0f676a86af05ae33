"""How fast architectures are drawn, named and counted.

    python benchmarks/space_speed.py [--json]

Per preset, in seconds of CPU time of one process (waiting does not count): `sample` draws a structured
random architecture, repairs and canonicalises it; `id` writes its canonical JSON and hashes it; `costs`
counts one architecture alone; `batch` counts many at once, first with an empty table (`cold`: every mixer and
feed-forward is new), then others of the same space (`warm`: most parts are known). Five repeats, each with
its own seed; median and range. Writes `benchmarks/results/space_speed.json` with the machine.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluators.latency.target import device_facts
from space.architecture import Architecture, BytesInterface, ImageInterface, InterfaceConfig
from space.batch_costs import CostTable
from space.costs import costs
from space.sampling import sample
from space.search_space import SearchSpace, load_preset

PRESETS = ("decoder-small", "decoder-full", "vision-full", "hwgpt-s")
REPEATS, COUNT, ALONE = 5, 10_000, 300
INTERFACES: dict[str, InterfaceConfig] = {
    "decoder": BytesInterface(context_length=128, outputs=256),
    "vision": ImageInterface(height=16, width=16, patch_size=2, outputs=10),
}
RESULT = Path(__file__).parent / "results" / "space_speed.json"


def measured(space: SearchSpace, seed: int) -> dict[str, float]:
    """Architectures per CPU second of every step."""
    rng = random.Random(seed)
    for _ in range(200):
        sample(space, rng)
    table = CostTable()
    drawn: list[Architecture] = []
    rates: dict[str, float] = {}

    def timed(name: str, count: int, run: Callable[[], Any]) -> None:
        start = time.process_time()
        run()
        rates[name] = count / (time.process_time() - start)

    timed("sample", COUNT, lambda: drawn.extend(sample(space, rng) for _ in range(COUNT)))
    timed("id", COUNT, lambda: [architecture.id for architecture in drawn])
    timed("costs", ALONE, lambda: [costs(architecture) for architecture in drawn[:ALONE]])
    half = COUNT // 2
    timed("batch cold", half, lambda: table.costs(drawn[:half]))
    timed("batch warm", half, lambda: table.costs(drawn[half:]))
    rates["sample and id"] = 1 / (1 / rates["sample"] + 1 / rates["id"])
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    as_json = parser.parse_args().json
    found: dict[str, Any] = {"unit": "architectures per CPU second", "machine": device_facts(), "presets": {}}
    for name in PRESETS:
        preset = load_preset(name)
        space = preset.for_interface(INTERFACES[preset.model])
        runs = [measured(space, seed) for seed in range(REPEATS)]
        found["presets"][name] = {
            key: {
                "median": round(statistics.median(run[key] for run in runs)),
                "least": round(min(run[key] for run in runs)),
                "largest": round(max(run[key] for run in runs)),
            }
            for key in runs[0]
        }
        if not as_json:
            print(name, {key: value["median"] for key, value in found["presets"][name].items()})
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
