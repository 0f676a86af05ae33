"""`paretoformer space`: looks into the search spaces."""

from random import Random
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, Overrides
from .output import emit_json, out, pairs, table

if TYPE_CHECKING:
    from space.search_space import SearchSpace

app = typer.Typer(no_args_is_help=True, help="Looks into the search spaces.")


@app.command("list")
def list_spaces(as_json: Json = False) -> None:
    """The presets."""
    from ..spaces import space_summaries

    found = space_summaries()
    if as_json:
        emit_json(found)
    else:
        out().print(
            table(
                ["preset", "model", "architectures", "description"],
                [[one["name"], one["model"], one["size_text"], one["description"]] for one in found],
            )
        )


@app.command("show")
def show(
    preset: Annotated[str, typer.Argument(metavar="PRESET")],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """A preset's domains, and the exact number of architectures on the model kind's built-in data set."""
    from ..spaces import space_answer

    found = space_answer(_space(preset, overrides))
    if as_json:
        emit_json(found)
        return
    domains = [(name, ", ".join(str(value) for value in values)) for name, values in found["domains"].items()]
    rows = [("description", found["description"]), ("model", found["model"])]
    out().print(pairs([*rows, ("architectures", found["size_text"]), *domains]))


@app.command("sample")
def sample(
    preset: Annotated[str, typer.Argument(metavar="PRESET")],
    count: Annotated[int, typer.Option("-n", min=1, max=10_000, help="How many.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Random architectures of a preset; with --json whole, ready for `score` and `enqueue`."""
    import json

    from dashboards.wording import describe, shown
    from space.costs import costs
    from space.sampling import sample as draw

    space, rng = _space(preset, overrides), Random(seed)
    drawn = [draw(space, rng) for _ in range(count)]
    plain = [json.loads(one.canonical_json) for one in drawn]
    if as_json:
        emit_json(plain[0] if count == 1 else plain)
        return
    rows = [
        [one.id[:12], describe(data), shown("params", costs(one).params)]
        for one, data in zip(drawn, plain, strict=True)
    ]
    out().print(table(["id", "architecture", "parameters"], rows, right=[2]))


def _space(preset: str, overrides: list[str] | None) -> "SearchSpace":
    from search.job import read_yaml
    from space.errors import InvalidInputError

    from ..spaces import preset_space

    changes = {}
    for text in overrides or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInputError(f"--set '{text}' is not gene=values, for example d_model=[32,64]")
        changes[name.strip()] = read_yaml(value.encode(), f"--set '{text}'")
    return preset_space(preset, changes)
