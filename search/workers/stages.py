"""The stages of a trial as a worker runs them: architecture and settings in, plain records out.

    screen   proxies of several candidates and latencies of the blocks nobody has measured yet
    train    short training of the fp32 form up to a rung, from its newest checkpoint
    measure  the trained model in its number formats: quality of what runs, whole-model latency, size

Nothing here knows a job, a database or Ray.
"""

import dataclasses
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluators.latency import (
    Target,
    blocks_of,
    measure_blocks,
    measure_model,
    predictor,
    training_step,
)
from evaluators.protocol import Measurement
from evaluators.proxies import probe_size, score
from evaluators.resources import measure_resources
from evaluators.training import (
    TaskData,
    Teacher,
    TrainingPlan,
    calibration_batch,
    evaluate,
    load_weights,
    module_predictor,
    probe_batch,
    train,
    training_fingerprint,
)
from evaluators.training.data import Array
from evaluators.training.evaluation import Predict
from evaluators.training.out_of_memory import is_out_of_memory
from space.architecture import Architecture, parse_architecture
from space.errors import EvaluationError, InvalidArchitectureError, ServiceError, UnsupportedError
from space.export import export_onnx
from space.model import Model, build_model
from space.number_formats import apply_number_formats
from space.quantization import number_format

from ..room import is_disk_full
from .log_capture import captured
from .store import Store
from .work import Outcome, Work

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every piece of work of a job needs."""

    data: TaskData
    target: Target
    folder: Path
    """Where checkpoints live (`<data>/training`)."""
    scratch: Path
    """Where this host keeps its reference network and that network's long-run latency."""
    store_url: str | None = None
    """Where machines without a common disk keep checkpoints (fsspec)."""

    @property
    def store(self) -> Store:
        """Names in it begin with `training/`."""
        return Store(self.folder.parent, self.store_url)

    def checkpoint(self, name: str) -> Path:
        """A checkpoint by its name below the training folder, fetched if this machine lacks it."""
        return self.store.fetch(f"training/{name}")

    def here(self) -> "Bench":
        """The same with folders of this machine and node, where no disk is shared."""
        if self.store_url is None:
            return self
        root = Path(tempfile.gettempdir()) / f"paretoformer-{os.getuid()}" / node_name()
        for name in ("training", "latency"):
            (root / name).mkdir(parents=True, exist_ok=True)
        return replace(self, folder=root / "training", scratch=root / "latency")


def outcome_of(work: Work, bench: Bench) -> Outcome:
    """Runs a piece of work; every failure becomes an outcome with a reason from the closed list."""
    with captured() as lines:
        began = time.perf_counter()
        log.info("work began", extra={"stage": work.stage, "host": platform.node(), "pid": os.getpid()})
        outcome = _outcome_of(work, bench)
        seconds = round(time.perf_counter() - began, 3)
        how = outcome.reason or "done"
        log.info("work ended", extra={"how": how, "seconds": seconds, "problem": outcome.message or None})
    return replace(outcome, log=tuple(lines))


def _outcome_of(work: Work, bench: Bench) -> Outcome:
    stages = {"screen": screen, "train": train_to, "measure": measure}
    try:
        bench = bench.here() if isinstance(bench, Bench) else bench
        return Outcome(work.key, result=stages[work.stage](work.payload, bench))
    except EvaluationError as error:
        return Outcome(work.key, reason=error.reason, message=error.message)
    except InvalidArchitectureError as error:
        return Outcome(work.key, reason="invalid_architecture", message=error.message)
    except UnsupportedError as error:
        return Outcome(work.key, reason="unsupported_operator", message=error.message)
    except ServiceError as error:
        return Outcome(work.key, reason="internal", message=error.message)
    except OSError as error:
        if is_disk_full(error):
            return Outcome(work.key, reason="disk_full", message=f"no room on disk: {error.strerror}")
        log.exception("work failed", extra={"work": work.key, "stage": work.stage})
        return Outcome(work.key, reason="internal", message=f"{work.stage}: {type(error).__name__}: {error}")
    except torch.AcceleratorError as error:  # every later call fails too, until the process is another
        log.exception("device lost", extra={"work": work.key, "stage": work.stage})
        text = str(error).strip().splitlines()[0]
        return Outcome(work.key, reason="worker_lost", message=f"{work.stage}: device lost: {text}")
    except Exception as error:
        if is_out_of_memory(error):
            message = f"{work.stage} ran out of memory: {error}"
            return Outcome(work.key, reason="out_of_memory", message=message)
        log.exception("work failed", extra={"work": work.key, "stage": work.stage})
        return Outcome(work.key, reason="internal", message=f"{work.stage}: {type(error).__name__}: {error}")


