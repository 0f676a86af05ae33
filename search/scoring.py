"""One architecture outside any job: costs, proxies, and latency predicted and measured."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluators.latency import (
    Target,
    blocks_of,
    fit_correction,
    measure_blocks,
    measure_model,
    predict_latency,
)
from evaluators.proxies import probe_size, proxy, proxy_names
from evaluators.proxies import score as proxy_scores
from evaluators.training import TaskData, probe_batch
from space.architecture import Architecture
from space.costs import costs
from space.errors import InvalidArchitectureError, InvalidInputError, UnsupportedError
from space.model import build_model
from space.quantization import number_format

from .plan import AUTO_PROXIES
from .workers.stages import pack

ALL = "all"
"""In place of the ids of all proxies."""


def score(
    architecture: Architecture,
    target: Target,
    *,
    data: TaskData | None = None,
    proxies: Sequence[str] | None = None,
    scratch: Path,
    measure: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Costs, proxies (with `data`), predicted and (with `measure`) measured latency, as JSON.

    `proxies`: ids, `all` among them for all of them; None: those that screen a job by default.

    Raises:
        InvalidInputError: there is no such proxy, or no data to read it on.
        InvalidArchitectureError: the architecture does not fit the data's interface.
        UnsupportedError: the target's runtime does not have one of its number formats.
    """
    _check_runs(architecture, target)
    named = _named(proxies, data)
    found: dict[str, Any] = {
        "architecture_id": architecture.id,
        "training_id": architecture.training_id,
        "costs": asdict(costs(architecture, batch_size=target.batch_size)),
    }
    if data is not None:
        _check_fits(architecture, data)
        inputs, labels = probe_batch(data, probe_size(data.length))
        scores = proxy_scores(architecture, inputs, labels, named, seed=seed)
        found["proxies"] = {name: pack(value) for name, value in scores.items()}
    blocks = {block.id: block for block in blocks_of(architecture, target)}
    measured = measure_blocks(list(blocks.values()), target, scratch=scratch)
    known = {key: value.value for key, value in zip(blocks, measured, strict=True) if value.value is not None}
    found["predicted"] = pack(predict_latency(architecture, target, known, fit_correction([])))
    if measure:
        model = build_model(architecture, seed=seed).eval()
        found["measured"] = pack(measure_model(model, architecture, target, scratch=scratch))
    return found


def _named(proxies: Sequence[str] | None, data: TaskData | None) -> Sequence[str]:
    if proxies is None:
        return AUTO_PROXIES
    if data is None:
        raise InvalidInputError("proxies are read on data: name a task too")
    named = proxy_names() if ALL in proxies else tuple(proxies)
    return [proxy(name).id for name in named]


def _check_runs(architecture: Architecture, target: Target) -> None:
    for name in sorted({layer.number_format for layer in architecture.layers}):
        real_on = number_format(name).real_on
        if target.runtime not in real_on:
            raise UnsupportedError(
                f"number format '{name}' does not run on {target.runtime}; "
                f"it runs on {', '.join(sorted(real_on))}"
            )


def _check_fits(architecture: Architecture, data: TaskData) -> None:
    wanted, given = data.interface(), architecture.interface
    if (wanted.input, wanted.outputs) != (given.input, given.outputs) or architecture.model != data.model:
        raise InvalidArchitectureError(
            f"the architecture is a {architecture.model} on '{given.input}' with {given.outputs} outputs; "
            f"task '{data.name}' needs a {data.model} on '{wanted.input}' with {wanted.outputs}"
        )
