"""`paretoformer score`: what one architecture costs and promises, outside any job."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json
from .output import emit_json, out, pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluators.latency.target import Runtime
    from evaluators.training import TaskData

ARCHITECTURE = "architecture.json"
"""In an exported folder."""


def score(
    path: Annotated[
        Path,
        typer.Argument(metavar="ARCH.json", help="An architecture as JSON, or a folder that export wrote."),
    ],
    task: Annotated[
        str | None, typer.Option("--task", metavar="KIND:DATASET", help="Adds the proxies, on this task.")
    ] = None,
    proxies: Annotated[
        str | None, typer.Option("--proxies", metavar="NAMES", help="With commas between them; or all.")
    ] = None,
    runtime: Annotated[
        str, typer.Option("--runtime", help="onnxruntime, eager or torch-compile.")
    ] = "onnxruntime",
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 1,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Also measure the whole model.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Costs, proxies, predicted and measured latency of one architecture; of an exported folder its files."""
    architecture_bytes = read_architecture(path / ARCHITECTURE if path.is_dir() else path)
    from dashboards.wording import describe, shown
    from search.scoring import score as score_of
    from space.architecture import parse_architecture

    architecture = parse_architecture(architecture_bytes)
    from evaluators.latency import Target, check_target

    target = Target(runtime=runtime_named(runtime), threads=threads, batch_size=batch_size)
    check_target(target)
    data = None if task is None else _task(task)
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as scratch:
        names = None if proxies is None else [name.strip() for name in proxies.split(",")]
        found = score_of(
            architecture, target, data=data, proxies=names, scratch=Path(scratch), measure=measure
        )
        if path.is_dir():
            from search.scored_folder import score_folder

            found |= score_folder(path, target, data=data, scratch=Path(scratch), measure=measure)
    if as_json:
        emit_json(found)
        return
    import json

    rows: list[tuple[str, object]] = [("architecture", describe(json.loads(architecture.canonical_json)))]
    rows += [(name.replace("_", " "), shown(name, value)) for name, value in found["costs"].items()]
    for name, value in found.get("proxies", {}).items():
        rows.append((f"proxy {name}", value["status"] if value["value"] is None else f"{value['value']:.6g}"))
    for kind in ("predicted", "measured"):
        if kind in found and found[kind]["value"] is not None:
            rows.append((f"latency, {kind}", shown("latency_s", found[kind]["value"])))
    rows += _file_rows(found)
    out().print(pairs(rows))


def _file_rows(found: "Mapping[str, Any]") -> list[tuple[str, object]]:
    """One line per file of an exported folder, and why there is no quality where there is none."""
    from dashboards.wording import shown
    from search.objectives import OBJECTIVES

    rows: list[tuple[str, object]] = []
    for name, file in found.get("files", {}).items():
        parts = [shown("weights_bytes", file["size_bytes"])]
        if "latency" in file and file["latency"]["value"] is not None:
            parts.append(shown("latency_s", file["latency"]["value"]))
        for key, value in file.get("quality", {}).get("values", {}).items():
            parts.append(f"{OBJECTIVES[key].label} {shown(key, value)}")
        rows.append((name, ", ".join(parts)))
    for name, form in found.get("simulated", {}).items():
        parts = [shown("weights_bytes", form["weights_bytes"])]
        parts += [
            f"{OBJECTIVES[key].label} {shown(key, value)}" for key, value in form["quality"]["values"].items()
        ]
        rows.append((f"{name}, simulated", ", ".join(parts)))
    if "no_quality" in found:
        rows.append(("quality", found["no_quality"]))
    return rows


def read_architecture(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        InvalidInputError: it cannot be read.
    """
    from space.errors import InvalidInputError

    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"'{path}' cannot be read: {error.strerror}") from error


def runtime_named(name: str) -> "Runtime":
    """
    Raises:
        InvalidInputError: no runtime of the CPU is called so.
    """
    from evaluators.latency.target import RUNS_ON
    from space.errors import InvalidInputError, nearest

    for runtime in RUNS_ON["cpu"]:
        if runtime == name:
            return runtime
    raise InvalidInputError(f"unknown runtime '{name}'; {nearest(name, RUNS_ON['cpu'])}")


def _task(text: str) -> "TaskData":
    from evaluators.training import prepare_task
    from space.errors import InvalidInputError

    kind, colon, dataset = text.partition(":")
    if not colon or not dataset:
        raise InvalidInputError(
            f"--task '{text}' is not KIND:DATASET, for example language-model:python-stdlib"
        )
    return prepare_task(kind, dataset)
