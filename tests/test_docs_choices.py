"""The pages about the search space say what the space is: generated tables, a section for every choice.

What stands there between `<!-- generated: NAME -->` and `<!-- end -->` is written by

    python -P tests/test_docs_choices.py        (`make docs` does it and then checks the documentation)

Everything else in these pages is written by hand. A choice without a section, or without an equation and a
source in it, fails here, and so does a section of a choice that has gone.
"""

import functools
import json
import math
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from api.spaces import SIZES, preset_space
from space.activations import ActivationName, GateActivation, HiddenActivation, activation_params
from space.architecture import LayerConfig, Model, Pooling
from space.choice import Choice, MixerChoice, Surroundings
from space.errors import InvalidInputError
from space.feedforward import FEED_FORWARDS
from space.genes import (
    BLOCK_GENES,
    FEED_FORWARD_OWN_GENES,
    GENE_HELP,
    LAYER_GENES,
    MIXER_OWN_GENES,
    MODEL_GENES,
    OWN_GENES,
    SHARINGS,
    Domains,
    own_genes,
)
from space.layer_options import feed_forward_config, mixer_config
from space.mixers import MIXERS
from space.norms import NORMS
from space.positions import POSITIONS
from space.positions.rope import PARTS
from space.quantization import NumberFormat, number_format
from space.rules import SELECTORS, selected
from space.search_space import load_preset, preset_names

DOCS = Path(__file__).parents[1] / "docs"
CHOICES = DOCS / "choices"
D, N, HEAD_WIDTH = 64, 128, 16
"""Where costs are counted: width, tokens, and the width of heads: four of them."""
SITE = Surroundings(
    d_model=D, context_length=N, num_layers=1, causal=True, position=POSITIONS["rope"](), grid=None
)
FAMILIES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "mixers": (tuple(MIXERS), ("attention.md", "linear_attention.md", "recurrent.md", "attention_free.md")),
    "feedforward": (tuple(FEED_FORWARDS), ("feed_forward.md",)),
    "activations": (get_args(ActivationName), ("feed_forward.md",)),
    "norms": (tuple(NORMS), ("norms.md",)),
    "positions": (tuple(POSITIONS), ("positions.md",)),
    "quantization": (get_args(NumberFormat), ("number_formats.md",)),
}
"""Folder of space/ -> its kinds, and the pages of docs/choices that describe them."""


# -- pages -----------------------------------------------------------------------------------------------


def outside_fences(source: str) -> Iterator[tuple[str, bool]]:
    """Every line, and whether it is prose (not code)."""
    is_prose = True
    for line in source.splitlines():
        is_fence = line.startswith("```")
        is_prose = is_prose != is_fence
        yield line, is_prose and not is_fence


def sections(path: Path) -> dict[str, str]:
    """Heading -> the text under it, up to the next heading of its depth or above."""
    found: dict[str, list[str]] = {}
    open_: list[tuple[int, str]] = []
    for line, is_prose in outside_fences(path.read_text(encoding="utf-8")):
        heading = re.fullmatch(r"(#+) (.*)", line) if is_prose else None
        if heading:
            open_ = [(depth, name) for depth, name in open_ if depth < len(heading[1])]
            open_.append((len(heading[1]), heading[2]))
            found[heading[2]] = []
            continue
        for _, name in open_:
            found[name].append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def table_rows(source: str) -> list[dict[str, str]]:
    """Rows of every table: header cell -> cell. "the same" is what the row above has there."""
    rows: list[dict[str, str]] = []
    header: list[str] = []
    for line in source.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not header:
            header = cells
        elif set("".join(cells)) - set("-:"):
            above = rows[-1] if rows else {}
            filled = [
                above.get(name, cell) if cell.startswith("the same") else cell
                for name, cell in zip(header, cells, strict=True)
            ]
            rows.append(dict(zip(header, filled, strict=True)))
    return rows


def built_in(family: Mapping[str, Any]) -> dict[str, Any]:
    """Without the choices of other installed packages."""
    return {kind: config for kind, config in family.items() if config.__module__.startswith("space.")}


