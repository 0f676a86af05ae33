"""What sharing the instrumented passes saves, and how far two initialisations agree.

    python benchmarks/proxy_passes.py

Three networks on the text task's probe batch, one thread. `shared` scores all proxies in one call, `separate`
calls once per proxy; the two alternate, so that a busy moment meets both. Wall seconds: 10th percentile and
quartiles. Kendall's tau compares ranks of random architectures: one seed with another, a proxy with parameter
count and with depth. Writes `benchmarks/results/proxy_passes.json` with the machine.
"""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.latency.target import device_facts
from evaluators.protocol import Measurement
from evaluators.proxies import PROXIES, probe_size, score
from evaluators.rank_statistics import kendall
from evaluators.training import prepare_task, probe_batch
from space.architecture import Architecture, BytesInterface, parse_architecture
from space.costs import costs
from space.sampling import sample
from space.search_space import load_preset

REPEATS = 9
POPULATION = 24
SIZES = {"2x64": (2, 64), "4x128": (4, 128), "4x256": (4, 256)}
NAMES = tuple(one.id for one in PROXIES if one.groups <= set("BCDE"))
"""Those of the shared passes; closed forms have no seed, groups F and H have passes of their own."""
RESULT = Path(__file__).parent / "results" / "proxy_passes.json"


def transformer(num_layers: int, d_model: int, interface: BytesInterface) -> Architecture:
    """LLaMA-like, heads of width 32."""
    heads = d_model // 32
    layer = {
        "mixer": {"kind": "softmax", "num_heads": heads, "num_kv_heads": heads},
        "feed_forward": {"kind": "glu", "activation": "silu", "d_ff": d_model * 8 // 3},
        "norm": {"kind": "rmsnorm"},
    }
    return parse_architecture(
        {
            "model": "decoder",
            "interface": interface.model_dump(mode="json"),
            "d_model": d_model,
            "position": {"kind": "rope"},
            "layers": [layer] * num_layers,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language"},
        }
    )


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(times: Sequence[float]) -> dict[str, float]:
    p10, q1, median, q3 = np.percentile(times, [10, 25, 50, 75])
    return {"p10_s": float(p10), "q1_s": float(q1), "median_s": float(median), "q3_s": float(q3)}


def timings(architecture: Architecture, inputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    names = NAMES

    def shared() -> object:
        return score(architecture, inputs, targets, names, seed=0, num_seeds=1)

    def separate() -> object:
        return [score(architecture, inputs, targets, [name], seed=0, num_seeds=1) for name in names]

    shared()
    times: dict[str, list[float]] = {"shared": [], "separate": []}
    for repeat in range(REPEATS):
        order = (("shared", shared), ("separate", separate))
        for name, run in order if repeat % 2 == 0 else reversed(order):
            times[name].append(seconds(run))
    own = score(architecture, inputs, targets, names, seed=0, num_seeds=1)
    result: dict[str, Any] = {name: spread(values) for name, values in times.items()}
    result["speedup_p10"] = result["separate"]["p10_s"] / result["shared"]["p10_s"]
    result["parts_s"] = {name: own[name].wall_s for name in names} | {
        "passes": float(own[names[0]].detail["passes_s"])
    }
    return result


def seed_agreement(interface: BytesInterface, inputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Tau between two seeds, and with parameters and depth, over random architectures."""
    space = load_preset("decoder-small").for_interface(interface)
    rng = random.Random(0)
    population = [sample(space, rng) for _ in range(POPULATION)]
    first, second = (
        [score(a, inputs, targets, NAMES, seed=seed, num_seeds=1) for a in population] for seed in (0, 1)
    )
    result = {}
    for name in NAMES:
        rows = [
            (x, y, float(costs(a).params), float(len(a.layers)))
            for a, x, y in zip(population, values(first, name), values(second, name), strict=True)
            if x is not None and y is not None
        ]
        if len(rows) < 2:
            continue
        one, two, params, depth = (list(column) for column in zip(*rows, strict=True))
        result[name] = {
            "architectures": len(rows),
            "tau_between_seeds": kendall(one, two),
            "tau_with_params": kendall(one, params),
            "tau_with_depth": kendall(one, depth),
        }
    return result


def values(scores: Sequence[Mapping[str, Measurement]], name: str) -> list[float | None]:
    return [own[name].value for own in scores]


def main() -> None:
    torch.set_num_threads(1)
    data = prepare_task("language-model", "python-stdlib")
    interface = data.interface()
    assert isinstance(interface, BytesInterface)
    inputs, targets = probe_batch(data, probe_size(data.length))
    networks: Mapping[str, Any] = {
        name: timings(transformer(*size, interface), inputs, targets) for name, size in SIZES.items()
    }
    seeds = seed_agreement(interface, inputs, targets)
    result = {
        "machine": {**device_facts(), "threads": 1, "load_1m": Path("/proc/loadavg").read_text().split()[0]},
        "probe": {"examples": len(inputs), "tokens": data.length, "digest": data.digest},
        "repeats": REPEATS,
        "networks": networks,
        "seeds": seeds,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for name, own in networks.items():
        shared, separate = own["shared"], own["separate"]
        print(
            f"{name:>6}: shared {shared['p10_s']:.3f} s ({shared['q1_s']:.3f}-{shared['q3_s']:.3f}), "
            f"separate {separate['p10_s']:.3f} s ({separate['q1_s']:.3f}-{separate['q3_s']:.3f}), "
            f"{own['speedup_p10']:.2f} times faster"
        )
    for name, own in seeds.items():
        print(
            f"{name:>20}: tau between two seeds {own['tau_between_seeds']:.3f}, "
            f"with parameters {own['tau_with_params']:.3f}, with depth {own['tau_with_depth']:.3f} "
            f"({own['architectures']} architectures)"
        )


if __name__ == "__main__":
    main()
