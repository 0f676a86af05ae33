"""Whole-model latency composed from measured blocks, corrected by what whole measurements showed so far.

    t = exp(c) * sum of blocks        c and its 95 % interval: see `correction`

A sum of blocks leaves out fusion and cache effects across blocks, and counts one session call, in the
embedding.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from evaluators.protocol import Measurement
from space.architecture import Architecture
from space.costs import costs
from space.errors import UnsupportedError

from .blocks import Block, blocks_of
from .correction import Correction, Pair
from .target import Target, device_key

PER_BLOCK_S = 1e-5
"""Unit of the trait that counts blocks: a constant error of each of them is a multiple of it."""
WEIGHTS_BYTES_PER_S = 25e9
"""Unit of the trait of weights. A block that is timed alone finds its weights in the core's cache; those of
a whole model displace one another and come from farther away every time."""


@dataclass(frozen=True, slots=True)
class Composition:
    """The blocks of a model with their seconds, in the order they run, and the bytes of all its weights."""

    parts: tuple[tuple[Block, float], ...]
    weights_bytes: int

    @property
    def total_s(self) -> float:
        return math.fsum(seconds for _, seconds in self.parts)

    @property
    def shares(self) -> dict[str, float]:
        """Fraction of the sum by trait; a block has several traits, so they add up to more than 1."""
        seconds: dict[str, float] = defaultdict(float)
        for block, block_s in self.parts:
            for trait in block.traits:
                seconds[trait] += block_s
        seconds["blocks"] = PER_BLOCK_S * len(self.parts)
        seconds["weights"] = self.weights_bytes / WEIGHTS_BYTES_PER_S
        total = self.total_s
        return {trait: part / total for trait, part in seconds.items()}

    def pair(self, measured_s: float) -> Pair:
        """What it teaches a correction, measured whole."""
        return Pair(self.total_s, measured_s, self.shares)


def missing_blocks(
    architecture: Architecture, target: Target, known: Mapping[str, float]
) -> tuple[Block, ...]:
    """The distinct blocks that must be measured before `predict_latency` can compose this architecture."""
    return tuple({b.id: b for b in blocks_of(architecture, target) if b.id not in known}.values())


def composition(architecture: Architecture, target: Target, known: Mapping[str, float]) -> Composition:
    """The model's blocks with their seconds from `known` (block id -> seconds).

    Raises:
        UnsupportedError: a block is not in `known` (it has no form on this runtime, or was never measured).
    """
    blocks = blocks_of(architecture, target)
    missing = [block for block in blocks if block.id not in known]
    if missing:
        raise UnsupportedError(
            f"{len({block.id for block in missing})} blocks have no measured latency, "
            f"first {missing[0].name}; measure them with measure_blocks"
        )
    timed = tuple((block, known[block.id]) for block in blocks)
    return Composition(timed, costs(architecture).weights_bytes)


def predict_latency(
    architecture: Architecture, target: Target, known: Mapping[str, float], correction: Correction
) -> Measurement:
    """Latency composed from `known` (block id -> seconds); of kind `predicted`, with a 95 % spread."""
    composed = composition(architecture, target, known)
    log_bias, log_half_width = correction.of(composed.shares)
    value = composed.total_s * math.exp(log_bias)
    return Measurement(
        quantity="latency_s",
        value=value,
        unit="s",
        kind="predicted",
        spread=value * math.sinh(log_half_width),
        detail={
            "composed_s": composed.total_s,
            "log_bias": log_bias,
            "blocks": {block.name: seconds for block, seconds in composed.parts},
            "correction": correction.described(),
            "conditions": {**asdict(target), "device_key": device_key(target)},
        },
    )
