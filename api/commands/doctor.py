"""`paretoformer doctor`: whether this machine has what a search needs."""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from .options import DEFAULT_DATABASE, Db, Json, open_database
from .output import emit_json, out, table

LEAST_FREE_BYTES = 2 * 2**30
LEAST_SHARED_BYTES = 512 * 2**20
LEAST_FILES = 1024
NEEDED = ("torch", "onnx", "onnxruntime", "optuna", "ray", "sqlalchemy", "fastapi", "plotly", "moocore")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "note", "problem"]
    detail: str


def doctor(db: Db = DEFAULT_DATABASE, as_json: Json = False) -> None:
    """Checks Python, packages, cores, disk, shared memory, a real ONNX Runtime call, and the database."""
    found = [check() for check in (python, packages, cores, disk, shared_memory, descriptors, onnx)]
    found.append(database(db))
    if as_json:
        emit_json([asdict(one) for one in found])
    else:
        out().print(table(["check", "state", "detail"], [[one.name, one.state, one.detail] for one in found]))
    if any(one.state == "problem" for one in found):
        raise typer.Exit(1)


def python() -> Finding:
    version = platform.python_version()
    fits = sys.version_info >= (3, 11)
    return Finding(
        "python", "ok" if fits else "problem", version + ("" if fits else "; 3.11 or newer is needed")
    )


def packages() -> Finding:
    versions: list[str] = []
    for name in NEEDED:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            return Finding("packages", "problem", f"{name} is missing; install the project again")
    return Finding("packages", "ok", ", ".join(versions))


def cores() -> Finding:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    detail = f"{allowed} usable, load {load:.1f}"
    if load > allowed:
        return Finding("cores", "note", f"{detail}; a busy machine makes latencies noisy, close other work")
    return Finding("cores", "ok", detail)


def disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / 2**30:.1f} GiB free here"
    return Finding("disk", "ok" if free >= LEAST_FREE_BYTES else "problem", detail)


def shared_memory() -> Finding:
    """Ray keeps data of jobs there; a container has 64 MiB of it unless told otherwise."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding("shared memory", "note", "no /dev/shm here; Ray uses the disk in its place")
    free = shutil.disk_usage(place).free
    detail = f"{free / 2**30:.1f} GiB free in {place}"
    if free < LEAST_SHARED_BYTES:
        return Finding("shared memory", "note", f"{detail}; in a container raise --shm-size to 1gb")
    return Finding("shared memory", "ok", detail)


def descriptors() -> Finding:
    """Event streams and workers hold one each."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < LEAST_FILES:
        words = f"{limit} open files allowed; raise it (ulimit -n {LEAST_FILES}) for a server"
        return Finding("open files", "note", words)
    return Finding("open files", "ok", f"{limit} allowed")


def onnx() -> Finding:
    """Exports a small model and runs it."""
    return _tried("onnx runtime", _run_onnx)


def _run_onnx() -> str:
    import random

    import numpy as np

    from evaluators.latency import predictor
    from space.export import export_onnx
    from space.model import build_model
    from space.sampling import sample

    from ..spaces import preset_space

    architecture = sample(preset_space("decoder-small"), random.Random(0)).with_number_format("fp32")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(build_model(architecture, seed=0).eval(), architecture, path)
        logits = predictor(path, threads=1)(np.zeros((1, 16), dtype=np.int64))
    return f"a model was exported and answered {tuple(logits.shape)}"


def database(url: str) -> Finding:
    """Opens the database, without making one."""
    from search.storage.engine import parse_url
    from search.storage.places import file_system

    def look() -> str:
        file = parse_url(url).file
        if file is not None and not file.exists():
            return f"{file} is not there yet; the first search makes it"
        opened = open_database(url)
        try:
            kind = None if opened.file is None else file_system(opened.file)
            where = f", on {kind.name}: one process only" if kind is not None and kind.is_network else ""
            return f"{opened.url_shown} is open and up to date{where}"
        finally:
            opened.close()

    return _tried("database", look)


def _tried(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", look())
    except Exception as error:  # a check-up reports whatever goes wrong
        return Finding(name, "problem", str(error).splitlines()[0] if str(error) else type(error).__name__)
