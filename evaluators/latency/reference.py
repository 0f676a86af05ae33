"""The frozen reference network that measurements are interleaved with, and its long-run value on a machine.

Decoder of 4 layers, d=256, 4 softmax heads, LayerNorm, GELU feed-forward of 4 d, learned positions, 32
tokens, batch 1 (about 2 ms on one core of 2025, so that interleaving stays cheap). Same runtime, threads and
number format as the candidate. Never change it: every stored latency is in units of it.
"""

import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter
from torch import nn

from space.architecture import Architecture, BytesInterface, LanguageHead, LayerConfig
from space.export import export_onnx
from space.feedforward import MlpConfig
from space.mixers import SoftmaxConfig
from space.model import build_model
from space.norms import LayerNormConfig
from space.positions import LearnedPositionConfig
from space.quantization import NumberFormat

from .target import Target, device_key

Seconds = Annotated[float, Field(gt=0, lt=60)]

TOKENS = 32
WATCHED = 16
"""Newest calm values by which the long-run value may be found to be too high."""
FASTER = 0.9
"""Three quarters of them below this fraction of the long-run value: it was taken on a disturbed machine."""
LATELY = 5
"""Newest values that say how slow the machine is now."""
RECENT_S = 600.0
"""A value of another number format as old as this still tells how disturbed the machine is now."""


def reference_architecture(number_format: NumberFormat = "fp32") -> Architecture:
    layer = LayerConfig(
        mixer=SoftmaxConfig(num_heads=4, num_kv_heads=4),
        feed_forward=MlpConfig(activation="gelu", d_ff=1024),
        norm=LayerNormConfig(),
        number_format=number_format,
    )
    return Architecture(
        model="decoder",
        interface=BytesInterface(vocab_size=256, context_length=TOKENS, outputs=256),
        d_model=256,
        position=LearnedPositionConfig(),
        layers=(layer,) * 4,
        final_norm=LayerNormConfig(),
        head=LanguageHead(),
    )


def reference_format(formats: frozenset[str]) -> NumberFormat:
    """The candidate's number format, or fp32 when its layers differ."""
    return next((name for name in get_args(NumberFormat) if formats == {name}), "fp32")


def reference_model() -> nn.Module:
    return build_model(reference_architecture(), seed=0)


def reference_file(scratch: Path, number_format: NumberFormat) -> Path:
    """The exported reference, written on the first call with this `scratch` folder."""
    architecture = reference_architecture(number_format)
    path = scratch / f"reference-{architecture.id}.onnx"
    return path if path.exists() else export_onnx(reference_model(), architecture, path)


class Known(BaseModel, frozen=True):
    """What is known of the reference in one number format."""

    long_run_s: Seconds
    newest: tuple[Seconds, ...] = ()
    """The newest 10th percentiles, at most `WATCHED`."""
    at: float = 0.0
    """Unix seconds of the last one."""

    @property
    def slowness(self) -> float:
        """Of the machine in the newest measurements."""
        return float(np.median(self.newest[-LATELY:])) / self.long_run_s


_KNOWN = TypeAdapter(dict[NumberFormat, Known])


@dataclass(frozen=True, slots=True)
class ReferenceHistory:
    """Long-run values of the reference on one machine, by number format: a small file below `scratch`.

    A long-run value stays what it was in the first calm measurement: it is the unit that every later one is
    in, and a unit that follows the machine's good and bad hours makes models unequal that were measured in
    different ones. A format that comes later is taken at the slowness of the machine that the others show at
    that time, so that formats stay comparable. Only when the machine turns out to be faster for good (caches,
    frequency and co-tenants slow the reference down, nothing speeds it up) are all values lowered, together.

    Only a process that holds the host (`quiet_host`) adds to it.
    """

    scratch: Path
    target: Target
    number_format: NumberFormat

    @property
    def path(self) -> Path:
        key = f"{os.uname().nodename}/{device_key(self.target)}"
        return self.scratch / f"reference-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def long_run_s(self) -> float | None:
        """None before the first calm measurement in this number format."""
        own = self._known().get(self.number_format)
        return None if own is None else own.long_run_s

    def add(self, p10_s: float, *, now: float | None = None) -> None:
        """The 10th percentile of the reference in a calm measurement. `now`: Unix seconds."""
        known, now = self._known(), time.time() if now is None else now
        own = known.get(self.number_format)
        long_run_s = p10_s / _slowness(known.values(), now) if own is None else own.long_run_s
        newest = (*(() if own is None else own.newest), p10_s)[-WATCHED:]
        known[self.number_format] = Known(long_run_s=long_run_s, newest=newest, at=now)
        if len(newest) == WATCHED and np.percentile(newest, 75) < FASTER * long_run_s:
            factor = float(np.median(newest)) / long_run_s
            known = {name: Known(long_run_s=factor * one.long_run_s) for name, one in known.items()}
        self.scratch.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(f".{os.getpid()}.tmp")
        unfinished.write_bytes(_KNOWN.dump_json(known))
        os.replace(unfinished, self.path)

    def _known(self) -> dict[NumberFormat, Known]:
        """A missing or damaged file knows nothing: it is a cache of what measuring finds again."""
        try:
            return dict(_KNOWN.validate_json(self.path.read_bytes()))
        except (OSError, ValueError):
            return {}


def _slowness(known: Iterable[Known], now: float) -> float:
    """How much slower than in the long run the reference is now; 1 when nobody looked lately."""
    lately = [one for one in known if one.newest and abs(now - one.at) <= RECENT_S]
    return max(lately, key=lambda one: one.at).slowness if lately else 1.0
