"""Exports of a finished job: asked for, repeated, cancelled, killed, lost, tampered with."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evaluators.training.checkpoints import Checkpoint, model_tensors, save_checkpoint
from search.clock import Clock
from search.export_facts import beaten
from search.export_files import (
    ArtefactMissingError,
    folder_digest,
    looks_whole,
    published_files,
)
from search.exporting import (
    EXPORT_LEASE_S,
    publish_to,
    request_export,
    run_export,
    run_next_export,
)
from search.records import ArtefactRecord, JobRecord, TrialRecord
from search.storage import artefacts, jobs, trials
from space.architecture import parse_architecture
from space.errors import ConflictError, InvalidInputError
from space.model import build_model

from .conftest import Bench


class Case:
    """A finished formula job in which one trial of the front has real weights."""

    def __init__(self, folder: Path) -> None:
        bench = Bench(folder)
        plan = bench.plan()
        self.url = bench.url
        self.database = bench.open()
        job_id = bench.create(plan, self.database)
        bench.work(job_id, plan, database=self.database)
        with self.database.read() as session:
            self.job: JobRecord = jobs.get(session, job_id)
            self.trial: TrialRecord = next(
                one for one in trials.front(session, job_id, "search") if one.final
            )
        self.weights = self._write_weights()

    def _write_weights(self) -> Path:
        """Where the first of the finalist's trainings left an empty folder."""
        assert self.trial.final is not None
        steps = self.trial.final.steps
        plain = parse_architecture(self.trial.architecture).with_number_format("fp32")
        place = self.database.data_dir / "training" / self.trial.training_id / str(steps) / "1" / str(steps)
        shutil.rmtree(place)
        model = build_model(plain, seed=3)
        return save_checkpoint(place.parent, Checkpoint(steps, model_tensors(model), {}, {}), keep=True)

    def ask(self, *formats: str, quantize: str = "none", **more: Any) -> ArtefactRecord:
        with self.database.write() as session:
            return request_export(
                session, self.job, self.trial.label, formats=formats or ("torch",), quantize=quantize,
                now=time.time(), data_dir=self.database.data_dir, **more,
            )  # fmt: skip

    def published(self, licence: str) -> ArtefactRecord:
        """An export that stands ready with two files, without the work."""
        export = self.ask("torch", licence=licence)
        folder = self.database.data_dir / "exports" / export.id
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("how to use it")
        (folder / "model.safetensors").write_bytes(b"weights")
        with self.database.write() as session:
            return artefacts.set_state(
                session, export.id, "ready", path=f"exports/{export.id}", size_bytes=20,
                sha256=folder_digest(folder),
            )  # fmt: skip

    def look(self, export: ArtefactRecord) -> ArtefactRecord:
        with self.database.read() as session:
            return artefacts.get(session, export.id)

    def run(self, export: ArtefactRecord) -> ArtefactRecord:
        """Writes what waits until this one has ended."""
        while self.look(export).state in ("queued", "running"):
            assert run_next_export(self.database, Clock())
        return self.look(export)

    def on_disk(self) -> set[str]:
        folder = self.database.data_dir / "exports"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case(tmp_path_factory.mktemp("exports"))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def ready(case: Case) -> ArtefactRecord:
    return case.run(case.ask())


@pytest.mark.slow
def test_a_report_has_origin_verification_and_the_sum_of_every_file(
    case: Case, ready: ArtefactRecord
) -> None:
    assert (ready.state, ready.message) == ("ready", None)
    report = ready.report
    assert report is not None
    assert report["training"] == {"steps": 12, "seed": 1, "stage": "final"}
    assert not report["partial"]
    contents = published_files(case.database.data_dir, ready)
    assert set(report["sha256"]) == set(contents) - {"export_report.json"}
    assert report["verification"]["files"]["model.safetensors"]["max_abs_difference"] == 0
    assert {"torch", "onnxruntime", "python"} <= set(report["versions"])
    card = contents["README.md"].decode()
    assert case.job.context["data_digest"] in card


@pytest.mark.slow
def test_an_equal_request_is_answered_with_the_export_that_stands(case: Case, ready: ArtefactRecord) -> None:
    assert case.ask().id == ready.id
    other = case.ask("torch", licence="MIT")
    assert other.id != ready.id
    assert case.ask("torch", licence="MIT").id == other.id
    with case.database.write() as session:
        artefacts.cancel(session, other.id, tenant=case.job.tenant)


