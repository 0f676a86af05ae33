"""`paretoformer space`: looks into the search spaces."""

from random import Random
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, Overrides
from .output import emit_json, out, pairs, table

if TYPE_CHECKING:
    from space.architecture import InterfaceConfig
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
    """A preset in full: what its genes mean and may be, rules, exact size, costs, one architecture drawn."""
    import json

    from dashboards.architecture_words import layer_words
    from dashboards.wording import POSITION_WORDS, label, shown
    from space.genes import GENE_HELP
    from space.sampling import sample as draw

    from ..spaces import EXAMPLES, cost_ranges, space_answer

    space = _space(preset, overrides)
    found, ranges = space_answer(space), cost_ranges(space)
    example = draw(space, Random(0))
    if as_json:
        emit_json({**found, "costs": ranges, "example": json.loads(example.canonical_json)})
        return
    print_ = out().print
    about = [("about", found["description"]), ("source", found["source"] or "ours")]
    size = f"{found['size_text']} on the task of the example ({_task(EXAMPLES[space.model])})"
    print_(pairs([*about, ("model", found["model"]), ("architectures", size)]))
    rows = [
        [name, ", ".join(map(str, values)), _level(name, found["shared"]), GENE_HELP[name]]
        for name, values in found["domains"].items()
    ]
    searched = [row for row, values in zip(rows, found["domains"].values(), strict=True) if len(values) > 1]
    fixed = [row for row, values in zip(rows, found["domains"].values(), strict=True) if len(values) == 1]
    print_("\ngenes: the first value is the default; change them with --set 'gene=\\[values]'")
    print_(table(["gene", "values", "one per", "meaning"], searched))
    print_("\nfixed here: " + ", ".join(f"{row[0]} {row[1]}" for row in fixed))
    print_("\nrules: " + ("none" if not space.rules else ""))
    for rule in space.rules:
        print_("  " + rule.told(), markup=False)
    print_("\ncosts of 300 architectures drawn as the search draws them, one full-length input")
    print_(
        table(
            ["", "least", "median", "largest"],
            [[label(key), *(shown(key, value) for value in of.values())] for key, of in ranges.items()],
            right=[1, 2, 3],
        )
    )
    plain = json.loads(example.canonical_json)
    position = POSITION_WORDS.get(example.position.kind, example.position.kind)
    print_(f"\none of them, {example.id[:12]}: {example.d_model} wide, {position}")
    print_(table(["layer", ""], [[str(i), layer_words(layer)] for i, layer in enumerate(plain["layers"], 1)]))


def _level(name: str, shared: list[str]) -> str:
    from space.genes import LAYER_GENES

    return "layer" if name in LAYER_GENES and name not in shared else "model"


def _task(interface: "InterfaceConfig") -> str:
    if interface.input == "image":
        return f"images of {interface.height}x{interface.width}"
    return f"{interface.tokens} tokens"


@app.command("choices")
def choices(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="One choice in full.")] = None,
    as_json: Json = False,
) -> None:
    """What architectures are made of: every mixer, feed-forward, norm and position, also of your packages."""
    from space.errors import InvalidInputError, nearest

    from ..spaces import choice_answers

    found = choice_answers()
    if kind is not None:
        kinds = [one["kind"] for one in found]
        if kind not in kinds:
            raise InvalidInputError(f"unknown choice '{kind}'; {nearest(kind, kinds)}")
        found = [one for one in found if one["kind"] == kind]
    if as_json:
        emit_json(found)
    elif kind is None:
        rows = [
            [one["family"], one["kind"], one["about"].splitlines()[0], ", ".join(one["genes"])]
            for one in found
        ]
        out().print(table(["family", "kind", "what it is", "genes"], rows))
    else:
        for one in found:
            out().print(one["about"], markup=False)
            out().print(pairs([*one["facts"].items(), *one["genes"].items()]))


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

    changes: dict[str, object] = {}
    for text in overrides or []:
        name, equals, written = text.partition("=")
        name = name.strip()
        if not equals:
            raise InvalidInputError(f"--set '{text}' is not gene=values, for example d_model=[32,64]")
        if not name:
            raise InvalidInputError(
                f"--set '{text}' names no gene; write gene=values, for example d_model=[32,64]"
            )
        if name in changes:
            raise InvalidInputError(
                f"--set names gene '{name}' twice; write all of its values in one list, {name}=[...]"
            )
        values = read_yaml(written.encode(), f"--set '{text}'")
        if values is None or isinstance(values, dict):
            raise InvalidInputError(
                f"--set '{text}': gene '{name}' needs a value or a list of values, as in d_model=[32,64]"
            )
        changes[name] = values
    return preset_space(preset, changes)
