"""Latency on a device that is not at hand: from its data sheet, from some measurements made there, or carried
over from another device by them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from evaluators.devices import Device, Phase, predict_on
from evaluators.latency.estimator import t_975
from evaluators.protocol import Measurement
from space.architecture import Architecture
from space.errors import InvalidInputError

from .latency import ENOUGH, fit_latency
from .transfer import transfer
from .work import work_of

Timed = Sequence[tuple[Architecture, float]]
"""Architectures with their seconds on one device, all under the same conditions."""
LIKE = "like"


def predict_elsewhere(
    architecture: Architecture,
    device: Device,
    measured: Timed = (),
    *,
    like: Timed = (),
    batch_size: int = 1,
    tokens: int | None = None,
    phase: Phase = "prefill",
    threads: int | None = None,
) -> Measurement:
    """Analytic without measurements; with some fitted to them. With `like`, latencies of the same
    architectures, and best of the wanted one, on another device: carried over from there by a line in
    logarithms.

    Raises:
        InvalidInputError: too few measurements, one that is not positive, or one that `like` lacks.
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

    if like:
        return _carried_over(architecture, described, measured, like, work)
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


def _carried_over(
    architecture: Architecture,
    described: Measurement,
    measured: Timed,
    like: Timed,
    work: Callable[[Architecture], Mapping[str, float]],
) -> Measurement:
    """95 % from leave-one-out errors, and from those of the other device where it is predicted there too."""
    there = {one.id: seconds for one, seconds in like}
    known = [(there[one.id], seconds, work(one)) for one, seconds in measured if one.id in there]
    if len(known) < max(ENOUGH, len(measured)):
        raise InvalidInputError(
            f"{len(measured)} measurements, {len(known)} of them of architectures that the other device has; "
            f"give {ENOUGH} or more, and the other device's latency of every one"
        )

    def carried(rows: Sequence[tuple[float, float, Mapping[str, float]]]) -> Callable[..., float]:
        old, new, amounts = zip(*rows, strict=True)
        by = transfer(new, {LIKE: old}, amounts)
        return lambda seconds, own: float(by.predict([seconds], [own])[0])

    errors = [
        math.log(new / carried([*known[:place], *known[place + 1 :]])(old, own))
        for place, (old, new, own) in enumerate(known)
    ]
    count, predict, own = len(errors), carried(known), work(architecture)
    half = t_975(count - 1) * math.sqrt(math.fsum(error**2 for error in errors) / count * (1 + 1 / count))
    low_there = high_there = value_there = there.get(architecture.id, 0.0)
    if architecture.id not in there:
        fitted = fit_latency([work(one) for one, _ in like], [seconds for _, seconds in like])
        ends = fitted.intervals([own])
        value_there, low_there, high_there = (float(one[0]) for one in (fitted.predict([own]), *ends))
    value = predict(value_there, own)
    low, high = predict(low_there, own) * math.exp(-half), predict(high_there, own) * math.exp(half)
    return replace(
        described,
        value=value,
        spread=(high - low) / 2,
        repeats=count,
        flags=frozenset(),
        detail={
            **described.detail,
            "label": f"carried over from another device by {count} measurements, not measured",
            "low_s": low,
            "high_s": high,
            "method": "transfer",
            "there_s": value_there,
            "there": "given" if architecture.id in there else "predicted",
            "analytic_s": described.value,
        },
    )