@pytest.mark.slow
def test_exports_of_one_job_are_written_at_the_same_time(case: Case) -> None:
    asked = [case.ask("torch", licence=name) for name in ("A", "B")]
    threads = [threading.Thread(target=run_next_export, args=(case.database, Clock())) for _ in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [case.look(one) for one in asked]
    assert [one.state for one in found] == ["ready", "ready"]
    assert len({one.path for one in found}) == 2
    assert all(looks_whole(case.database.data_dir, one) for one in found)


def test_a_cancelled_export_is_dropped_by_its_writer(case: Case) -> None:
    export = case.ask("torch", licence="cancelled")
    with case.database.write() as session:
        taken = artefacts.claim_queued(session, "me", EXPORT_LEASE_S)
        assert taken is not None
        artefacts.cancel(session, taken.id, tenant=case.job.tenant)
    before = case.on_disk()
    assert run_export(case.database, taken, Clock()).state == "cancelled"
    assert case.on_disk() == before
    assert case.look(export).message == "cancelled by its user"
    with case.database.write() as session:
        assert artefacts.cancel(session, export.id, tenant=case.job.tenant).state == "cancelled"
    assert case.published("cancelled").id != export.id
    again = case.ask("torch", licence="cancelled")
    with pytest.raises(ConflictError, match="is ready"), case.database.write() as session:
        artefacts.cancel(session, again.id, tenant=case.job.tenant)


def test_f38_files_deleted_or_cut_behind_our_back_are_missing_and_made_again(
    case: Case, tmp_path: Path
) -> None:
    export = case.published("F38")
    assert export.path is not None
    folder, data = case.database.data_dir / export.path, case.database.data_dir
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1])
    assert not looks_whole(data, export)
    with pytest.raises(ArtefactMissingError, match="gone or changed"):
        publish_to(case.database, export, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.rmtree(folder)
    assert not looks_whole(data, export)
    with case.database.read() as session:
        assert trials.front(session, case.job.id, "search")
    assert case.published("F38").id != export.id


def test_a09_a_file_of_equal_length_but_other_content_is_refused(case: Case) -> None:
    export = case.published("A09")
    assert export.path is not None
    weights = case.database.data_dir / export.path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert looks_whole(case.database.data_dir, export)
    with pytest.raises(ArtefactMissingError):
        published_files(case.database.data_dir, export)


@pytest.mark.parametrize("plant", ["symbolic", "hard", "folder", "pipe"])
def test_a07_links_in_an_artefact_folder_are_not_followed(plant: str, case: Case, tmp_path: Path) -> None:
    ready = case.published(f"A07 {plant}")
    assert ready.path is not None
    folder = case.database.data_dir / ready.path
    secret = case.database.data_dir / f"secret-{plant}"
    secret.write_bytes((folder / "README.md").read_bytes())
    card = folder / "README.md"
    card.rename(tmp_path / "README.md")
    try:
        if plant == "symbolic":
            card.symlink_to(secret)
        elif plant == "hard":
            os.link(secret, card)
        elif plant == "pipe":
            os.mkfifo(card)
        else:
            card.mkdir()
        with pytest.raises(ArtefactMissingError):
            published_files(case.database.data_dir, ready)
    finally:
        card.rmdir() if plant == "folder" else card.unlink()
        (tmp_path / "README.md").rename(card)
    link = folder.with_name("link")
    link.symlink_to(folder)
    moved = ArtefactRecord(**{**record_of(ready), "path": "exports/link"})
    with pytest.raises(ArtefactMissingError):
        published_files(case.database.data_dir, moved)
    link.unlink()
    assert published_files(case.database.data_dir, ready)


def record_of(export: ArtefactRecord) -> dict[str, Any]:
    return {name: getattr(export, name) for name in ArtefactRecord.__dataclass_fields__}


def test_f46_half_trained_trials_and_running_jobs_need_a_word(case: Case) -> None:
    running = JobRecord(
        **{n: getattr(case.job, n) for n in JobRecord.__dataclass_fields__} | {"state": "running"}
    )
    with case.database.write() as session:
        asked: dict[str, Any] = {"formats": ["torch"], "quantize": "none", "now": 0.0}
        with pytest.raises(ConflictError, match=r"is running: .*allow_partial"):
            request_export(session, running, case.trial.label, **asked)
        pruned = next(
            one for one in trials.all_trials(session, case.job.id) if one.state == "pruned" and one.steps
        )
        with pytest.raises(ConflictError, match=f"trial {pruned.label} is pruned after {pruned.steps} steps"):
            request_export(session, case.job, pruned.label, **asked)
        allowed = request_export(session, case.job, pruned.label, allow_partial=True, **asked)
        assert allowed.request["steps"] == pruned.steps
        artefacts.cancel(session, allowed.id, tenant=case.job.tenant)


def test_lost_weights_fail_the_export_with_the_way_out(case: Case) -> None:
    all_seeds = case.weights.parents[1]
    away = all_seeds.with_name("away")
    all_seeds.rename(away)
    try:
        before = case.on_disk()
        failed = case.run(case.ask("torch", licence="lost"))
        assert failed.state == "failed"
        assert "run the job again" in str(failed.message)
        assert case.on_disk() == before
    finally:
        away.rename(all_seeds)


def test_damaged_weights_are_refused(case: Case) -> None:
    weights = case.weights / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        failed = case.run(case.ask("torch", licence="damaged"))
        assert (failed.state, "missing or damaged" in str(failed.message)) == ("failed", True)
    finally:
        weights.write_bytes(content)


WRITER = """
import sys, time
from search.clock import Clock
from search.exporting import run_next_export
from search.storage.database import Database
run_next_export(Database.open(sys.argv[1]), Clock())
"""


class Later(Clock):
    """A clock on which every claim of now has run out."""

    def time(self) -> float:
        return time.time() + EXPORT_LEASE_S + 1


@pytest.mark.slow
def test_f47_an_export_killed_while_it_is_written_leaves_nothing_visible_and_is_written_again(
    case: Case,
) -> None:
    export = case.ask("onnx", licence="F47")
    before = case.on_disk()
    writer = subprocess.Popen([sys.executable, "-P", "-c", WRITER, case.url])
    try:
        while case.on_disk() == before and writer.poll() is None:
            time.sleep(0.01)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    (left,) = case.on_disk() - before
    assert left.endswith(".draft")
    assert case.look(export).state == "running"
    assert not run_next_export(case.database, Clock())
    assert run_next_export(case.database, Later())
    found = case.look(export)
    assert (found.state, found.message) == ("ready", None)
    assert case.on_disk() - before == {export.id}
    report = found.report
    assert report is not None
    assert {"quality", "latency", "size_bytes", "memory"} == set(report["files"]["model.onnx"])
    card = published_files(case.database.data_dir, found)["README.md"].decode()
    assert re.search(
        r"## Measured as published\n.*\| `model.onnx` \| [0-9.]+ .* s.* \| [0-9,]+ B \|", card, re.DOTALL
    )


@pytest.mark.slow
def test_a_failed_check_publishes_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights change between writing and checking, as a broken disk would do it."""
    import search.exporting
    from space.export import write_folder

    def spoiling(model: Any, *args: Any, **kwargs: Any) -> Any:
        exported = write_folder(model, *args, **kwargs)
        next(iter(model.blocks[-1].parameters())).data.mul_(1.1)
        return exported

    monkeypatch.setattr(search.exporting, "write_folder", spoiling)
    before = case.on_disk()
    failed = case.run(case.ask("torch", licence="F45"))
    assert failed.state == "failed"
    assert "differs from the trained model" in str(failed.message)
    assert "first in layer" in str(failed.message)
    assert case.on_disk() == before


class WithoutOnnxForm(nn.Module):
    """As a mixer of an installed package may be."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mixed: Tensor = torch.special.bessel_j0(x)
        return mixed


def test_f44_an_operator_without_onnx_form_fails_its_export_alone(
    case: Case, ready: ArtefactRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    import search.exporting
    from space.export import write_folder

    def write(model: Any, *args: Any, **kwargs: Any) -> Any:
        model.blocks[0].mixer = WithoutOnnxForm()
        return write_folder(model, *args, **kwargs)

    monkeypatch.setattr(search.exporting, "write_folder", write)
    before = case.on_disk()
    failed = case.run(case.ask("onnx", licence="F44"))
    assert failed.state == "failed"
    message = str(failed.message)
    assert message.startswith("unsupported_operator: layer 0 (")
    assert message.endswith("formats torch, code, torch-export, hf remain")
    assert case.on_disk() == before
    assert case.ask().id == ready.id


def test_what_a_model_beats_is_said_in_numbers_of_one_stage(case: Case) -> None:
    with case.database.read() as session:
        references = [one for one in trials.all_trials(session, case.job.id) if one.number < 0]
    lines = beaten(case.trial, references, case.job.objectives)
    for line in lines:
        assert line.startswith("R")
    assert beaten(case.trial, [case.trial], case.job.objectives) == []


def test_unknown_formats_are_refused(case: Case) -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'onnx'"):
        case.ask("onnxx")
    with pytest.raises(InvalidInputError, match="did you mean 'int8-static'"):
        case.ask("onnx", quantize="int8-statc")
