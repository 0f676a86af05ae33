"""Does a latency that is measured again an hour later agree with itself, on a machine that others use too?

    python -m benchmarks.latency_repeats [--count N] [--json FILE]

Each call is a visit: the same random architectures of `decoder-small`, measured whole as a search measures
front candidates (ONNX Runtime, one thread, batch 1), and added to the file with the load of the machine. From
the second visit on, every pair of visits at least half an hour apart is compared: |later / earlier - 1| of
every architecture. Between visits the machine keeps the history of its reference network, as it does between
jobs. `flagged`: a disturbed or noisy value on either side; such numbers stand without those too.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.latency import EstimatorLimits, Target, device_facts, latency_fingerprint, measure_model
from space.architecture import Architecture, BytesInterface
from space.model import build_model
from space.sampling import sample
from space.search_space import load_preset

TARGET = Target()
APART_S = 1800.0
RESULT = Path(__file__).parent / "results" / "latency_repeats.json"
SCRATCH = Path(tempfile.gettempdir()) / "paretoformer-latency-repeats"

Visit = dict[str, Any]


def architectures(count: int) -> list[Architecture]:
    """In formats that ONNX Runtime runs."""
    space = load_preset("decoder-small").for_interface(BytesInterface(context_length=128, outputs=256))
    space, _ = space.without_formats(["bf16"])
    rng = random.Random(0)
    return [sample(space, rng) for _ in range(count)]


def visit(models: Sequence[Architecture]) -> Visit:
    began, rows = time.time(), dict[str, Any]()
    for model in models:
        found = measure_model(build_model(model, seed=0), model, TARGET, scratch=SCRATCH)
        rows[model.id] = {
            "value_s": found.value,
            "spread_s": found.spread,
            "p50_s": found.detail["p50_s"],
            "flags": sorted(found.flags),
        }
        print(f"{model.id[:8]} {1e3 * (found.value or 0.0):.3f} ms {' '.join(found.flags)}", flush=True)
    return {"at": began, "load_1m": os.getloadavg()[0], "models": rows}


def compared(visits: Sequence[Visit]) -> dict[str, Any]:
    """Over all pairs of visits far enough apart; empty before there is one."""
    found: list[tuple[float, float, bool]] = []
    for one, other in itertools.combinations(visits, 2):
        if other["at"] - one["at"] >= APART_S:
            for id in one["models"].keys() & other["models"].keys():
                a, b = one["models"][id], other["models"][id]
                shifts = (abs(b[key] / a[key] - 1) for key in ("value_s", "p50_s"))
                found.append((*shifts, any(one["flags"] or is_wide(one) for one in (a, b))))
    calm = [row for row in found if not row[2]]
    return {
        "apart_s": [round(b["at"] - a["at"]) for a, b in itertools.combinations(visits, 2)],
        "all": told([row[0] for row in found]),
        "unflagged": told([row[0] for row in calm]),
        "median_of_the_runs": told([row[1] for row in found]),
    }


def is_wide(row: Mapping[str, Any]) -> bool:
    """Noisy by its own interval; early visits did not say so where each round was sure of itself."""
    return bool(row["spread_s"] > EstimatorLimits().noisy_half_width * row["value_s"])


def told(shifts: Sequence[float]) -> Mapping[str, float] | None:
    if not shifts:
        return None
    return {
        "pairs": len(shifts),
        "median": round(statistics.median(shifts), 4),
        "largest": round(max(shifts), 4),
        "within_3_percent": round(sum(shift <= 0.03 for shift in shifts) / len(shifts), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=6, help="architectures")
    parser.add_argument("--json", type=Path, default=RESULT, help="where visits are added")
    given = parser.parse_args()
    conditions = {"latency": latency_fingerprint(TARGET)}
    stored = json.loads(given.json.read_text(encoding="utf-8")) if given.json.exists() else {}
    visits = stored["visits"] if stored.get("conditions") == conditions else []
    visits.append(visit(architectures(given.count)))
    result = {
        "about": "the same whole models measured again: relative change of the latency",
        "machine": device_facts(),
        "conditions": conditions,
        "agreement": compared(visits),
        "visits": visits,
    }
    given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["agreement"], indent=1))


if __name__ == "__main__":
    main()
