"""The blocks a model's latency is composed of, and their measurement, many in one process.

    embedding (with position) | norm + mixer + residual | norm + feed-forward + residual | final norm + head

A block is described by a one-layer *host* architecture in which everything that cannot change the block's time is
fixed; so its id, and its measurement, are shared by every architecture that contains it. What a call of an empty
network costs is taken off every block but the embedding, which keeps it once for the whole model.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from evaluators.protocol import Measurement, fingerprint
from space.architecture import (
    Architecture,
    BytesInterface,
    ClassificationHead,
    ImageInterface,
    LanguageHead,
    LayerConfig,
)
from space.errors import ServiceError
from space.export import export_module, input_shape, quantize_matmuls, require_onnx_formats
from space.feedforward import MlpConfig
from space.mixers import PoolConfig
from space.model import Model, build_model
from space.positions import NonePositionConfig
from space.quantization import NumberFormat, apply_number_formats

from .estimator import Estimate, EstimatorLimits, calmer, estimate, flags_of, is_calm
from .host_lock import quiet_host
from .measure import HOST_WAIT_S, timed_input
from .reference import (
    ReferenceHistory,
    reference_architecture,
    reference_file,
    reference_format,
    reference_model,
)
from .runtimes import eager
from .runtimes.onnxruntime import Failure, InputShape, TimedFile, TimingTask, time_files
from .target import Target, check_target, device_key

Part = Literal["embedding", "mixer", "feed_forward", "head", "empty"]

BLOCK_LIMITS = EstimatorLimits(
    max_seconds=0.3, max_runs=200, target_half_width=0.03, noisy_half_width=0.10, attempts=2
)
PER_PROCESS = 16
"""Blocks timed before the host is given back to the trainings."""
SMALLEST_S = 1e-7
"""A block is no faster than this, whatever the empty call took."""


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a model on one input shape. Equal ids have equal latency on equal targets."""

    part: Part
    host: Architecture
    batch_size: int
    tokens: int

    @property
    def id(self) -> str:
        """32 hex characters: the subject under which its measurement is stored."""
        return fingerprint(
            "block", 1, part=self.part, host=self.host.id, batch_size=self.batch_size, tokens=self.tokens
        )

    @property
    def name(self) -> str:
        """For people: part, kind, width and number format."""
        layer = self.host.layers[0]
        kind = {
            "mixer": f" {layer.mixer.kind} {layer.number_format}",
            "feed_forward": f" {layer.feed_forward.kind} {layer.number_format}",
        }.get(self.part, "")
        return f"{self.part}{kind} d={self.host.d_model} n={self.tokens} {self.id[:8]}"

    @property
    def number_format(self) -> NumberFormat:
        """Of its matrix products; embeddings and heads stay in fp32."""
        return self.host.layers[0].number_format

    @property
    def input(self) -> InputShape:
        if self.part == "embedding":
            return timed_input(self.host, self.batch_size, self.tokens)
        return InputShape((self.batch_size, self.tokens, self.host.d_model))

    def build(self) -> nn.Module:
        """The part alone, freshly initialised, in fp32."""
        return _module(self.part, build_model(self.host, seed=0))


def blocks_of(architecture: Architecture, target: Target) -> tuple[Block, ...]:
    """Embedding, then mixer and feed-forward of every layer, then head: what a forward pass runs, in order."""
    tokens = target.tokens(architecture)
    hosts: list[tuple[Part, Architecture]] = [("embedding", _embedding_host(architecture))]
    for layer in architecture.layers:
        hosts.append(("mixer", _mixer_host(architecture, layer, tokens)))
        hosts.append(("feed_forward", _feed_forward_host(architecture, layer, tokens)))
    hosts.append(("head", _head_host(architecture, tokens)))
    return tuple(Block(part, host, target.batch_size, tokens) for part, host in hosts)


