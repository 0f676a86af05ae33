"""What the documentation says is what the program has: names, defaults, limits, costs, links, snippets.

Closed lists are compared both ways: a name that is not described fails, and so does a described one that has
gone.
"""

import ast
import contextlib
import io
import json
import random
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import api.routes.access as access
import api.routes.pages as pages
import search.proposer  # noqa: F401  # its error code
from api.cli import app as command_line
from api.problems import status_of
from api.settings import Settings
from evaluators.proxies import PROXIES, proxy_names
from evaluators.training import BUILT_IN, TASK_KINDS
from search import records
from search.job import JobSpec, parse_job
from search.objectives import ALIASES, OBJECTIVES
from space.errors import ServiceError
from space.export import write_folder
from space.model import build_model
from space.sampling import sample
from space.search_space import load_preset

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = ("space", "evaluators", "search", "dashboards", "api")
PAGES = (
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(ROOT / package / "README.md" for package in PACKAGES if (ROOT / package / "README.md").exists()),
)


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """The text under a heading, up to the next of its depth."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", text(name), re.M | re.S)
    assert found, f"{name} has no heading '{heading}'"
    return found[2]


def table(source: str) -> dict[str, list[str]]:
    """First cell without backticks -> the other cells, of every table row of a text."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in source.splitlines()
        if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in rows}


