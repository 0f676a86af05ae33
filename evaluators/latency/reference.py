"""The frozen reference network that measurements are interleaved with, and its long-run value on a machine.

Decoder of 4 layers, d=256, 4 softmax heads, LayerNorm, GELU feed-forward of 4 d, learned positions, 32
tokens, batch 1 (about 2 ms on one core of 2025, so that interleaving stays cheap). Same runtime, threads and
number format as the candidate. Never change it: every stored latency is in units of it.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
from pydantic import BaseModel, Field
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
"""Newest calm values. The long-run value is the median of the first so many."""
FASTER = 0.9
"""Three quarters of the newest below this fraction of the long-run value: that was taken on a disturbed
machine."""


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
    """The long-run value, and the newest 10th percentiles, at most `WATCHED`."""

    long_run_s: Seconds
    newest: tuple[Seconds, ...]
    is_settled: bool = False

    def after(self, p10_s: float) -> "Known":
        newest = (*self.newest, p10_s)[-WATCHED:]
        median, is_full = float(np.median(newest)), len(newest) == WATCHED
        if not self.is_settled:
            return Known(long_run_s=median, newest=newest, is_settled=is_full)
        is_faster = is_full and np.percentile(newest, 75) < FASTER * self.long_run_s
        return Known(long_run_s=median if is_faster else self.long_run_s, newest=newest, is_settled=True)


@dataclass(frozen=True, slots=True)
class ReferenceHistory:
    """Long-run value of the reference on one machine: a small file below `scratch`.

    It is the unit of every latency. One that followed the machine's good and bad hours would make models
    unequal that are measured in different ones: it settles as the median of the first calm values, and
    changes only if the machine proves to be faster for good (caches, frequency and co-tenants slow the
    reference down, nothing speeds it up).

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
        """None before the first calm measurement."""
        known = self._known()
        return None if known is None else known.long_run_s

    def add(self, p10_s: float) -> None:
        """The 10th percentile of the reference in a calm measurement."""
        known = self._known() or Known(long_run_s=p10_s, newest=())
        self.scratch.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(f".{os.getpid()}.tmp")
        unfinished.write_text(known.after(p10_s).model_dump_json(), encoding="utf-8")
        os.replace(unfinished, self.path)

    def _known(self) -> Known | None:
        """A missing or damaged file is an empty history: it is a cache of what measuring finds again."""
        try:
            return Known.model_validate_json(self.path.read_bytes())
        except (OSError, ValueError):
            return None
