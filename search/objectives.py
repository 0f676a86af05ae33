"""The closed list of objective keys: unit, direction, where the number comes from, how a person reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from space.constraints import PLANNED_KEYS
from space.errors import InvalidInputError, nearest

Source = Literal["quality", "latency", "static"]
"""quality: trained and evaluated. latency: timed. static: closed form of the architecture."""


@dataclass(frozen=True, slots=True)
class Objective:
    key: str
    label: str
    unit: str
    source: Source
    maximise: bool = False
    log: bool = False
    """Normalised and drawn on a log axis."""
    display_scale: float = 1.0
    """Multiply the stored value by this to get `display_unit`."""
    display_unit: str = ""

    def minimised(self, value: float) -> float:
        return -value if self.maximise else value


_ALL = (
    Objective("bits_per_byte", "bits per byte", "bits", "quality", display_unit="bits"),
    Objective("loss", "loss", "nats", "quality", display_unit="nats"),
    Objective("error", "error", "1", "quality", display_scale=100.0, display_unit="%"),
    Objective("proxy_score", "proxy score", "1", "quality", display_unit="unvalidated"),
    Objective("latency_s", "latency", "s", "latency", log=True, display_scale=1e3, display_unit="ms"),
    Objective("latency_p50_s", "median latency", "s", "latency", log=True, display_scale=1e3,
              display_unit="ms"),
    Objective("latency_p95_s", "95th percentile latency", "s", "latency", log=True, display_scale=1e3,
              display_unit="ms"),
    Objective("memory_bytes", "memory", "B", "static", log=True, display_scale=2**-20, display_unit="MiB"),
    Objective("weights_bytes", "weights", "B", "static", log=True, display_scale=2**-20, display_unit="MiB"),
    Objective("params", "parameters", "1", "static", log=True, display_scale=1e-6, display_unit="M"),
    Objective("macs", "multiply-accumulates", "1", "static", log=True, display_scale=1e-6, display_unit="M"),
)  # fmt: skip

OBJECTIVES: Mapping[str, Objective] = {objective.key: objective for objective in _ALL}
ALIASES: Mapping[str, str] = {"latency": "latency_s", "memory": "memory_bytes", "weights": "weights_bytes"}
QUALITY = "quality"
"""Input alias for the quality objective of the job's task."""
PROXY_SCORE = "proxy_score"
"""The quality objective of a job without training: minus the mean log standing of the proxies."""


def objective_key(name: str) -> str:
    """The one key behind a name or alias; `quality` stays as it is until the task is known."""
    key = ALIASES.get(name, name)
    if key != QUALITY and key not in OBJECTIVES:
        raise InvalidInputError(
            f"unknown objective '{name}'; {nearest(name, [*OBJECTIVES, *ALIASES, QUALITY])}"
        )
    return key


def constraint_key(name: str) -> str:
    """The key of a limit: an objective's, or a number that is only ever limited."""
    return name if name in PLANNED_KEYS else objective_key(name)


def minimised(values: Mapping[str, float], keys: Sequence[str]) -> tuple[float, ...]:
    """The objective vector with every component to be minimised."""
    return tuple(OBJECTIVES[key].minimised(values[key]) for key in keys)


def comparable(values: Mapping[str, float]) -> dict[str, float]:
    """Values in which the predicted 10th percentile stands for the latency percentiles nobody has measured
    yet, which lie above it. For comparisons only, never stored."""
    if "latency_s" not in values:
        return dict(values)
    return {**dict.fromkeys(("latency_p50_s", "latency_p95_s"), values["latency_s"]), **values}