def fences(source: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", source, re.M | re.S)


# -- job file --------------------------------------------------------------------------------------------


def job_keys(model: type[BaseModel] = JobSpec, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(key path, field) of every key, groups before what is in them."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        if is_group(field):
            yield from job_keys(typing.cast(type[BaseModel], field.annotation), f"{name}.")


def is_group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def default_words(field: FieldInfo) -> str:
    """How a default is written in a table."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if is_group(field):
        return "see below"
    if value is None:
        return "none"
    if isinstance(value, (tuple, list)):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def limit_words(field: FieldInfo) -> str:
    """How bounds and closed lists are written in a table."""
    parts = (field.annotation, *get_args(field.annotation))
    kinds = [part for part in parts if typing.get_origin(part) is Literal]
    if kinds:
        return ", ".join(f"`{value}`" for value in get_args(kinds[0]))
    bounds = {
        name: getattr(part, name)
        for part in field.metadata
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length")
        if getattr(part, name, None) is not None
    }
    unit = ""
    if "max_length" in bounds:
        unit = " characters" if field.annotation is str else " entries"
    low = bounds.get("ge", bounds.get("min_length"))
    high = bounds.get("le", bounds.get("max_length", bounds["lt"] - 1 if "lt" in bounds else None))
    if "gt" in bounds:
        return f"above {bounds['gt']}"
    if low is None:
        return "" if high is None else f"at most {high:,}{unit}"
    return f"{low:,} and up" if high is None else f"{low:,} to {high:,}{unit}"


def test_the_job_tables_have_every_key_with_its_default_and_limits() -> None:
    described = {key: cells for key, cells in table(text("job-file.md")).items() if len(cells) == 4}
    keys = dict(job_keys())
    for key, field in keys.items():
        assert key in described, f"docs/job-file.md does not describe '{key}'"
        assert described[key][1:3] == [default_words(field), limit_words(field)], key
    assert not [key for key in described if "." in key and key not in keys]


def test_every_objective_task_and_data_set_is_described() -> None:
    objectives = table(section("job-file.md", "Objectives"))
    assert set(objectives) == set(OBJECTIVES)
    for alias, key in ALIASES.items():
        assert f"`{alias}`" in objectives[key][0]
    data = section("job-file.md", "Data")
    assert set(table(data)) == {*BUILT_IN, *TASK_KINDS}


@pytest.mark.parametrize("snippet", fences(text("job-file.md"), "yaml"))
def test_every_job_shown_is_a_job(snippet: str) -> None:
    parse_job(yaml.safe_load(snippet))


def test_the_job_shown_over_http_is_a_job() -> None:
    (body,) = re.findall(r"-d '(.*?)'", text("http.md"))
    assert parse_job(json.loads(body)).name == "small"


# -- proxies and strategies -------------------------------------------------------------------------------


def test_every_proxy_and_strategy_is_described() -> None:
    rows = table(section("proxies.md", "Which there are"))
    assert set(rows) == set(proxy_names())
    assert {name: cells[0] for name, cells in rows.items()} == {one.id: max(one.groups) for one in PROXIES}
    seeds = {one.id: str(one.num_seeds) if one.needs else "" for one in PROXIES}
    assert {name: cells[2] for name, cells in rows.items()} == seeds
    kinds = get_args(dict(job_keys())["strategy.kind"].annotation)
    assert all(f"`{name}`" in section("job-file.md", "strategy").partition("\n\n`")[2] for name in kinds[1:])


# -- words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("README.md", get_args(records.JobState)),
        ("README.md", get_args(records.TrialState)),
        ("README.md", get_args(records.JobReason)),
        ("README.md", get_args(records.TrialReason)),
        ("http.md", get_args(records.EventKind)),
        ("http.md", get_args(records.ArtefactState)),
    ],
    ids=["job states", "trial states", "job reasons", "trial reasons", "events", "export states"],
)
def test_every_word_of_a_closed_list_is_described(page: str, names: Sequence[str]) -> None:
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text(page))] == []


# -- commands --------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """`space show` -> command, for every command that does something."""
    root: Any = typer.main.get_command(command_line)
    found: dict[str, Any] = {}
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {key}": one for key, one in inner.items()}
    return found


def signatures() -> dict[str, set[str]]:
    """Command -> options, as docs/commands.md writes them in bold."""
    found: dict[str, set[str]] = {}
    for signature in re.findall(r"\*\*`paretoformer (.*?)`\*\*", text("commands.md"), re.S):
        words = signature.split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in commands() else words[0]
        found[name] = set(re.findall(r"(?<![\w-])-{1,2}[a-z][\w-]*", signature))
    return found


def test_every_command_is_described_with_its_options() -> None:
    described = signatures()
    assert set(described) == set(commands())
    for name, command in commands().items():
        options = {
            option
            for param in command.params
            if param.param_type_name == "option"
            for option in (*param.opts, *param.secondary_opts)
        }
        assert described[name] == options, name


def test_the_options_of_the_program_itself_are_described() -> None:
    root: Any = typer.main.get_command(command_line)
    assert all(f"`{option}`" in text("commands.md") for param in root.params for option in param.opts)


def command_lines() -> list[str]:
    """Every call of the program that a page shows."""
    shown = []
    for page in PAGES:
        for block in fences(page.read_text(encoding="utf-8"), r"\w*"):
            shown += re.findall(r"^(?:\.venv/bin/)?paretoformer (.*)$", block, re.M)
    return sorted(set(shown))


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_shown_is_understood(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0], comments=True)
    command: Any = typer.main.get_command(command_line)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("paretoformer", words)


def test_every_command_has_an_example() -> None:
    shown = [line for line in command_lines() if line in text("commands.md")]
    assert [name for name in commands() if not any(line.startswith(name) for line in shown)] == []


# -- settings --------------------------------------------------------------------------------------------


def test_the_table_of_settings_has_every_setting_with_its_default() -> None:
    rows = table(text("settings.md"))
    for name, field in Settings.model_fields.items():
        cells = rows[f"PARETOFORMER_{name.upper()}"]
        default = "`[]`" if field.default == () else default_words(field)
        assert cells[0] == default, name
        assert cells[1] == limit_words(field), name


def test_every_variable_the_program_reads_is_described_and_no_other() -> None:
    named = {f"PARETOFORMER_{name.upper()}" for name in Settings.model_fields}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        named |= set(re.findall(r"PARETOFORMER_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8")))
    assert set(table(text("settings.md"))) == named


# -- HTTP ------------------------------------------------------------------------------------------------


def described_routes() -> set[str]:
    return set(re.findall(r"`((?:GET|POST|PATCH|DELETE|PUT) /\S*)`", text("http.md")))


def test_every_route_is_described_and_no_other() -> None:
    document = json.loads((ROOT / "tests" / "data" / "openapi.json").read_text(encoding="utf-8"))
    routes = {f"{method.upper()} {path}" for path, found in document["paths"].items() for method in found}
    for route in (*pages.router.routes, *access.router.routes):
        routes |= {f"{method} {route.path}" for method in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    assert described_routes() == routes


def test_every_query_of_a_listing_is_described() -> None:
    document = json.loads((ROOT / "tests" / "data" / "openapi.json").read_text(encoding="utf-8"))
    body = text("http.md")
    for path, found in document["paths"].items():
        for operation in found.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    assert f"`{parameter['name']}" in body, (path, parameter["name"])


def request_errors() -> dict[str, int]:
    """Code -> status of every request that is refused before a route."""
    found = {}
    for path in (ROOT / "api").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "RequestError"
            ):
                status, code = (typing.cast(ast.Constant, argument).value for argument in node.args[:2])
                found[str(code)] = typing.cast(int, status)
    return found


def domain_errors(root: type[ServiceError] = ServiceError) -> dict[str, int]:
    """Code -> status of everything the packages raise on purpose."""
    found = {root.code: status_of(root("x"))}
    for inner in root.__subclasses__():
        found = domain_errors(inner) | found
    return found


def test_every_error_code_is_described_with_its_status() -> None:
    framework = {"method_not_allowed": 405, "internal": 500, "refused": 400}
    wanted = domain_errors() | request_errors() | framework
    rows = {key: cells for key, cells in table(section("http.md", "Errors")).items() if len(cells) == 2}
    assert set(rows) == set(wanted)
    for code, cells in rows.items():
        assert cells[0] == ("4xx" if code == "refused" else str(wanted[code])), code


def test_the_codes_of_the_framework_are_those_in_the_table() -> None:
    source = (ROOT / "api" / "problems.py").read_text(encoding="utf-8")
    codes = set(re.findall(r"40\d: \"(\w+)\"", source))
    assert {"not_found"} < codes <= set(table(section("http.md", "Errors")))


# -- links and snippets ----------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    source = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", source):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_the_index_names_every_page() -> None:
    named = set(re.findall(r"\(([\w-]+\.md)\)", text("README.md")))
    assert named == {path.name for path in DOCS.glob("*.md")} - {"README.md"}


def python_pages() -> list[Path]:
    """Pages with Python that runs in this process; that of the README has a process of its own."""
    with_python = [page for page in PAGES if fences(page.read_text(encoding="utf-8"), "python")]
    return [page for page in with_python if page != ROOT / "README.md"]


@pytest.mark.slow
@pytest.mark.parametrize("page", python_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order and in one namespace. A `print` with a comment behind it prints that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("search.run", _smaller_run)
    names: dict[str, object] = {}
    for snippet in fences(page.read_text(encoding="utf-8"), "python"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(snippet, str(page), "exec"), names)
        promised = re.findall(r"^print\(.*\)  # (.*)$", snippet, re.M)
        assert [line for line in promised if line not in printed.getvalue().splitlines()] == []


def _smaller_run(spec: JobSpec, **options: Any) -> Any:
    """The search of a snippet on less work; everything in it is real."""
    from search.running import run

    small = parse_job(
        {
            "space": {
                "set": {"d_model": [32], "num_layers": [1], "mixer": ["pool"], "number_format": ["fp32"]}
            },
            "training": {"steps": 4, "rungs": 1, "batch_size": 4},
            "task": {"length": 16},
            "references": {"sizes": 1},
            "finalists": {"count": 0},
            "screen": {"candidates": 1},
            "budget": {"trials": 2},
        }
    )
    return run(small, **options)


@pytest.mark.slow
def test_the_exported_file_runs_with_the_snippet_of_the_readme(tmp_path: Path) -> None:
    """In a process that imports numpy and onnxruntime and nothing of this project."""
    space = load_preset("decoder-small").for_interface(_bytes_interface())
    architecture = sample(space.with_domains({"num_layers": 1, "d_model": 32}), random.Random(0))
    model = build_model(architecture.with_number_format("fp32"), seed=0).eval()
    write_folder(model, architecture, tmp_path / "model", formats=("onnx",), quantize="int8")
    (snippet,) = fences((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    check = "import sys; assert not {'torch', 'space', 'search'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{snippet}\n{check}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("next byte: ")


def _bytes_interface() -> Any:
    from space.architecture import BytesInterface

    return BytesInterface(vocab_size=256, context_length=128, outputs=256)