def measure_blocks(
    blocks: Sequence[Block], target: Target, *, limits: EstimatorLimits = BLOCK_LIMITS, scratch: Path
) -> list[Measurement]:
    """Net latency of every block (quantity `block_latency_s`), in order; takes `quiet_host` itself.

    A block without a form on this runtime gives a measurement of status `unsupported` that says why.
    `scratch` as in `measure_model`.
    """
    check_target(target)
    scratch.mkdir(parents=True, exist_ok=True)
    found: list[Measurement] = []
    for start in range(0, len(blocks), PER_PROCESS):
        group = blocks[start : start + PER_PROCESS]
        empties = dict.fromkeys(_empty(block) for block in group)
        results = _attempts([*group, *empties], target, limits, scratch)
        overheads = dict(zip(empties, results[len(group) :], strict=True))
        for block, result in zip(group, results[: len(group)], strict=True):
            found.append(_measurement(block, result, overheads[_empty(block)], target, limits))
    return found


Result = Estimate | Failure


def _attempts(
    blocks: Sequence[Block], target: Target, limits: EstimatorLimits, scratch: Path
) -> list[Result]:
    """Every block's calmest attempt; those that were disturbed are timed again, up to `limits.attempts` times."""
    with _timer(blocks, target, limits, scratch) as time_some:
        best = dict(enumerate(time_some(list(range(len(blocks))))))
        for made in range(1, limits.attempts):
            again = [i for i, r in best.items() if isinstance(r, Estimate) and not is_calm(r, limits)]
            if not again:
                break
            time.sleep(limits.backoff_s * 2 ** (made - 1))
            for index, result in zip(again, time_some(again), strict=True):
                earlier = best[index]
                if isinstance(result, Estimate) and isinstance(earlier, Estimate):
                    best[index] = calmer(earlier, result)
    return [best[index] for index in range(len(blocks))]


Timer = Callable[[Sequence[int]], list[Result]]


@contextmanager
def _timer(
    blocks: Sequence[Block], target: Target, limits: EstimatorLimits, scratch: Path
) -> Iterator[Timer]:
    """Prepares the blocks (outside the lock); the function it yields times the chosen ones with the host alone."""
    histories = {f: ReferenceHistory(scratch, target, f) for f in {block.number_format for block in blocks}}

    def remember(chosen: Sequence[int], results: Sequence[Result]) -> None:
        """One value per number format and visit, so that a visit of many blocks does not outweigh the others."""
        for number_format, history in histories.items():
            calm = [
                result.reference_p10_s
                for index, result in zip(chosen, results, strict=True)
                if blocks[index].number_format == number_format
                and isinstance(result, Estimate)
                and is_calm(result, limits)
                and not result.is_contended
            ]
            if calm:
                history.add(sorted(calm)[len(calm) // 2])

    with tempfile.TemporaryDirectory(prefix="blocks-", dir=scratch) as folder:
        time_now = (_onnx_timer if target.runtime == "onnxruntime" else _eager_timer)(
            blocks, target, limits, histories, Path(folder)
        )

        def time_some(chosen: Sequence[int]) -> list[Result]:
            with quiet_host(HOST_WAIT_S):
                results = time_now(chosen)
                remember(chosen, results)
                return results

        yield time_some


Histories = dict[NumberFormat, ReferenceHistory]


def _onnx_timer(
    blocks: Sequence[Block], target: Target, limits: EstimatorLimits, histories: Histories, folder: Path
) -> Timer:
    files = [_export(block, folder / f"{index}.onnx") for index, block in enumerate(blocks)]
    references = {
        number_format: TimedFile(
            reference_file(history.scratch, reference_format(frozenset({number_format}))),
            timed_input(reference_architecture(), 1, None),
        )
        for number_format, history in histories.items()
        if not any(isinstance(f, Failure) and b.number_format == number_format for f, b in zip(files, blocks))
    }

    def time_now(chosen: Sequence[int]) -> list[Result]:
        results: dict[int, Result] = {}
        tasks: dict[int, TimingTask] = {}
        for index in chosen:
            file, number_format = files[index], blocks[index].number_format
            if isinstance(file, Failure):
                results[index] = file
                continue
            long_run_s = histories[number_format].long_run_s()
            tasks[index] = TimingTask(file, references[number_format], limits, long_run_s)
        timed = time_files(list(tasks.values()), threads=target.threads)
        results.update(zip(tasks, timed, strict=True))
        return [results[index] for index in chosen]

    return time_now
