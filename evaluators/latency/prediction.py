"""Whole-model latency composed from measured blocks, corrected by what whole measurements showed so far.

    t = exp(c) * sum of blocks,        c = mean of log(measured / sum) over measured models

The 95 % interval of a new model is c +- t_{0.975, n-1} s sqrt(1 + 1/n), s no less than 2 %; below 3 pairs it
is wide. A sum of blocks leaves out fusion and cache effects across blocks, and counts one session call, in
the embedding.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from evaluators.protocol import Measurement
from space.architecture import Architecture
from space.errors import UnsupportedError

from .blocks import Block, blocks_of
from .estimator import t_975
from .target import Target, device_key

ENOUGH_PAIRS = 3
WIDE = math.log(1.5)
"""Half width of log(measured / sum) without enough whole measurements."""
NARROWEST = 0.02


@dataclass(frozen=True, slots=True)
class Correction:
    """`log_bias` is added to the log of a sum of blocks; `log_half_width` is half of its 95 % interval."""

    log_bias: float = 0.0
    log_half_width: float = WIDE
    pairs: int = 0


def fit_correction(pairs: Sequence[tuple[float, float]]) -> Correction:
    """From pairs (sum of blocks, measured whole) in seconds; those not positive and finite teach nothing."""
    logs = [
        math.log(measured / composed)
        for composed, measured in pairs
        if math.isfinite(composed) and math.isfinite(measured) and composed > 0 and measured > 0
    ]
    count = len(logs)
    if count < ENOUGH_PAIRS:
        return Correction(sum(logs) / (count + 1), WIDE, count)  # shrunk towards no correction
    deviation = max(statistics.stdev(logs), NARROWEST)
    half_width = t_975(count - 1) * deviation * math.sqrt(1 + 1 / count)
    return Correction(statistics.fmean(logs), half_width, count)


def missing_blocks(
    architecture: Architecture, target: Target, known: Mapping[str, float]
) -> tuple[Block, ...]:
    """The distinct blocks that must be measured before `predict_latency` can compose this architecture."""
    return tuple({b.id: b for b in blocks_of(architecture, target) if b.id not in known}.values())


def composed_s(architecture: Architecture, target: Target, known: Mapping[str, float]) -> float:
    """Sum of the blocks' seconds.

    Raises:
        UnsupportedError: a block is not in `known` (it has no form on this runtime, or was never measured).
    """
    missing = missing_blocks(architecture, target, known)
    if missing:
        raise UnsupportedError(
            f"{len(missing)} blocks have no measured latency, first {missing[0].name}; "
            "measure them with measure_blocks"
        )
    return math.fsum(known[block.id] for block in blocks_of(architecture, target))


def predict_latency(
    architecture: Architecture, target: Target, known: Mapping[str, float], correction: Correction
) -> Measurement:
    """Latency composed from `known` (block id -> seconds); of kind `predicted`, with a 95 % spread."""
    composed = composed_s(architecture, target, known)
    value = composed * math.exp(correction.log_bias)
    return Measurement(
        quantity="latency_s",
        value=value,
        unit="s",
        kind="predicted",
        spread=value * math.sinh(correction.log_half_width),
        detail={
            "composed_s": composed,
            "blocks": {block.name: known[block.id] for block in blocks_of(architecture, target)},
            "correction": asdict(correction),
            "conditions": {**asdict(target), "device_key": device_key(target)},
        },
    )
