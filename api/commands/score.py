"""`paretoformer score`: what one architecture costs and promises, outside any job."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import Json
from .output import emit_json, out, pairs

if TYPE_CHECKING:
    from evaluators.training import TaskData


def score(
    path: Annotated[Path, typer.Argument(metavar="ARCH.json", help="An architecture as JSON.")],
    task: Annotated[
        str | None, typer.Option("--task", metavar="KIND:DATASET", help="Adds the proxies, on this task.")
    ] = None,
    runtime: Annotated[str, typer.Option("--runtime", help="onnxruntime or eager.")] = "onnxruntime",
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 1,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Also measure the whole model.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Costs, proxies, predicted and measured latency of one architecture."""
    architecture_bytes = read_architecture(path)
    from dashboards.wording import describe, shown
    from search.scoring import score as score_of
    from space.architecture import parse_architecture

    architecture = parse_architecture(architecture_bytes)
    from evaluators.latency import Target, check_target

    target = Target(runtime=runtime_named(runtime), threads=threads, batch_size=batch_size)
    check_target(target)
    data = None if task is None else _task(task)
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as scratch:
        found = score_of(architecture, target, data=data, scratch=Path(scratch), measure=measure)
    if as_json:
        emit_json(found)
        return
    import json

    rows: list[tuple[str, object]] = [("architecture", describe(json.loads(architecture.canonical_json)))]
    rows += [(name.replace("_", " "), shown(name, value)) for name, value in found["costs"].items()]
    rows += [(f"proxy {name}", value["value"]) for name, value in found.get("proxies", {}).items()]
    for kind in ("predicted", "measured"):
        if kind in found and found[kind]["value"] is not None:
            rows.append((f"latency, {kind}", shown("latency_s", found[kind]["value"])))
    out().print(pairs(rows))


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


def runtime_named(name: str) -> Literal["onnxruntime", "eager"]:
    """
    Raises:
        InvalidInputError: no such runtime.
    """
    from space.errors import InvalidInputError, nearest

    if name == "onnxruntime":
        return "onnxruntime"
    if name == "eager":
        return "eager"
    raise InvalidInputError(f"unknown runtime '{name}'; {nearest(name, ('onnxruntime', 'eager'))}")


def _task(text: str) -> "TaskData":
    from evaluators.training import prepare_task
    from space.errors import InvalidInputError

    kind, colon, dataset = text.partition(":")
    if not colon or not dataset:
        raise InvalidInputError(
            f"--task '{text}' is not KIND:DATASET, for example language-model:python-stdlib"
        )
    return prepare_task(kind, dataset)
