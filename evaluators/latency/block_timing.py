"""Blocks measured, many in one process.

What a call of an empty network costs is taken off every block but the embedding, which keeps it once for the
whole model. The host is given back to the trainings after every `PER_PROCESS` blocks.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from evaluators.protocol import Measurement
from space.errors import UnsupportedError
from space.kernels.dispatch import recorded
from space.number_formats import apply_number_formats
from space.quantization import NumberFormat
from space.quantization import number_format as format_named

from .blocks import Block, export_block
from .estimator import POSTPONED, Estimate, EstimatorLimits, calmer, flags_of, is_calm
from .host_lock import quiet_host
from .measure import COMPILED, HOST_WAIT_S
from .reference import (
    ReferenceHistory,
    reference_architecture,
    reference_file,
    reference_model,
)
from .runtimes import Failure, Subject, TimedFile, TimingTask, compiled_process, eager, time_files
from .target import Runtime, Target, check_target, device_key
from .timed_input import random_input, timed_input

BLOCK_LIMITS = EstimatorLimits(
    max_seconds=0.3, max_runs=200, target_half_width=0.03, noisy_half_width=0.10, attempts=2
)
PER_PROCESS = 16
SMALLEST_S = 1e-7
"""A block is no faster than this, whatever the empty call took."""

Result = Estimate | Failure
LongRun = Mapping[NumberFormat, float | None]
"""The reference's long-run value by number format."""
Timer = Callable[[Sequence[Block], LongRun], list[Result]]


def measure_blocks(
    blocks: Sequence[Block], target: Target, *, limits: EstimatorLimits = BLOCK_LIMITS, scratch: Path
) -> list[Measurement]:
    """Net latency of every block (quantity `block_latency_s`), in order; takes `quiet_host` itself.

    A block without a form on this runtime gives a measurement of status `unsupported`, one whose measuring
    failed `error`; the detail says why. `scratch` as in `measure_model`.
    """
    check_target(target)
    scratch.mkdir(parents=True, exist_ok=True)
    prepared = TIMERS[target.runtime]
    found: list[Measurement] = []
    for start in range(0, len(blocks), PER_PROCESS):
        group = blocks[start : start + PER_PROCESS]
        everything = {block.id: block for block in (*group, *(block.emptied() for block in group))}
        with prepared(tuple(everything.values()), target, limits, scratch) as timer:
            results = _calmest(everything, timer, target, limits, scratch)
        for block in group:
            overhead = results[block.emptied().id]
            found.append(_measurement(block, results[block.id], overhead, target, limits))
    return found


def _calmest(
    blocks: Mapping[str, Block], timer: Timer, target: Target, limits: EstimatorLimits, scratch: Path
) -> dict[str, Result]:
    """Every block's calmest attempt; the disturbed ones are timed again, up to `limits.attempts` times."""
    best: dict[str, Result] = {}
    waiting = list(blocks)
    for made in range(limits.attempts):
        if made:
            time.sleep(limits.backoff_s * 2 ** (made - 1))
        with quiet_host(HOST_WAIT_S) as is_quiet:
            chosen = [blocks[id] for id in waiting]
            results = _with_history(chosen, timer, target, limits, scratch, is_quiet=is_quiet)
        for id, result in zip(waiting, results, strict=True):
            earlier = best.get(id)
            if isinstance(earlier, Estimate) and isinstance(result, Estimate):
                best[id] = calmer(earlier, result)
            else:
                best[id] = earlier or result
        waiting = [id for id, r in best.items() if isinstance(r, Estimate) and not is_calm(r, limits)]
        if not waiting:
            break
    return best


