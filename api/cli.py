"""The command line `paretoformer`: commands in their order, and what a failure looks like.

Exit codes: 0 done, 1 failed, 2 what was asked cannot work (a mistyped key, a missing file), 130 interrupted.
"""

import gc
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from space.errors import InvalidInputError, NotFoundError, ServiceError

from .commands import (
    database,
    devices,
    doctor,
    export,
    front,
    init,
    jobs,
    keys,
    report,
    retrain,
    score,
    search,
    serve,
    serve_model,
    spaces,
    submit,
    tasks,
    worker,
)

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class Commands(TyperGroup):
    """Turns the project's errors into one clear message and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # the type of `ctx` is private to typer
        try:
            return super().invoke(ctx)
        except ServiceError as error:
            typer.echo(f"error: {error.message}", err=True)
            if error.hint:
                typer.echo(f"hint: {error.hint}", err=True)
            usage = isinstance(error, (InvalidInputError, NotFoundError))
            raise typer.Exit(USAGE if usage else FAILED) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Searches transformers that are fast where they will run: measured Pareto fronts, verified exports.",
)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"paretoformer {importlib.metadata.version('paretoformer')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Shows the version.")
    ] = False,
) -> None:
    del version


app.command("init")(init.init)
app.command("search")(search.search)
app.command("retrain")(retrain.retrain)
app.command("front")(front.front)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("score")(score.score)
app.command("serve-model")(serve_model.serve_model)
app.add_typer(spaces.app, name="space")
app.add_typer(tasks.app, name="task")
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("submit")(submit.submit)
app.command("jobs")(jobs.jobs)
app.command("show")(jobs.show)
for action, meaning in jobs.ACTION_HELP.items():
    app.command(action, help=meaning)(jobs.action_command(action))
app.add_typer(devices.app, name="device")
app.add_typer(database.app, name="db")
app.add_typer(keys.app, name="keys")
app.command("doctor")(doctor.doctor)


GC_THRESHOLD = (20_000, 20, 50)


def main() -> None:
    """Entry point of the console script.

    Imports make a million objects that stay; looking for cycles among them as often as Python does by itself
    takes a quarter of a server's start.
    """
    gc.set_threshold(*GC_THRESHOLD)
    app(prog_name="paretoformer")


if __name__ == "__main__":
    sys.exit("start it as `paretoformer`")
