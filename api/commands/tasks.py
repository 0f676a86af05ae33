"""`paretoformer task`: what can be learned."""

from typing import Annotated, Any

import typer

from .options import Json
from .output import emit_json, out, pairs, table

app = typer.Typer(no_args_is_help=True, help="Lists what can be learned.")


@app.command("list")
def list_tasks(as_json: Json = False) -> None:
    """The tasks that need no file, also those of installed packages, and what a path may be."""
    from evaluators.training import FORMATS, tasks

    found = [
        {
            "name": name,
            "kind": task.kind,
            "summary": task.summary,
            "source": task.source,
            "lengths": task.lengths,
            "version": task.version,
        }
        for name, task in tasks().items()
    ]
    forms = {kind: [form.words for form in those] for kind, those in FORMATS.items()}
    if as_json:
        emit_json({"tasks": found, "paths": forms})
        return
    rows = [[one["name"], one["kind"], one["summary"], one["source"]] for one in found]
    out().print(table(["task.dataset", "task.kind", "what is asked", "source"], rows))
    out().print("\nor the path of your own data:")
    out().print(pairs([(kind, ", or ".join(words)) for kind, words in forms.items()]))


@app.command("show")
def show(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A name, or a path with --kind.")],
    kind: Annotated[str | None, typer.Option("--kind", help="task.kind; that of a name by default.")] = None,
    length: Annotated[int | None, typer.Option("--length", help="task.length of a text.")] = None,
    as_json: Json = False,
) -> None:
    """Prepares a data set and says what is in it; what is wrong with it, if it cannot be used."""
    from evaluators.training import prepare_task, tasks
    from space.errors import InvalidInputError

    known = tasks()
    if kind is None and dataset not in known:
        raise InvalidInputError(
            f"'{dataset}' is no task by name; say --kind for a path, or see `paretoformer task list`"
        )
    found = prepare_task(kind or known[dataset].kind, dataset, length).describe()
    if as_json:
        emit_json(found)
        return
    out().print(pairs([(name, _words(value)) for name, value in found.items()]))


def _words(value: Any) -> str:
    """A JSON value on a line or two."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        shown = [_words(one) for one in value[:12]]
        return ", ".join(shown) + (", ..." if len(value) > len(shown) else "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)
