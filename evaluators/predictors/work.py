"""What an architecture makes a device do, as amounts that add up: the columns of a latency predictor.

Calls, arithmetic and bytes per role, layers of every mixer kind, arithmetic per number format, and the
analytic time where a device model is given.
"""

from collections import defaultdict
from collections.abc import Mapping

from evaluators.devices import Device, Phase, analytic, operators_of
from space.architecture import Architecture


def work_of(
    architecture: Architecture,
    *,
    batch_size: int = 1,
    tokens: int | None = None,
    phase: Phase = "prefill",
    device: Device | None = None,
    threads: int | None = None,
) -> Mapping[str, float]:
    """Amounts by name; `analytic` in seconds on `device`."""
    amounts: dict[str, float] = defaultdict(float)
    for operator in operators_of(architecture, batch_size=batch_size, tokens=tokens, phase=phase):
        amounts["calls"] += float(operator.calls)
        amounts[f"{operator.role}.flops"] += operator.flops
        amounts[f"{operator.role}.bytes"] += operator.bytes
        amounts[f"{operator.number}.flops"] += operator.flops
    for layer in architecture.layers:
        amounts[f"mixer.{layer.mixer.kind}"] += 1.0
    if device is not None:
        found = analytic(
            architecture, device, batch_size=batch_size, tokens=tokens, phase=phase, threads=threads
        )
        amounts["analytic"] = found.seconds
    return dict(amounts)