# -- generated tables ------------------------------------------------------------------------------------


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def linked(family: str, kind: str) -> str:
    """The kind, leading to its section, or to the page whose table it stands in."""
    for page in FAMILIES[family][1]:
        if (CHOICES / page).exists() and kind in sections(CHOICES / page):
            return f"[`{kind}`]({page}#{kind})"
    return f"[`{kind}`]({FAMILIES[family][1][0]})"


def names(values: Sequence[Any]) -> str:
    return ", ".join(f"`{shown(value)}`" for value in values)


def shown(value: Any) -> str:
    """As a preset file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings(config: Any) -> str:
    """The fields of a config but for its heads; options that are off are left out."""
    fields = config.model_dump(exclude={"kind", "num_heads", "num_kv_heads"})
    return ", ".join(f"{name} {shown(value)}" for name, value in fields.items())


def mixers_table() -> str:
    header = ["kind", "settings", "models", "decodes", "padding", "positions it reads", "sees order itself"]
    header += ["parameters", "MACs", "permitted MACs", "MACs, one more token", "state, numbers"]
    return markdown(header, [mixer_row(kind) for kind in built_in(MIXERS)])


def mixer_row(kind: str) -> list[str]:
    at = replace(SITE, causal=MIXERS[kind].causal)
    mixer = mixer_config({"mixer": kind, "head_width": HEAD_WIDTH}, at)
    ways = [way for way in ("causal", "bidirectional") if getattr(mixer, way)]
    decodes = at.causal and mixer.decodable
    counts = [mixer.params(at), mixer.macs(at, N)]
    counts += [mixer.macs_causal(at, N)] if at.causal else []
    counts += [mixer.macs_decode(at, N - 1), mixer.state_size(at, N)] if decodes else []
    facts = [
        settings(mixer),
        "both" if len(ways) == 2 else ways[0],
        "yes" if decodes else "no",
        mixer.padding + (", by slot" if mixer.positional_by_slot else ""),
        names(sorted(mixer.positions)),
        "yes" if mixer.order_aware else "no",
    ]
    numbers = [f"{count:,}" for count in counts]
    return [linked("mixers", kind), *facts, *numbers, *[""] * (5 - len(numbers))]


def feed_forwards_table() -> str:
    rows = []
    for kind in built_in(FEED_FORWARDS):
        config = feed_forward_config({"feed_forward": kind}, SITE)
        used = config.params(SITE) - config.idle_params(SITE)
        counts = [f"{count:,}" for count in (config.params(SITE), used, config.macs(SITE, 1))]
        rows.append([linked("feedforward", kind), settings(config), *counts])
    header = ["kind", "settings", "parameters", "of them met by a token", "MACs per token"]
    return markdown(header, rows)


def activations_table() -> str:
    rows = []
    for name in get_args(ActivationName):
        stands = [
            where
            for where, there in (("hidden layer", HiddenActivation), ("gate", GateActivation))
            if name in get_args(there)
        ]
        params = str(activation_params(name))
        rows.append([f"[`{name}`](feed_forward.md#activations)", " and ".join(stands), params])
    return markdown(["name", "stands at", "parameters"], rows)


def norms_table() -> str:
    rows = []
    for kind, config in built_in(NORMS).items():
        models = "all" if config.causal else "bidirectional"
        folds = "yes" if config.folds else "no"
        rows.append([linked("norms", kind), models, folds, str(config.least_steps), str(config().params(D))])
    return markdown(["kind", "models", "folds away", "least training steps", "parameters"], rows)


def positions_table() -> str:
    softmax = mixer_config({"mixer": "softmax", "head_width": HEAD_WIDTH}, SITE)
    rows = []
    for kind, config in built_in(POSITIONS).items():
        readers = [f"`{name}`" for name, mixer in built_in(MIXERS).items() if kind in mixer.positions]
        acts = "nothing" if kind == "none" else ", ".join(readers) or "the embedding"
        tells = "yes" if config.direction_aware else "no"
        rows.append([linked("positions", kind), acts, tells, f"{config().params(SITE, (softmax,)):,}"])
    return markdown(["kind", "acts in", "tells left from right", "parameters"], rows)


def number_formats_table() -> str:
    rows = []
    for name in get_args(NumberFormat):
        form = number_format(name)
        real = names(sorted(form.real_on, reverse=True)) or "nowhere"
        bits = f"{float(form.bits_per_weight(D)):g}"
        rows.append([f"[`{name}`](number_formats.md)", bits, real])
    return markdown(["name", "bits per weight", "real on"], rows)


def genes_table() -> str:
    rows = []
    for name in (*MODEL_GENES, *LAYER_GENES):
        own = OWN_GENES.get(name)
        if own and not readers(name):  # of another installed package
            continue
        rare = ", rare" if own and own.rare else ""
        level = "model" if name in MODEL_GENES else "layer"
        rows.append([f"`{name}`", level + rare, readers(name), legal(name), default(name), GENE_HELP[name]])
    header = ["gene", "of", "read by", "legal values", "where a space names none", "meaning"]
    return markdown(header, rows)


def readers(name: str) -> str:
    """The choices that read a gene; nothing for what every architecture has."""
    found = [
        f"`{kind}`"
        for family in (MIXERS, FEED_FORWARDS)
        for kind, config in built_in(family).items()
        if name in {gene.name for gene in own_genes(config)}
    ]
    models = {
        "patch_size": "`vision`", "tied": "`decoder`", "pooling": "`encoder`, `vision`",
        "embedding_width": "`decoder`, `encoder`",
    }  # fmt: skip
    return ", ".join(found) or models.get(name, "`rope`" if name == "rotary_pct" else "")


CLOSED: Mapping[str, Sequence[Any]] = {
    "pooling": get_args(Pooling),
    "position": tuple(built_in(POSITIONS)),
    "rotary_pct": PARTS,
    "sharing": SHARINGS,
    "mixer": tuple(built_in(MIXERS)),
    "feed_forward": tuple(built_in(FEED_FORWARDS)),
    "norm": tuple(built_in(NORMS)),
    "number_format": get_args(NumberFormat),
    **{name: get_args(LayerConfig.model_fields[name].annotation) for name in ("placement", "residual")},
}


def legal(name: str) -> str:
    """The legal values of a gene in words."""
    own = OWN_GENES.get(name)
    closed = CLOSED.get(name, (own.values or own.allowed) if own else ())
    if closed:
        return names(closed)
    items: dict[str, Any] = Domains.model_json_schema()["properties"][name]["items"]
    if items["type"] == "boolean":
        return "`false`, `true`"
    low, multiple = items.get("ge"), items.get("multiple_of")
    words = (f"above {items['gt']}, at most " if low is None else f"{low:g} to ") + f"{items['le']:,}"
    words += {None: "", 2: ", even"}.get(multiple, f", multiples of {multiple}")
    return words + (", odd" if own and own.odd else "")


def default(name: str) -> str:
    """The domain of a gene that a space does not name."""
    field = Domains.model_fields[name]
    return "must be named" if field.is_required() else names(field.default)


def presets_table() -> str:
    rows = []
    for name in preset_names():
        space = preset_space(name)
        domains, size = space.domains, math.log10(counted(name))
        spans = [span(domains.options(key)) for key in ("num_layers", "d_model")]
        rows.append(
            [
                f"[`{name}`](../space/presets/{name}.yaml)",
                space.model,
                space.description,
                space.source or "ours",
                f"10^{size:.1f}",
                " x ".join(spans),
                names(domains.mixer),
            ]
        )
    header = ["preset", "model", "what it is", "source", "architectures", "layers x width", "mixers"]
    return markdown(header, rows)


def preset_sizes() -> str:
    """What `api.spaces` reads in place of counting."""
    return json.dumps({name: str(counted(name)) for name in preset_names()}, indent=1) + "\n"


@functools.cache
def counted(preset: str) -> int:
    return preset_space(preset).size()


def span(values: Sequence[Any]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]}-{values[-1]}"


def preset_rules_table() -> str:
    """Rules are not checked for the example task: they belong to the preset."""
    spaces = {name: load_preset(name) for name in preset_names()}
    rows = [[f"`{name}`", f"`{rule.told()}`"] for name, space in spaces.items() for rule in space.rules]
    return markdown(["preset", "rule"], rows)


def export_formats_table() -> str:
    """From what `benchmarks/export_formats.py` measured last."""
    names = ["model.py", "model.pt2", "", "model.onnx", "step.onnx", "model.int8.onnx", "model.int4.onnx"]
    header = ["choice", *(f"`{name}`" if name else "Hugging Face" for name in names)]
    return markdown(header, runpy.run_path(str(DOCS.parent / "benchmarks" / "export_table.py"))["table"]())


GENERATED: Mapping[str, Callable[[], str]] = {
    "mixers": mixers_table,
    "feed-forwards": feed_forwards_table,
    "activations": activations_table,
    "norms": norms_table,
    "positions": positions_table,
    "number formats": number_formats_table,
    "genes": genes_table,
    "presets": presets_table,
    "rules of presets": preset_rules_table,
    "export formats": export_formats_table,
}
BLOCK = re.compile(r"(?<=<!-- generated: )([\w -]+)( -->\n)(.*?)(?=<!-- end -->)", re.S)


def pages_with_tables() -> list[Path]:
    return [path for path in sorted(DOCS.rglob("*.md")) if BLOCK.search(path.read_text(encoding="utf-8"))]


def written_tables() -> dict[str, str]:
    """Name -> the block as it stands in a page."""
    texts = [path.read_text(encoding="utf-8") for path in pages_with_tables()]
    return {found[1]: found[3] for text in texts for found in BLOCK.finditer(text)}


def test_every_generated_table_stands_in_a_page() -> None:
    assert set(written_tables()) == set(GENERATED)


@pytest.mark.parametrize("name", [name for name in GENERATED if name != "presets"])
def test_a_generated_table_is_what_the_program_says(name: str) -> None:
    assert written_tables()[name] == GENERATED[name](), "run `make docs`"


@pytest.mark.slow
def test_the_table_of_presets_is_what_they_hold() -> None:
    """In a process of its own: exact sizes take several times as long where every call is type-checked."""
    command = [sys.executable, "-P", __file__, "presets"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    table, _, sizes = done.stdout.partition("{\n")
    assert written_tables()["presets"] == table, "run `make docs`"
    assert SIZES.read_text(encoding="utf-8") == "{\n" + sizes, "run `make docs`"


# -- every choice is described ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "kind"),
    [(family, kind) for family, (kinds, _) in FAMILIES.items() for kind in kinds],
)
def test_every_choice_has_an_equation_and_a_source(family: str, kind: str) -> None:
    registry: Mapping[str, Mapping[str, Any]] = {
        "mixers": MIXERS, "feedforward": FEED_FORWARDS, "norms": NORMS, "positions": POSITIONS,
    }  # fmt: skip
    if kind not in built_in(registry.get(family, {})) and family in registry:
        pytest.skip("the choice of another installed package is described there")
    pages = [CHOICES / page for page in FAMILIES[family][1]]
    bodies = [found[kind] for page in pages for found in [sections(page)] if kind in found]
    rows = [row for page in pages for row in table_rows(page.read_text(encoding="utf-8"))]
    equations = [row["equation"] for row in rows if f"`{kind}`" in row.values() and row.get("equation")]
    sources = [row["source"] for row in rows if f"`{kind}`" in row.values() and row.get("source")]
    text = " ".join((*bodies, *equations, *sources))
    assert bodies or equations, f"docs/choices/{FAMILIES[family][1][0]} has no section '{kind}'"
    assert equations or any("```" in body for body in bodies), f"{kind}: no equation"
    assert sources or any("Source:" in body for body in bodies), f"{kind}: no source"
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|\b(19|20)\d\d\b|IEEE 754", text), f"{kind}: source has no year"


def test_no_page_describes_a_choice_that_has_gone() -> None:
    known = {field for config in MIXERS.values() for field in config.model_fields}
    for family, (kinds, _) in FAMILIES.items():
        known |= {*kinds, *(path.stem for path in (DOCS.parent / "space" / family).glob("*.py"))}
    for page in {page for _, pages in FAMILIES.values() for page in pages}:
        headings = {name for name in sections(CHOICES / page) if re.fullmatch(r"[a-z0-9_]+", name)}
        assert headings <= known, page


def test_the_index_of_choices_names_every_page_and_model() -> None:
    text = (CHOICES / "README.md").read_text(encoding="utf-8")
    linked_pages = set(re.findall(r"\(([\w-]+\.md)", text))
    assert linked_pages == {path.name for path in CHOICES.glob("*.md")} - {"README.md"}
    rows = [row["model"] for row in table_rows(text) if "model" in row]
    assert rows == [f"`{name}`" for name in get_args(Model)]


def test_number_formats_say_where_they_are_real() -> None:
    text = (CHOICES / "number_formats.md").read_text(encoding="utf-8")
    rows = {row["name"].strip("`"): row for row in table_rows(text) if "bits per weight" in row}
    assert set(rows) == set(get_args(NumberFormat))
    for name in get_args(NumberFormat):
        assert set(re.findall(r"`([\w-]+)`", rows[name]["real on"])) == number_format(name).real_on


# -- spaces.md -------------------------------------------------------------------------------------------


def spaces_sections() -> dict[str, str]:
    return sections(DOCS / "spaces.md")


def test_every_gene_is_of_a_choice_or_of_every_layer_or_of_the_model() -> None:
    own = {*MIXER_OWN_GENES, *FEED_FORWARD_OWN_GENES}
    assert set(Domains.model_fields) == {*MODEL_GENES, "mixer", "feed_forward", *own, *BLOCK_GENES}


def test_the_selectors_of_rules_are_described_with_the_layers_they_name() -> None:
    rows = [row for row in table_rows(spaces_sections()["Rules"]) if "of five" in row]
    described = {row["layers"].strip("`"): row for row in rows}
    assert set(described) == set(SELECTORS)
    for selector, row in described.items():
        layers = sorted(selected({"every K": "every 2", "1-3": "1-2"}.get(selector, selector), 5))
        assert row["of five"] == " ".join(str(layer + 1) for layer in layers), selector


@pytest.mark.parametrize(
    "snippet", re.findall(r"^```yaml\n(.*?)^```", (DOCS / "spaces.md").read_text("utf-8"), re.M | re.S)
)
def test_every_space_shown_is_a_space(snippet: str) -> None:
    section = yaml.safe_load(snippet)["space"]
    changes = {**section.get("set", {}), **({"rules": section["rules"]} if "rules" in section else {})}
    assert preset_space(section["preset"], changes).decode({}).id


def test_a_rule_shown_as_wrong_is_refused_as_the_page_says() -> None:
    body = spaces_sections()["Rules"]
    rows = [row for row in table_rows(body) if "refused" in row]
    assert rows
    for row in rows:
        rule = yaml.safe_load(row["refused"].strip("`"))
        with pytest.raises(InvalidInputError) as caught:
            preset_space("decoder-small", {"rules": [rule]})
        assert row["because"] in caught.value.message


def test_the_contract_names_everything_a_mixer_says_and_no_other() -> None:
    members = {
        name
        for base in MixerChoice.__mro__
        if base.__module__ == "space.choice" and base is not Choice
        for name in (*vars(base).get("__annotations__", {}), *vars(base))
        if not name.startswith("_") and not name.startswith("model_")
    }
    rows = [row for row in table_rows(spaces_sections()["A choice of your own"]) if "member" in row]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row["member"])}
    assert told == members


def rewrite() -> None:
    """Every generated table of every page as the program says it."""
    for path in pages_with_tables():
        old = path.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda found: found[1] + found[2] + GENERATED[found[1]](), old)
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.stdout.write(GENERATED[sys.argv[1]]() + preset_sizes())
    else:
        rewrite()
        SIZES.write_text(preset_sizes(), encoding="utf-8")