def _with_history(
    blocks: Sequence[Block],
    timer: Timer,
    target: Target,
    limits: EstimatorLimits,
    scratch: Path,
    *,
    is_quiet: bool,
) -> list[Result]:
    """Times the blocks, and adds one value of the reference per number format: many blocks are one visit.
    Beside a training that did not pause no result is calm, whatever its own clocks say."""
    histories = {
        number_format: ReferenceHistory(scratch, target, number_format)
        for number_format in {block.number_format for block in blocks}
    }
    results = timer(blocks, {name: history.long_run_s() for name, history in histories.items()})
    if not is_quiet:
        results = [replace(r, contention=2 * POSTPONED) if isinstance(r, Estimate) else r for r in results]
    for name, history in histories.items():
        calm = sorted(
            result.reference_p10_s
            for block, result in zip(blocks, results, strict=True)
            if block.number_format == name
            and isinstance(result, Estimate)
            and is_calm(result, limits)
            and not result.is_contended
        )
        if calm:
            history.add(calm[len(calm) // 2])
    return results


@contextlib.contextmanager
def _onnx_timer(
    blocks: Sequence[Block], target: Target, limits: EstimatorLimits, scratch: Path
) -> Iterator[Timer]:
    """Exports every block now; each visit is one fresh process."""
    with tempfile.TemporaryDirectory(prefix="blocks-", dir=scratch) as folder:
        files = {block.id: _exported(block, Path(folder) / f"{block.id}.onnx") for block in blocks}
        references = {
            name: TimedFile(reference_file(scratch, name), timed_input(reference_architecture(), 1))
            for name in {block.number_format for block in blocks if isinstance(files[block.id], TimedFile)}
        }

        def time_now(chosen: Sequence[Block], long_run: LongRun) -> list[Result]:
            results: dict[str, Result] = {}
            tasks: dict[str, TimingTask] = {}
            for block in chosen:
                file, name = files[block.id], block.number_format
                if isinstance(file, Failure):
                    results[block.id] = file
                else:
                    tasks[block.id] = TimingTask(file, references[name], limits, long_run[name])
            timed = time_files(list(tasks.values()), threads=target.threads)
            results.update(zip(tasks, timed, strict=True))
            return [results[block.id] for block in chosen]

        yield time_now


def _exported(block: Block, path: Path) -> TimedFile | Failure:
    try:
        return TimedFile(export_block(block, path), block.input)
    except UnsupportedError as error:
        return Failure(error.message, "unsupported_operator")


@contextlib.contextmanager
def _eager_timer(
    blocks: Sequence[Block], target: Target, limits: EstimatorLimits, scratch: Path
) -> Iterator[Timer]:
    """Times in this process, with which kernels ran, or why not, as one run before the first finds it."""

    def time_one(block: Block, long_run_s: float | None) -> Result:
        if not _is_real(block, target):
            return _unreal(block, target)
        frozen = reference_architecture(block.number_format)
        reference = apply_number_formats(reference_model(), frozen)
        own = eager.placed(block.build(), random_input(block.input), target)
        other = eager.placed(reference, random_input(timed_input(frozen, 1)), target)
        candidate, beside = (eager.timed_call(*one) for one in (own, other))
        try:
            with eager.conditions(target.threads), recorded() as kernels:
                candidate()
            found = eager.estimate_on(target, candidate, beside, limits=limits, long_run_s=long_run_s)
        except UnsupportedError as error:
            return Failure(error.message, "unsupported_operator")
        return replace(found, kernels=kernels)

    yield lambda chosen, long_run: [time_one(block, long_run[block.number_format]) for block in chosen]


@contextlib.contextmanager
def _compiled_timer(
    blocks: Sequence[Block], target: Target, limits: EstimatorLimits, scratch: Path
) -> Iterator[Timer]:
    """Compiles every block and the references now; visits find them compiled, in one process."""
    with compiled_process(threads=target.threads, cache=scratch / COMPILED) as process:
        formats = sorted({block.number_format for block in blocks if _is_real(block, target)})
        failed: dict[str, Failure] = {}
        for name in formats:
            frozen = reference_architecture(name)
            found = process.compile(name, Subject(frozen.canonical_json, 1, frozen.tokens))
            if isinstance(found, Failure):
                raise found.error()
        for block in blocks:
            subject = Subject(block.host.canonical_json, block.batch_size, block.tokens, block.part)
            made = process.compile(block.id, subject) if _is_real(block, target) else _unreal(block, target)
            if isinstance(made, Failure):
                failed[block.id] = made

        def time_one(block: Block, long_run_s: float | None) -> Result:
            return failed.get(block.id) or process.time(block.id, block.number_format, limits, long_run_s)

        yield lambda chosen, long_run: [time_one(block, long_run[block.number_format]) for block in chosen]


TIMERS: Mapping[Runtime, Callable[..., contextlib.AbstractContextManager[Timer]]] = {
    "onnxruntime": _onnx_timer,
    "eager": _eager_timer,
    "cudagraph": _eager_timer,
    "torch-compile": _compiled_timer,
}


def _is_real(block: Block, target: Target) -> bool:
    return format_named(block.number_format).execution(target.runtime) == "real"


def _unreal(block: Block, target: Target) -> Failure:
    return Failure(
        f"number format '{block.number_format}' is not real on {target.runtime}", "unsupported_operator"
    )


def _measurement(
    block: Block, result: Result, overhead: Result, target: Target, limits: EstimatorLimits
) -> Measurement:
    failed = next((each for each in (result, overhead) if isinstance(each, Failure)), None)
    if failed is not None or isinstance(result, Failure) or isinstance(overhead, Failure):
        return _no_measurement(block, failed or Failure("no result"))
    call_s = 0.0 if block.part == "embedding" else overhead.value_s
    errors = (result.half_width * result.value_s, overhead.half_width * call_s)
    return Measurement(
        quantity="block_latency_s",
        value=max(result.value_s - call_s, SMALLEST_S),
        unit="s",
        kind="measured",
        spread=(errors[0] ** 2 + errors[1] ** 2) ** 0.5,
        repeats=result.runs,
        flags=flags_of(result, limits),
        wall_s=result.seconds,
        detail={
            **asdict(result),
            "block": block.name,
            "empty_call_s": call_s,
            "conditions": {**asdict(target), "length": block.tokens, "device_key": device_key(target)},
        },
    )


def _no_measurement(block: Block, failure: Failure) -> Measurement:
    unsupported = failure.reason == "unsupported_operator"
    return Measurement(
        quantity="block_latency_s",
        value=None,
        unit="s",
        kind="measured",
        status="unsupported" if unsupported else "error",
        detail={"block": block.name, "message": failure.message, "reason": failure.reason},
    )
