"""The command line: exit codes, `--json`, one clear message, nothing stored by mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.cli import app
from search.records import JobRecord
from search.storage.database import Database

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart.yaml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], prog_name="paretoformer")


def address(database: Database) -> str:
    assert database.file is not None
    return f"sqlite:///{database.file}"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["search", "nowhere.yaml"], "does not exist"),
        (["search"], "give a job file"),
        (["search", EXAMPLE, "--set", "budget.trails=3"], "did you mean 'trials'"),
        (["search", EXAMPLE, "--set", "strategy.kind=tpee"], "did you mean 'tpe'"),
        (["search", EXAMPLE, "--set", "task.dataset=python-stdli"], "did you mean 'python-stdlib'"),
        (["search", EXAMPLE, "--set", "constraints.params=10"], "below the smallest architecture"),
        (["search", EXAMPLE, "--set", "space.set.d_modell=[32]"], "did you mean 'd_model'"),
        (["search", EXAMPLE, "--set", "budget"], "is not key=value"),
        (["search", EXAMPLE, "--report", "no/such/folder/r.html"], "existing folder"),
        (["submit", EXAMPLE, "--set", "objectives=[quality,speed]"], "unknown objective 'speed'"),
        (["search", "--resume", "abcd"], "does not exist"),
        (["front", "abcd"], "does not exist"),
        (["show", "abcd"], "does not exist"),
        (["export", "abcd", "--out", "m"], "does not exist"),
    ],
)
def test_a_mistake_is_one_message_with_exit_code_2_and_nothing_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert part in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_text_of_ten_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("ten bytes.")
    result = run("search", EXAMPLE, "--set", "task.dataset=short.txt")
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]


def test_an_unknown_command_or_option_is_usage(tmp_path: Path) -> None:
    assert run("serach").exit_code == 2
    assert run("jobs", "--bd", tmp_path).exit_code == 2


def test_the_json_of_a_front_has_its_contract(database: Database, job: JobRecord) -> None:
    result = run("front", job.id[:8], "--json", "--db", address(database))
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert set(found) == {"job", "stage", "front", "references", "indicators"}
    wanted = {"trial", "architecture_id", "architecture", "origin", "objectives", "spread", "kinds", "params"}
    assert all(wanted <= set(point) for point in found["front"])
    assert {"hypervolume", "reference_hypervolume", "speedup_at_equal_quality"} <= set(found["indicators"])
    assert run("front", job.id, "--format", "csv", "--db", address(database)).stdout.startswith("trial,")
    assert "hypervolume" in run("front", job.id, "--db", address(database)).stdout


@pytest.mark.parametrize(
    "arguments",
    [["jobs"], ["show", "{job}"], ["front", "{job}"], ["report", "{job}", "--out", "{folder}/r.html"],
     pytest.param(["space", "list"], marks=pytest.mark.soak),  # counts every preset: near a minute
     ["space", "show", "vision-small"], ["space", "sample", "encoder-small", "-n", "2"],
     ["device", "list"], ["db", "upgrade"], ["db", "check"], ["db", "backup", "{folder}/copy.db"],
     ["keys", "list"], ["keys", "create", "me"], ["init", "{folder}/job.yaml"]],
)  # fmt: skip
def test_json_is_the_only_thing_on_standard_output(
    database: Database, job: JobRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("PARETOFORMER_DB", address(database))
    filled = [one.format(job=job.id, folder=tmp_path) for one in arguments]
    result = run(*filled, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)


def test_a_job_is_submitted_steered_and_listed(database: Database) -> None:
    db = ["--db", address(database)]
    sent = json.loads(run("submit", EXAMPLE, "--json", *db).stdout)
    assert sent["state"] == "queued"
    assert run("pause", sent["id"], *db).exit_code == 1  # a conflict, not a mistake in the command
    assert json.loads(run("cancel", sent["id"], "--json", *db).stdout)["state"] == "cancelled"
    listed = json.loads(run("jobs", "--json", *db).stdout)["items"]
    assert [one["id"] for one in listed] == [sent["id"]]
    assert run("search", "--resume", sent["id"], "--ray", "none", *db).exit_code == 1


def test_the_written_example_is_a_valid_job(tmp_path: Path) -> None:
    from search.job import load_job

    path = tmp_path / "job.yaml"
    assert run("init", path).exit_code == 0
    assert load_job(path).budget.trials == 24
    assert run("init", path).exit_code == 2


@pytest.mark.slow
def test_a_drawn_architecture_can_be_scored(tmp_path: Path) -> None:
    drawn = run(
        "space",
        "sample",
        "decoder-small",
        "--set",
        "num_layers=[1]",
        "--set",
        "number_format=[fp32]",
        "--json",
    )
    path = tmp_path / "architecture.json"
    path.write_text(drawn.stdout)
    asked = ("--task", "language-model:python-stdlib", "--no-measure", "--json")
    scored = run("score", path, *asked, "--proxies", "zico, depth")
    assert scored.exit_code == 0, scored.output
    found = json.loads(scored.stdout)
    assert found["costs"]["params"] > 0
    assert found["predicted"]["kind"] == "predicted"
    assert run("score", path, "--runtime", "onyx").exit_code == 2
    assert set(found["proxies"]) == {"zico", "depth"}
    assert "zico" in run("score", path, *asked, "--proxies", "zicko").stderr
    assert "name a task" in run("score", path, "--proxies", "all").stderr


def test_a_number_format_the_runtime_does_not_have_is_named(tmp_path: Path) -> None:
    drawn = run("space", "sample", "decoder-small", "--set", "number_format=[bf16]", "--json")
    path = tmp_path / "architecture.json"
    path.write_text(drawn.stdout)
    scored = run("score", path, "--no-measure")
    assert scored.exit_code == 1
    assert "bf16" in scored.stderr
    assert "eager" in scored.stderr


def test_a_key_is_shown_once_and_can_be_revoked(database: Database) -> None:
    db = ["--db", address(database)]
    assert database.url_shown in run("keys", "create", "you", *db).stdout  # where it opens something
    made = json.loads(run("keys", "create", "me", "--json", *db).stdout)
    assert "secret" not in json.dumps(json.loads(run("keys", "list", "--json", *db).stdout))
    assert json.loads(run("keys", "revoke", made["id"], "--json", *db).stdout)["revoked_at"]
    assert run("keys", "revoke", "nobody", *db).exit_code == 2


def test_a_server_open_to_others_does_not_start_without_a_key(database: Database) -> None:
    result = run("serve", "--host", "0.0.0.0", "--port", "0", "--db", address(database))
    assert result.exit_code == 2
    assert "nothing was started" in result.stderr


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys, api.cli; "
        "bad = {'torch', 'ray', 'sqlalchemy', 'fastapi', 'plotly', 'optuna', 'numpy'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_a_search_runs_to_its_front_and_writes_what_it_was_asked_for(tmp_path: Path) -> None:
    changes = (
        "space.set.d_model=[32]", "space.set.num_layers=[1]", "training.steps=8", "training.rungs=1",
        "references.sizes=1", "finalists.count=0", "screen.candidates=1", "budget.trials=2",
    )  # fmt: skip
    options = [part for change in changes for part in ("--set", change)]
    db = f"sqlite:///{tmp_path}/p.db"
    result = run(
        "search", EXAMPLE, *options, "--ray", "none", "--db", db, "--json", "--out", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["job"]["state"] == "completed"
    assert found["front"]
    assert json.loads((tmp_path / "out" / "front.json").read_text()) == found
    assert "Demonstration" in (tmp_path / "out" / "report.html").read_text()
    assert "references" in result.stderr
