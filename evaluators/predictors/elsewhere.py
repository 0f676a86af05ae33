"""Latency on a device that is not at hand: from its data sheet, or from some measurements made there."""

from collections.abc import Sequence

import numpy as np

from evaluators.devices import Device, Phase, predict_on
from evaluators.protocol import Measurement
from space.architecture import Architecture

from .latency import fit_latency
from .work import work_of


def predict_elsewhere(
    architecture: Architecture,
    device: Device,
    measured: Sequence[tuple[Architecture, float]] = (),
    *,
    batch_size: int = 1,
    tokens: int | None = None,
    phase: Phase = "prefill",
    threads: int | None = None,
) -> Measurement:
    """Analytic without measurements; with some (architecture, seconds), all under the same conditions, fitted
    to them.

    Raises:
        InvalidInputError: too few measurements, or one that is not positive.
    """
    described = predict_on(
        architecture, device, batch_size=batch_size, tokens=tokens, phase=phase, threads=threads
    )
    if not measured:
        return described

    def work(one: Architecture) -> dict[str, float]:
        amounts = work_of(
            one, batch_size=batch_size, tokens=tokens, phase=phase, device=device, threads=threads
        )
        return dict(amounts)

    fitted = fit_latency([work(one) for one, _ in measured], [seconds for _, seconds in measured])
    wanted = [work(architecture)]
    (value,), (low, high) = fitted.predict(wanted), np.concatenate(fitted.intervals(wanted))
    return Measurement(
        quantity="latency_s",
        value=float(value),
        unit="s",
        kind="predicted",
        spread=float(high - low) / 2,
        repeats=len(measured),
        detail={
            **described.detail,
            "label": f"fitted to {len(measured)} measurements, not measured",
            "low_s": float(low),
            "high_s": float(high),
            "method": fitted.method,
            "mean_log_error": dict(fitted.errors),
            "analytic_s": described.value,
        },
    )
