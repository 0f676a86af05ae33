"""The frozen reference network that measurements are interleaved with, and its long-run value on a machine.

Decoder of 4 layers, d=256, 4 softmax heads, LayerNorm, GELU feed-forward of 4 d, learned positions, 32
tokens, batch 1 (about 2 ms on one core of 2025, so that interleaving stays cheap). Same runtime, threads and
number format as the candidate. Never change it: every stored latency is in units of it.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
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

TOKENS = 32
KEPT = 256
"""Newest values that the long-run value is taken over."""
LONG_RUN_PERCENT = 25
"""Percentile of them. Caches, frequency and co-tenants only ever slow the reference down, and the contention
index of one thread does not see them: a median follows a stretch of disturbed hours and moves every later
value with it, this one only when three quarters of what is kept are slow."""


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


@dataclass(frozen=True, slots=True)
class ReferenceHistory:
    """10th percentiles of the reference in calm measurements on one machine: a small file below `scratch`.

    Only a process that holds the host (`quiet_host`) adds to it.
    """

    scratch: Path
    target: Target
    number_format: NumberFormat

    @property
    def path(self) -> Path:
        key = f"{os.uname().nodename}/{device_key(self.target)}/{self.number_format}"
        return self.scratch / f"reference-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def long_run_s(self) -> float | None:
        """Lower quartile of the kept values; None before the first."""
        values = self._values()
        return float(np.percentile(values, LONG_RUN_PERCENT)) if values else None

    def add(self, p10_s: float) -> None:
        values = [*self._values(), p10_s][-KEPT:]
        self.scratch.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(f".{os.getpid()}.tmp")
        unfinished.write_text(json.dumps(values), encoding="utf-8")
        os.replace(unfinished, self.path)

    def _values(self) -> Sequence[float]:
        """A missing or damaged file is an empty history: it is a cache of what measuring finds again."""
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        if not isinstance(values, list):
            return []
        return [float(value) for value in values if isinstance(value, (int, float)) and 0 < value < 60]