def screen(payload: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """`architectures` (JSON texts), `proxies` (ids), `seed`, `known_blocks` (ids) ->
    `proxies` (one mapping of records per architecture), `blocks` (id -> record)."""
    architectures = [parse_architecture(text) for text in payload["architectures"]]
    inputs, targets = probe_batch(bench.data, probe_size(bench.data.length))
    scores = [
        score(architecture, inputs, targets, payload["proxies"], seed=payload["seed"])
        for architecture in architectures
    ]
    known = set(payload["known_blocks"])
    missing = {
        block.id: block
        for architecture in architectures
        for block in blocks_of(architecture, bench.target)
        if block.id not in known
    }
    measured = measure_blocks(list(missing.values()), bench.target, scratch=bench.scratch)
    return {
        "proxies": [packed(row) for row in scores],
        "blocks": packed(dict(zip(missing, measured, strict=True))),
    }


def train_to(payload: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """`architecture`, `plan`, `seed`, `until`, `teacher` -> `step`, `metrics` (quantity -> record),
    `checkpoint`, `curve`."""
    architecture = parse_architecture(payload["architecture"])
    plan = TrainingPlan(**payload["plan"])
    teacher = None
    if plan.teacher:
        teacher = Teacher(parse_architecture(payload["teacher"]), bench.checkpoint(plan.teacher))
    _fetch_newest(architecture, plan, payload, bench)
    result = train(
        architecture,
        bench.data,
        plan,
        seed=payload["seed"],
        until=payload["until"],
        folder=bench.folder,
        step_guard=training_step,
        teacher=teacher,
    )
    if result.checkpoint:
        bench.store.publish(f"training/{result.checkpoint.relative_to(bench.folder)}")
    detail = {"curve": [list(point) for point in result.train_curve], "cpu_s": result.cpu_s}
    return {
        "step": result.step,
        "checkpoint": str(result.checkpoint.relative_to(bench.folder)) if result.checkpoint else None,
        "metrics": packed(
            quality(
                result.metrics,
                result.standard_error,
                {**detail, "data_digest": bench.data.digest},
                examples=len(bench.data.validation),
                wall_s=result.wall_s,
            )
        ),
    }


def _fetch_newest(
    architecture: Architecture, plan: TrainingPlan, payload: Mapping[str, Any], bench: Bench
) -> None:
    """Another machine may have trained the rungs before this one."""
    if bench.store_url is None:
        return
    mark = training_fingerprint(bench.data, plan)
    name = f"training/{architecture.training_id}/{mark}/{payload['seed']}"
    steps = [step for step in bench.store.steps(name) if step <= payload["until"]]
    if steps:
        bench.store.fetch(f"{name}/{steps[-1]}")


def node_name() -> str:
    """This machine; on a Ray cluster the node, since several may run on one machine."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return str(ray.get_runtime_context().get_node_id())
    return platform.node()


def measure(payload: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """`architecture`, `checkpoint`, `parts`, `latency` -> records of the model in its number formats.

    The quality is that of what runs on the target: the ONNX file for ONNX Runtime, the quantized module
    for eager. Without a checkpoint (null) the network is untrained, for its latency alone.
    """
    architecture = parse_architecture(payload["architecture"])
    model = build_model(architecture, seed=0)
    if payload["checkpoint"] is not None:
        load_weights(model, bench.checkpoint(payload["checkpoint"]))
    model.eval()
    records: dict[str, Measurement] = {}
    # eager torch looks for outliers in every call; a file has them frozen
    is_file = bench.target.runtime == "onnxruntime"
    calibration = calibration_of(architecture, bench.data) if is_file else None
    predict: Predict | None = None
    with tempfile.TemporaryDirectory(prefix="pf-measure-") as name:
        for part in payload["parts"]:
            predict = predict or running_form(model, architecture, bench.target, Path(name), calibration)
            prefix = "" if part == "validation" else f"{part}."
            metrics = evaluate(predict, bench.data, part)
            detail = {"part": part, "data_digest": bench.data.digest}
            found = quality(
                metrics.values, metrics.standard_error, detail, examples=len(bench.data.part(part))
            )
            records |= {prefix + key: value for key, value in found.items()}
        if payload["latency"]:
            latency = measure_model(
                model, architecture, bench.target, scratch=bench.scratch, calibration=calibration
            )
            records["latency_s"] = latency
            if "test" in payload["parts"]:  # a finalist
                examples = torch.from_numpy(calibration_batch(bench.data))
                resources = measure_resources(
                    model,
                    architecture,
                    bench.target,
                    examples,
                    scratch=bench.scratch,
                    calibration=calibration,
                )
                records["latency_s"] = replace(latency, detail={**latency.detail, "resources": resources})
    return {"metrics": packed(records)}


def calibration_of(architecture: Architecture, data: TaskData) -> Tensor | None:
    """Inputs for number formats that fix something from data; None where no layer is in one."""
    needed = any(number_format(name).needs_calibration for name in architecture.number_formats)
    return torch.from_numpy(calibration_batch(data)) if needed else None


def running_form(
    model: Model,
    architecture: Architecture,
    target: Target,
    scratch: Path,
    calibration: Tensor | None = None,
) -> Predict:
    """The model as it runs on the target; it pauses while somebody measures a latency."""
    if target.runtime == "onnxruntime":
        path = scratch / "running.onnx"
        export_onnx(model, architecture, path, calibration=calibration)
        running = predictor(path, threads=1)
    else:
        running = module_predictor(apply_number_formats(model, architecture, calibration=calibration))

    def predict(inputs: Array) -> Array:
        with training_step():
            return running(inputs)

    return predict


def quality(
    values: Mapping[str, float],
    standard_error: Mapping[str, float],
    detail: Mapping[str, Any],
    *,
    examples: int,
    wall_s: float = 0.0,
) -> dict[str, Measurement]:
    """One measured record per metric; its spread is over the evaluated examples of one training."""
    units = {"bits_per_byte": "bits", "loss": "nats"}
    return {
        key: Measurement(
            quantity=key,
            value=value,
            unit=units.get(key, "1"),
            kind="measured",
            spread=1.96 * standard_error[key] if key in standard_error else None,
            repeats=examples,
            wall_s=wall_s,
            detail=detail,
        )
        for key, value in values.items()
    }


def packed(measurements: Mapping[str, Measurement]) -> dict[str, dict[str, Any]]:
    return {key: pack(value) for key, value in measurements.items()}


def pack(measurement: Measurement) -> dict[str, Any]:
    """Plain data for the way between processes; `unpack` is its inverse."""
    return {**dataclasses.asdict(measurement), "flags": sorted(measurement.flags)}


def unpack(data: Mapping[str, Any]) -> Measurement:
    return Measurement(**{**data, "flags": frozenset(data["flags"])})
