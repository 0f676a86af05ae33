"""What an evaluation gives back: one immutable measurement that says how it was obtained."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["computed", "measured", "predicted"]
"""computed: closed form. measured: ran here. predicted: composed or fitted from other measurements."""

Status = Literal["ok", "nan", "overflow", "unsupported", "error"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number with its unit, spread and conditions.

    `quantity` is an objective key (`latency_s`, `bits_per_byte`, ...) or a proxy id. `value` is None exactly
    when `status` is not "ok". `spread` is half of the 95 % interval of `value`, in `unit`, when it is known.
    """

    quantity: str
    value: float | None
    unit: str
    kind: Kind
    status: Status = "ok"
    spread: float | None = None
    repeats: int = 1
    execution: Literal["real", "simulated"] = "real"
    """Whether number formats ran as such or were imitated in float."""
    flags: frozenset[str] = frozenset()
    """Of `contended`, `noisy`, `extrapolated`, `unvalidated_accuracy`."""
    wall_s: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)
    """JSON: quantiles, device, threads, batch, length, warm-up, versions, curve, ..."""

    def __post_init__(self) -> None:
        if (self.status == "ok") != (self.value is not None):
            raise ValueError(f"{self.quantity}: status {self.status!r} does not fit value {self.value!r}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(
                f"{self.quantity}: {self.value} is not finite; store status 'nan' without a value"
            )


def fingerprint(evaluator: str, version: int, **conditions: Any) -> str:
    """SHA-256 (32 hex characters) over an evaluator's id, version and every condition its number depends on.

    >>> fingerprint("a", 1, seed=0) == fingerprint("a", 1, seed=0) != fingerprint("a", 2, seed=0)
    True
    """
    text = json.dumps([evaluator, version, conditions], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
